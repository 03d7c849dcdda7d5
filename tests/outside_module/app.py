"""A module that asks somebody outside, as small as one can be. Only tests load it."""

from __future__ import annotations

import os
from typing import ClassVar

import requests
from waddlebot.base.settings import Settings
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.interaction import InteractionModule, OutsideCall
from waddlebot.module.service import Service


class OutsideSettings(Settings):
    prefix: ClassVar[str] = "OUTSIDE"


service = Service(__file__, OutsideSettings.load())
PROVIDER = os.environ["OUTSIDE_PROVIDER_URL"]
provider = service.providers.add("meteo", title="The Weather Office", timeout_s=2)
NOTE = "INSERT INTO outside_notes (community_id, note) VALUES (%s, %s)"


def ask(path: str, timeout_s: float) -> str:
    answer = requests.get(f"{PROVIDER}/{path}", timeout=timeout_s)
    answer.raise_for_status()
    return answer.text


def weather(call: OutsideCall, city: str) -> str:
    with call.reading() as db:
        row = fetch_one(db, "SELECT count(*) AS n FROM outside_notes WHERE note = %s", (city,))
    found = call.look_up(
        f"look up the weather of {city}",
        lambda left_s: provider.look_up(lambda timeout_s: ask(f"weather/{city}", timeout_s), within_s=left_s),
    )
    with call.writing() as db:
        fetch(db, NOTE, (call.community_id, city))
    return f"{city}: {found}, asked {row['n'] if row else 0} times before."


def pay(call: OutsideCall, what: str) -> str:
    receipt = call.effect(
        f"pay for {what}",
        lambda left_s: provider.effect(lambda timeout_s: ask(f"pay/{what}", timeout_s), within_s=left_s),
    )
    with call.writing() as db:
        fetch(db, NOTE, (call.community_id, what))
    return f"Paid for {what}: {receipt}."


def slow(call: OutsideCall) -> str:
    """Takes a library that does not keep to what it is told."""
    return "At last: " + call.look_up("take ages", lambda _: ask("slow", 10.0))


module = InteractionModule(service)
module.command("weather", run=weather, calls_out=True)
module.command("pay", run=pay, calls_out=True)
module.command("slow", run=slow, calls_out=True)
module.command("quick", run=lambda _: "Quick.", only_reads=True)
module.serve()
