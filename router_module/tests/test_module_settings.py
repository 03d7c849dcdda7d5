"""What a community sets for a module reaches its next call, is checked against what the module declared, and hides
nothing but secrets (contracts §6)."""

from __future__ import annotations

import json

import pytest
from waddlebot.base.contracts import Event
from waddlebot.community.credentials import Credentials
from waddlebot.module.service import SERVICES
from waddlebot.testing.module_stub import chat, reply_to

SPECS = [
    {"name": "greeting", "type": "text", "default": "hello", "max": 20},
    {"name": "times", "type": "int", "default": 1, "min": 1, "max": 3},
    {"name": "password", "type": "secret"},
]


@pytest.fixture
def greeter(fleet, bot, stub):
    """An outside module that says what is set for it."""
    stub.register(fleet, more={"settings": SPECS})
    stub.behaviour = lambda call: reply_to(call, chat(" ".join(greeting_of(call))))
    return stub


def greeting_of(call):
    return [call["settings"]["greeting"]] * call["settings"]["times"]


def put(fleet, bot, module, at=None, **body):
    path = f"/router/entities/{at}/modules/{module}" if at else f"/router/communities/{bot.slug}/modules/{module}"
    return fleet.request("PUT", path, body)


def listed(fleet, bot, module, at=None):
    path = f"/router/entities/{at}/modules" if at else f"/router/communities/{bot.slug}/modules"
    return next(each for each in fleet.request("GET", path).json()["modules"] if each["module_name"] == module)


def values(found):
    return {each["name"]: (each["value"], each["decided_by"]) for each in found["settings"]}


@pytest.fixture
def credentials() -> Credentials:
    """As a module's process has them."""
    return SERVICES[0].credentials


def test_a_setting_changes_what_is_said(fleet, bot, greeter):
    assert bot.say("!stub").chat == "hello"
    made = put(fleet, bot, "stub", config={"greeting": "good day", "times": 2})
    assert (made.status, made.json()["module"]["config"]) == (200, {"greeting": "good day", "times": 2})
    assert bot.say("!stub").chat == "good day good day"
    put(fleet, bot, "stub", config={"times": None})
    assert bot.say("!stub").chat == "hello"


def test_an_entity_has_its_own_and_the_rest_of_its_community(fleet, bot, greeter):
    bot.say("hi", channel="games")
    games = f"console:{bot.slug}:games"
    put(fleet, bot, "stub", config={"greeting": "good day", "times": 2})
    assert put(fleet, bot, "stub", at=games, config={"times": 3}).status == 200

    assert bot.say("!stub", channel="games").chat == "good day good day good day"
    assert bot.say("!stub").chat == "good day good day"
    assert values(listed(fleet, bot, "stub", at=games)) == {
        "greeting": ("good day", "community"),
        "times": (3, "entity"),
        "password": (None, "default"),
    }
    assert listed(fleet, bot, "stub", at=games)["config"] == {"times": 3}
    assert fleet.request("DELETE", f"/router/entities/{games}/modules/stub").status == 200
    assert bot.say("!stub", channel="games").chat == "good day good day"


def test_one_module_is_asked_for_and_a_list_without_what_is_set(fleet, bot, greeter):
    put(fleet, bot, "stub", config={"greeting": "moin"})
    path = f"/router/communities/{bot.slug}/modules"
    one = fleet.request("GET", path, query={"module": "stub"}).json()["modules"]
    assert one == [listed(fleet, bot, "stub")]
    assert values(one[0])["greeting"] == ("moin", "community")
    assert fleet.request("GET", path, query={"module": "no such"}).json()["modules"] == []

    whole = fleet.request("GET", path).json()["modules"]
    brief = fleet.request("GET", path, query={"brief": "true"}).json()["modules"]
    assert [each["module_name"] for each in brief] == [each["module_name"] for each in whole]
    for short, full in zip(brief, whole, strict=True):
        assert short == {name: value for name, value in full.items() if name not in ("config", "settings")}
        assert short["has_settings"] is bool(full["settings"]), short["module_name"]


