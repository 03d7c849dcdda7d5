"""What modules say without being asked: where it is said, how often, once, and by whom."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.base.errors import UpstreamError, UpstreamRefused
from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch
from waddlebot.module.interaction import say
from waddlebot.module.service import SERVICES
from waddlebot.testing.module_stub import chat
from waddlebot.testing.plugin import eventually


@pytest.fixture
def announce(bot, fleet, stub):
    """Have the stub announce something in the bot's community."""

    def post(*responses, key="stub", status=200, **fields):
        body = {"announcement_id": new_id(), "responses": list(responses) or [chat("News!")], **fields}
        if "entity_id" not in fields:
            body.setdefault("community_id", bot.slug)
        answer = fleet.request("POST", "/router/announcements", body, key=key)
        assert answer.status == status, answer.body
        return answer.json() if status == 200 else answer.json()["error"]

    return post


@pytest.fixture
def said(fleet, bot):
    """What was put into the outbox for the bot's community: where, what kind, what."""

    def rows():
        with fleet.database.transaction() as db:
            return fetch(
                db,
                "SELECT * FROM outbox WHERE community_id = %s AND event_id LIKE 'announcement:%%' ORDER BY id",
                (bot.community_id,),
            )

    return rows


def add_channel(fleet, bot, entity_id):
    platform, server, channel = entity_id.split(":")
    with fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
            " VALUES (%s, %s, %s, %s, %s)",
            (entity_id, platform, server, channel, bot.community_id),
        )


def want(fleet, place, announce, status=200):
    path = f"/router/{place}/modules/router"
    assert fleet.request("PUT", path, {"config": {"announce": announce}}, key="admin").status == status


def test_it_is_said_in_every_channel_of_the_console_and_can_be_taken_from_the_outbox(bot, fleet, announce, said):
    bot.say("hi")
    bot.say("hi", channel="pond")

    answer = announce(chat("News!"), chat("!more"))

    assert (answer["success"], answer["duplicate"]) == (True, False)
    assert answer["outbox_ids"] == [row["id"] for row in said()]
    assert [(row["entity_id"], row["response_data"]["message"]) for row in said()] == [
        (f"console:{bot.slug}:general", "News!"),
        (f"console:{bot.slug}:general", "› !more"),
        (f"console:{bot.slug}:pond", "News!"),
        (f"console:{bot.slug}:pond", "› !more"),
    ]
    waiting = fleet.request("GET", "/router/outbox", query={"entity_id": f"console:{bot.slug}:pond"}).json()["replies"]
    assert [each["outbox_id"] for each in waiting] == answer["outbox_ids"][2:]
    taken = fleet.request("POST", f"/router/outbox/{waiting[0]['outbox_id']}", {"state": "sent"})
    assert taken.status == 200


def test_discord_and_slack_hear_only_what_their_owner_wants_there(bot, fleet, announce, said):
    bot.say("hi")
    number = bot.community_id
    places = [f"{platform}:S{number}:C{number}" for platform in ("discord", "slack")] + [f"twitch::{number}99"]
    for entity_id in places:
        add_channel(fleet, bot, entity_id)

    announce()
    assert {row["platform"] for row in said()} == {"console", "twitch"}
    want(fleet, f"entities/{places[0]}", True)
    want(fleet, f"entities/{places[2]}", False)
    before = len(said())
    announce()
    assert {row["platform"] for row in said()[before:]} == {"console", "discord"}
    want(fleet, f"communities/{bot.slug}", False)
    before = len(said())
    announce()
    assert {row["platform"] for row in said()[before:]} == {"discord"}


def test_one_channel_may_be_told_by_itself(bot, announce, said):
    bot.say("hi")
    bot.say("hi", channel="pond")

    announce(entity_id=f"console:{bot.slug}:pond")

    assert [row["entity_id"] for row in said()] == [f"console:{bot.slug}:pond"]


def test_what_is_for_overlays_goes_to_the_communitys_overlays_once(bot, fleet, announce, said):
    bot.say("hi")
    bot.say("hi", channel="pond")
    ticker = {"response_action": "ticker", "response_data": {"text": "News!"}}
    song = {"response_action": "media", "response_data": {"media_type": "music", "title": "Song"}}
    words = {"response_action": "general", "response_data": {"title": "Hello"}}

    announce(ticker, song, words)

    assert [row["response_action"] for row in said()] == ["ticker", "media", "general"]
    eventually(lambda: {row["state"] for row in said()} == {"sent"})
    shown = fleet.request(
        "GET", "/browser/source/admin/queue", query={"community_id": bot.slug, "source_type": "ticker"}
    )
    assert [each["data"]["text"] for each in shown.json()["items"]] == ["News!"]


