"""Who may: switches, replacements, permissions by name and role, in their one order (design §7, contracts §6)."""

from __future__ import annotations

import pytest
from waddlebot.base.ids import new_id
from waddlebot.community.directory import add_server
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to


@pytest.fixture
def allow(bot, fleet):
    """Set something for a command in the bot's community: `allow("!inventory", deny=["role:vip"])`."""

    def put(command, *, at=None, is_enabled=None, allow=(), deny=(), **config):
        path = f"/router/entities/{at}/permissions" if at else f"/router/communities/{bot.slug}/permissions"
        body = {
            "command": command,
            "is_enabled": is_enabled,
            "permissions": {"allow": list(allow), "deny": list(deny)},
            "config": config,
        }
        done = fleet.request("PUT", path, body)
        assert done.status == 200, done.body
        return done.json()["permission"]

    return put


def switch(bot, fleet, module, at=None, **body):
    path = f"/router/entities/{at}/modules/{module}" if at else f"/router/communities/{bot.slug}/modules/{module}"
    return fleet.request("PUT", path, body)


def code(heard):
    return heard.answer["executions"][0]["error"]["code"]


def test_a_core_module_is_on_until_it_is_switched_off(bot, fleet):
    assert bot.say("!inventory list").statuses == ["success"]

    assert switch(bot, fleet, "inventory", enabled=False).status == 200
    heard = bot.say("!inventory list")
    assert (heard.statuses, code(heard)) == (["denied"], "switch")
    assert heard.chat == "!inventory is switched off here."
    assert "!inventory" not in bot.say("!help").chat

    assert switch(bot, fleet, "inventory", enabled=True).status == 200
    assert bot.say("!inventory list").statuses == ["success"]


def test_an_entity_overrides_its_community(bot, fleet):
    bot.say("hello", channel="games")
    switch(bot, fleet, "inventory", enabled=False)
    switch(bot, fleet, "inventory", at=f"console:{bot.slug}:games", enabled=True)

    assert bot.say("!inventory list").statuses == ["denied"]
    assert bot.say("!inventory list", channel="games").statuses == ["success"]

    gone = fleet.request("DELETE", f"/router/entities/console:{bot.slug}:games/modules/inventory")
    assert gone.status == 200
    assert bot.say("!inventory list", channel="games").statuses == ["denied"]


def test_a_marketplace_module_is_off_until_it_is_installed(fleet, stub):
    elsewhere = fleet.bot()
    heard = elsewhere.say("!stub")
    assert (heard.statuses, code(heard)) == (["denied"], "default")
    assert heard.chat == "!stub is not installed here."
    assert stub.calls == []

    elsewhere.install("stub")
    assert elsewhere.say("!stub").chat == "hello"


def test_a_community_module_can_replace_a_core_module(bot, fleet, stub):
    stub.register(fleet, {"command": "inventory", "prefix": "#"}, {"command": "stub"})
    stub.behaviour = lambda call: reply_to(call, chat(f"replaced {call['trigger']['command']}"))

    assert switch(bot, fleet, "inventory", enabled=False, replaced_by="stub").status == 200

    assert bot.say("!inventory list").chat == "replaced inventory"
    assert fleet.bot().say("!inventory list").chat == "The inventory is empty."


@pytest.mark.parametrize(
    ("module", "body", "status"),
    [
        ("nosuch", {"enabled": False}, 404),
        ("inventory", {"enabled": False, "replaced_by": "nosuch"}, 404),
        ("inventory", {"enabled": False, "replaced_by": "inventory"}, 422),
        ("inventory", {"enabled": "perhaps"}, 422),
        ("inventory", {"enabled": False, "shiny": 1}, 422),
        ("Not a name", {"enabled": False}, 422),
    ],
)
def test_a_switch_that_makes_no_sense_is_refused(bot, fleet, module, body, status):
    assert switch(bot, fleet, module.replace(" ", "%20"), **body).status == status


def test_who_is_denied_by_name_stays_denied_however_high(bot, allow):
    bot.say("hi", by="mallory")
    allow("!inventory", deny=["console:mallory"])

    heard = bot.say("!inventory list", by="mallory", level="owner")
    assert (heard.statuses, code(heard)) == (["denied"], "deny")
    assert bot.say("!inventory list", by="alice").statuses == ["success"]