def test_settings_and_switch_leave_each_other_alone(fleet, bot, greeter):
    bot.say("hi", channel="games")
    put(fleet, bot, "stub", enabled=False)
    put(fleet, bot, "stub", config={"greeting": "moin"})
    put(fleet, bot, "stub", at=f"console:{bot.slug}:games", config={"times": 2})
    assert bot.say("!stub").statuses == ["denied"]
    assert bot.say("!stub", channel="games").statuses == ["denied"]

    put(fleet, bot, "stub", enabled=True)
    assert bot.say("!stub").chat == "moin"
    assert listed(fleet, bot, "stub")["config"] == {"greeting": "moin"}

    elsewhere = fleet.bot()
    assert put(fleet, elsewhere, "stub", config={"greeting": "moin"}).json()["module"]["enabled"] is None
    assert elsewhere.say("!stub").statuses == ["denied"]  # Not installed there, whatever is set for it.
    assert listed(fleet, elsewhere, "stub")["decided_by"] == "default"
    assert put(fleet, elsewhere, "stub").json()["module"]["enabled"] is True
    assert elsewhere.say("!stub").chat == "moin"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"greeting": "x" * 21}, "config.greeting"),
        ({"times": 4}, "config.times"),
        ({"times": True}, "config.times"),
        ({"shiny": 1}, "config.shiny"),
    ],
)
def test_what_does_not_fit_is_422_by_name_and_changes_nothing(fleet, bot, greeter, config, field):
    put(fleet, bot, "stub", config={"greeting": "moin"})
    refused = put(fleet, bot, "stub", config={"greeting": "no", **config})
    assert refused.status == 422
    assert refused.json()["error"]["details"]["field"] == field
    assert bot.say("!stub").chat == "moin"
    bot.say("hi", channel="games")
    assert put(fleet, bot, "stub", at=f"console:{bot.slug}:games", config=config).status == 422


def test_modules_of_the_checkout_go_by_their_manifest(fleet, bot):
    for item in "abc":
        bot.say(f"!inventory add {item} thing", level="moderator")
    assert bot.say("!inventory list").chat == "3 items: a, b, c"
    assert put(fleet, bot, "inventory", config={"listed": 1}).status == 200
    assert bot.say("!inventory list").chat == "3 items: a … and 2 more; !inventory search finds them"
    assert put(fleet, bot, "inventory", config={"listed": 51}).status == 422
    assert put(fleet, bot, "alias", config={"anything": 1}).status == 422


def test_without_specs_a_modules_config_is_its_own_business(fleet, bot, stub):
    stub.behaviour = lambda call: reply_to(call, chat(json.dumps(call["settings"])))
    assert bot.say("!stub").chat == "{}"
    assert put(fleet, bot, "stub", config={"any": {"thing": [1]}}).status == 200
    assert bot.say("!stub").chat == '{"any": {"thing": [1]}}'
    assert listed(fleet, bot, "stub")["settings"] is None
    # Once it declares them, what does not fit any more is left out of calls.
    stub.register(fleet, more={"settings": [{"name": "any", "type": "bool", "default": True}]})
    assert bot.say("!stub").chat == '{"any": true}'


def test_a_registration_with_bad_specs_is_refused(fleet, stub):
    body = {"module_name": "stub", "module_version": "1", "endpoint_url": stub.url}
    for settings in (
        [{"name": "a", "type": "int", "default": "x"}],
        [{"name": "a", "type": "bool"}] * 2,
        [{"name": 1}],
    ):
        assert fleet.request("POST", "/api/modules/register", {**body, "settings": settings}, key="stub").status == 422