def test_the_same_announcement_again_is_said_once(bot, fleet, announce, said):
    bot.say("hi")
    first = announce(announcement_id="a1-" + bot.slug)
    again = announce(chat("Other news!"), announcement_id="a1-" + bot.slug)

    assert again == {**first, "duplicate": True}
    assert len(said()) == 1


def test_ten_at_once_are_said_once(bot, fleet, announce, said):
    bot.say("hi")
    id_ = new_id()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: announce(announcement_id=id_), range(10)))

    assert sorted(each["duplicate"] for each in answers) == [False] + [True] * 9
    assert len({tuple(each["outbox_ids"]) for each in answers}) == 1
    assert len(said()) == 1


def test_a_crash_in_the_middle_leaves_nothing_and_the_next_try_says_it(bot, fleet, announce, said):
    bot.say("hi")
    id_ = new_id()
    with fleet.database.transaction() as db:  # Nothing may be put into the outbox.
        fetch(
            db,
            "CREATE OR REPLACE FUNCTION fail_now() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'crash'; END$$;"
            "CREATE TRIGGER crash BEFORE INSERT ON outbox FOR EACH ROW"
            f" WHEN (NEW.community_id = {bot.community_id}) EXECUTE FUNCTION fail_now()",
        )
    try:
        announce(announcement_id=id_, status=500)
    finally:
        with fleet.database.transaction() as db:
            fetch(db, "DROP TRIGGER crash ON outbox")

    assert announce(announcement_id=id_)["duplicate"] is False
    assert len(said()) == 1


def test_the_owner_alone_is_told_and_no_channel(bot, fleet, announce, said):
    bot.say("hi")
    private = {"response_action": "chat", "response_data": {"message": "Your plan ends.", "private": True}}

    answer = announce(private, chat("Renew it."), to="owner", announcement_id="n-" + bot.slug)

    assert answer["outbox_ids"] == said() == []
    notices = fleet.request("GET", f"/router/communities/{bot.slug}/notices").json()
    assert notices["total"] == 1
    assert notices["notices"][0]["messages"] == ["Your plan ends.", "Renew it."]
    assert notices["notices"][0]["module_name"] == "stub"
    assert announce(to="owner", announcement_id="n-" + bot.slug)["duplicate"]


def test_notices_are_for_the_communitys_own_keys(bot, fleet, announce):
    announce(to="owner")
    path = f"/router/communities/{bot.slug}/notices"
    own = fleet.make_key(f"own-{bot.slug}", "api-users", community_id=bot.community_id)
    other = fleet.make_key(f"other-{bot.slug}", "api-users", community_id=fleet.bot().community_id)

    assert fleet.request("GET", path, key=own).json()["total"] == 1
    assert fleet.request("GET", path, key=other).status == 403
    assert fleet.request("GET", path, key="stub").status == 403


def test_who_may_announce(bot, fleet, announce, said):
    bot.say("hi")
    other = fleet.bot()
    confined = fleet.make_key(f"confined-{bot.slug}", "services", module_name="stub", community_id=other.community_id)
    nobodys = fleet.make_key(f"nobodys-{bot.slug}", "services")

    assert announce(module_name="stub")["success"]
    announce(module_name="inventory", status=403)
    announce(key=nobodys, status=403)
    announce(key=confined, status=403)
    announce(key="console", status=403)
    announce(key=None, status=401)
    announce(key="twitch", status=403)
    assert len(said()) == 1


def test_a_module_that_is_off_says_nothing(bot, fleet, announce, said):
    bot.say("hi")
    bot.say("hi", channel="pond")
    elsewhere = fleet.bot()
    elsewhere.say("hi")
    assert announce(community_id=elsewhere.slug, status=403)["code"] == "module_off"

    fleet.request("PUT", f"/router/communities/{bot.slug}/modules/stub", {"enabled": False})
    announce(status=403)
    announce(to="owner", status=403)
    fleet.request("PUT", f"/router/entities/console:{bot.slug}:pond/modules/stub", {"enabled": True})
    announce()
    assert [row["entity_id"] for row in said()] == [f"console:{bot.slug}:pond"]


