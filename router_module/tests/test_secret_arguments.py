"""What a manifest marks `secret` reaches the module and is on no record, however the line was typed (contracts §6)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from waddlebot.base.contracts import CommandSpec, SubcommandSpec, VersionRegistration
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

SECRET = "sk-Zebra9"
VAULT: dict[str, Any] = {
    "command": "vault",
    "description": "Keeps a key",
    "subcommands": [
        {"name": "set", "usage": "<provider> <key>", "description": "keep a key", "secret": ["key"]},
        {"name": "list", "usage": "[provider]", "description": "what there is"},
    ],
}
UNLOCK: dict[str, Any] = {"command": "unlock", "description": "Opens it", "usage": "<password>", "secret": ["password"]}
SAID = f"set openai {SECRET}"
MISTYPED = [
    f"!vault set {SECRET}",
    f"!vault set openai {SECRET} please",
    f"!vault st openai {SECRET}",
    f"!vault {SECRET}",
    f"!vaul set openai {SECRET}",
    f"!Va\u200bult SET openai {SECRET}",
    f'!vault set openai "{SECRET}',
    f"!vault set openai <{SECRET}>",
    f"vault set openai {SECRET}",
    f"like this: !vault set openai {SECRET}",
    f"!unlok {SECRET}",
    f"!unlock with {SECRET}",
]


@pytest.fixture
def vault(bot, stub):
    stub.behaviour = lambda call: reply_to(call, chat("Kept."))
    stub.register(bot.fleet, VAULT, UNLOCK)
    return stub


def kept_of(fleet: Any, session_id: str) -> tuple[str, list[str]]:
    [row] = fleet.database.statement(
        "SELECT message_content, parameters FROM command_executions WHERE session_id = %s AND parent_id IS NULL",
        (session_id,),
    )
    return row["message_content"], row["parameters"]


def test_a_secret_argument_reaches_the_module_and_no_record(bot, vault):
    heard = bot.say(f"!vault {SAID}")

    assert heard.chat == "Kept."
    assert vault.calls[-1]["trigger"]["args"] == ["set", "openai", SECRET]
    assert heard.answer["secrets"] == [SECRET]
    assert bot.fleet.tables_with(SECRET) == []
    assert kept_of(bot.fleet, heard.session_id) == ("!vault set openai •", ["set", "openai", "•"])
    assert "“!vault set openai •”" in bot.say("!why").chat
    assert "secrets" not in bot.say("!vault list openai").answer
    assert kept_of(bot.fleet, bot.say("!vault list openai").session_id)[1] == ["list", "openai"]


@pytest.mark.parametrize("typed", MISTYPED)
def test_it_is_on_no_record_where_the_line_was_mistyped(bot, vault, typed):
    assert bot.fleet.tables_with(SECRET) == []

    bot.say(typed, level="moderator")
    session_id = bot.submit({**bot.event(typed), "data": {"edited": True}}).session_id

    assert bot.fleet.tables_with(SECRET) == []
    [row] = bot.fleet.database.statement(
        "SELECT event->>'message' AS message FROM router_events WHERE session_id = %s", (session_id,)
    )
    assert "•" in row["message"]
    assert row["message"].split()[0].strip("“") in typed, "what is no secret stays"


def test_an_alias_of_it_keeps_nothing_either(bot, vault):
    bot.say('!alias add !mine "!vault set openai {arg1}"', level="moderator")

    heard = bot.say(f"!mine {SECRET}")

    assert heard.chat == "Kept."
    assert vault.calls[-1]["trigger"]["args"] == ["set", "openai", SECRET]
    assert bot.fleet.tables_with(SECRET) == []


def test_a_simulation_shows_none_in_its_trace(bot, vault):
    heard = bot.say(f"!vault {SAID}", mode="simulate")

    trace = bot.fleet.request("GET", f"/router/explain/{heard.session_id}", key="admin")
    assert trace.status == 200
    assert SECRET not in trace.body.decode()


def test_what_echoes_it_is_said_without_it(bot, vault):
    vault.behaviour = lambda call: reply_to(call, chat(f"Your key {call['trigger']['args'][-1]} is kept."))

    assert bot.say(f"!vault {SAID}").chat == "Your key • is kept."
    assert bot.fleet.tables_with(SECRET) == []


def test_plain_chat_is_kept_as_it_was_said(bot, vault):
    for text in ("my vault is full", "I will unlock it", "set it", "!inventory list"):
        session_id = bot.say(text).session_id
        [row] = bot.fleet.database.statement(
            "SELECT event->>'message' AS message FROM router_events WHERE session_id = %s", (session_id,)
        )
        assert row["message"] == text


def test_who_was_cut_off_with_a_secret_is_asked_to_say_it_again(bot, vault):
    released = threading.Event()
    vault.behaviour = lambda call: released.wait(20) and reply_to(call, chat("Kept."))
    event = bot.event(f"!vault {SAID}")
    session_id = bot.submit(event).session_id
    eventually(lambda: vault.calls)

    bot.fleet.database.statement(
        "UPDATE router_work SET holder = 'dead', lease_until = now() - interval '1 minute' WHERE session_id = %s",
        (session_id,),
    )

    eventually(lambda: bot.submit(event).statuses == ["failed"])
    released.set()
    assert bot.submit(event).chat == "I was cut off, and keep no secrets. Please say that again."
    assert len(vault.calls) == 1, "with what was not kept nobody is called"


def test_a_secret_that_the_usage_does_not_name_is_refused(bot, stub):
    wrong = {**UNLOCK, "secret": ["key"]}
    registration = {"module_name": "stub", "module_version": "1", "endpoint_url": stub.url, "commands": [wrong]}
    refused = bot.fleet.request("POST", "/api/modules/register", registration, key="stub")
    assert refused.status == 422
    assert "no word <key>" in refused.body.decode()


def test_a_version_without_secrets_is_the_same_as_it_was_before_there_were_any():
    """Its digest, which is kept, is made of this."""
    spec = CommandSpec(command="roll", subcommands=[SubcommandSpec(name="twice", usage="<sides>")])
    assert '"secret":' not in VersionRegistration(commands=[spec]).model_dump_json()
    [first, *_] = spec.model_dump()
    assert first == "command", "fields keep their order"
