"""From publishing to the answer in chat, and back: installs, upgrades, conflicts, and what a crash leaves."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from market import HANDLER, error, manifest, new_name
from waddlebot.data.database import fetch
from waddlebot.module.package import pack
from waddlebot.testing.module_stub import chat, reply_to


def installing():
    """The service in this process."""
    return importlib.import_module("apps.marketplace_module.app").installing


def set_row(market, name, **values):
    """Leave an installation as a process that died would."""
    sets = ", ".join(f"{column} = %({column})s" for column in values)
    with market.fleet.database.transaction() as db:
        fetch(
            db,
            f"UPDATE module_installations SET {sets}, updated_at = now() - interval '1 minute'"
            " WHERE module_id = %(module)s AND community_id = %(community)s",
            {**values, "module": name, "community": market.bot.community_id},
        )


def test_a_module_is_published_found_installed_answered_and_removed(market):
    name = new_name()
    done = market.publish(name)
    assert done.status == 200, done.body
    assert (done.json()["state"], done.json()["version"]) == ("approved", "1.0.0")
    assert done.json()["webhook_secret"]
    market.answers(name, "You rolled 7.")
    # Nobody has it yet.
    assert market.bot.say(f"#{name} 2d6").answer["executions"] == []
    found = market.fleet.request("GET", "/marketplace/search", key="admin", query={"q": name[:6]}).json()
    assert [each["module_id"] for each in found["suggestions"]] == [name]
    installed = market.install(name)
    assert installed.status == 200, installed.body
    said = market.bot.say(f"#{name} 2d6")
    assert (said.statuses, said.chat) == (["success"], "You rolled 7.")
    assert market.stub.paths[-1] == "/run"
    assert market.installed()[name]["enabled"] is True
    assert market.installed()[name]["kind"] == "community"
    assert market.uninstall(name).status == 200
    gone = market.bot.say(f"#{name} 2d6")
    assert (gone.answer["executions"], gone.chat) == ([], f"There is no #{name} here. Try !help.")
    assert error(market.uninstall(name))["code"] == "not_installed"
    # Elsewhere nobody ever had it.
    other = market.fleet.bot()
    assert other.say(f"#{name}").answer["executions"] == []


def test_an_upgrade_a_downgrade_and_what_each_answers_with(market):
    name = market.have()
    market.publish(name, version="1.1.0", url=market.url + "/new", more='changelog = "Faster."')
    assert market.bot.say(f"#{name}").statuses == ["success"]
    assert market.stub.paths[-1] == "/run"
    assert market.install(name).json()["previous_version"] == "1.0.0"
    assert market.bot.say(f"#{name}").statuses == ["success"]
    assert market.stub.paths[-1] == "/run/new"
    assert market.install(name, version="1.0.0").json()["version"] == "1.0.0"
    market.bot.say(f"#{name}")
    assert market.stub.paths[-1] == "/run"
    listed = market.installed()[name]
    assert (listed["version"], listed["latest_version"]) == ("1.0.0", "1.1.0")
    assert error(market.install(name, version="9.9.9"))["code"] == "unknown_version"
    assert error(market.install("nobody_has_this"))["code"] == "unknown_module"
    versions = market.page(name)["versions"]
    assert [(each["version"], each["is_latest"], each["changelog"]) for each in versions] == [
        ("1.1.0", True, "Faster."),
        ("1.0.0", False, ""),
    ]


def test_asking_for_more_needs_a_new_consent(market):
    name = market.have(more='permissions = ["state"]')
    market.publish(name, version="2.0.0", more='permissions = ["state", "overlays"]\nhosts = ["api.example.org"]')
    refused = market.install(name)
    assert (refused.status, error(refused)["code"]) == (409, "consent_required")
    assert error(refused)["details"]["asks"] == ["overlays", "host:api.example.org"]
    assert "connect to api.example.org" in error(refused)["message"]
    assert market.installed()[name]["version"] == "1.0.0"
    assert market.install(name, consent=True).json()["version"] == "2.0.0"
    # What was agreed to once needs no other word.
    assert market.install(name, version="1.0.0").status == 200


def test_a_module_is_switched_off_and_on_in_the_community_and_in_a_channel(market):
    name = market.have()
    market.bot.say("hello", channel="side")
    side = f"console:{market.bot.slug}:side"
    assert market.toggle(name, enabled=False, place=side).status == 200
    assert market.bot.say(f"#{name}", channel="side").statuses == ["denied"]
    assert market.bot.say(f"#{name}").statuses == ["success"]
    assert market.installed(side)[name]["enabled"] is False
    assert market.toggle(name, enabled=False).status == 200
    assert market.bot.say(f"#{name}").statuses == ["denied"]
    assert market.toggle(name, enabled=True).status == 200
    assert market.bot.say(f"#{name}").statuses == ["success"]
    assert market.installed()["inventory"]["kind"] == "core"
    assert market.toggle("inventory", enabled=False).status == 200
    assert market.bot.say("!inventory list").statuses == ["denied"]
    assert market.toggle("nobody_has_this", enabled=True).status == 404


def test_one_channel_may_have_a_module_that_the_rest_has_not(market):
    name = new_name()
    market.publish(name)
    market.answers(name)
    market.bot.say("hello", channel="side")
    side = f"console:{market.bot.slug}:side"
    assert market.install(name, entity_id=side).status == 200
    assert market.bot.say(f"#{name}", channel="side").statuses == ["success"]
    # Elsewhere it is not installed, and says so.
    assert market.bot.say(f"#{name}").statuses == ["denied"]
    assert name not in market.installed()
    assert market.installed(side)[name]["entity_id"] == side
    assert market.uninstall(name, entity_id=side).status == 200
    assert market.install(name, entity_id="console:nobody:nowhere").status == 404


def test_a_name_that_is_taken_there_is_a_conflict_that_is_named(market):
    first, word = new_name(), new_name()
    market.publish(first, command=word)
    market.install(first)
    second = new_name()
    market.publish(second, command=word)
    refused = market.install(second)
    assert (refused.status, error(refused)["code"]) == (409, "command_taken")
    assert error(refused)["details"]["by"] == first
    assert second not in market.installed()
    # Whoever takes the first one away has room for it.
    market.uninstall(first)
    market.answers(second)
    assert market.install(second).status == 200
    assert market.bot.say(f"#{word}").statuses == ["success"]


def test_a_module_takes_the_place_of_a_core_one_and_gives_it_back(market):
    name = new_name()
    assert market.publish(name, command="inventory", more='replaces = "inventory"').status == 200
    refused = market.install(name)
    assert (error(refused)["code"], error(refused)["details"]["by"]) == ("command_taken", "inventory")
    assert market.install(name, replaced_by=name).status == 200
    market.answers(name, "mine instead")
    assert market.bot.say("!inventory list").chat == "mine instead"
    assert market.bot.say("#inventory list").chat == "mine instead"
    assert market.uninstall(name).status == 200
    assert market.bot.say("!inventory list").chat == "The inventory is empty."


def test_a_module_answers_to_both_signs_where_nothing_else_has_the_name(market):
    name = market.have()
    market.answers(name, "a quote")
    assert market.bot.say(f"!{name}").statuses != ["success"]
    assert error(market.install(name, replaced_by="inventory"))["code"] == "invalid"
    assert market.install(name, replaced_by=name).status == 200
    assert market.bot.say(f"!{name}").chat == "a quote"
    # It stays so with another version; whoever names something else so has that, and it goes with the module.
    market.publish(name, version="1.1.0", url=market.url)
    assert market.install(name).status == 200
    assert market.bot.say(f"!{name}").chat == "a quote"
    market.bot.say(f'!alias add {name} "hello there"', level="moderator")
    assert market.bot.say(f"!{name}").chat == "hello there"
    market.bot.say(f"!alias remove {name}", level="moderator")
    assert market.uninstall(name).status == 200
    assert market.bot.say(f"!{name}").statuses != ["success"]


def test_a_module_is_given_the_other_sign_later_and_it_is_taken_back(market):
    name, owner = market.have(), {"level": "admin"}
    market.answers(name, "a quote")
    path = f"/marketplace/entity/{market.bot.slug}/toggle"
    assert market.bot.say(f"!module both {name} on").statuses == ["denied"]
    assert market.bot.say(f"!module both {name} maybe", **owner).chat == "Usage: !module both <name> on|off"
    assert market.bot.say(f"!module both {new_name()} on", **owner).chat.endswith("is not installed there.")
    assert market.bot.say(f"!module both {name} on", **owner).chat == f"{name} answers to ! and # now."
    assert [market.bot.say(f"{sign}{name}").chat for sign in "!#"] == ["a quote"] * 2
    assert market.installed()[name]["answers_to_both"] is True

    # An export carries it, and whoever imports that has it again.
    place = {"community_id": market.bot.slug}
    items = market.fleet.request("GET", "/marketplace/export", query=place, key="portal").json()["items"]
    assert [each["replaces"] for each in items if each["kind"] == "installation"] == [[name]]

    query = {"community_id": market.bot.slug, "module": "marketplace"}
    entry = market.fleet.request("GET", "/router/audit", query=query).json()["audit"][0]
    assert entry["after"]["answers_to_both"] is True
    undone = market.fleet.request("POST", f"/router/audit/{entry['id']}/undo", key="admin")
    assert undone.status == 200, undone.body
    assert market.bot.say(f"!{name}").statuses != ["success"]
    assert market.bot.say(f"#{name}").chat == "a quote"
    assert market.fleet.request("POST", path, {"module_id": name}, key="admin").status == 422


def test_what_a_crash_left_is_finished_or_taken_back(market):
    name = market.have()
    market.publish(name, version="1.1.0", url=market.url + "/new")
    # It died before the router was asked: the upgrade is finished.
    set_row(market, name, state="installing", target_version="1.1.0")
    while installing().finish_what_was_left():
        pass
    assert market.installed()[name]["version"] == "1.1.0"
    market.bot.say(f"#{name}")
    assert market.stub.paths[-1] == "/run/new"
    # It died before the router had forgotten it: that is finished, too.
    set_row(market, name, state="uninstalling")
    while installing().finish_what_was_left():
        pass
    assert name not in market.installed()
    assert market.bot.say(f"#{name}").answer["executions"] == []


def test_what_cannot_be_finished_is_as_it_was(market):
    taken = market.have()
    name = new_name()
    market.publish(name, command=taken)
    with market.fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO module_installations (community_id, module_id, state, target_version, updated_at)"
            " VALUES (%s, %s, 'installing', '1.0.0', now() - interval '1 minute')",
            (market.bot.community_id, name),
        )
    while installing().finish_what_was_left():
        pass
    assert name not in market.installed()
    assert market.installed()[taken]["state"] == "installed"


def test_installs_that_are_raced_end_as_one_of_them(market):
    names = [new_name() for _ in range(3)]
    for each in names:
        market.publish(each, command=names[0] + "x")
        market.publish(each, version="1.1.0", command=names[0] + "x")
    tries = [(name, version) for name in names for version in ("1.0.0", "1.1.0")]
    with ThreadPoolExecutor(len(tries)) as threads:
        done = list(threads.map(lambda each: market.install(each[0], version=each[1]), tries))
    assert sorted({each.status for each in done}) == [200, 409]
    winners = {name for (name, _), each in zip(tries, done, strict=True) if each.status == 200}
    assert len(winners) == 1
    (winner,) = winners
    there = market.installed()
    assert {name for name in names if name in there} == winners
    # What is on record is what the router has.
    router = market.fleet.request("GET", f"/router/communities/{market.bot.slug}/modules").json()["modules"]
    assert {each["module_name"]: each["version"] for each in router}[winner] == there[winner]["version"]


def test_an_uninstall_while_a_call_runs_lets_it_end(market):
    name = market.have()

    def behave(call):
        assert market.uninstall(name).status == 200
        return reply_to(call, chat("the last word"), module_name=name)

    market.stub.behaviour = behave
    assert market.bot.say(f"#{name}").chat == "the last word"
    assert market.bot.say(f"#{name}").answer["executions"] == []


def test_a_community_chooses_versions_by_way_of_the_marketplace_only(market):
    name = market.have()
    body = {"enabled": True, "version": "1.0.0"}
    path = f"/router/communities/{market.bot.slug}/modules/{name}"
    asked = market.fleet.request_for("PUT", path, body, community_id=market.bot.community_id)
    assert asked.status == 403
    version = market.fleet.request("PUT", f"/router/modules/{name}/versions/1.0.0", {"commands": []}, key="marketplace")
    assert error(version)["code"] == "version_immutable"
    for key in ("admin", "console", "router"):
        assert (
            market.fleet.request("PUT", f"/router/modules/{name}/versions/1.0.0", {"commands": []}, key=key).status
            == 403
        )


def test_settings_of_a_version_reach_its_calls(market):
    name = new_name()
    setting = '\n[[settings]]\nname = "sides"\ntype = "int"\ndefault = 6\nmax = 100\n'
    text = manifest(name, url=market.url) + setting
    assert market.send(pack({"module.toml": text.encode(), "handler.py": HANDLER})).status == 200
    market.answers(name)
    market.install(name)
    market.bot.say(f"#{name}")
    assert market.stub.calls[-1]["settings"] == {"sides": 6}
    path = f"/router/communities/{market.bot.slug}/modules/{name}"
    assert market.fleet.request("PUT", path, {"config": {"sides": 20}}).status == 200
    market.bot.say(f"#{name}")
    assert market.stub.calls[-1]["settings"] == {"sides": 20}
    assert market.fleet.request("PUT", path, {"config": {"sides": 1000}}).status == 422


def test_chat_finds_installs_lists_and_removes(market):
    name = new_name()
    market.publish(name, more='permissions = ["state"]')
    market.answers(name, "rolled")
    say = market.bot.say
    assert say(f"!module search {name}", level="admin").chat.startswith(f"{name}: Rolls dice")
    assert say("!module list", level="admin").chat.startswith("No modules are installed")
    # It says what it may do first.
    asked = say(f"!module install {name}", level="admin").chat
    assert f"{name} 1.0.0 wants to: remember things" in asked
    assert say(f"#{name}").answer["executions"] == []
    assert say(f"!module install {name} yes", level="admin").chat == f"Installed {name} 1.0.0: #{name}."
    assert say(f"#{name}").chat == "rolled"
    assert say("!module list", level="admin").chat == f"Installed: {name} 1.0.0"
    assert say(f"!module remove {name}", level="admin").chat == f"Removed {name}."
    assert say(f"!module remove {name}", level="admin").statuses == ["failed"]
    assert say(f"!module install {name} yes").statuses == ["denied"]


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_what_was_done_can_be_taken_back(market, action):
    name = market.have()
    if action == "uninstall":
        assert market.install(name, replaced_by=name).status == 200
        market.uninstall(name)
    entries = market.fleet.request(
        "GET", "/router/audit", query={"community_id": market.bot.slug, "module": "marketplace"}
    ).json()["audit"]
    assert entries[0]["action"] == f"module_{action}ed"
    undone = market.fleet.request("POST", f"/router/audit/{entries[0]['id']}/undo", key="admin")
    assert undone.status == 200, undone.body
    assert (name in market.installed()) is (action == "uninstall")
    assert action == "install" or market.installed()[name]["answers_to_both"] is True