def test_a_core_module_may_announce_until_it_is_switched_off(bot, fleet, announce, said):
    bot.say("hi")
    assert announce(key="inventory")["success"]
    fleet.request("PUT", f"/router/communities/{bot.slug}/modules/inventory", {"enabled": False})
    assert announce(key="inventory", status=403)["code"] == "module_off"


def test_a_module_announces_thirty_times_a_minute(bot, fleet, announce):
    first = new_id()
    for id_ in [first] + [new_id() for _ in range(29)]:
        announce(announcement_id=id_, to="owner")
    body = {"announcement_id": new_id(), "community_id": bot.slug, "responses": [chat("x")]}

    refused = fleet.request("POST", "/router/announcements", body, key="stub")

    assert refused.status == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.json()["error"]["code"] == "rate_limited"
    assert announce(announcement_id=first, to="owner")["duplicate"]
    elsewhere = fleet.bot()
    elsewhere.install("stub")
    announce(community_id=elsewhere.slug)


@pytest.mark.parametrize(
    ("responses", "fields"),
    [
        ([], {"responses": []}),
        ([], {"responses": [chat("x")] * 21}),
        ([chat("")], {}),
        ([{"response_action": "form", "response_data": {}}], {}),
        ([{"response_action": "command", "response_data": {"command": "help"}}], {}),
        ([{"response_action": "ticker", "response_data": {"text": "x"}}], {"to": "owner"}),
        ([{"response_action": "ticker", "response_data": {}}], {}),
        ([{"response_action": "chat", "response_data": {"message": "x", "private": True}}], {}),
        ([{"response_action": "chat", "response_data": {"message": "x", "private": "true"}}], {}),
        ([], {"to": "everybody"}),
        ([], {"announcement_id": ""}),
        ([], {"unknown": 1}),
        ([], {"community_id": None}),
        ([], {"entity_id": "console:x:y", "community_id": "x"}),
        ([], {"entity_id": "nowhere"}),
    ],
)
def test_what_cannot_be_announced_is_refused(bot, announce, said, responses, fields):
    bot.say("hi")

    announce(*responses, **fields, status=422)

    assert said() == []


def test_places_that_do_not_exist(announce):
    assert announce(community_id="no-such-community", status=404)["code"] == "unknown_community"
    assert announce(entity_id="console:no-such:place", status=404)["code"] == "unknown_entity"


def test_a_module_announces_by_the_library(bot, fleet, said):
    bot.say("hi")
    router = next(each for each in SERVICES if each.name == "inventory").router

    announced = router.announce("by-library-" + bot.slug, [say("News!")], community_id=bot.slug)

    assert announced.outbox_ids == [row["id"] for row in said()]
    assert router.announce("by-library-" + bot.slug, [say("News!")], community_id=bot.slug).duplicate
    fleet.request("PUT", f"/router/communities/{bot.slug}/modules/inventory", {"enabled": False})
    with pytest.raises(UpstreamRefused):
        router.announce(new_id(), [say("News!")], community_id=bot.slug)
    with pytest.raises(UpstreamError):
        router.announce(new_id(), [say("News!")], entity_id="console:no:where")


