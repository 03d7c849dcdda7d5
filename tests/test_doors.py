"""Who may call what: every endpoint of every OpenAPI document × every kind of key, against the table of contracts §4.

The table is what manifests say under `[[callers]]`; what its words mean is written down here once more, on purpose.
A new endpoint stands in its manifest, and if it takes a body or names something, has a sample here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import TypeAdapter
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import Callers, all_manifests
from waddlebot.base.wire import SHAPES
from waddlebot.community.directory import add_server
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.service import SERVICES
from waddlebot.testing.fleet import Fleet
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.owed import owed_by_modules
from waddlebot.web.actor import HEADER, sign_actor
from waddlebot.web.auth import create_account, revoke_account

CONTRACTS = Path(__file__).parents[1] / "docs" / "contracts.md"
MANIFESTS = all_manifests()
ROWS: dict[str, Callers] = {
    endpoint: row
    for manifest in MANIFESTS
    for row in [*manifest.standard_callers, *manifest.callers]
    for endpoint in row.endpoints
}
PLATFORM_OF = {f"{m.prefix}/": m.name for m in MANIFESTS if m.kind == "collector"}

# Services with doors of their own, as every key has them.
ACCOUNTS = ("router", "labels_core", "shoutout", "portal", "marketplace", "module_host")
# What the words of the table let in, of the keys that are confined to nothing.
ALLOWED = {
    "any": {"collectors", "admins", "api-users", "stub", "stranger", *ACCOUNTS},
    "router": {"router"},
    "collectors": {"collectors"},
    "claimers": {"collectors"},
    "claim_readers": {"collectors", "admins"},
    "event_sources": {"collectors"},
    "services": {"stub"},
    "announcers": {"stub", "router", "labels_core", "marketplace", "shoutout", "portal"},
    "overlays": {"browser_source_core"},
    "portal": {"portal"},
    "reporters": {"collectors", "stub", "stranger", *ACCOUNTS},
    "members": {"stub"},
    "figures": {"collectors", "admins"},
    "community": {"admins", "api-users"},
    "switchers": {"admins", "api-users", "marketplace"},
    "admins": {"admins"},
    "operators": {"admins"},
    "marketplace": {"marketplace"},
    "module_host": {"module_host"},
    "super_admins": {"super-admins"},
    "call": set(),
    "owner": {"admins"},
    "platform": {"collectors", "admins"},
    "role_givers": {"collectors", "admins", "labels_core"},
    "shoutouts": {"collectors", "admins", "shoutout"},
}
NEVER = ("none", "wrong", "expired", "revoked", "super-admins", "actor of another account")
# What is the whole fleet's is closed to every key of a community.
FOR_ALL = {"claimers", "claim_readers", "figures", "members", "router", "admins", "operators", "super_admins"}
# A community's own affairs are no platform's, and a module's neither.
OF_NO_PLATFORM = {"community", "switchers", "owner", "members", "announcers", "admins", "operators", "super_admins"}
# One module's key is not told of what others did.
OF_ONE_MODULE = {"GET /router/responses/{execution_id}", "GET /router/explain/{session_id}"}
REFUSED = (401, 403, 404)
WANTS = [{"provider": "openai", "fields": ["api_key"], "why": "!stub answers with your own key"}]
NOT_A_SAMPLE = (400, 404, 405, 415, 422)


@dataclass
class World:
    """A community with a channel on each platform and something of everything in it; and another one beside it."""

    fleet: Fleet
    mine: Any
    other: Any
    number: str
    keys: dict[str, str] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def marks(self) -> list[str]:
        """What no key of another community or platform may be shown."""
        return [self.mine.slug, self.number]

    def path_of(self, endpoint: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda each: self._value(endpoint, each[1]), endpoint.split(" ")[1])

    def _value(self, endpoint: str, name: str) -> str:
        if name == "name":
            return "inventory"
        if name == "token" and "admin" not in endpoint:
            return "nonsense"
        if endpoint.startswith("DELETE") and f"{name}_to_end" in self.found:
            return str(self.found[f"{name}_to_end"])
        values = {"community": self.mine.slug, "community_id": self.mine.slug, "entity_id": self.entity_id}
        values |= {"team": f"T{self.number}"}
        return quote(str({**values, **self.found}.get(name, "7")), safe=":")

    @property
    def entity_id(self) -> str:
        return f"console:{self.mine.slug}:general"

    def ask(self, endpoint: str, kind: str) -> Any:
        method, path = endpoint.split(" ")[0], self.path_of(endpoint)
        sample = SAMPLES.get(endpoint, lambda _: {})(self)
        if kind.endswith("simulating"):
            sample = {"body": {**sample["body"], "mode": "simulate"}}
        headers = {}
        if kind in self.actors:
            account, fields = self.actors[kind]
            area = ROWS[endpoint].area or "bot"
            if kind == "owner of another area":
                fields = {**fields, "area": "bot" if area == "music" else "music"}
            headers[HEADER] = sign_actor(
                self.fleet.actor_key, login_id=7, method=method, path=path, **{"area": area, **fields}
            )
        else:
            account = kind
        key = None if account == "none" else self.keys[account]
        if ROWS[endpoint].who == "super_admins" and key is not None:
            headers, key = {**headers, "X-Broker-Key": key}, None
        return self.fleet.request(method, path, sample.get("body"), key=key, query=sample.get("query"), headers=headers)

    @property
    def actors(self) -> dict[str, tuple[str, dict[str, Any]]]:
        mine = {"community_id": self.mine.community_id}
        return {
            "owner": ("portal", {**mine, "right": "owner"}),
            "owner simulating": ("portal", {**mine, "right": "owner"}),
            "operator": ("portal", {"community_id": None, "right": "operator"}),
            "operator simulating": ("portal", {"community_id": None, "right": "operator"}),
            "editor": ("portal", {**mine, "right": "editor"}),
            "viewer": ("portal", {**mine, "right": "viewer"}),
            "owner elsewhere": ("portal", {"community_id": self.other.community_id, "right": "owner"}),
            "owner of another area": ("portal", {**mine, "right": "owner"}),
            "actor of another account": ("admins", {**mine, "right": "owner"}),
        }


@pytest.fixture(scope="module")
def world(fleet, module_stub_server, twitch_simulator) -> World:
    number = str(910_000_000 + int(new_id()[-6:], 16) % 1_000_000)
    made = World(fleet, fleet.bot(), fleet.bot(), number)
    twitch_simulator.user(f"streamer{number}", id=number)
    with fleet.database.transaction() as db:
        add_server(db, "twitch", number, community=made.mine.slug)
        add_server(db, "discord", "", server_id=number, community=made.mine.slug)
        add_server(db, "slack", f"C{number}", server_id=f"T{number}", community=made.mine.slug)
    if "stub" not in fleet.keys:
        fleet.keys["stub"] = fleet.make_key("stub", "services", module_name="stub")
    module_stub_server.reset(lambda call: reply_to(call, chat("hello")))
    module_stub_server.register(fleet, more={"credentials": WANTS})
    made.mine.install("stub")
    make_keys(made)
    make_things(made)
    return made


def make_keys(world: World) -> None:
    made = {name: world.fleet.keys[name] for name in (*ACCOUNTS[:-1], "stub", "browser_source_core")}
    made["module_host"] = world.fleet.make_key(new_id(), "services", module_name="module_host")
    places: dict[str, dict[str, Any]] = {
        "": {},
        " of it": {"community_id": world.mine.community_id},
        " elsewhere": {"community_id": world.other.community_id},
        " of another platform": {"platforms": ["elsewhere"]},
    }
    groups = {"collectors": None, "admins": None, "super-admins": None, "stranger": "services", "stub": "services"}
    for name, group in groups.items():
        for place, confined in places.items():
            if name + place not in made:
                module = {"module_name": name} if group else {}
                made[name + place] = world.fleet.make_key(new_id(), group or name, **module, **confined)
    own, theirs = world.mine.community_id, world.other.community_id
    made["api-users"] = world.fleet.make_key(new_id(), "api-users", community_id=own)
    made["api-users elsewhere"] = world.fleet.make_key(new_id(), "api-users", community_id=theirs)
    made["wrong"] = made["admins"][:-1] + ("a" if made["admins"][-1] != "a" else "b")
    with world.fleet.database.transaction() as db:
        over = datetime.now(UTC) - timedelta(seconds=1)
        made["expired"] = create_account(db, name=new_id(), groups=["admins"], expires_at=over).api_key
        revoked = create_account(db, name=new_id(), groups=["admins"])
        revoke_account(db, revoked.key_id)
    world.keys = {**made, "revoked": revoked.api_key}


def make_things(world: World) -> None:
    fleet, bot = world.fleet, world.mine
    heard = bot.say("!stub", by=f"alice{world.number}")
    assert heard.statuses == ["success"]
    populated = fleet.request("POST", "/router/coordination/populate", {"platform": "twitch"}, key="twitch")
    assert populated.status == 200
    execution = heard.answer["executions"][0]
    answer = fleet.request("POST", "/browser/source/admin/tokens", {"community_id": bot.slug}, key="admin").json()
    rule = {"string": "x", "action": "warn", "community_id": bot.slug, "warning_message": bot.slug}
    alias = {"alias": "hi", "command": f"hello {bot.slug}", "community_id": bot.slug}
    with fleet.database.transaction() as db:
        person = fetch_one(
            db, "SELECT user_id FROM platform_identities WHERE platform_user_id = %s", (f"alice{world.number}",)
        )
        program = create_account(
            db, name=f"{bot.slug}/program", groups=["api-users"], community_id=bot.community_id
        ).key_id
        fetch_one(
            db,
            "INSERT INTO twitch_subscriptions (broadcaster_id, type, version, subscription_id, transport, status, cost)"
            " VALUES (%s, 'channel.follow', '2', %s, 'webhook', 'enabled', 0) RETURNING 1",
            (world.number, f"sub-{world.number}"),
        )
    for platform, where in CHANNELS.items():
        tell(world, platform, **{name: text.format(n=world.number) for name, text in where.items()})
    world.found = {
        "session_id": heard.session_id,
        "execution_id": execution["execution_id"],
        "outbox_id": heard.answer["responses"][0]["outbox_id"],
        "track_item": play_something(world),
        "user_id": person["user_id"],
        "key_id": program,
        "provider": "openai",
        "alert_id": make_alert(world),
        "alert_id_to_end": make_alert(world),
        "media_id": upload(world, b"GIF89a" + bytes(20)),
        "subscription_id": f"sub-{world.number}",
        "token": answer["tokens"]["ticker"]["id"],
        "token_to_end": answer["tokens"]["media"]["id"],
        "timer_id": make_timer(world),
        "notice_id": make_notice(world),
        "preset": "calm",
        "rule_id": fleet.request("POST", "/router/string-rules", rule, key="admin").json()["rule_id"],
        "alias_id": fleet.request("POST", "/alias/create", alias, key="admin").json()["alias"]["id"],
    }
    for owed in owed_by_modules():
        world.found.update(owed.furnish(world) if hasattr(owed, "furnish") else {})


def play_something(world: World) -> int:
    """A track that was sent to the community's overlay."""
    with world.fleet.database.transaction() as db:
        row = fetch_one(
            db,
            "INSERT INTO outbox (platform, event_id, ordinal, session_id, entity_id, community_id, module_name,"
            " response_action, response_data, state, expires_at)"
            " VALUES ('overlays', %s, 0, %s, '', %s, 'stub', 'media',"
            " '{\"track_id\": \"doors\"}', 'sent', now()) RETURNING id",
            (new_id(), new_id(), world.mine.community_id),
        )
    assert row is not None
    return row["id"]