def test_who_is_allowed_by_name_or_role_needs_no_level(bot, allow):
    bot.say("hi", by="bob")
    allow("!inventory", allow=["console:bob", "role:vip"])

    assert bot.say('!inventory add "A" b', by="bob").statuses == ["success"]
    assert bot.say('!inventory add "B" b', by="vicky", level="vip").statuses == ["success"]
    assert bot.say('!inventory add "C" b', by="carol").statuses == ["denied"]


def test_denied_counts_before_allowed_and_off_before_both(bot, allow):
    allow("!inventory", allow=["role:member"], deny=["role:member"])
    assert code(bot.say("!inventory list")) == "deny"

    allow("!inventory", is_enabled=False, allow=["role:member"])
    assert code(bot.say("!inventory list")) == "switch"


def test_what_is_set_for_all_commands_holds_for_each(bot, allow, fleet):
    bot.say("hello", channel="quiet")
    allow("*", at=f"console:{bot.slug}:quiet", is_enabled=False)

    assert bot.say("!help", channel="quiet").statuses == ["denied"]
    assert bot.say("!help").statuses == ["success"]


def test_what_was_set_can_be_read_and_taken_back(bot, allow, fleet):
    bot.say("hi", by="bob")
    made = allow("!Inventory", deny=["console:bob", "role:VIP"], rate_limit=5)

    path = f"/router/communities/{bot.slug}/permissions"
    listed = fleet.request("GET", path).json()["permissions"]
    assert [each["command"] for each in listed] == ["!inventory"]
    assert "role:vip" in made["permissions"]["deny"]
    assert made["config"] == {"rate_limit": 5}
    assert fleet.request("DELETE", path, query={"command": "!inventory"}).status == 200
    assert fleet.request("DELETE", path, query={"command": "!inventory"}).status == 404
    assert bot.say("!inventory list", by="bob").statuses == ["success"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"command": "inventory"}, 422),
        ({"command": "!inventory list"}, 422),
        ({"command": "!x", "permissions": {"deny": ["role:king"]}}, 422),
        ({"command": "!x", "permissions": {"deny": ["bob"]}}, 422),
        ({"command": "!x", "permissions": {"deny": ["user:999999999999"]}}, 404),
        ({"command": "!x", "permissions": {"deny": ["console:nobody-yet"]}}, 404),
        ({"command": "!x", "config": {"rate_limit": -1}}, 422),
        ({"command": "!x", "config": {"shiny": 1}}, 422),
    ],
)
def test_a_permission_that_makes_no_sense_is_refused(bot, fleet, body, status):
    assert fleet.request("PUT", f"/router/communities/{bot.slug}/permissions", body).status == status


def test_another_communitys_key_may_set_nothing(bot, fleet):
    bot.say("hello")
    stranger = fleet.bot()
    key = fleet.make_key(f"switch-{stranger.slug}", "api-users", community_id=stranger.community_id)
    entity = f"console:{bot.slug}:general"

    for method, path, body in [
        ("PUT", f"/router/communities/{bot.slug}/modules/inventory", {"enabled": False}),
        ("PUT", f"/router/entities/{entity}/modules/inventory", {"enabled": False}),
        ("PUT", f"/router/communities/{bot.slug}/permissions", {"command": "*", "is_enabled": False}),
        ("PUT", f"/router/entities/{entity}/permissions", {"command": "*", "is_enabled": False}),
        ("GET", f"/router/communities/{bot.slug}/modules", None),
        ("GET", f"/router/entities/{entity}/permissions", None),
    ]:
        assert fleet.request(method, path, body, key=key).status in (403, 404), path
        assert fleet.request(method, path, body, key="inventory").status == 403, path
    assert bot.say("!inventory list").statuses == ["success"]