def test_chosen_channels_are_told_when_a_stream_begins_and_ends(bot, fleet):
    """Once for each stream, whoever looks, and with what is known of it (contracts §7)."""
    bot.say("hi")
    here, channel_id = f"console:{bot.slug}:general", f"{bot.community_id}5"
    with fleet.database.transaction() as db:
        sql = "INSERT INTO entities (entity_id, platform, channel_id, community_id) VALUES (%s, 'twitch', %s, %s)"
        fetch(db, sql, (f"twitch::{channel_id}", channel_id, bot.community_id))
    place = f"/router/communities/{bot.slug}/live-notices"

    def said() -> list[str]:
        with fleet.database.transaction() as db:
            sql = "SELECT response_data FROM outbox WHERE entity_id = %s AND event_id LIKE 'announcement:%%'"
            return [row["response_data"]["message"] for row in fetch(db, f"{sql} ORDER BY id", (here,))]

    moderator = {"level": "moderator"}
    assert bot.say("!live add").statuses == ["denied"]
    assert "Usage: !live add" in bot.say("!live", **moderator).chat
    assert "is told when" in bot.say("!live add {url}", **moderator, mode="simulate").chat
    assert "No channel is told" in bot.say("!live list", **moderator).chat
    assert "{gmae} is said as it stands" in bot.say("!live add {channel}: {title} / {game} {gmae}", **moderator).chat
    assert fleet.request("POST", place, {"entity_id": here}).json()["error"]["code"] == "live_notice_exists"
    assert fleet.request("POST", place, {"entity_id": "twitch::nobody"}).status == 404
    own = f"twitch::{channel_id}"
    assert fleet.request("POST", place, {"entity_id": own, "stream_entity_id": own}).status == 422
    # It is told of the others of the community.
    in_the_stream = fleet.request("POST", place, {"entity_id": own}).json()["live_notice"]
    assert bot.say("!live list", **moderator).chat.startswith("here: {channel}")
    assert "its title" in bot.say("!live preview {title}", **moderator).chat

    def tell(kind: str, **data: object) -> None:
        event = {**bot.event(""), "platform": "twitch", "server_id": "", "channel_id": channel_id, "message_type": kind}
        event["user"] = {"platform_user_id": channel_id, "name": "pip", "display_name": "Pip"}
        assert fleet.request("POST", "/router/events", {**event, "data": data}, key="twitch").status == 200

    tell("stream_online", title="Endgames with *Bob*", game="Chess", viewers=-3, picture=7)
    eventually(lambda: said() == ["Pip: Endgames with *Bob* / Chess {gmae}"])
    notices = importlib.import_module("apps.router_module.services.records.live_notice_service")
    for _ in range(2):
        notices.LiveNoticeService(fleet.database).step()
    tell("stream_online", title="Endgames with *Bob*")
    tell("stream_offline")
    eventually(lambda: bot.say("!live list", **moderator).statuses == ["success"])
    with fleet.database.transaction() as db:
        sql = "UPDATE streams SET updated_at = now() - interval '2 minutes' WHERE entity_id = %s"
        fetch(db, sql, (f"twitch::{channel_id}",))
    eventually(lambda: len(said()) == 2)
    assert said()[1].startswith("Pip is off again, after ")
    with fleet.database.transaction() as db:
        assert fetch(db, "SELECT 1 FROM outbox WHERE entity_id = %s AND event_id LIKE 'announcement:%%'", (own,)) == []
    assert fleet.request("DELETE", f"{place}/{in_the_stream['id']}").status == 200
    (listed,) = fleet.request("GET", place).json()["live_notices"]
    assert fleet.request("PUT", f"{place}/{listed['id']}", {"message": " "}).status == 422
    changed = fleet.request("PUT", f"{place}/{listed['id']}", {"end_message": ""}).json()["live_notice"]
    assert (changed["end_message"], changed["message"]) == ("", "{channel}: {title} / {game} {gmae}")
    edited = bot.say("!live edit {channel} is on! {gmae}", **moderator).chat
    assert edited.startswith("When a stream begins this is told: “{channel} is on! {gmae}” {gmae} is said as it stands")
    assert "Usage: !live edit" in bot.say("!live edit", **moderator).chat
    assert "at most 500" in bot.say(f"!live end {'x' * 501}", **moderator).chat
    assert bot.say("!live end Over.", **moderator).chat == "When it ends this is told: “Over.”"
    assert fleet.request("GET", place).json()["live_notices"][0]["end_message"] == "Over."
    assert bot.say("!live end", **moderator).chat == "When it ends nothing is told."
    assert "no more" in bot.say("!live remove", **moderator).chat
    assert "Nothing is told" in bot.say("!live edit x", **moderator).chat
    assert "Nothing is told" in bot.say("!live remove", **moderator).chat
    entries = fleet.request("GET", "/router/audit", query={"community_id": bot.slug}).json()["audit"]
    actions = [each["action"] for each in entries if each["subject"] == f"live-notice/{listed['id']}"]
    assert actions == ["live_notice_deleted", *["live_notice_changed"] * 4, "live_notice_created"]
    assert fleet.request("POST", f"/router/audit/{entries[0]['id']}/undo").status == 200
    assert [each["entity_id"] for each in fleet.request("GET", place).json()["live_notices"]] == [here]
