"""The audit log: every change of an owner has an entry, and what can be taken back is, once and only while it holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2.errors
import pytest
from click.testing import CliRunner
from waddlebot.base.ids import new_id
from waddlebot.cli.cli import cli
from waddlebot.community.consent import Consenter, leave, settle
from waddlebot.community.directory import add_server, remove_server
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Bot, Fleet
from waddlebot.testing.plugin import eventually
from waddlebot.web.http import HTTPResponse


@pytest.fixture
def key(fleet: Fleet, bot: Bot) -> str:
    """An api-users key of the bot's community."""
    return fleet.make_key(new_id(), "api-users", community_id=bot.community_id)


def ask(bot: Bot, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
    response = bot.fleet.request(method, path, body, **more)
    assert response.status == 200, response.body
    return response.json()


def entries(bot: Bot, **query: Any) -> list[dict[str, Any]]:
    """The community's entries, the newest first, without that of its key and that of itself."""
    found = ask(bot, "GET", "/router/audit", query={"community_id": bot.slug, **query})["audit"]
    return [each for each in found if each["module"] != "core" or query]


def undo(bot: Bot, entry: dict[str, Any], key: str = "console") -> HTTPResponse:
    return bot.fleet.request("POST", f"/router/audit/{entry['id']}/undo", key=key)


def code_of(response: HTTPResponse) -> str:
    assert response.json()["success"] is False
    return response.json()["error"]["code"]


def user_id(bot: Bot, name: str) -> int:
    with bot.fleet.database.transaction() as db:
        (row,) = fetch(db, "SELECT user_id FROM platform_identities WHERE platform_user_id = %s", (name,))
    return row["user_id"]


# What each kind of change is, and how it is looked at: the state is the same before it and after its undo.


def alias_made(bot):
    ask(bot, "POST", "/alias/create", {"alias": "hi", "command": "hello", "community_id": bot.slug})


def alias_renamed(bot):
    alias_made(bot)
    alias_id = aliases(bot)[0]["id"]
    ask(bot, "PUT", "/alias/update", {"alias_id": alias_id, "alias": "ho", "command": "bye", "is_active": False})


def alias_removed(bot):
    alias_made(bot)
    ask(bot, "DELETE", f"/alias/delete?alias_id={aliases(bot)[0]['id']}")


def aliases(bot):
    return ask(bot, "GET", "/alias/list", query={"community_id": bot.slug})["aliases"]


def shown_aliases(bot):
    return [(each["alias"], each["command"], each["is_active"]) for each in aliases(bot)]


def rule_made(bot):
    body = {"community_id": bot.slug, "string": "spam", "action": "warn", "warning_message": "no spam"}
    return ask(bot, "POST", "/router/string-rules", body)["rule_id"]


def rule_changed(bot):
    ask(bot, "PUT", f"/router/string-rules/{rule_made(bot)}", {"string": "ham", "priority": 3, "warning_message": ""})


def rule_deleted(bot):
    ask(bot, "DELETE", f"/router/string-rules/{rule_made(bot)}")


def rules(bot):
    found = ask(bot, "GET", "/router/string-rules", query={"community_id": bot.slug})["rules"]
    return [{name: each[name] for name in ("string", "action", "warning_message", "priority")} for each in found]


def module_switched(bot):
    ask(bot, "PUT", f"/router/communities/{bot.slug}/modules/inventory", {"enabled": False})


def module_replaced(bot):
    module_switched(bot)
    ask(bot, "PUT", f"/router/communities/{bot.slug}/modules/inventory", {"enabled": True, "config": {"listed": 7}})


def switch_removed(bot):
    module_switched(bot)
    ask(bot, "DELETE", f"/router/communities/{bot.slug}/modules/inventory")


def switches(bot):
    found = ask(bot, "GET", f"/router/communities/{bot.slug}/modules")["modules"]
    return [each for each in found if each["module_name"] == "inventory"]


def switched_in_one_channel(bot):
    bot.say("hello")
    ask(bot, "PUT", f"/router/entities/console+{bot.slug}+general/modules/inventory", {"enabled": False})


def switches_in_one_channel(bot):
    bot.say("hello")
    found = ask(bot, "GET", f"/router/entities/console+{bot.slug}+general/modules")["modules"]
    return [each for each in found if each["module_name"] == "inventory"]


def permission_set(bot):
    body = {"command": "!alias", "permissions": {"deny": ["role:vip"]}, "config": {"rate_limit": 4}}
    ask(bot, "PUT", f"/router/communities/{bot.slug}/permissions", body)


def permission_changed(bot):
    permission_set(bot)
    ask(bot, "PUT", f"/router/communities/{bot.slug}/permissions", {"command": "!alias", "is_enabled": False})


def permission_removed(bot):
    permission_set(bot)
    ask(bot, "DELETE", f"/router/communities/{bot.slug}/permissions", query={"command": "!alias"})


def permissions(bot):
    found = ask(bot, "GET", f"/router/communities/{bot.slug}/permissions")["permissions"]
    return [{name: each[name] for name in ("command", "is_enabled", "permissions", "config")} for each in found]


def role_given(bot):
    bot.say("hello", by="robin")
    body = {"community_id": bot.slug, "assignments": [{"user_id": user_id(bot, "robin"), "role": "vip"}]}
    ask(bot, "POST", "/router/roles/assign", body)


def roles(bot):
    bot.say("hello", by="robin")
    query = {"community_id": bot.slug, "user_id": user_id(bot, "robin")}
    return ask(bot, "GET", "/router/roles", query=query)["roles"][0]["role"]


def item_added(bot):
    body = {"action": "add", "item_name": "Blue Sword", "description": "shiny", "labels": ["rare"]}
    ask(bot, "POST", "/inventory", {**body, "community_id": bot.slug})


def change_item(bot, action, **more):
    ask(bot, "POST", "/inventory", {"action": action, "item_name": "blue sword", "community_id": bot.slug, **more})


def item_lent(bot):
    item_added(bot)
    change_item(bot, "checkout", checked_out_to="somebody")


def item_returned(bot):
    item_added(bot)
    bot.say("hello", by=f"robin-{bot.slug}")
    change_item(bot, "checkout", checked_out_to=f"@Robin-{bot.slug}")
    change_item(bot, "checkin")


def item_deleted(bot):
    item_added(bot)
    change_item(bot, "delete")


def item_labelled(bot):
    item_added(bot)
    change_item(bot, "labels", label_action="add", label="blue")


def items(bot):
    found = ask(bot, "GET", "/inventory", query={"community_id": bot.slug})["items"]
    return [
        (each["item_name"], each["description"], each["labels"], (each["checked_out_to"] or "").lower())
        for each in found
    ]


def theme_changed(bot):
    ask(bot, "PUT", "/browser/source/admin/theme", {"community_id": bot.slug, "variables": {"accent": "#ff0000"}})


def theme(bot):
    return ask(bot, "GET", "/browser/source/admin/theme", query={"community_id": bot.slug})["variables"]


def token_made(bot):
    ask(bot, "POST", "/browser/source/admin/tokens", {"community_id": bot.slug, "source_type": "ticker"})


def tokens(bot):
    return ask(bot, "GET", "/browser/source/admin/tokens", query={"community_id": bot.slug})["tokens"]


CHANGES = [
    (alias_made, shown_aliases),
    (alias_renamed, shown_aliases),
    (alias_removed, shown_aliases),
    (rule_made, rules),
    (rule_changed, rules),
    (rule_deleted, rules),
    (module_switched, switches),
    (module_replaced, switches),
    (switch_removed, switches),
    (switched_in_one_channel, switches_in_one_channel),
    (permission_set, permissions),
    (permission_changed, permissions),
    (permission_removed, permissions),
    (role_given, roles),
    (item_added, items),
    (item_lent, items),
    (item_returned, items),
    (item_deleted, items),
    (item_labelled, items),
    (theme_changed, theme),
    (token_made, tokens),
]


@pytest.mark.parametrize(("change", "state"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_every_change_has_an_entry_and_is_taken_back_once(bot, change, state):
    at_first = state(bot)
    change(bot)
    made = entries(bot)
    entry = made[0]
    assert (entry["actor_account"], entry["community_id"]) == ("console", bot.community_id)
    assert entry["undo"]["method"] in ("PUT", "POST", "DELETE")
    answer = undo(bot, entry)
    assert answer.status == 200, answer.body
    newest = entries(bot)[0]
    assert newest["id"] == answer.json()["undone_by"]
    # A new rule is taken back by switching it off.
    assert newest["after"] == entry["before"] or (newest["after"]["is_active"] is False and entry["before"] is None)
    if len(made) == 1:
        assert state(bot) == at_first
    assert code_of(undo(bot, entry)) == "changed_since"
    # And that can be taken back in turn, as far as it can.
    if newest["undo"]:
        assert undo(bot, newest).status == 200


def test_what_was_changed_since_is_not_taken_back(bot):
    module_switched(bot)
    first = entries(bot)[0]
    module_replaced(bot)
    refused = undo(bot, first)
    assert (refused.status, code_of(refused)) == (409, "changed_since")
    assert switches(bot)[0]["config"] == {"listed": 7}
    # Once the newer change is taken back, what the older one left holds again.
    assert undo(bot, entries(bot)[0]).status == 200
    assert undo(bot, first).status == 200
    assert switches(bot)[0]["decided_by"] == "default"


def test_what_is_in_the_way_of_an_undo_is_left_alone(bot):
    alias_removed(bot)
    removed = entries(bot)[0]
    ask(bot, "POST", "/alias/create", {"alias": "hi", "command": "something else", "community_id": bot.slug})
    refused = undo(bot, removed)
    assert (refused.status, code_of(refused)) == (409, "changed_since")
    assert "something else" in refused.json()["error"]["message"]
    assert shown_aliases(bot) == [("hi", "something else", True)]


def test_a_header_takes_back_only_what_it_names(bot, key):
    alias_made(bot)
    entry = entries(bot)[0]
    headers = {"X-WaddleBot-Undo": str(entry["id"])}
    other = bot.fleet.request(
        "PUT", f"/router/communities/{bot.slug}/modules/inventory", {"enabled": False}, headers=headers
    )
    assert (other.status, code_of(other)) == (409, "not_undoable")
    assert switches(bot)[0]["enabled"]
    for nonsense in ("x", "-1", "9" * 30):
        bad = bot.fleet.request("DELETE", entry["undo"]["path"], headers={"X-WaddleBot-Undo": nonsense})
        assert bad.status == 422
    done = bot.fleet.request("DELETE", entry["undo"]["path"], headers=headers, key=key)
    assert done.status == 200
    newest = entries(bot)[0]
    assert entries(bot)[1]["undone_by"] == newest["id"]


def test_chat_is_on_record_with_who_typed(bot):
    bot.say('!inventory add "Blue Sword" shiny', by="zuzu", level="moderator")
    bot.say("!alias add hi hello", by="zuzu", level="moderator")
    added, item = entries(bot)
    assert (added["action"], added["own_id"], added["actor_account"]) == ("alias_added", user_id(bot, "zuzu"), "router")
    assert (item["action"], item["own_id"]) == ("item_added", user_id(bot, "zuzu"))
    assert "zuzu" not in str((added["before"], added["after"], item["after"], item["undo"]))


def test_what_fails_or_is_simulated_leaves_no_entry(bot):
    event = bot.event("!alias add hi hello", level="moderator")
    bot.submit({**event, "mode": "simulate"})
    bot.say("!alias add alias hello", level="moderator")
    assert bot.fleet.request("POST", "/inventory", {"action": "checkin", "item_name": "x"}).status == 422
    assert entries(bot) == []


def test_holders_stand_by_number_only(bot):
    name = f"robin-{bot.slug}"
    item_returned(bot)
    told = [each for each in entries(bot) if each["module"] == "inventory"]
    assert name not in str(told).lower()
    assert told[0]["before"]["checked_out_to"] == f"user:{user_id(bot, name)}"
    change_item(bot, "checkout", checked_out_to="a stranger")
    change_item(bot, "checkin")
    assert entries(bot)[0]["before"]["checked_out_to"] == "•"
    assert code_of(undo(bot, entries(bot)[0])) == "not_undoable"


def test_secrets_are_never_on_record(bot):
    made = ask(bot, "POST", "/browser/source/admin/tokens", {"community_id": bot.slug, "source_type": "media"})
    token = made["tokens"]["media"]
    ask(bot, "POST", f"/browser/source/admin/tokens/{token['id']}/regenerate", {})
    ask(bot, "DELETE", f"/browser/source/admin/tokens/{tokens(bot)[0]['id']}")
    found = entries(bot)
    assert [each["action"] for each in found] == [
        "overlay_token_revoked",
        "overlay_token_regenerated",
        "overlay_token_made",
    ]
    assert token["token"] not in str(found)
    assert found[0]["before"]["token"] == "•"
    assert code_of(undo(bot, found[0])) == "not_undoable"


def test_the_log_is_read_by_community_module_action_and_time(bot, key, fleet):
    alias_made(bot)
    module_switched(bot)
    assert [each["module"] for each in ask(bot, "GET", "/router/audit", key=key)["audit"]][:2] == ["router", "alias"]
    assert [each["action"] for each in entries(bot, module="alias")] == ["alias_added"]
    assert [each["module"] for each in entries(bot, action="module_switched")] == ["router"]
    since = entries(bot)[0]["at"]
    assert [each["module"] for each in entries(bot, since=since)] == ["router"]
    page = ask(bot, "GET", "/router/audit", key=key, query={"limit": 1, "offset": 1})
    assert (page["limit"], page["offset"], page["total"]) == (1, 1, 4)
    assert [each["module"] for each in page["audit"]] == ["alias"]
    assert fleet.request("GET", "/router/audit", key=key, query={"since": "yesterday"}).status == 422
    assert fleet.request("GET", "/router/audit", key=None).status == 401
    assert fleet.request("GET", "/router/audit", key="inventory").status == 403


def test_another_communitys_entries_are_nobody_elses(bot, fleet):
    alias_made(bot)
    entry = entries(bot)[0]
    stranger = fleet.make_key(new_id(), "api-users", community_id=fleet.bot().community_id)
    query = {"community_id": bot.slug}
    assert fleet.request("GET", "/router/audit", key=stranger, query=query).status == 403
    assert code_of(undo(bot, entry, stranger)) == "unknown_change"
    assert undo(bot, entry, "inventory").status == 403
    assert undo(bot, {"id": 10**17}).status == 404
    assert shown_aliases(bot)


def test_an_undo_has_the_callers_own_rights(bot, fleet, key):
    """A community's key may not touch an owner; by way of an undo neither."""
    bot.say("hello", by="robin")
    for role in ("owner", "vip"):
        body = {"community_id": bot.slug, "assignments": [{"user_id": user_id(bot, "robin"), "role": role}]}
        ask(bot, "POST", "/router/roles/assign", body)
    entry = entries(bot)[0]
    answer = undo(bot, entry, key)
    assert roles(bot) == "vip"
    assert entries(bot)[0]["id"] == entry["id"]
    assert answer.status == 409
    assert code_of(answer) == "undo_refused"


def test_the_log_is_append_only(bot, fleet):
    alias_made(bot)
    entry_id = entries(bot)[0]["id"]
    for statement in (
        "DELETE FROM audit WHERE id = %s",
        "UPDATE audit SET action = 'nothing' WHERE id = %s",
        "UPDATE audit SET undone_by = 1, own_id = 7 WHERE id = %s",
        "UPDATE audit SET undone_by = NULL WHERE id = %s",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege), fleet.database.transaction() as db:
            fetch(db, statement, (entry_id,))
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), fleet.database.transaction() as db:
        fetch(db, "TRUNCATE audit")
    with fleet.database.transaction() as db:
        fetch(db, "UPDATE audit SET undone_by = 1 WHERE id = %s", (entry_id,))
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), fleet.database.transaction() as db:
        fetch(db, "UPDATE audit SET undone_by = 2 WHERE id = %s", (entry_id,))


def test_the_command_lines_keys_and_channels_are_on_record(bot, fleet, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", fleet.stack.postgres.owner_url)
    home = ["--home", str(tmp_path)]

    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, [words[0], words[1], *home, *words[2:]])
        assert done.exit_code == 0, done.output
        return done.output

    name = new_id()
    api_key = run("keys", "create", "--name", name, "--group", "api-users", "--community", bot.slug).split()[0]
    run("keys", "revoke", name)
    number = str(10**9 + bot.community_id)
    run("servers", "add", "--platform", "Twitch", "--channel", number, "--community", bot.slug)
    run("servers", "remove", "--platform", "twitch", "--channel", number)
    found = ask(bot, "GET", "/router/audit", query={"community_id": bot.slug, "module": "core"})["audit"]
    told = [each for each in found if each["actor_account"] == "command line"]
    assert [each["action"] for each in told] == ["server_removed", "server_added", "key_revoked", "key_made"]
    assert told[3]["after"]["key"] == "•"
    assert api_key.split("_")[2] not in str(found)
    assert told[1]["after"] == {"entity_id": f"twitch::{number}", "is_active": True}
    for words, said in (
        (["--platform", "twitch", "--channel", "foo"], "by its number"),
        (["--platform", "discord", "--channel", "7"], "--server"),
        (["--platform", "slack", "--server", "acme", "--channel", "C1"], "T…"),
        (["--platform", "twitch", "--channel", number, "--community", name], "no community"),
    ):
        refused = CliRunner().invoke(cli, ["servers", "add", *home, *words])
        assert refused.exit_code and said in refused.output, refused.output


def test_a_whole_server_takes_its_channels_along(bot, fleet):
    guild = str(10**17 + bot.community_id)

    def are_active() -> dict[str, bool]:
        with fleet.database.transaction() as db:
            rows = fetch(db, "SELECT channel_id, is_active FROM entities WHERE server_id = %s", (guild,))
        return {row["channel_id"]: row["is_active"] for row in rows}

    with fleet.database.transaction() as db:
        add_server(db, "discord", "", server_id=guild, community=bot.slug)
        add_server(db, "discord", "2", server_id=guild, community=bot.slug)
        fetch(
            db,
            "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
            " VALUES (%s, 'discord', %s, '1', %s)",
            (f"discord:{guild}:1", guild, bot.community_id),
        )
        remove_server(db, "discord", "", server_id=guild)
    assert are_active() == {"": False, "1": False, "2": True}
    with fleet.database.transaction() as db:
        add_server(db, "discord", "", server_id=guild, community=bot.slug)
    assert all(are_active().values())


def test_many_roles_at_once_have_an_entry_each(bot):
    people = [f"p{n}-{bot.slug}" for n in range(3)]
    for name in people:
        bot.say("hello", by=name)
    assignments = [{"user_id": user_id(bot, name), "role": "vip"} for name in people]
    for _ in range(2):  # The second time nothing changes.
        ask(bot, "POST", "/router/roles/assign", {"community_id": bot.slug, "assignments": assignments})
    found = entries(bot)
    assert {each["subject"] for each in found} == {f"role/{each['user_id']}" for each in assignments}
    assert len(found) == 3
    assert {str(each["before"]["role"]) for each in found} == {"member"}


def test_of_many_who_take_the_same_back_at_once_one_does(bot):
    permission_changed(bot)
    entry = entries(bot)[0]
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda _: undo(bot, entry), range(5)))
    assert sorted(each.status for each in answers) == [200, 409, 409, 409, 409]
    assert {code_of(each) for each in answers if each.status == 409} == {"changed_since"}
    assert [each["action"] for each in entries(bot)] == ["permission_set"] * 3
    assert permissions(bot)[0]["config"] == {"rate_limit": 4}