def new_channel(world: World) -> str:
    """A channel of its own in the world's community."""
    place = f"console:{world.mine.slug}:{new_id()}"
    with world.fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO entities (entity_id, platform, server_id, channel_id, community_id)"
            " VALUES (%s, 'console', %s, %s, %s)",
            (place, world.mine.slug, place.rpartition(":")[2], world.mine.community_id),
        )
    return place


def make_notice(world: World) -> int:
    body = {"entity_id": new_channel(world), "message": world.mine.slug}
    answer = world.fleet.request("POST", f"/router/communities/{world.mine.slug}/live-notices", body, key="admin")
    assert answer.status == 200, answer.body
    return answer.json()["live_notice"]["id"]


def make_timer(world: World) -> int:
    body = {"name": new_id(), "minutes": 60, "message": world.mine.slug}
    answer = world.fleet.request("POST", f"/router/communities/{world.mine.slug}/timers", body, key="admin")
    assert answer.status == 200, answer.body
    return answer.json()["timer"]["id"]


def make_alert(world: World) -> int:
    body = {"event": "follow", "title": world.mine.slug, "community_id": world.mine.slug}
    answer = world.fleet.request("POST", "/browser/source/admin/alerts", body, key="admin")
    assert answer.status == 200, answer.body
    return answer.json()["alert"]["id"]