def test_modules_are_listed_with_what_decided(bot, fleet, stub):
    switch(bot, fleet, "inventory", enabled=False)

    listed = fleet.request("GET", f"/router/communities/{bot.slug}/modules").json()["modules"]
    found = {each["module_name"]: (each["enabled"], each["decided_by"]) for each in listed}

    assert found["inventory"] == (False, "community")
    assert found["alias"] == (True, "default")
    assert found["stub"] == (True, "community")


def test_why_names_the_permission(bot, allow):
    allow("!inventory", deny=["role:member"])
    bot.say("!inventory list")

    assert "!inventory is denied to every member here" in bot.say("!why").chat


# Limits (contracts §7)


def test_a_person_may_use_a_command_so_often_a_minute(bot, allow, fleet):
    allow("!inventory", user_rate_limit=2)
    assert [bot.say("!inventory list").statuses for _ in range(3)] == [["success"], ["success"], ["rate_limited"]]

    heard = bot.say("!inventory list")
    assert heard.chat.startswith("!inventory may be used 2 times a minute for you. Try again in ")
    assert bot.say("!inventory list", by="bob").statuses == ["success"]
    assert bot.say("!help").statuses == ["success"]
    bot.say("!inventory list")
    assert "was asked for too often (!inventory may be used 2 times a minute for you" in bot.say("!why").chat


def test_everybody_together_may_use_a_command_so_often(bot, allow):
    allow("!inventory", rate_limit=2)

    statuses = [bot.say("!inventory list", by=name).statuses[0] for name in ("alice", "bob", "carol")]

    assert statuses == ["success", "success", "rate_limited"]


def test_a_place_may_be_limited_as_a_whole(bot, allow):
    bot.say("hello")
    allow("*", at=f"console:{bot.slug}:general", rate_limit=2)

    statuses = [bot.say(text).statuses[0] for text in ("!help", "!inventory list", "!stats")]

    assert statuses == ["success", "success", "rate_limited"]
    assert bot.say("!stats", channel="other").statuses == ["success"]


def test_an_alias_charges_what_it_stands_for(bot, allow):
    bot.say('!alias add !inv "!inventory list"', level="owner")
    allow("!inventory", user_rate_limit=2)

    assert bot.say("!inv").statuses == ["success", "success"]
    assert bot.say("!inventory list").statuses == ["success"]
    refused = bot.say("!inv")
    assert refused.statuses == ["success", "rate_limited"]
    assert refused.chat.startswith("!inventory may be used 2 times a minute")


def test_what_never_reached_its_module_costs_nothing(bot, allow, fleet, stub):
    allow("!stub", user_rate_limit=1)
    stub.register(fleet, timeout=0.2)
    stub.behaviour = lambda call: (503, b"")
    assert bot.say("!stub").statuses == ["failed"]

    stub.behaviour = lambda call: reply_to(call, chat("back"))
    assert bot.say("!stub").chat == "back"
    assert bot.say("!stub").statuses == ["rate_limited"]


def test_a_rehearsal_and_a_repeat_cost_nothing(bot, allow):
    allow("!inventory", user_rate_limit=2)
    event = bot.event("!inventory list")

    for _ in range(5):
        assert bot.say("!inventory list", mode="simulate").statuses == ["success"]
        assert bot.submit(event).statuses == ["success"]

    assert bot.say("!inventory list").statuses == ["success"]
    assert bot.say("!inventory list").statuses == ["rate_limited"]


def test_a_whole_batch_is_limited_in_its_order(bot, allow, fleet):
    allow("!inventory", user_rate_limit=3)
    events = [bot.event("!inventory list", by=name) for name in ("alice", "bob") for _ in range(4)]

    answers = fleet.request("POST", "/router/events/batch", events).json()

    found = [each["executions"][0]["status"] for each in answers]
    assert found == ["success", "success", "success", "rate_limited"] * 2


def test_on_a_platform_a_refusal_is_told_once_a_minute(fleet, stub):
    channel, community = new_id(), "t" + new_id().replace("-", "")
    with fleet.database.transaction() as db:
        add_server(db, "twitch", channel, community=community)
    event = {
        "message_type": "chatMessage",
        "platform": "twitch",
        "server_id": "",
        "channel_id": channel,
        "user": {"platform_user_id": "1", "name": "viewer"},
        "message": '!inventory add "A" b',
    }

    heard = [
        fleet.request("POST", "/router/events", {**event, "event_id": new_id()}, key="twitch").json() for _ in range(3)
    ]

    assert [each["executions"][0]["status"] for each in heard] == ["denied"] * 3
    assert [len(each["responses"]) for each in heard] == [1, 0, 0]