def test_a_change_of_the_same_subject_in_between_wins(bot, fleet):
    """What the router has checked is checked again where it counts: by the module, when it holds the row."""
    module_switched(bot)
    entry = entries(bot)[0]
    scope = f"/router/communities/{bot.slug}/modules/inventory"
    with ThreadPoolExecutor(2) as threads:
        with fleet.database.transaction() as db:
            fetch(db, "SELECT 1 FROM module_switches WHERE community_id = %s FOR UPDATE", (bot.community_id,))
            change = threads.submit(bot.fleet.request, "PUT", scope, {"enabled": True, "config": {"listed": 9}})
            eventually(lambda: len(waiting(fleet)) == 1)
            undoing = threads.submit(undo, bot, entry)
            eventually(lambda: len(waiting(fleet)) == 2)
        assert change.result().status == 200
        assert code_of(undoing.result()) == "changed_since"
    assert switches(bot)[0]["config"] == {"listed": 9}


def waiting(fleet: Fleet) -> list[dict[str, Any]]:
    return fleet.database.statement("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


def test_channels_that_come_and_go_by_oauth_are_on_record(bot, fleet):
    name = new_id()
    with fleet.database.transaction() as db:
        home = settle(db, Consenter("twitch", name, name, f"Streamer {name}"), channel=name, name=name)
    with fleet.database.transaction() as db:
        assert leave(db, home.entity, user_id=home.user_id)
    found = ask(bot, "GET", "/router/audit", query={"community_id": home.community_id})["audit"]
    told = [(each["actor_account"], each["module"], each["action"], each["own_id"]) for each in found]
    assert told == [
        ("twitch", "twitch", "channel_removed", home.user_id),
        ("twitch", "twitch", "channel_added", home.user_id),
        ("twitch", "core", "community_made", home.user_id),
    ]
    assert f"Streamer {name}" not in str(found)
    assert found[0]["undo"] is None