def upload(world: World, content: bytes) -> int:
    query = {"community_id": world.mine.slug}
    answer = world.fleet.request("POST", "/browser/source/admin/media", content, key="admin", query=query)
    assert answer.status == 200, answer.body
    return answer.json()["media_id"]


CHANNELS = {
    "twitch": {"channel": "{n}", "entity": "twitch::{n}"},
    "discord": {"channel": "", "entity": "discord:{n}:", "guild_id": "{n}"},
    "slack": {"channel": "C{n}", "entity": "slack:T{n}:C{n}", "team_id": "T{n}"},
}
# What lists something of the community's, which its own keys are shown.
SHOWN = {
    *("GET /twitch/api/channels", "GET /twitch/events", "GET /twitch/activities", "GET /twitch/channels"),
    *("GET /discord/info", "GET /discord/events", "GET /discord/activities", "GET /discord/channels"),
    *("GET /slack/info", "GET /slack/events/list", "GET /slack/activities/list", "GET /slack/channels"),
    *("GET /router/entities", "GET /api/servers"),
}


def tell(world: World, platform: str, *, channel: str, entity: str, **where: str) -> None:
    """Something that a platform told of the community's channel, and what came of it."""
    told, session, person = json.dumps(where), new_id(), f"alice{world.number}"
    place = "broadcaster_id" if platform == "twitch" else "channel_id"
    with world.fleet.database.transaction() as db:
        fetch(
            db,
            f"INSERT INTO {platform}_events (delivery_id, event_id, type, {place}, event_data, state)"
            " VALUES (%s, %s, 'test', %s, %s, 'ignored')",
            (new_id(), entity, channel, told),
        )
        fetch(
            db,
            f"INSERT INTO {platform}_activities (event_id, activity_type, platform_user_id, entity_id, amount,"
            " session_id) VALUES (%s, 'test', %s, %s, 5, %s)",
            (entity, person, entity, session),
        )
        fetch(db, "INSERT INTO channel_liveness (entity_id, platform) VALUES (%s, %s)", (entity, platform))
        gap = "INSERT INTO channel_gaps (platform, entity_id, since, until, why) VALUES (%s, %s, now(), now(), 'test')"
        fetch(db, gap, (platform, entity))
        if platform == "discord":
            fetch(db, "INSERT INTO discord_guilds (guild_id, name) VALUES (%(guild_id)s, %(guild_id)s)", where)
        if platform == "slack":
            team = "INSERT INTO slack_teams (team_id, name, source, state) VALUES (%(team_id)s, 'x', 'oauth', 'gone')"
            fetch(db, team, where)


