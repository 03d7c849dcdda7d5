"""Timers: what a community has said again and again, and when it is not (contracts §7)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually


def rows(fleet, sql, *parameters):
    with fleet.database.transaction() as db:
        return fetch(db, sql, parameters)


@pytest.fixture
def timer(bot, fleet) -> Callable[..., dict[str, Any]]:
    def add(name: str, **fields: Any) -> dict[str, Any]:
        body = {"name": name, "message": f"{name}!", "minutes": 60, "min_lines": 0, "only_live": False, **fields}
        answer = fleet.request("POST", f"/router/communities/{bot.slug}/timers", body)
        assert answer.status == 200, answer.body
        return answer.json()["timer"]

    return add


@pytest.fixture
def said(bot, fleet) -> Callable[[], list[tuple[str, str]]]:
    def announced() -> list[tuple[str, str]]:
        sql = "SELECT entity_id, response_data FROM outbox WHERE community_id = %s AND event_id LIKE 'announcement:%%'"
        found = rows(fleet, f"{sql} ORDER BY id", bot.community_id)
        return [(row["entity_id"], row["response_data"]["message"]) for row in found]

    return announced


@pytest.fixture
def due(bot, fleet) -> Callable[[], None]:
    """Let the time of all timers come, and the last one be said long ago."""

    def now() -> None:
        sql = "UPDATE timers SET due_at = now() - id * interval '1 ms', said_at = said_at - interval '2 minutes'"
        rows(fleet, f"{sql} WHERE community_id = %s", bot.community_id)

    return now


def waits(fleet, made) -> bool:
    """Whether a timer that was due has been looked at and put off."""
    sql = "SELECT said_at IS NULL AND due_at > now() AS waits FROM timers WHERE id = %s"
    return rows(fleet, sql, made["id"])[0]["waits"]


def test_a_moderator_has_something_said_again_and_again(bot, said, due):
    bot.say("hi")
    assert bot.say("!timer add Discord 15 always Join us").statuses == ["denied"]
    moderator = {"level": "moderator"}
    added = bot.say("!timer add Discord 15 lines=0 always Join us: {user} !now", **moderator)
    assert added.chat.startswith("Timer discord is said every 15 minutes. {user} is said as it stands;")
    assert said() == []
    due()
    here = f"console:{bot.slug}:general"
    eventually(lambda: said() == [(here, "Join us: {user} !now")])
    due()
    eventually(lambda: len(said()) == 2)
    assert bot.say("!timer list", **moderator).chat.startswith("discord (every 15 minutes): Join us")
    assert bot.say("!timer pause DISCORD", **moderator).chat.startswith("Timer discord is paused.")
    assert "paused already" in bot.say("!timer pause discord", **moderator).chat
    assert "(paused)" in bot.say("!timer list", **moderator).chat
    assert "is said again" in bot.say("!timer resume discord", **moderator).chat
    assert "“Join us" in bot.say("!timer remove discord", **moderator).chat
    assert "no timer discord" in bot.say("!timer remove discord", **moderator).chat


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("!timer", "Usage: !timer add | edit | remove"),
        ("!timer add", "Usage: !timer add <name> <minutes>"),
        ("!timer add a 5", "Usage: !timer add <name> <minutes>"),
        ("!timer add a five hello", "minutes: "),
        ("!timer add a 0 hello", "minutes: "),
        ("!timer add a 1441 hello", "minutes: "),
        ("!timer add a 5 lines=-1 hello", "min_lines: "),
        ("!timer add a 5 always here", "message: "),
        ("!timer edit", "Usage: !timer edit <name>"),
        ("!timer edit nothing", "Usage: !timer edit <name>"),
        ("!timer edit nothing text", "no timer nothing"),
        ("!timer pause", "Usage: !timer pause <name>"),
        ("!timer list", "There are no timers here."),
    ],
)
def test_chat_says_what_a_timer_needs(bot, line, answer):
    assert answer in bot.say(line, level="moderator").chat
    simulated = bot.say("!timer add x 5 hello", level="moderator", mode="simulate")
    assert simulated.chat == "Timer x is said every 5 minutes after at least 5 lines of chat, while live."
    assert "no timers" in bot.say("!timer list", level="moderator").chat


def test_a_timer_is_edited_in_chat_by_what_is_typed_of_it(bot, fleet, timer):
    moderator = {"level": "moderator"}
    made = timer("promo", message="old")
    edit = bot.say("!timer edit promo Live every day at {time}", level="moderator", mode="simulate").chat
    assert edit == "Timer promo is said every 60 minutes: “Live every day at {time}”"
    edit = bot.say("!timer edit PROMO minutes=5 lines=2 live=yes where=here Live every day, {user}", **moderator).chat
    assert edit.startswith("Timer promo is said every 5 minutes after at least 2 lines of chat, while live, in one ch")
    assert "{user} is said as it stands" in edit
    place = f"/router/communities/{bot.slug}/timers"
    (kept,) = fleet.request("GET", place).json()["timers"]
    assert (kept["id"], kept["message"], kept["min_lines"]) == (made["id"], "Live every day, {user}", 2)
    assert (kept["only_live"], kept["entity_id"]) == (True, f"console:{bot.slug}:general")
    bot.say("!timer pause promo", **moderator)
    assert "once it is resumed" in bot.say("!timer edit promo where=everywhere", **moderator).chat
    refused = {"minutes=0": "minutes: ", "live=perhaps": "only_live: ", "where=there x": "not a channel"}
    for line, wrong in refused.items():
        assert wrong in bot.say(f"!timer edit promo {line}", **moderator).chat
    assert bot.say("!timer edit promo lines=9").statuses == ["denied"]
    (kept,) = fleet.request("GET", place).json()["timers"]
    assert (kept["minutes"], kept["min_lines"], kept["entity_id"], kept["is_active"]) == (5, 2, None, False)
    entries = fleet.request("GET", "/router/audit", query={"community_id": bot.slug}).json()["audit"]
    edits = [each for each in entries if each["action"] == "timer_changed"]
    assert [each["own_id"] is not None for each in edits] == [True] * 3
    assert edits[0]["before"]["entity_id"] and edits[0]["after"]["entity_id"] is None
    assert fleet.request("POST", f"/router/audit/{edits[0]['id']}/undo").status == 200
    assert fleet.request("GET", place).json()["timers"][0]["entity_id"] == f"console:{bot.slug}:general"


def test_two_who_rename_timers_at_once_do_not_end_up_with_one_name(bot, fleet, timer):
    place = f"/router/communities/{bot.slug}/timers"
    both = [timer("one"), timer("two")]
    with ThreadPoolExecutor(2) as threads:
        sent = [threads.submit(fleet.request, "PUT", f"{place}/{each['id']}", {"name": "three"}) for each in both]
        statuses = sorted(each.result().status for each in sent)
    assert statuses == [200, 409]


def test_a_timer_waits_for_lines_of_chat(bot, fleet, timer, said, due):
    made = timer("tip", min_lines=3)
    bot.say("one")
    bot.say("one", mode="simulate")
    due()
    eventually(lambda: waits(fleet, made))
    bot.say("two")
    bot.say("three", channel="pond")
    eventually(lambda: rows(fleet, "SELECT lines FROM timers WHERE id = %s", made["id"]) == [{"lines": 3}])
    due()
    eventually(lambda: len(said()) == 2)
    due()
    eventually(lambda: rows(fleet, "SELECT due_at > now() AS waits FROM timers WHERE id = %s", made["id"])[0]["waits"])
    assert {text for _, text in said()} == {"tip!"}
    assert len(said()) == 2


def test_a_timer_is_said_where_somebody_is_live(bot, fleet, timer, said, due):
    twitch = f"twitch:{bot.slug}:"
    rows(
        fleet,
        "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
        " VALUES (%s, 'twitch', %s, '', %s)",
        *(twitch, bot.slug, bot.community_id),
    )
    # Twitch's collector in this process gives up what no server is.
    rows(
        fleet,
        "INSERT INTO servers (platform, channel, community_id) VALUES ('twitch', %s, %s)",
        *(bot.slug, bot.community_id),
    )
    rows(
        fleet,
        "INSERT INTO coordination (entity_id, platform, server_id, channel_id) VALUES (%s, 'twitch', %s, '')",
        *(twitch, bot.slug),
    )
    made = timer("live", only_live=True, entity_id=twitch)
    due()
    eventually(lambda: waits(fleet, made))
    rows(fleet, "UPDATE coordination SET is_live = true WHERE entity_id = %s", twitch)
    # A step that began before may put it off once more.
    eventually(lambda: due() or said() == [(twitch, "live!")])


def test_a_timer_of_a_channel_that_is_gone_takes_no_turn(bot, fleet, timer, said, due):
    bot.say("hi")
    bot.say("hi", channel="gone")
    timer("here")
    gone = timer("gone", entity_id=f"console:{bot.slug}:gone")
    rows(fleet, "UPDATE entities SET is_active = false WHERE entity_id = %s", f"console:{bot.slug}:gone")
    # It is the first in turn; had it been said to nobody, the other would wait for a minute.
    due()
    eventually(lambda: said() == [(f"console:{bot.slug}:general", "here!")])
    assert waits(fleet, gone)


def test_several_timers_take_turns_and_two_replicas_say_none_twice(bot, fleet, timer, said, due):
    bot.say("hi")
    timer_service = importlib.import_module("apps.router_module.services.records.timer_service")
    timer("first"), timer("second"), timer("third")
    due()
    for _ in range(3):
        timer_service.TimerService(fleet.database).step()
    eventually(lambda: len(said()) == 1)
    for heard in (2, 3):
        rows(
            fleet,
            "UPDATE timers SET said_at = said_at - interval '2 minutes' WHERE community_id = %s",
            bot.community_id,
        )
        eventually(lambda heard=heard: len(said()) == heard)
    assert sorted(text for _, text in said()) == ["first!", "second!", "third!"]


def test_a_timer_over_http_with_undo(bot, fleet, timer):
    made = timer("Rules", min_lines=7)
    place = f"/router/communities/{bot.slug}/timers"
    assert (made["name"], made["min_lines"], made["is_active"]) == ("rules", 7, True)
    body = {"name": "RULES", "message": "x", "minutes": 5}
    assert fleet.request("POST", place, body).json()["error"]["code"] == "timer_exists"
    for odd in ({"minutes": 0}, {"message": " "}, {"name": "a b"}, {"min_lines": 1001}, {"color": "red"}):
        assert fleet.request("PUT", f"{place}/{made['id']}", odd).status == 422
    assert fleet.request("PUT", f"{place}/{made['id']}", {"entity_id": "twitch:nobody:"}).status == 404
    changed = fleet.request("PUT", f"{place}/{made['id']}", {"minutes": 30}).json()["timer"]
    assert (changed["minutes"], changed["message"]) == (30, "Rules!")
    assert fleet.request("DELETE", f"{place}/{made['id']}").status == 200
    assert fleet.request("DELETE", f"{place}/{made['id']}").json()["error"]["code"] == "unknown_timer"
    entries = fleet.request("GET", "/router/audit", query={"community_id": bot.slug}).json()["audit"]
    assert [each["action"] for each in entries[:3]] == ["timer_deleted", "timer_changed", "timer_created"]
    assert fleet.request("POST", f"/router/audit/{entries[0]['id']}/undo").status == 200
    (back,) = fleet.request("GET", place).json()["timers"]
    assert (back["name"], back["minutes"], back["min_lines"]) == ("rules", 30, 7)


def test_a_timer_says_what_is_so_at_the_moment(bot, fleet, timer, said, due):
    bot.say("hi")
    here = f"console:{bot.slug}:general"
    path = f"/router/communities/{bot.slug}/timers/preview"
    shown = fleet.request("POST", path, {"message": "#{count} {user} {random:x|x} in {channel} {gmae}"}).json()
    assert shown["texts"] == [{"entity_id": here, "message": f"› #1 {{user}} x in {bot.slug} {{gmae}}"}]
    assert shown["remarks"][0].startswith("{user}, {gmae} is said as it stands")
    assert fleet.request("POST", path, {"message": "x", "entity_id": "twitch:nobody:"}).status == 404
    timer("often", message="{count} in {channel}")
    assert bot.say("!timer preview often", level="moderator").chat == f"In 1 channel: 1 in {bot.slug}"
    for heard in (1, 2):
        due()
        eventually(lambda heard=heard: [text for _, text in said()][heard - 1 :] == [f"{heard} in {bot.slug}"])
    added = bot.say("!timer add odd 5 hello {touser}", level="moderator").chat
    assert "{touser} is said as it stands; what is filled in is {channel} {count} " in added