def test_what_is_for_when_the_stream_is_on_follows_the_stream_at_once(bot, fleet, allow):
    """By the event itself, and not by the next report of whoever holds the channel; on other platforms as well."""
    channel = f"{bot.community_id}7"
    with fleet.database.transaction() as db:
        row = (f"twitch::{channel}", channel, bot.community_id)
        fetch(
            db,
            "INSERT INTO entities (entity_id, platform, channel_id, community_id) VALUES (%s, 'twitch', %s, %s)",
            row,
        )
        fetch(
            db, "INSERT INTO coordination (entity_id, platform) VALUES (%s, 'twitch') ON CONFLICT DO NOTHING", row[:1]
        )
    allow("!points", only_live=True)

    def tell(message_type):
        told = {**bot.event(""), "platform": "twitch", "server_id": "", "channel_id": channel}
        told["message_type"] = message_type
        assert fleet.request("POST", "/router/events", told, key="twitch").status == 200

    assert bot.say("!points").chat == "!points is for when the stream is on."
    for _ in range(2):
        tell("stream_online")
        assert bot.say("!points").statuses == ["success"]
        tell("stream_offline")
        assert bot.say("!points").chat == "!points is for when the stream is on."


def test_a_command_rests_as_its_community_says(bot, fleet):
    """For a command as for an alias: by chat, by API, and exported (contracts §7)."""
    assert bot.say("!cooldown !points 30", by="bob").statuses == ["denied"]
    said = bot.say("!cooldown points 30 person=2m", level="moderator").chat
    assert said == "Set for !points: rests 30 s for everybody, rests 120 s for each person."
    assert bot.say("!cooldown !points", level="moderator").chat == said
    assert bot.say("!points", level="moderator").statuses == ["success"], "moderators are exempt"
    assert bot.say("!points").statuses == ["success"]
    assert bot.say("!points", by="bob").answer["executions"][0]["error"]["code"] == "cooldown"
    assert bot.say("!points", by="bob").chat.startswith("!points rests for everybody here")
    place = f"/router/communities/{bot.slug}/permissions"
    body = {"command": "!points", "config": {"cooldown_person_s": 9, "cooldown_exempt": "nobody", "level": "vip"}}
    assert fleet.request("PUT", place, body).status == 200
    assert "Only a vip or above" in bot.say("!points", by="bob").chat
    assert bot.say("!points", by="vic", level="owner").statuses == ["success"]
    assert bot.say("!points", by="vic", level="owner").statuses == ["rate_limited"]
    assert "rests 9 s for each person, for all alike, for vips and above" in (
        bot.say("!cooldown points", level="moderator").chat
    )
    for odd in ({"cooldown_s": -1}, {"cooldown_s": 86_401}, {"level": "king"}, {"label": ""}, {"cooldown": 3}):
        assert fleet.request("PUT", place, {"command": "!points", "config": odd}).status == 422
    assert bot.say("!cooldown points off", level="moderator").chat == "Set for !points: nothing particular."
    assert bot.say("!points", by="vic").statuses == ["success"]
    actions = fleet.request("GET", "/router/audit", query={"community_id": bot.slug}).json()["audit"]
    assert [each["action"] for each in actions[:3]] == ["permission_set"] * 3
    assert fleet.request("POST", f"/router/audit/{actions[0]['id']}/undo").status == 200
    assert "for vips and above" in bot.say("!cooldown points", level="moderator").chat
    bot.say("!alias add hey hello", level="moderator")
    for line, answer in (("!cooldown", "Usage: !cooldown"), ("!cooldown nothing 3", "There is no !nothing here.")):
        assert answer in bot.say(line, level="moderator").chat
    assert "!alias set !hey" in bot.say("!cooldown hey 3", level="moderator").chat
