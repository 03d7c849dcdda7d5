"""Commands whose code this fleet runs itself: chat, router, the process `modules` and a handler behind the fence."""

from __future__ import annotations

import json
import os

import pytest
from waddlebot.data.database import fetch_one
from waddlebot.testing.module_host import ModuleHost
from waddlebot.testing.plugin import eventually

MANIFEST = """
name = "dice"
title = "Dice"
version = "{version}"
description = "Rolls dice"
[limits]
cpu_s = 0.5
timeout_s = 1.5
[[commands]]
command = "dice"
"""
HANDLER = """
import time

def handler(event, context):
    words = event["trigger"]["args"]
    if words == ["slow"]:
        time.sleep(1.2)
    if words == ["long"]:
        time.sleep(60)
    if words == ["wrong"]:
        raise ValueError("a secret of the module's")
    if words == ["number"]:
        return 6
    if words == ["bomb"]:
        return b"[" * 3_000_000
    if words == ["flood"]:
        return b" " * 5_000_000
    return f"{event['user']['display_name']} rolled {' '.join(words)}"
"""


@pytest.fixture(scope="module")
def host(fleet):
    running = ModuleHost(url=os.environ["MODULE_HOST_URL"], key=os.environ["MODULE_HOST_KEY"]).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def register(fleet, host):
    fleet.database.statement("ALTER TABLE commands DROP CONSTRAINT IF EXISTS commands_type_check")
    key = fleet.make_key("dice", "services", module_name="dice")

    def register(location: str, **spec: object) -> object:
        command = {"command": "dice", "prefix": "#", "type": "local", "location_url": location, "timeout": 3, **spec}
        body = {"module_name": "dice", "module_version": "1", "endpoint_url": "", "commands": [command]}
        return fleet.request("POST", "/api/modules/register", body, key=key)

    return register


@pytest.fixture
def dice(host, register, bot):
    """`#dice`, registered and switched on."""
    function = host.publish({"module.toml": MANIFEST.format(version="1.0.0"), "handler.py": HANDLER})
    assert register(function).status == 200
    bot.install("dice")
    return bot


def error_of(heard):
    return heard.answer["executions"][0]["error"]


def test_a_line_of_chat_is_answered_by_a_handler_behind_the_fence(dice):
    assert dice.say("#dice 2d6").chat == "Alice rolled 2d6"
    assert dice.say("#dice 1d20", by="bob").chat == "Bob rolled 1d20"


def test_a_slow_one_is_answered_late_rather_than_never(dice):
    event = dice.event("#dice slow")

    assert dice.submit(event).statuses == ["pending"]

    eventually(lambda: dice.submit(event).chat == "Alice rolled slow")


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("wrong", "failed", "function_error"),
        ("long", "timeout", "upstream_timeout"),
        ("number", "failed", "bad_reply"),
        ("bomb", "failed", "bad_reply"),
        ("flood", "failed", "upstream_refused"),
    ],
)
def test_what_fails_is_told_without_what_the_module_said_of_it(dice, word, status, code):
    heard = dice.say(f"#dice {word}")

    assert (heard.statuses, error_of(heard)["code"]) == ([status], code)
    assert "secret" not in json.dumps(heard.answer)
    assert dice.say("#dice again").chat == "Alice rolled again"


def test_it_is_called_once_and_its_start_is_on_record(dice, fleet):
    heard = dice.say("#dice 3")

    with fleet.database.transaction() as db:
        row = fetch_one(db, "SELECT started_at FROM command_executions WHERE session_id = %s", (heard.session_id,))
    assert row["started_at"] is not None


@pytest.mark.parametrize("location", ["", "dice", "https://example.com/", "dice:1.0.0:abc", f"../x:1:{'0' * 64}"])
def test_a_location_that_names_no_package_is_refused(register, location):
    refused = register(location)

    assert refused.status == 422
    assert "commands.location_url" in refused.json()["error"]["message"]


def test_a_module_runs_no_code_of_another(register, host, dice):
    manifest = MANIFEST.format(version="2.0.0").replace('name = "dice"', 'name = "other"')
    assert register(host.publish({"module.toml": manifest, "handler.py": HANDLER})).status == 200

    heard = dice.say("#dice 2d6")

    assert (heard.statuses, error_of(heard)["code"]) == (["failed"], "upstream_refused")


def test_a_package_that_nobody_has_fails_at_once(register, dice):
    assert register(f"dice:9.9.9:{'0' * 64}").status == 200

    assert dice.say("#dice 2d6").statuses == ["failed"]


def test_what_keeps_failing_rests_in_that_community_alone(fleet, dice):
    for _ in range(5):
        assert dice.say("#dice long").statuses == ["timeout"]

    heard = dice.say("#dice 2d6")

    assert (heard.statuses, error_of(heard)["code"]) == (["failed"], "parked")
    elsewhere = fleet.bot()
    elsewhere.install("dice")
    assert elsewhere.say("#dice 2d6").chat == "Alice rolled 2d6"