def test_a_secret_setting_is_seen_by_its_module_alone(fleet, bot, greeter, credentials):
    made = put(fleet, bot, "stub", config={"greeting": "moin", "password": "s3cret!"})
    assert made.json()["module"]["config"] == {"greeting": "moin", "password": "•"}
    assert values(listed(fleet, bot, "stub"))["password"] == ("•", "community")
    assert bot.say("!stub").chat == "moin"
    assert "password" not in greeter.calls[-1]["settings"]
    assert credentials.find_settings(bot.community_id, "stub") == {"password": "s3cret!"}
    stored = [
        fleet.database.statement(f"SELECT t::text FROM {table} t WHERE community_id = %s", (bot.community_id,))
        for table in ("module_switches", "community_credentials", "command_executions")
    ]
    assert all(stored)
    assert "s3cret!" not in str(stored)

    # What a form sends back unchanged stays, and so does what it leaves out; an empty text takes it away.
    put(fleet, bot, "stub", config={"password": "•"})
    put(fleet, bot, "stub", config={"greeting": "servus"})
    assert credentials.find_settings(bot.community_id, "stub") == {"password": "s3cret!"}
    put(fleet, bot, "stub", config={"password": ""})
    assert credentials.find_settings(bot.community_id, "stub") == {}

    bot.say("hi", channel="games")
    refused = put(fleet, bot, "stub", at=f"console:{bot.slug}:games", config={"password": "x"})
    assert (refused.status, refused.json()["error"]["details"]["field"]) == (422, "config.password")


def test_taking_all_of_it_back_takes_the_secrets_too(fleet, bot, greeter, credentials):
    put(fleet, bot, "stub", config={"password": "s3cret!"})
    assert fleet.request("DELETE", f"/router/communities/{bot.slug}/modules/stub").status == 200
    assert credentials.find_settings(bot.community_id, "stub") == {}
    assert values(listed(fleet, bot, "stub"))["password"] == (None, "default")


def test_the_bots_own_settings_are_the_routers(fleet, bot):
    found = values(listed(fleet, bot, "router"))
    assert found == {
        "shared_chat": (False, "default"),
        "points": ({}, "default"),
        "music": ("auto", "default"),
        "public_page": (False, "default"),
        "announce": (None, "default"),
    }
    for config, status in [
        ({"music": "spotify", "shared_chat": True, "announce": True, "points": {"twitch.follow": 20}}, 200),
        ({"music": "winamp"}, 422),
        ({"points": {"folow": 1}}, 422),
        ({"points": 5}, 422),
    ]:
        assert put(fleet, bot, "router", config=config).status == status, config
    assert values(listed(fleet, bot, "router"))["announce"] == (True, "community")


def test_points_are_what_the_community_says_they_are(fleet, bot):
    bot.say("first")
    put(fleet, bot, "router", config={"points": {"chatMessage": 100}})
    bot.say("second")
    assert "205 points" in bot.say("!points").chat  # Which is a message, too.
    reported = fleet.request(
        "POST",
        "/api/reputation",
        {"userid": 1, "activity": "message", "namespace": bot.slug},
        key="inventory",
    )
    assert reported.json()["event_score"] == 100


def lookups_of_the_router():
    router = next(each for each in SERVICES if each.name == "router")
    return router.more_metrics.__self__._lookups


def test_the_router_reads_its_own_settings_for_a_place_and_sees_a_change_at_once(fleet, bot):
    lookups = lookups_of_the_router()
    here, games = (lookups.place(Event.model_validate(bot.event("hi", channel=name))) for name in ("general", "games"))
    assert lookups.core_settings(here)["shared_chat"] is False
    put(fleet, bot, "router", config={"shared_chat": True})
    put(fleet, bot, "router", at=games.entity_id, config={"announce": False})
    assert (lookups.core_settings(here)["shared_chat"], lookups.core_settings(here)["announce"]) == (True, None)
    assert (lookups.core_settings(games)["shared_chat"], lookups.core_settings(games)["announce"]) == (True, False)


def test_a_module_with_neither_settings_nor_commands_cannot_be_set(fleet, bot):
    assert put(fleet, bot, "slack", config={"a": 1}).status == 404
    assert put(fleet, bot, "nonsense", config={"a": 1}).status == 404


def test_a_plain_message_asks_the_database_for_no_setting(fleet, bot):
    """Settings are read with the switches, and kept with them."""
    bot.say("warm")
    lookups = lookups_of_the_router()
    _, before = lookups.hits_and_misses
    for _ in range(5):
        bot.say("and on")
    assert lookups.hits_and_misses[1] == before