def here(**more: Any) -> Any:
    """A body that names the community."""
    return lambda world: {"body": {"community_id": world.mine.slug, **more}}


def at(**more: Any) -> Any:
    """A query that names the community."""
    return lambda world: {"query": {"community_id": world.mine.slug, **more}}


def event(world: World) -> dict[str, Any]:
    return {**world.mine.event(f"hello {world.mine.slug}"), "message_type": "follow"}


PERMISSION = {"command": "!inventory", "is_enabled": True}
ANNOUNCED = {"response_action": "chat", "response_data": {"message": "news"}}
CLAIM = {"container_id": "doors", "platform": "doors"}
SAMPLES: dict[str, Any] = {
    "POST /router/events": lambda w: {"body": event(w)},
    "POST /api/events": lambda w: {"body": event(w)},
    "POST /router/events/batch": lambda w: {"body": [event(w)]},
    "POST /router/responses": lambda w: {
        "body": reply_to({"session_id": w.found["session_id"], "execution_id": w.found["execution_id"]}, chat("late"))
    },
    **{f"GET {m.prefix}/export": at() for m in MANIFESTS},
    **{
        f"POST {m.prefix}/import": lambda w: {"body": {"items": []}, "query": {"community_id": w.mine.slug}}
        for m in MANIFESTS
    },
    **{
        f"GET {m.prefix}/people/export": lambda w: {
            "query": {"identities": "console:nobody", "community_id": w.mine.slug}
        }
        for m in MANIFESTS
    },
    **{
        f"POST {m.prefix}/people/erase": lambda w: {
            "body": {"request_id": new_id(), "identities": ["console:nobody"], "community_id": w.mine.slug}
        }
        for m in MANIFESTS
    },
    "POST /router/announcements": lambda w: {
        "body": {"announcement_id": new_id(), "community_id": w.mine.slug, "responses": [ANNOUNCED]}
    },
    "POST /router/module-settings": here(config={}, acting={"account": "doors"}),
    "POST /router/string-rules/check": lambda w: {"body": {"entity_id": w.entity_id, "text": "hello"}},
    "PUT /router/communities/{community}/credentials/{provider}": lambda w: {"body": {"secrets": {"api_key": "of it"}}},
    "POST /router/outbox/{outbox_id}": lambda w: {"body": {"state": "sending"}},
    "POST /api/modules/register": lambda w: {
        "body": {
            "module_name": "stub",
            "module_version": "1",
            "endpoint_url": "",
            "commands": [],
            "credentials": WANTS,
        }
    },
    "POST /router/playback": lambda w: {
        "body": {"item_id": f"outbox-{w.found['track_item']}", "track_id": "doors", "state": "started"}
    },
    "POST /api/modules/heartbeat": lambda w: {"body": {"module_name": "stub", "status": "healthy"}},
    "POST /api/context": lambda w: {
        "body": {"identity_name": f"console:alice{w.number}", "platform": "console", "entity_id": w.entity_id}
    },
    "POST /api/gateway/activate": lambda w: {"body": {"activation_key": activation_key(w)}},
    "POST /api/reputation": lambda w: {
        "body": {
            "userid": w.found["user_id"],
            "platform": "console",
            "activity": "follow",
            "namespaceid": w.mine.community_id,
        }
    },
    **{f"POST /router/coordination/{each}": lambda w: {"body": CLAIM} for each in ("claim", "release", "populate")},
    **{f"POST /router/coordination/{each}": lambda w: {"body": CLAIM} for each in ("checkin", "heartbeat")},
    "POST /router/coordination/release-offline": lambda w: {"body": CLAIM},
    "POST /router/coordination/status": lambda w: {
        "body": {"container_id": "doors", "entity_id": f"twitch::{w.number}"}
    },
    "POST /router/coordination/error": lambda w: {
        "body": {"container_id": "doors", "entity_id": f"twitch::{w.number}", "error_message": "x"}
    },
    "POST /router/roles/assign": lambda w: {
        "body": {
            "community_id": w.mine.slug,
            "assignments": [{"user_id": w.found["user_id"], "role": "member"}],
        }
    },
    "POST /router/roles/check": lambda w: {
        "body": {"community_id": w.mine.slug, "checks": [{"user_id": w.found["user_id"], "level": "vip"}]}
    },
    "GET /router/roles": lambda w: {"query": {"community_id": w.mine.slug, "user_id": w.found["user_id"]}},
    "POST /router/members/ensure": lambda w: {"body": {"community_id": w.mine.slug, "user_ids": [w.found["user_id"]]}},
    "POST /router/reputation/{community}/{user_id}/corrections": lambda w: {"body": {"points": 1, "reason": "test"}},
    "GET /router/string-rules": at(),
    "POST /router/string-rules": here(string="y", action="warn"),
    "POST /router/string-rules/dry-run": here(string="y", action="warn"),
    "PUT /router/string-rules/{rule_id}": lambda w: {"body": {"priority": 5}},
    "POST /router/communities/{community}/timers": lambda w: {
        "body": {"name": new_id(), "minutes": 60, "message": "hello"}
    },
    "POST /router/communities/{community}/timers/preview": lambda w: {"body": {"message": "hello"}},
    "POST /router/communities/{community}/filter-presets/{preset}/preview": lambda w: {"body": {}},
    "POST /router/communities/{community}/live-notices": lambda w: {"body": {"entity_id": new_channel(w)}},
    "POST /router/communities/{community}/live-notices/preview": lambda w: {
        "body": {"entity_id": new_channel(w), "message": "hello"}
    },
    "PUT /router/communities/{community}/live-notices/{notice_id}": lambda w: {"body": {"message": "hello"}},
    "PUT /router/communities/{community}/timers/{timer_id}": lambda w: {"body": {"minutes": 50}},
    "POST /router/communities/{community}/keys": lambda w: {"body": {"name": new_id()}},
    "PUT /router/communities/{community}/owner": lambda w: {"body": {"user_id": w.found["user_id"]}},
    **{
        f"PUT /router/{place}/modules/{{name}}": lambda w: {"body": {"enabled": True}}
        for place in ("communities/{community}", "entities/{entity_id}")
    },
    **{
        f"PUT /router/{place}/permissions": lambda w: {"body": PERMISSION}
        for place in ("communities/{community}", "entities/{entity_id}")
    },
    **{
        f"DELETE /router/{place}/permissions": lambda w: {"query": {"command": "!inventory"}}
        for place in ("communities/{community}", "entities/{entity_id}")
    },
    "POST /alias/create": lambda w: {
        "body": {"community_id": w.mine.slug, "alias": "a" + new_id()[-12:].replace("-", ""), "command": "hello"}
    },
    "GET /alias/list": at(),
    "PUT /alias/update": lambda w: {"body": {"alias_id": w.found["alias_id"], "is_active": True}},
    "DELETE /alias/delete": lambda w: {"query": {"alias_id": w.found["alias_id"]}},
    "GET /inventory": at(),
    "POST /inventory/bulk": lambda w: {
        "body": {"community_id": w.mine.slug, "changes": [{"action": "add", "item_name": new_id()}]}
    },
    "POST /inventory": lambda w: {"body": {"community_id": w.mine.slug, "action": "add", "item_name": new_id()}},
    "POST /browser/source/display": here(
        item_id="doors",
        session_id="0190b6a0-0000-7000-8000-000000000000",
        source_type="ticker",
        response_action="ticker",
        response_data={"text": "hello"},
        mode="live",
    ),
    "GET /browser/source/admin/tokens": at(),
    "POST /browser/source/admin/tokens": here(),
    "GET /browser/source/admin/queue": at(source_type="ticker"),
    "POST /browser/source/admin/queue": here(source_type="ticker", action="pause"),
    "GET /browser/source/admin/theme": at(),
    "PUT /browser/source/admin/theme": here(variables={"accent": "#fff"}),
    "POST /browser/source/admin/test": here(action="ticker"),
    "GET /browser/source/admin/alerts": at(),
    "POST /browser/source/admin/alerts": here(event="raid", title="Hello"),
    "PUT /browser/source/admin/alerts/{alert_id}": here(version=1, title="Hello"),
    "DELETE /browser/source/admin/alerts/{alert_id}": at(),
    "POST /browser/source/admin/preview": here(source_type="ticker"),
    "POST /browser/source/admin/media": lambda w: {
        "body": b"GIF89a" + w.mine.slug.encode(),
        "query": {"community_id": w.mine.slug},
    },
    "GET /browser/source/admin/media": at(),
    "DELETE /browser/source/admin/media/{media_id}": at(),
    "POST /browser/source/admin/tips": here(),
    "DELETE /browser/source/admin/tips": at(),
    "GET /browser/source/stats": at(),
    "GET /twitch/api/subscriptions": lambda w: {"query": {"broadcaster_id": w.number}},
    "POST /twitch/api/subscriptions": lambda w: {"body": {"type": "channel.follow", "broadcaster_id": w.number}},
    "POST /twitch/api/moderation": lambda w: {
        "body": {"action": "ban", "channel_id": w.number, "platform_user_id": "12"}
    },
    "POST /twitch/api/shoutout": lambda w: {"body": {"channel_id": w.number, "to_user_id": "12"}},
    "POST /discord/api/roles": lambda w: {"body": {"guild_id": w.number, "user_id": "12", "role_id": "13"}},
    "POST /twitch/api/roles": lambda w: {"body": {"channel_id": w.number, "user_id": "12", "role": "vip"}},
    "POST /slack/api/groups": lambda w: {"body": {"team_id": f"T{w.number}", "group_id": "S1", "user_id": "U12"}},
    "POST /discord/api/moderation": lambda w: {"body": {"guild_id": w.number, "action": "ban", "user_id": "12"}},
    "POST /slack/api/moderation": lambda w: {
        "body": {"entity_id": f"slack:T{w.number}:C{w.number}", "action": "ban", "platform_user_id": "U12"}
    },
    **{f"POST {m.prefix}/execute": lambda w: {"body": call(w)} for m in MANIFESTS},
    **{f"POST {m.prefix}/execute/batch": lambda w: {"body": [call(w)]} for m in MANIFESTS},
}
for owed in owed_by_modules():
    SAMPLES.update(getattr(owed, "SAMPLES", {}))
