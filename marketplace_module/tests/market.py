"""Help for the marketplace's tests: publishing a module whose webhook is the tests' own stub."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any

from waddlebot.base.ids import new_id
from waddlebot.module.package import pack
from waddlebot.testing.fleet import PAYMENTS, Bot, Fleet
from waddlebot.testing.module_stub import ModuleStub, chat, reply_to

HANDLER = b"def handler(event, context):\n    return 'hello'\n"
LETTERS = str.maketrans("0123456789abcdef", "bcdfghjkmnpqstvx")


def new_name() -> str:
    """A name that looks like no other."""
    return "m" + new_id().replace("-", "")[-14:].translate(LETTERS)


def manifest(name: str, *, version: str = "1.0.0", url: str = "", command: str = "", more: str = "") -> str:
    runtime = f'type = "webhook"\nurl = "{url}"' if url else 'type = "local"'
    return f"""name = "{name}"
title = "{name.title()}"
version = "{version}"
description = "Rolls dice for {name}"
category = "minigames"
tags = ["fun"]
{more}

[runtime]
{runtime}

[[commands]]
command = "{command or name}"
usage = "[2d6]"
description = "roll"
"""


def package(name: str, **options: Any) -> bytes:
    return pack({"module.toml": manifest(name, **options).encode(), "handler.py": HANDLER})


@dataclass(slots=True)
class Market:
    """What an author and an owner do, with whose key."""

    fleet: Fleet
    bot: Bot
    stub: ModuleStub

    @property
    def url(self) -> str:
        return f"http://{self.stub.address}/run"

    def publish(self, name: str, *, key: str = "admin", **options: Any) -> Any:
        options = {"url": self.url, **options}
        return self.send(package(name, **options), key=key)

    def send(self, content: bytes, *, key: str = "admin") -> Any:
        headers = {"Content-Type": "application/zip"}
        return self.fleet.request("POST", "/marketplace/modules", content, key=key, headers=headers)

    def install(self, name: str, *, key: str = "admin", **body: Any) -> Any:
        place = {} if "entity_id" in body else {"community_id": self.bot.slug}
        return self.fleet.request("POST", "/marketplace/install", {"module_id": name, **place, **body}, key=key)

    def uninstall(self, name: str, *, key: str = "admin", **body: Any) -> Any:
        place = {} if "entity_id" in body else {"community_id": self.bot.slug}
        return self.fleet.request("POST", "/marketplace/uninstall", {"module_id": name, **place, **body}, key=key)

    def toggle(self, name: str, *, enabled: bool, place: str = "") -> Any:
        path = f"/marketplace/entity/{place or self.bot.slug}/toggle"
        return self.fleet.request("POST", path, {"module_id": name, "enabled": enabled}, key="admin")

    def installed(self, place: str = "") -> dict[str, dict[str, Any]]:
        """What a place has of the marketplace, by name."""
        answer = self.fleet.request("GET", f"/marketplace/entity/{place or self.bot.slug}/modules", key="admin")
        assert answer.status == 200, answer.body
        return {each["module_id"]: each for each in answer.json()["modules"]}

    def page(self, name: str) -> dict[str, Any]:
        answer = self.fleet.request("GET", f"/marketplace/module/{name}", key="admin")
        assert answer.status == 200, answer.body
        return answer.json()

    def have(self, **options: Any) -> str:
        """A module that is published and installed, and says hello."""
        name = new_name()
        published = self.publish(name, **options)
        assert published.status == 200, published.body
        self.answers(name)
        done = self.install(name)
        assert done.status == 200, done.body
        return name

    def answers(self, name: str, text: str = "hello") -> None:
        self.stub.behaviour = lambda call: reply_to(call, chat(text), module_name=name)

    def notices(self) -> list[str]:
        answer = self.fleet.request("GET", f"/router/communities/{self.bot.slug}/notices", key="admin").json()
        return [message for notice in answer["notices"] for message in notice["messages"]]

    def pay(self, event: dict[str, Any], *, by: str = PAYMENTS, age_s: int = 0, header: str | None = None) -> Any:
        """Send what Stripe would, signed as Stripe signs."""
        body = json.dumps(event).encode()
        at = str(int(time.time()) - age_s)
        signature = hmac.new(by.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
        signed = header if header is not None else f"t={at},v1={signature},v0={'0' * 64}"
        headers = {"Stripe-Signature": signed}
        return self.fleet.request("POST", "/marketplace/payments/stripe", body, key=None, headers=headers)


def error(answer: Any) -> dict[str, Any]:
    return answer.json()["error"]
