"""!help, !stats, !why, and what is known about a session."""

from __future__ import annotations

import logging
from functools import partial

from waddlebot.community.directory import add_server
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually, forgive


def test_help_lists_what_may_be_used_here(bot):
    said = bot.say("!help").chat

    assert "!inventory – " in said
    assert "!why – " in said


def test_help_calls_no_command_above_this_level_an_alias(bot):
    assert "!overlay" not in bot.say("!help").chat
    bot.say('!alias add !hi "hello"', level="moderator")
    assert bot.say("!help").chat.splitlines()[-1] == "Aliases: !hi"
    assert "!overlay – " in bot.say("!help", level="moderator").chat


def test_help_for_a_command_shows_the_forms_that_this_level_may_use(bot):
    assert "!inventory add" in bot.say("!help inventory", level="moderator").chat
    assert "!inventory add" not in bot.say("!help !inventory").chat
    assert "!inventory list" in bot.say("!help !inventory").chat


def test_help_for_one_form_shows_that_form(bot):
    assert bot.say("!help inventory add", level="moderator").chat.splitlines() == [
        "How to use !inventory, for a moderator or above:",
        "!inventory add <item_name> <description> [labels] – add an item; labels are separated by commas",
    ]
    said = bot.say("!help inventory add").chat
    assert said.endswith("Only a moderator or above may use !inventory add; you are a member.")


def test_help_says_for_whom_a_command_is(bot):
    assert "Only a moderator or above may use !overlay" in bot.say("!help overlay").chat
    assert bot.say("!help overlay", level="owner").chat.startswith("How to use !overlay, for a moderator or above:")
    assert bot.say("!help inventory", level="owner").chat.startswith("How to use !inventory:")


def test_help_leaves_out_what_is_switched_off_or_denied_here(bot, fleet):
    assert "!inventory" in bot.say("!help").chat
    denied = {"command": "!inventory", "permissions": {"deny": ["role:member"]}}
    assert fleet.request("PUT", f"/router/communities/{bot.slug}/permissions", denied).status == 200
    assert "!inventory" not in bot.say("!help").chat
    assert "!inventory is denied to every member here." in bot.say("!help inventory").chat
    assert "!inventory" in bot.say("!help", level="moderator").chat
    off = fleet.request("PUT", f"/router/communities/{bot.slug}/modules/alias", {"enabled": False})
    assert off.status == 200
    assert "!alias" not in bot.say("!help", level="moderator").chat


def test_help_for_an_unknown_command_suggests(bot):
    heard = bot.say("!help invntory")

    assert heard.statuses == ["failed"]
    assert heard.chat == "There is no !invntory here. Did you mean !inventory?"


def test_a_mistyped_command_is_explained_on_the_console(bot):
    heard = bot.say("!invntory list")

    assert heard.chat == "There is no !invntory here. Did you mean !inventory?"
    assert heard.answer["executions"] == []
    assert bot.say("!qqqqqq").chat == "There is no !qqqqqq here. Try !help."


def test_an_unknown_command_is_silent_on_a_platform(fleet):
    key = fleet.make_key("slack collector of " + fleet.bot().slug, "collectors", platforms=["slack"])
    with fleet.database.transaction() as db:
        db.executesql(
            "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
            " SELECT 'slack:T1:C1', 'slack', 'T1', 'C1', id FROM communities WHERE is_global ON CONFLICT DO NOTHING"
        )
    event = {**fleet.bot().event("!nosuch"), "platform": "slack", "server_id": "T1", "channel_id": "C1"}

    answer = fleet.request("POST", "/router/events", event, key=key).json()

    assert answer["success"]
    assert answer["executions"] == answer["responses"] == []


def test_why_explains_the_last_answer(bot):
    bot.say('!inventory add "A" "b"')
    assert "Only a moderator or above may use !inventory add; you are a member." in bot.say("!why").chat

    bot.say("!inventory list")
    said = bot.say("!why").chat
    assert "“!inventory” worked in" in said
    assert " ms" in said

    bot.say("!nosuch")
    assert "no command or alias of that name" in bot.say("!why").chat

    bot.say("hello there")
    assert "that is no command" in bot.say("!why").chat


def test_why_of_somebody_new_says_so(bot):
    assert "not said anything here" in bot.say("!why", by="newcomer").chat