# Bodies that are no JSON of ours: platforms' own, and forms.
NO_SAMPLE = {"open"}
# What came of it is the platform's word, which is not asked here.
OTHERS_WORD = ("/twitch/api/", "/discord/api/", "/slack/api/")


def activation_key(world: World) -> str:
    key = new_id() + new_id()
    channel = new_id().replace("-", "")
    with world.fleet.database.transaction() as db:
        add_server(db, "twitch", channel, community=world.mine.slug, activation_key=key)
    return key


def call(world: World) -> dict[str, Any]:
    return {
        "session_id": new_id(),
        "execution_id": new_id(),
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "mode": "live",
        "community": {"id": world.mine.community_id, "name": "Mine"},
        "entity": {
            "entity_id": world.entity_id,
            "platform": "console",
            "server_id": world.mine.slug,
            "channel_id": "general",
        },
        "user": {
            "id": world.found["user_id"],
            "platform_user_id": "alice",
            "name": "alice",
            "display_name": "Alice",
            "level": "owner",
            "roles": [],
            "labels": [],
        },
        "trigger": {
            "type": "command",
            "command": "inventory",
            "prefix": "!",
            "args": ["list"],
            "raw": "!inventory list",
            "message_type": "chatMessage",
            "data": {},
        },
        "deadline": (datetime.now(UTC) + timedelta(seconds=30)).isoformat(),
        "timeout_ms": 30_000,
    }


