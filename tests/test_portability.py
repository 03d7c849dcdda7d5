"""Taking a community along to another fleet, and forgetting somebody: every module's own part, the same for all."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import CHECKOUT, all_manifests
from waddlebot.community.consent import Consenter
from waddlebot.community.consent import settle as serve
from waddlebot.data.database import fetch
from waddlebot.module.service import SERVICES
from waddlebot.testing.fleet import Bot, Fleet
from waddlebot.testing.owed import owed_by_modules

PREFIXES = sorted(each.prefix for each in all_manifests())
# What nobody but the portal may see or do.
DOORS = [("GET", "/export?community_id=1"), ("POST", "/import"), ("GET", "/people/export"), ("POST", "/people/erase")]


@pytest.fixture
def portal(fleet: Fleet) -> str:
    if "portal" not in fleet.keys:
        fleet.keys["portal"] = fleet.make_key("portal", "services", module_name="portal")
    return "portal"


def ask(bot: Bot, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
    response = bot.fleet.request(method, path, body, **more)
    assert response.status == 200, response.body
    return response.json()


def export(bot: Bot, prefix: str) -> dict[str, Any]:
    return ask(bot, "GET", f"{prefix}/export", key="portal", query={"community_id": bot.slug})


def carry(bot: Bot, prefix: str, items: list[dict[str, Any]], *, apply: bool = False) -> dict[str, Any]:
    body = {"items": items, "apply": apply, "community_id": bot.slug}
    return ask(bot, "POST", f"{prefix}/import", body, key="portal")


def actions(answer: dict[str, Any]) -> list[str]:
    return [each["action"] for each in answer["plan"]]


def user_id(bot: Bot, platform_user_id: str) -> int:
    with bot.fleet.database.transaction() as db:
        (row,) = fetch(db, "SELECT user_id FROM platform_identities WHERE platform_user_id = %s", (platform_user_id,))
    return row["user_id"]


@pytest.fixture
def furnished(bot: Bot, portal: str) -> Bot:
    """A community with one of everything that can be carried."""
    bot.say("hello", by=f"robin-{bot.slug}")
    mine = {"community_id": bot.slug}
    for name, command in (("hi", "hello {user}"), ("ho", "!hi {args}")):
        ask(bot, "POST", "/alias/create", {"alias": name, "command": command, **mine})
    ask(bot, "PUT", "/alias/update", {"alias_id": first_alias(bot), "is_active": False})
    ask(bot, "POST", "/inventory", {"action": "add", "item_name": "Blue Sword", "labels": ["b", "a"], **mine})
    ask(bot, "POST", "/inventory", {"action": "checkout", "item_name": "blue sword", "checked_out_to": "x", **mine})
    ask(bot, "PUT", "/browser/source/admin/theme", {"variables": {"accent": "#ff0000", "scale": 2}, **mine})
    ask(bot, "POST", "/browser/source/admin/tokens", mine)
    for string in ("spam", "ham"):
        rule = {"string": string, "match_type": "regex", "action": "warn", "warning_message": f"no {string}", **mine}
        ask(bot, "POST", "/router/string-rules", rule)
    ask(bot, "PUT", f"/router/communities/{bot.slug}/modules/inventory", {"enabled": True, "config": {"listed": 7}})
    timer = {"name": "Discord", "minutes": 15, "message": "Come to our Discord!", "min_lines": 3, "only_live": False}
    ask(bot, "POST", f"/router/communities/{bot.slug}/timers", timer)
    subjects = {"allow": ["role:vip", f"console:robin-{bot.slug}"], "deny": ["role:member"]}
    permission = {"command": "!alias", "permissions": subjects, "config": {"rate_limit": 3}}
    ask(bot, "PUT", f"/router/communities/{bot.slug}/permissions", permission)
    roles = [{"user_id": user_id(bot, f"robin-{bot.slug}"), "role": "moderator"}]
    ask(bot, "POST", "/router/roles/assign", {"assignments": roles, **mine})
    sample = {"event": "raid", "title": "{user} is here!", "image": upload(bot, PICTURE), "min_amount": 5}
    ask(bot, "POST", "/browser/source/admin/alerts", {**sample, **mine})
    subjects = {"allow": ["label:regular"], "deny": ["role:member"]}
    ask(bot, "PUT", f"/router/communities/{bot.slug}/permissions", {"command": "!points", "permissions": subjects})
    for owed in owed_by_modules():
        if hasattr(owed, "carry"):
            owed.carry(bot)
    return bot


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def upload(bot: Bot, content: bytes) -> str:
    answer = bot.fleet.request(
        "POST",
        "/browser/source/admin/media",
        content,
        query={"community_id": bot.slug},
        headers={"Content-Type": "application/octet-stream"},
    )
    assert answer.status == 200, answer.body
    return str(answer.json()["url"])


def first_alias(bot: Bot) -> int:
    return ask(bot, "GET", "/alias/list", query={"community_id": bot.slug})["aliases"][0]["id"]


CARRIED = {"/alias": 2, "/inventory": 1, "/browser": 3, "/router": 9, "/twitch": 0, "/discord": 0, "/slack": 0}
for owed in owed_by_modules():
    CARRIED[owed.PREFIX] = getattr(owed, "CARRIED", 0)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_is_exported_is_imported_elsewhere_just_so(fleet, furnished, prefix):
    items = export(furnished, prefix)["items"]
    assert len(items) == CARRIED[prefix]
    other = fleet.bot()
    plan = carry(other, prefix, items)
    assert (plan["applied"], actions(plan)) == (False, ["create"] * len(items))
    assert export(other, prefix)["items"] == []
    done = carry(other, prefix, items, apply=True)
    assert (done["applied"], done["plan"]) == (True, plan["plan"])
    assert done["counts"] == {"create": len(items), "update": 0, "skip": 0, "conflict": 0}
    assert export(other, prefix)["items"] == items
    # The same again: it is all there.
    for apply in (False, True):
        again = carry(other, prefix, items, apply=apply)
        assert actions(again) == ["skip"] * len(items)
        assert all(each["why"] for each in again["plan"])
    assert export(other, prefix)["items"] == items


def test_every_table_of_a_communitys_is_carried_or_said_to_stay(fleet):
    with fleet.database.transaction() as db:
        rows = fetch(
            db,
            "SELECT table_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
            " AND column_name = 'community_id'",
        )
    of_communities = {row["table_name"] for row in rows}
    carried = {table for each in SERVICES if each.carried for part in each.carried.parts for table in part.tables}
    stays = {table for each in all_manifests() for table in each.stays}
    assert carried & stays == set()
    assert of_communities - carried - stays == set(), "say in [stays] of its module's manifest why it is in no export"
    assert stays <= of_communities


def test_what_was_imported_works_at_once(fleet, furnished):
    other = fleet.bot()
    assert other.say("some spam").answer["moderation"] is None
    for prefix in ("/router", "/alias"):
        carry(other, prefix, export(furnished, prefix)["items"], apply=True)
    assert other.say("some spam").answer["moderation"]["action"] == "warn"
    # The permission came along: a member may not, and somebody by their platform's id may.
    assert other.say("!alias list").statuses == ["denied"]
    assert other.say("!alias list", by=f"robin-{furnished.slug}").statuses == ["success"]


def test_an_import_is_on_record_and_can_be_taken_back(fleet, furnished, portal):
    other = fleet.bot()
    carry(other, "/inventory", export(furnished, "/inventory")["items"])
    assert audit(other) == []
    carry(other, "/inventory", export(furnished, "/inventory")["items"], apply=True)
    (entry,) = audit(other)
    assert (entry["actor_account"], entry["action"]) == ("portal", "item_added")
    ask(other, "POST", f"/router/audit/{entry['id']}/undo")
    assert export(other, "/inventory")["items"] == []


def audit(bot: Bot) -> list[dict[str, Any]]:
    found = ask(bot, "GET", "/router/audit", query={"community_id": bot.slug})["audit"]
    return [each for each in found if each["module"] != "core"]


def test_what_differs_is_updated_and_only_that(furnished):
    items = export(furnished, "/inventory")["items"] + [{"kind": "item", "item_name": "Red Shield"}]
    changed = [{**items[0], "item_name": "BLUE sword", "labels": ["c"]}, items[1]]
    plan = carry(furnished, "/inventory", changed)
    assert actions(plan) == ["update", "create"]
    assert "labels" in plan["plan"][0]["why"]
    carry(furnished, "/inventory", changed, apply=True)
    assert [(each["item_name"], each["labels"]) for each in export(furnished, "/inventory")["items"]] == [
        ("BLUE sword", ["c"]),
        ("Red Shield", []),
    ]
    rules = [each for each in export(furnished, "/router")["items"] if each["kind"] == "string_rule"]
    rules[0]["priority"] = 7
    assert actions(carry(furnished, "/router", rules, apply=True)) == ["update", "skip"]
    assert actions(carry(furnished, "/router", rules)) == ["skip", "skip"]
    aliases = export(furnished, "/alias")["items"]
    aliases[0] |= {"is_active": True, "command": "good day"}
    assert actions(carry(furnished, "/alias", aliases, apply=True)) == ["update", "skip"]
    assert furnished.say("!hi", level="vip").chat == "good day"


def test_what_cannot_be_is_a_conflict_that_says_why_and_stops_nothing(fleet, furnished):
    other = fleet.bot()
    alias = {"kind": "alias", "command": "hello"}
    items = [
        {**alias, "alias": "!inventory"},
        {**alias, "alias": "!one"},
        {**alias, "alias": "!two", "entity_id": f"console:{furnished.slug}:general"},
        {**alias, "alias": "!three", "command": "!three"},
    ]
    for apply in (False, True):
        answer = carry(other, "/alias", items, apply=apply)
        assert actions(answer) == ["conflict", "create", "conflict", "conflict"]
        whys = [each["why"] for each in answer["plan"]]
        assert "is a command already" in whys[0]
        assert "not a channel of this" in whys[2] or "another community" in whys[2]
        assert "never end" in whys[3]
        assert [each["index"] for each in answer["plan"]] == [0, 1, 2, 3]
    assert [each["alias"] for each in export(other, "/alias")["items"]] == ["!one"]


def test_the_routers_conflicts(fleet, furnished):
    other = fleet.bot()
    owner = f"owner-{other.slug}"
    other.say("hello", by=owner)
    body = {"community_id": other.slug, "assignments": [{"user_id": user_id(other, owner), "role": "owner"}]}
    ask(other, "POST", "/router/roles/assign", body)
    items = [
        {"kind": "string_rule", "string": "(", "match_type": "regex", "action": "warn"},
        {"kind": "string_rule", "string": "x", "action": "warn", "enabled_entity_ids": [f"console:{furnished.slug}:x"]},
        {"kind": "module", "module_name": "not_there", "enabled": True},
        {"kind": "module", "module_name": "alias", "enabled": True, "entity_id": "twitch::nobody"},
        {"kind": "permission", "command": "no command"},
        {"kind": "permission", "command": "!x", "allow": ["user:1"]},
        {"kind": "role", "person": f"console:{owner}", "role": "vip"},
        {"kind": "role", "person": "nobody", "role": "vip"},
    ]
    answer = carry(other, "/router", items, apply=True)
    assert actions(answer) == ["conflict"] * len(items)
    assert "owns this community" in answer["plan"][6]["why"]
    assert {each["kind"] for each in export(other, "/router")["items"]} == {"points"}


@pytest.mark.parametrize(
    ("prefix", "broken", "named"),
    [
        ("/alias", {"kind": "alias", "alias": 5, "command": "x"}, "items.1.alias"),
        ("/alias", {"kind": "alias", "alias": "x"}, "items.1.command"),
        ("/alias", {"kind": "alias", "alias": "x", "command": "y", "usage_count": 5}, "items.1.usage_count"),
        ("/inventory", {"kind": "alias", "alias": "x", "command": "y"}, "items.1.kind"),
        ("/router", {"kind": "alias"}, "items.1"),
        ("/router", {}, "items.1"),
        ("/router", {"kind": "role", "person": "twitch:1", "role": "owner"}, "items.1.role.role"),
        ("/browser", {"kind": "theme", "variables": {"accent": 5}}, "items.1.theme.variables.accent"),
    ],
)
def test_broken_items_are_named_by_their_index(furnished, prefix, broken, named):
    body = {"items": [export(furnished, prefix)["items"][0], broken], "community_id": furnished.slug, "apply": True}
    before = export(furnished, prefix)
    refused = furnished.fleet.request("POST", f"{prefix}/import", body, key="portal")
    assert refused.status == 422
    fields = [each["field"] for each in refused.json()["error"]["details"]["fields"]]
    assert named in fields
    assert export(furnished, prefix) == before


def test_a_whole_export_may_be_sent_but_not_another_modules_or_a_newer_one(fleet, furnished):
    other = fleet.bot()
    whole = export(furnished, "/alias")
    query = {"community_id": other.slug}
    assert whole["module"] == "alias"
    assert ask(other, "POST", "/alias/import", whole, key="portal", query=query)["counts"]["create"] == 2
    for wrong in ({"module": "inventory"}, {"version": whole["version"] + 1}, {"items": {}}, {"more": 1}):
        refused = fleet.request("POST", "/alias/import", {**whole, **wrong}, key="portal", query=query)
        assert refused.status == 422, wrong
    assert fleet.request("POST", "/alias/import", whole, key="portal").status == 422
    assert fleet.request("POST", "/alias/import", whole, key="portal", query={"community_id": "nowhere"}).status == 404
    assert fleet.request("GET", "/alias/export", key="portal", query={"community_id": "nowhere"}).status == 404
    assert fleet.request("POST", "/twitch/import", {**query, "items": [{"kind": "x"}]}, key="portal").status == 422


def test_an_import_has_a_bound(furnished):
    huge = json.dumps({"items": [{"kind": "item", "item_name": "x" * 17_000_000}]}).encode()
    assert furnished.fleet.request("POST", "/inventory/import", huge, key="portal").status == 413
    many = {"items": [{"kind": "item", "item_name": "x"}] * 20_001, "community_id": furnished.slug}
    assert furnished.fleet.request("POST", "/inventory/import", many, key="portal").status == 422


@pytest.mark.parametrize("prefix", PREFIXES)
def test_only_the_portal_carries_and_forgets(fleet, bot, portal, prefix):
    member = fleet.make_key(new_id(), "api-users", community_id=bot.community_id)
    for method, path in DOORS:
        for key, status in ((None, 401), (member, 403), ("console", 403), ("router", 403)):
            assert fleet.request(method, prefix + path, {} if method == "POST" else None, key=key).status == status


def test_no_secret_leaves(furnished):
    tokens = ask(
        furnished, "GET", "/browser/source/admin/tokens", query={"community_id": furnished.slug, "reveal": True}
    )
    everything = json.dumps([export(furnished, prefix) for prefix in PREFIXES])
    assert len(tokens["tokens"]) == 3
    for each in tokens["tokens"]:
        assert each["token"] not in everything
    assert "created_by" not in everything


# Forgetting


class Somebody:
    """A person with a name, a display name and an id that nobody else has."""

    def __init__(self, bot: Bot, *, platform: str = "console") -> None:
        mark = new_id().replace("-", "")[-16:]
        self.bot = bot
        self.id = f"id{mark}"
        self.name = f"nom{mark}"
        self.display_name = f"Zoë-{mark} O'Hara"
        self.identity = f"{platform}:{self.id}"
        self.request_id = new_id()
        self.words = [self.id, self.name, self.display_name, mark]

    def say(self, text: str, **more: Any) -> Any:
        user = {
            "platform_user_id": self.id,
            "name": self.name,
            "display_name": self.display_name,
            "badges": ["moderator"],
        }
        return self.bot.submit({**self.bot.event(text), "user": user, **more})

    @property
    def number(self) -> int:
        return user_id(self.bot, self.id)


def erase(bot: Bot, who: Somebody, prefix: str, *, request_id: str = "", **more: Any) -> dict[str, Any]:
    body = {"request_id": request_id or who.request_id, "identities": [who.identity], **more}
    return ask(bot, "POST", f"{prefix}/people/erase", body, key="portal")


def erase_everywhere(bot: Bot, who: Somebody, **more: Any) -> dict[str, dict[str, Any]]:
    return {prefix: erase(bot, who, prefix, **more) for prefix in PREFIXES}


def found_in(bot: Bot, words: list[str]) -> dict[str, list[Any]]:
    """Every column of every table of the database in whose text one of the words is, with the rows."""
    hits: dict[str, list[Any]] = {}
    with bot.fleet.database.transaction() as db:
        columns = fetch(
            db,
            "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
            " AND data_type IN ('text', 'json', 'jsonb', 'ARRAY', 'character varying')",
        )
        for row in columns:
            table, column = row["table_name"], row["column_name"]
            # JSON may have escaped what is not ASCII.
            spelled = sorted({each for word in words for each in (word.lower(), json.dumps(word)[1:-1].lower())})
            rows = fetch(
                db,
                f"SELECT t::text AS row FROM {table} t WHERE EXISTS (SELECT FROM unnest(%s::text[]) AS w"
                f' WHERE strpos(lower("{column}"::text), w) > 0)',
                (spelled,),
            )
            if rows:
                hits[f"{table}.{column}"] = [each["row"] for each in rows]
    return hits


@pytest.fixture
def somebody(bot: Bot, portal: str) -> Somebody:
    who = Somebody(bot)
    who.say("hello everybody")
    who.say("!alias add greet hello {user}")
    who.say('!inventory add "Blue Sword" shiny')
    who.say("!ai what do I like?")
    who.say(f'!inventory checkout "Blue Sword" @{who.name}')
    who.say("!alias add alias nothing")
    who.say("!greet")
    who.say("!points")
    who.say("!why")
    bot.fleet.request(
        "PUT",
        f"/router/communities/{bot.slug}/permissions",
        {
            "command": "!stats",
            "permissions": {"deny": [who.identity]},
        },
    )
    ask(
        bot,
        "POST",
        "/router/roles/assign",
        {
            "community_id": bot.slug,
            "assignments": [{"user_id": who.number, "role": "moderator"}],
        },
    )
    ask(
        bot,
        "POST",
        "/router/string-rules",
        {
            "community_id": bot.slug,
            "string": "zzz",
            "action": "warn",
            "warning_message": "x",
            "created_by": who.name,
        },
    )
    who.say("!overlay pause ticker")
    who.say("simulated", mode="simulate")
    who.say("!points", event_id=f"T1:C1:join:{who.id}")
    return who


def test_nothing_is_left_of_somebody_but_what_is_named(bot, fleet, somebody):
    settle(bot)
    assert len(found_in(bot, somebody.words)) > 10
    number = somebody.number
    answers = erase_everywhere(bot, somebody)
    assert found_in(bot, somebody.words) == {}
    kept = [each for answer in answers.values() for each in answer["kept"]]
    assert all(each["what"] and each["why"] for each in kept)
    # Sums stay, under a number.
    assert any("points" in each["what"] for each in kept)
    with fleet.database.transaction() as db:
        (sum_,) = fetch(db, "SELECT current_score FROM user_reputation WHERE user_id = %s", (number,))
    assert sum_["current_score"] > 0
    board = ask(bot, "GET", f"/router/reputation/{bot.slug}/leaderboard")
    assert not any(word in json.dumps(board, ensure_ascii=False) for word in somebody.words)
    # Nothing of the simulated line is in Redis.
    client = SERVICES[0].bus.client
    texts = [str(client.get(key)) for key in client.scan_iter("waddlebot:*") if client.type(key) == "string"]
    assert not any(somebody.id in text for text in texts)


def settle(bot: Bot) -> None:
    """Have everything said, so that nothing is in work any more."""
    with bot.fleet.database.transaction() as db:
        fetch(db, "UPDATE outbox SET state = 'sent' WHERE community_id = %s", (bot.community_id,))


def test_the_same_request_again_is_answered_the_same(bot, somebody):
    settle(bot)
    first = erase_everywhere(bot, somebody)
    assert first["/router"]["deleted"]["platform_identities"] == 1
    assert erase_everywhere(bot, somebody) == first
    # Another request finds nothing more to do.
    again = erase_everywhere(bot, somebody, request_id=new_id())
    assert again["/router"]["deleted"]["platform_identities"] == 0
    taken = {"request_id": somebody.request_id, "identities": ["console:somebody-else"]}
    refused = bot.fleet.request("POST", "/router/people/erase", taken, key="portal")
    assert (refused.status, refused.json()["error"]["code"]) == (409, "request_id_taken")


def test_in_which_order_the_modules_forget_does_not_matter(bot, somebody):
    settle(bot)
    for prefix in ("/router", "/ai", "/inventory", "/alias", "/browser", "/twitch", "/discord", "/slack"):
        erase(bot, somebody, prefix)
    assert found_in(bot, somebody.words) == {}


def test_whoever_comes_back_is_somebody_new(bot, somebody):
    settle(bot)
    before = somebody.number
    erase_everywhere(bot, somebody)
    somebody.say("here I am again")
    assert somebody.number != before
    settle(bot)
    erase_everywhere(bot, somebody, request_id=new_id())
    assert found_in(bot, somebody.words) == {}


def test_somebody_is_forgotten_in_one_community_only(fleet, bot, somebody):
    other = fleet.bot()
    here, somebody.bot = somebody.bot, other
    somebody.say("!alias add mine hello", server_id=other.slug)
    settle(bot)
    settle(other)
    for prefix in PREFIXES:
        erase(bot, somebody, prefix, community_id=here.slug)
    rows = [row for found in found_in(bot, somebody.words).values() for row in found]
    assert rows
    assert not any(here.slug in row for row in rows)
    aliases = ask(other, "GET", "/alias/list", query={"community_id": other.slug})["aliases"]
    assert aliases[0]["created_by"] == somebody.display_name
    assert somebody.number


def test_what_others_said_to_them_is_blotted_out_and_what_others_wrote_is_named(bot, somebody):
    bot.say('!inventory status "Blue Sword"', by="other", level="moderator")
    bot.say(f"nice to meet you, {somebody.name}", by="other")
    settle(bot)
    answers = erase_everywhere(bot, somebody)
    left = found_in(bot, somebody.words)
    assert set(left) == {"router_events.event"}
    assert all("nice to meet you" in row for row in left["router_events.event"])
    assert any("router_events" in each["what"] for each in answers["/router"]["kept"])
    item = ask(bot, "GET", "/inventory", query={"community_id": bot.slug})["items"][0]
    assert (item["is_checked_out"], item["checked_out_to"]) == (True, "•")


def test_somebody_may_see_what_is_known_of_them(bot, somebody):
    settle(bot)
    items = []
    for prefix in PREFIXES:
        query = {"identities": f"{somebody.identity},twitch:nobody"}
        answer = ask(bot, "GET", f"{prefix}/people/export", key="portal", query=query)
        assert set(answer) >= {"module", "version", "items"}
        items += answer["items"]
    kinds = {each["kind"] for each in items}
    assert {"users", "platform_identities", "router_events", "outbox", "alias_commands", "inventory_items"} <= kinds
    assert {"user_reputation", "community_rbac", "command_permission_subjects"} <= kinds
    assert "hello everybody" in json.dumps(items)
    other = ask(bot, "GET", "/router/people/export", key="portal", query={"identities": "twitch:nobody"})
    assert other["items"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"identities": []},
        {"identities": ["twitch"]},
        {"identities": ["twitch:"]},
        {"identities": [5]},
        {"identities": ["Twitch:5"]},
        {"identities": ["twitch:5"] * 101},
        {"request_id": ""},
        {"community_id": "nowhere"},
        {"more": 1},
    ],
)
def test_a_bad_request_forgets_nobody(bot, portal, wrong):
    body = {"request_id": new_id(), "identities": ["twitch:5"], **wrong}
    refused = bot.fleet.request("POST", "/router/people/erase", body, key="portal")
    assert refused.status == (404 if "community_id" in wrong else 422), refused.body


def test_an_identity_may_be_written_in_two_parts(bot, somebody):
    settle(bot)
    body = {
        "request_id": new_id(),
        "identities": [{"platform": "console", "platform_user_id": somebody.id}],
        "community_id": None,
    }
    done = ask(bot, "POST", "/router/people/erase", body, key="portal")
    assert done["deleted"]["platform_identities"] == 1


def test_somebody_who_was_forgotten_is_not_brought_back_by_an_import(bot, fleet, somebody):
    settle(bot)
    items = [each for each in export(bot, "/router")["items"] if each["kind"] == "role"]
    assert items == [{"kind": "role", "person": somebody.identity, "role": "moderator"}]
    erase_everywhere(bot, somebody)
    answer = carry(fleet.bot(), "/router", items, apply=True)
    assert actions(answer) == ["conflict"]
    assert "asked to be forgotten" in answer["plan"][0]["why"]


# What collectors were delivered


DELIVERED = {
    "twitch": (
        "INSERT INTO twitch_events (delivery_id, event_id, type, broadcaster_id, chatter_id, event_data, state)"
        " VALUES (%(d)s, %(e)s, 'channel.chat.message', '1', %(id)s, %(data)s, %(state)s)"
    ),
    "discord": (
        "INSERT INTO discord_events (delivery_id, event_id, type, channel_id, user_id, event_data, state)"
        " VALUES (%(d)s, %(e)s, 'MESSAGE_CREATE', '1', %(id)s, %(data)s, %(state)s)"
    ),
    "slack": (
        "INSERT INTO slack_events (delivery_id, event_id, type, channel_id, user_id, event_data, state)"
        " VALUES (%(d)s, %(e)s, 'message', '1', %(id)s, %(data)s, %(state)s)"
    ),
}


@pytest.mark.parametrize("platform", sorted(DELIVERED))
def test_collectors_forget_what_was_delivered(bot, portal, platform):
    who = Somebody(bot, platform=platform)
    with bot.fleet.database.transaction() as db:
        for state, id_ in (("forwarded", who.id), ("forwarded", "other")):
            data = json.dumps({"user": {"id": id_}, "mentions": [{"id": who.id, "name": who.name}], "text": "hello"})
            values = {"d": new_id(), "e": f"{new_id()}:{id_}", "id": id_, "data": data, "state": state}
            fetch(db, DELIVERED[platform], values)
        fetch(
            db,
            f"INSERT INTO {platform}_activities (event_id, activity_type, platform_user_id, entity_id, amount,"
            " session_id) VALUES ('e', 'chatMessage', %s, 'x', 5, %s)",
            (who.id, new_id()),
        )
    assert set(found_in(bot, [who.id])) >= {f"{platform}_events.event_data", f"{platform}_activities.platform_user_id"}
    answer = erase(bot, who, f"/{platform}")
    assert answer["deleted"][f"{platform}_events"] == 2
    assert answer["deleted"][f"{platform}_activities"] == 1
    assert found_in(bot, [who.id]) == {}


def test_a_served_channel_is_kept_with_what_to_do(bot, fleet, portal):
    who = Somebody(bot, platform="twitch")
    with fleet.database.transaction() as db:
        serve(db, Consenter("twitch", who.id, who.name, who.display_name), channel=who.id, name=who.display_name)
    answers = erase_everywhere(bot, who)
    kept = json.dumps([answer["kept"] for answer in answers.values()])
    tables = {hit.split(".")[0] for hit in found_in(bot, who.words)}
    assert {"servers", "entities"} <= tables
    for table in tables:
        assert table in kept
    assert "/twitch/auth/leave" in kept


def test_a_table_with_people_says_who_forgets_them():
    spec = importlib.util.spec_from_file_location("check_fleet", CHECKOUT / "scripts" / "check_fleet.py")
    assert spec and spec.loader
    check_fleet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_fleet)
    manifests = all_manifests()
    assert list(check_fleet.check_people(manifests)) == []
    silent = [each.model_copy(update={"people": {}}) for each in manifests]
    told = "\n".join(check_fleet.check_people(silent))
    for table, column in (
        ("alias_commands", "created_by_id"),
        ("inventory_items", "checked_out_to"),
        ("users", "display_name"),
        ("platform_identities", "platform_user_id"),
        ("router_events", "user_id"),
        ("command_executions", "request_payload"),
        ("discord_voice_sessions", "display_name"),
        ("twitch_events", "event_data"),
        ("slack_teams", "installed_by"),
        ("browser_source_history", "content"),
        ("module_replies", "reply"),
    ):
        assert re.search(rf"{table} has people in it \(.*{column}.*\)", told), table
    wrong = [manifests[0].model_copy(update={"people": {**manifests[0].people, "no_table": "erased"}})]
    assert "no_table, which is not there" in "\n".join(check_fleet.check_people(wrong))