def test_a_session_can_be_explained(bot, fleet):
    heard = bot.say("!inventory list")

    found = fleet.request("GET", f"/router/explain/{heard.session_id}").json()

    assert found["message"] == "!inventory list"
    assert [(each["module_name"], each["status"]) for each in found["executions"]] == [("inventory", "success")]
    assert found["executions"][0]["execution_time_ms"] > 0
    assert [each["state"] for each in found["responses"]] == ["pending"]
    assert fleet.request("GET", "/router/explain/nonsense").status == 404


def test_stats_count_the_community(bot):
    assert bot.say("!stats").chat == "Nothing was asked of me here in the last day."
    bot.say("!inventory list")

    said = bot.say("!stats").chat
    assert "2 commands, 2 of them fine" in said
    assert said.endswith("; 1 person was here.")
    bot.say("!inventory list")
    assert "2 commands, 2 of them fine" in bot.say("!stats").chat  # A day is counted once a minute.


def test_a_quote_that_never_closes_is_named(bot):
    heard = bot.say('!inventory add "Blue Sword')

    assert heard.statuses == ["failed"]
    assert heard.answer["executions"][0]["error"]["code"] == "unbalanced_quotes"
    assert "Blue Sword" in heard.chat


def test_commands_and_entities_are_listed(bot, fleet):
    bot.say("hello")

    commands = fleet.request("GET", "/router/commands", query={"prefix": "!"}).json()
    assert {"!inventory", "!help"} <= {each["command"] for each in commands["commands"]}
    assert commands["total"] >= len(commands["commands"])
    own = fleet.request("GET", "/router/commands", key="inventory").json()["commands"]
    assert {each["module_name"] for each in own} == {"inventory"}
    entities = fleet.request("GET", "/router/entities", query={"limit": 1000}).json()
    assert f"console:{bot.slug}:general" in {each["entity_id"] for each in entities["entities"]}


def listed(fleet, **query):
    answer = fleet.request("GET", "/router/commands", query={"limit": 1000, **query})
    assert answer.status == 200, answer.body
    return answer.json()["commands"]


def test_commands_are_found_by_what_they_are(fleet):
    everything = listed(fleet)

    for name, value in (("type", "container"), ("location", everything[0]["location"])):
        found = listed(fleet, **{name: value})
        assert found == [each for each in everything if each[name] == value]
    events = listed(fleet, trigger_type="event")
    assert events == [each for each in everything if each["trigger_type"] in ("event", "both")]
    of_twitch = {each["module_name"] for each in listed(fleet, platform="twitch")}
    assert "twitch" in of_twitch and "discord" not in of_twitch and "inventory" in of_twitch
    assert fleet.request("GET", "/router/commands", query={"type": "magic"}).status == 422


def test_with_an_entity_each_command_says_whether_it_is_enabled_there(bot, fleet):
    bot.say("hello")
    entity = f"console:{bot.slug}:general"

    def enabled():
        return {each["command"]: each["enabled"] for each in listed(fleet, prefix="!", entity_id=entity)}

    assert enabled()["!inventory"] is True
    assert fleet.request("PUT", f"/router/entities/{entity}/modules/inventory", {"enabled": False}).status == 200
    assert enabled()["!inventory"] is False
    assert enabled()["!help"] is True
    assert fleet.request("GET", "/router/commands", query={"entity_id": "console:nowhere:x"}).status == 404
    other = fleet.make_key(f"o-{bot.slug}", "api-users", community_id=fleet.bot().community_id)
    assert fleet.request("GET", "/router/commands", key=other, query={"entity_id": entity}).status == 403


def test_servers_and_what_is_claimed_say_when_something_last_happened(bot, fleet):
    with fleet.database.transaction() as db:
        entity = add_server(db, "console", "general", server_id=bot.slug, community=bot.slug)
        fetch(
            db,
            "INSERT INTO coordination (entity_id, platform, server_id, channel_id) VALUES (%s, %s, %s, %s)",
            (str(entity), entity.platform, entity.server_id, entity.channel_id),
        )
    bot.say("hello")

    def last(table):
        with fleet.database.transaction() as db:
            return fetch(db, f"SELECT last_activity FROM {table} WHERE server_id = %s", (bot.slug,))[0]["last_activity"]

    eventually(lambda: last("servers"), within_s=20)
    eventually(lambda: last("coordination"), within_s=20)


def test_a_module_that_has_missed_three_heartbeats_is_stale_until_the_next(fleet, stub):
    beat = {"module_name": "stub", "status": "healthy"}
    assert fleet.request("POST", "/api/modules/heartbeat", beat, key="stub").status == 200

    def modules():
        return fleet.request("GET", "/router/health", key="console").json()["checks"]["modules"]

    with fleet.database.transaction() as db:
        fetch(
            db,
            "UPDATE collector_modules SET last_heartbeat = now() - interval '100 seconds' WHERE module_name = 'stub'",
        )
    eventually(lambda: not modules()["ok"] and "stub" in modules()["detail"], within_s=30)

    fleet.request("POST", "/api/modules/heartbeat", beat, key="stub")
    eventually(lambda: modules()["ok"], within_s=30)