def operations(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Every operation of every OpenAPI document."""
    found = {}
    for manifest in MANIFESTS:
        document = fleet.request("GET", f"{manifest.prefix}/openapi.json", key=None).json()
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                found[f"{method.upper()} {path}"] = operation
    return found


def platform_of(endpoint: str) -> str | None:
    path = endpoint.split(" ")[1]
    return next((name for prefix, name in PLATFORM_OF.items() if path.startswith(prefix)), None)


def names_an_entity(endpoint: str) -> bool:
    return "{entity_id}" in endpoint


def expected(endpoint: str) -> tuple[list[str], list[str]]:
    """Which kinds of key are refused, or shown nothing; and which are let in, the most certain of them first."""
    row = ROWS[endpoint]
    assert row.who is not None
    allowed = set(ALLOWED[row.who])
    if endpoint in OF_ONE_MODULE:
        allowed -= {"stranger", *ACCOUNTS}
    bases = ("collectors", "admins", "stranger", "stub", "super-admins")
    refused = {*NEVER, *ALLOWED["any"]} - allowed
    refused |= {f"{base} elsewhere" for base in (*bases, "api-users")}
    refused |= {f"{base} of another platform" for base in bases if base not in allowed or _has_platform(endpoint)}
    also = {f"{base} of it" for base in bases if base in allowed and row.who not in FOR_ALL}
    refused |= {f"{base} of it" for base in bases} - also
    people = ["owner", "operator", "editor", "viewer"] if row.area else []
    people = people if endpoint.startswith("GET") else people[:3]
    people = people[:2] if row.who in ("owner", "portal") else people
    people = people[1:2] if row.who == "operators" else people
    if row.who == "event_sources":
        people = ["owner simulating", "operator simulating"]
    everybody = {"owner", "operator", "editor", "viewer", "owner elsewhere", "owner of another area"}
    refused |= everybody - set(people)
    return sorted(refused), [*sorted(allowed), *sorted(also), *people]


def _has_platform(endpoint: str) -> bool:
    row = ROWS[endpoint]
    if row.who == "figures":
        return platform_of(endpoint) is not None
    return row.who not in OF_NO_PLATFORM or names_an_entity(endpoint)


def is_refusal(world: World, endpoint: str, kind: str, answer: Any) -> bool:
    """Whether a key was turned away, or shown nothing of what it may not see."""
    if kind in ("none", "wrong", "expired", "revoked"):
        return answer.status == 401
    if answer.status in REFUSED:
        return answer.status != 401
    confined = kind.endswith(("elsewhere", "of another platform"))
    if endpoint == "POST /router/events/batch" and confined:
        return all(each["success"] is False for each in answer.json())
    is_read = endpoint.startswith("GET") and answer.status == 200
    return confined and is_read and not any(mark in answer.body.decode() for mark in world.marks)


def test_what_a_pattern_asks_for_is_said_in_words(fleet):
    """Wherever a person of the portal may be refused for a pattern: a regular expression tells them nothing."""
    bodies = [each.body for service in SERVICES for each in service.endpoints if each.area and each.body is not None]
    patterns = {each for body in bodies for each in patterns_in(TypeAdapter(body).json_schema())}
    assert len(patterns) > 3
    assert patterns - SHAPES.keys() == set()
    timers = "/router/communities/global/timers"
    new = {"name": "two words", "message": "hi", "minutes": 5}
    refused = fleet.request("POST", timers, new, key="admin").json()["error"]
    assert refused["message"] == "name: Has to be one word, without quotation marks."


def patterns_in(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {each for part in schema for each in patterns_in(part)}
    if not isinstance(schema, dict):
        return set()
    own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
    return own.union(*(patterns_in(part) for part in schema.values()))


def test_the_documents_and_the_table_have_the_same_endpoints(fleet):
    assert set(operations(fleet)) == set(ROWS), "every endpoint stands in its manifest, under [[callers]]"


def test_the_documents_and_the_table_say_the_same_of_each(fleet):
    said = {name: (each["x-caller-name"], each.get("x-area")) for name, each in operations(fleet).items()}
    assert said == {name: ("open" if row.open else row.who, row.area) for name, row in ROWS.items()}


def test_each_endpoint_is_in_the_contracts_once():
    table = re.search(r"<!-- callers -->(.*)<!-- /callers -->", CONTRACTS.read_text(), re.DOTALL)
    assert table is not None
    written = re.findall(r"`((?:GET|POST|PUT|DELETE|PATCH) [^`]+)`", table[1])
    modules = {f"{each.prefix}/": each for each in MANIFESTS}
    own = {name for name in ROWS if name not in _standard(modules.values())}
    assert sorted(each for each in written if "<prefix>" not in each) == sorted(own)


def _standard(manifests: Any) -> set[str]:
    return {name for each in manifests for row in each.standard_callers for name in row.endpoints}


def test_every_endpoint_that_takes_a_body_has_a_sample(fleet):
    takes = {name for name, each in operations(fleet).items() if "requestBody" in each and ROWS[name].who}
    optional = {"POST /browser/source/admin/tokens/{token}/regenerate"}
    assert takes - optional <= set(SAMPLES)


@pytest.mark.parametrize("endpoint", [name for name, row in ROWS.items() if row.who])
def test_a_key_opens_what_the_table_says_and_nothing_else(world, endpoint):
    refused, allowed = expected(endpoint)
    wrong = []
    for kind in refused:
        answer = world.ask(endpoint, kind)
        if not is_refusal(world, endpoint, kind, answer):
            wrong.append(f"{kind} is let in: {answer.status} {answer.body[:120]!r}")
    for number, kind in enumerate(allowed):
        answer = world.ask(endpoint, kind)
        is_sample = number == 0 and not endpoint.split(" ")[1].startswith(OTHERS_WORD)
        unwanted = (*REFUSED[:2], *(NOT_A_SAMPLE if is_sample else ()))
        if answer.status in unwanted or answer.status == 500:
            wrong.append(f"{kind} is kept out: {answer.status} {answer.body[:200]!r}")
        sees_it = kind.endswith(" of it") or kind in ("owner", "viewer")
        if endpoint in SHOWN and sees_it and not any(mark in answer.body.decode() for mark in world.marks):
            wrong.append(f"{kind} is not shown what is there")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("endpoint", [name for name, row in ROWS.items() if row.open])
def test_what_is_open_asks_for_no_key_and_looks_at_none(world, endpoint):
    method, path = endpoint.split(" ")[0], world.path_of(endpoint)
    body = None if method == "GET" else b"{}"
    statuses = {
        world.fleet.request(method, path, body, key=key).status
        for key in (None, world.keys["wrong"], world.keys["admins"])
    }
    assert len(statuses) == 1
    assert 500 not in statuses


# Lists that are read page by page (contracts §2).
BEYOND = 2**31 - 1
NO_PAGE = ({"offset": 2**31}, {"offset": 9223372036854775808}, {"offset": -1}, {"limit": 0}, {"limit": 10**6})


def lists(fleet: Fleet) -> list[str]:
    return [
        endpoint
        for endpoint, operation in operations(fleet).items()
        if endpoint.startswith("GET ") and "offset" in {each["name"] for each in operation.get("parameters", [])}
    ]


def read_page(world: World, endpoint: str, **page: int) -> Any:
    query = SAMPLES.get(endpoint, lambda _: {})(world).get("query", {})
    kinds = ("admins", "collectors", "super-admins")
    key = world.keys[next(each for each in kinds if each in ALLOWED[ROWS[endpoint].who])]
    headers = {"X-Broker-Key": key}
    return world.fleet.request("GET", world.path_of(endpoint), key=key, headers=headers, query={**query, **page})


def test_every_list_tells_its_true_total_on_any_page(world):
    """Beyond the end, too, where no row tells it; and more than a list has is no page of it."""
    said = world.mine.say("!inventory add Cup red", level="owner")
    assert said.statuses == ["success"], said.chat
    tried = {"action": "ticker", "community_id": world.mine.slug}
    assert world.fleet.request("POST", "/browser/source/admin/test", tried, key=world.keys["admins"]).status < 300
    found, empty = lists(world.fleet), set()
    for endpoint in found:
        first = read_page(world, endpoint)
        assert first.status == 200, (endpoint, first.body)
        answer = first.json()
        rows = next(value for value in answer.values() if isinstance(value, list))
        assert (answer["success"], answer["offset"]) == (True, 0), endpoint
        assert min(answer["limit"], answer["total"]) == len(rows), endpoint
        beyond = read_page(world, endpoint, offset=BEYOND).json()
        assert next(value for value in beyond.values() if isinstance(value, list)) == [], endpoint
        assert (beyond["total"], beyond["offset"]) == (answer["total"], BEYOND), endpoint
        empty |= {endpoint} if not answer["total"] else set()
    assert len(found) >= 20
    assert len(empty) <= 3, f"these lists have nothing to count here: {empty}"


def test_no_list_takes_a_page_that_cannot_be(world):
    for endpoint in lists(world.fleet):
        for page in NO_PAGE:
            answer = read_page(world, endpoint, **page)
            assert answer.status == 422, (endpoint, page, answer.status)
            assert answer.json()["error"]["code"] == "invalid", (endpoint, page)