def is_healthy(fleet, prefix):
    forgive()  # What other tests did to this process.
    health = fleet.request("GET", f"{prefix}/health", key=None)
    if (health.status, health.json()["status"]) == (200, "healthy"):
        return True
    logging.info(health.body.decode())  # Seen where this fails.
    return False


def test_every_module_serves_health_ready_metrics_and_its_api(fleet):
    for prefix in ("/router", "/inventory"):
        eventually(partial(is_healthy, fleet, prefix), within_s=60)
        assert fleet.request("GET", f"{prefix}/ready", key=None).status == 200
        assert fleet.request("GET", f"{prefix}/metrics", key=None).status == 401
        text = fleet.request("GET", f"{prefix}/metrics", headers={"Accept": "text/plain"})
        assert text.headers["content-type"].startswith("text/plain")
        assert b"# TYPE waddlebot_" in text.body
        assert fleet.request("GET", f"{prefix}/metrics").json()["metrics"]
        api = fleet.request("GET", f"{prefix}/openapi.json", key=None).json()
        assert api["openapi"] == "3.1.0"
        assert f"{prefix}/health" in api["paths"]


def test_only_a_modules_own_account_registers_it_and_only_at_its_own_address(fleet):
    registration = {
        "module_name": "inventory",
        "module_version": "9",
        "endpoint_url": "http://evil.example/inventory/execute",
    }

    assert fleet.request("POST", "/api/modules/register", registration, key="router").status == 403
    refused = fleet.request("POST", "/api/modules/register", registration, key="inventory")
    assert refused.status == 403
    assert "evil.example" in refused.json()["error"]["message"]
    assert fleet.request("POST", "/api/modules/heartbeat", {"module_name": "inventory"}, key="inventory").status == 200


def test_only_the_router_may_execute_a_module(bot, fleet):
    bot.say("hello")
    call = {"session_id": "x"}

    assert fleet.request("POST", "/inventory/execute", call, key=None).status == 401
    assert fleet.request("POST", "/inventory/execute", call, key="console").status == 403
    assert fleet.request("POST", "/inventory/execute", call, key="inventory").status == 403
    assert fleet.request("POST", "/inventory/execute", call, key="router").status == 422


def test_a_type_of_command_that_nothing_here_runs_is_refused_at_registration(fleet, stub):
    registration = {
        "module_name": "stub",
        "module_version": "1",
        "endpoint_url": stub.url,
        "commands": [{"command": "weather", "prefix": "#", "type": "lambda", "location_url": stub.url}],
    }

    refused = fleet.request("POST", "/api/modules/register", registration, key="stub")

    assert refused.status == 422
    assert "lambda" in refused.json()["error"]["message"]


def test_the_routers_metrics_and_health_have_its_figures(bot, fleet):
    bot.say("!inventory list")

    found = fleet.request("GET", "/router/metrics").json()
    assert found["processor"]["commands_successful"] >= 1
    assert found["processor"]["avg_execution_time"] > 0
    assert found["processor"]["string_matches"] >= 0
    assert found["string_matcher"]["compiled_regex_cache_size"] == found["string_matcher"]["compiled"]["rules"]
    assert found["database"]["total_commands"] >= 5
    assert found["recent_performance"]["successful_executions"] >= 1
    assert 0 < found["recent_performance"]["success_rate"] <= 1
    health = fleet.request("GET", "/router/health", key=None).json()
    assert (health["database"], health["processor"]["commands_processed"] >= 1) == ("connected", True)
    assert health["timestamp"]


def test_a_command_of_which_somebody_may_use_nothing_is_not_theirs(bot):
    shown = [each.split(" – ")[0] for each in bot.say("!help").chat.splitlines()]
    assert not {"!timer", "!live", "!overlay"} & {*shown}
    assert "!label" in shown, "some of it is for everybody"
    for command in ("!timer", "!live"):
        assert "Only a moderator or above may use" in bot.say(command).chat
        assert "Only a moderator or above may use" in bot.say(f"!help {command}").chat
    of_moderators = [each.split(" – ")[0] for each in bot.say("!help", level="moderator").chat.splitlines()]
    assert {"!timer", "!live", "!overlay", "!label"} <= {*of_moderators}
