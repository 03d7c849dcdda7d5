"""Keys and those who act with them: two live keys for an account, keys of a community, and people in the portal."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from click.testing import CliRunner
from waddlebot.base.api_key import make_key
from waddlebot.base.errors import Busy, ConfigError, RateLimited
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import all_manifests
from waddlebot.cli.cli import cli
from waddlebot.data.database import fetch, fetch_one
from waddlebot.data.migrate import list_migrations
from waddlebot.fleet.accounts import make_missing_keys
from waddlebot.fleet.bootstrap import bootstrap
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.home import Home, Secrets
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually
from waddlebot.web.actor import HEADER, Actor, ActorKey, Actors, actor_within, sign_actor
from waddlebot.web.auth import ACCOUNTS, ADMINS, Account, TooManyKeys, create_account, revoke_account, rotate_key
from waddlebot.web.clients import call_wsgi
from waddlebot.web.endpoint import Mount, endpoint

PATH = "/router/communities/{slug}/modules"


def actor_of(bot, **fields):
    """What the portal says of somebody who may look at a community's modules."""
    asked = {
        "login_id": 1,
        "own_id": None,
        "community_id": bot.community_id,
        "right": "viewer",
        "area": "bot",
        "method": "GET",
        "path": PATH.format(slug=bot.slug),
        "exp": time.time() + 30,
        "nonce": new_id().replace("-", ""),
    }
    return Actor.model_validate({**asked, **fields})


def send(bot, header, *, method="GET", path=PATH, key="portal", body=None):
    path = path.format(slug=bot.slug)
    return bot.fleet.request(method, path, body, key=key, headers={HEADER: header})


def look(bot, *, key="portal", **fields):
    return send(bot, bot.fleet.actor_key.sign(actor_of(bot, **fields)), key=key)


# People in the portal


def test_a_person_with_a_right_there_is_let_in(bot):
    answer = look(bot)
    assert answer.status == 200
    assert {each["module_name"] for each in answer.json()["modules"]} >= {"inventory", "router"}


def test_without_an_actor_the_portal_is_a_service_like_others(bot):
    assert bot.fleet.request("GET", PATH.format(slug=bot.slug), key="portal").status == 403


@pytest.mark.parametrize(
    "fields",
    [
        {"exp": 0.0},
        {"exp": "in an hour"},
        {"method": "PUT"},
        {"path": "/router/communities/demo/modules"},
        {"path": PATH + "/"},
        {"area": "music"},
        {"community_id": None},
        {"community_id": None, "right": "owner"},
    ],
)
def test_an_actor_that_is_not_for_this_request_is_refused(bot, fields):
    changed = {
        name: time.time() + 3600 if value == "in an hour" else value.format(slug=bot.slug) if name == "path" else value
        for name, value in fields.items()
    }
    assert look(bot, **changed).status == 403


def within(bot, key="portal", **fields):
    """The request as the portal makes it of its own process."""
    assert look(bot).status == 200
    sent = {"X-API-Key": bot.fleet.keys[key]}
    about = {**actor_of(bot).model_dump(exclude={"exp", "nonce"}), **fields}
    path = f"http://within{PATH.format(slug=bot.slug)}"
    return call_wsgi(bot.fleet.app, "GET", path, headers=sent, within=actor_within(**about))


def test_within_one_process_an_actor_is_said_without_a_signature_for_the_same_request_and_right(bot):
    assert within(bot).status == 200
    assert within(bot, path="/router/communities/demo/modules").status == 403
    assert within(bot, method="PUT").status == 403
    assert within(bot, area="music").status == 403
    assert within(bot, community_id=None).status == 403
    assert within(bot, key="console").status == 403, "keys are looked at all the same"


@pytest.mark.parametrize("name", ["waddlebot.actor", "waddlebot-actor", "WADDLEBOT_ACTOR"])
def test_no_header_says_who_acts_within_the_process(bot, name):
    """Such a header ends as HTTP_… in the environment."""
    said = actor_of(bot).model_dump_json()
    assert bot.fleet.request("GET", PATH.format(slug=bot.slug), key="portal", headers={name: said}).status == 403


def test_an_actor_counts_once(bot):
    header = bot.fleet.actor_key.sign(actor_of(bot))
    assert send(bot, header).status == 200
    again = send(bot, header)
    assert again.status == 403
    assert again.json()["error"]["code"] == "bad_actor"


def test_the_same_nonce_of_another_request_is_used_up_too(bot):
    nonce = new_id().replace("-", "")
    assert look(bot, nonce=nonce).status == 200
    assert look(bot, nonce=nonce).status == 403


@pytest.mark.parametrize("header", ["", ".", "nonsense", "e30.e30", "a.b.c", "é.é", "x" * 10_000])
def test_what_is_no_actor_is_refused(bot, header):
    assert send(bot, header).status == 403


def test_an_actor_that_somebody_else_signed_is_refused(bot):
    assert send(bot, ActorKey.make().sign(actor_of(bot))).status == 403


def test_an_actor_that_was_changed_is_refused(bot):
    payload, _, signature = bot.fleet.actor_key.sign(actor_of(bot)).partition(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    changed = json.dumps({**said, "right": "operator"}).encode()
    forged = base64.urlsafe_b64encode(changed).decode().rstrip("=")
    assert send(bot, f"{forged}.{signature}").status == 403


@pytest.mark.parametrize("key", ["admin", "router", "inventory", "twitch", "console"])
def test_nobody_but_the_portal_acts_for_people(bot, key):
    answer = look(bot, key=key)
    assert answer.status == 403
    assert "Only account portal" in answer.json()["error"]["message"]


def test_nobody_but_the_portal_uses_up_its_nonces(bot):
    header = bot.fleet.actor_key.sign(actor_of(bot))
    assert send(bot, header, key="inventory").status == 403
    assert send(bot, header).status == 200


def test_an_actor_is_no_key(bot):
    header = bot.fleet.actor_key.sign(actor_of(bot))
    assert send(bot, header, key=None).status == 401


def test_a_viewer_reads_an_editor_writes_and_an_owner_makes_keys(bot, fleet):
    switch, keys = f"/router/communities/{bot.slug}/modules/inventory", f"/router/communities/{bot.slug}/keys"
    tried = {}
    for right in ("viewer", "editor", "owner"):
        asked = {"community_id": bot.community_id, "right": right}
        tried[right] = (
            fleet.request_for("GET", f"/router/communities/{bot.slug}/modules", **asked).status,
            fleet.request_for("PUT", switch, {"enabled": True}, **asked).status,
            fleet.request_for("GET", keys, area="settings", **asked).status,
            fleet.request_for("POST", keys, {"name": right}, area="settings", **asked).status,
        )
    assert tried == {"viewer": (200, 403, 403, 403), "editor": (200, 200, 403, 403), "owner": (200, 200, 200, 200)}


def test_a_person_acts_in_their_community_only(bot, fleet):
    other = fleet.bot()
    path = f"/router/communities/{other.slug}/modules"
    assert fleet.request_for("GET", path, community_id=bot.community_id, right="owner").status == 403
    assert fleet.request_for("GET", path, community_id=bot.community_id, right="operator").status == 403
    assert fleet.request_for("GET", path, community_id=None, right="operator").status == 200


def test_an_editor_makes_nobody_an_admin(bot, fleet):
    person = {"userid": new_id(), "activity": "follow", "platform": "console", "namespaceid": bot.community_id}
    user_id = fleet.request("POST", "/api/reputation", person).json()["user_id"]

    def assign(role, right):
        asked = {"community_id": bot.slug, "assignments": [{"user_id": user_id, "role": role}]}
        who = {"community_id": bot.community_id, "right": right, "area": "people"}
        result = fleet.request_for("POST", "/router/roles/assign", asked, **who).json()["results"][0]
        return result["success"]

    assert not assign("admin", "editor")
    assert assign("moderator", "editor")
    assert assign("admin", "owner")
    assert not assign("owner", "owner")


def test_what_a_person_did_is_theirs_whatever_the_body_says(bot, fleet):
    alias = {"alias": "hi", "command": "hello", "community_id": bot.slug, "created_by": "Mallory", "user_id": 7}
    made = fleet.request_for("POST", "/alias/create", alias, community_id=bot.community_id, right="editor")
    assert made.status == 200
    assert made.json()["alias"]["created_by"] == "portal:1"


def test_the_portal_tries_a_line_and_never_says_it(bot, fleet):
    def submit(**more):
        who = {"community_id": bot.community_id, "right": "editor"}
        return fleet.request_for("POST", "/router/events", {**bot.event("!inventory list"), **more}, **who)

    assert submit().status == 403
    tried = submit(mode="simulate").json()
    assert tried["responses"][0]["response_data"]["message"].endswith("The inventory is empty.")
    asked = {"community_id": bot.community_id, "right": "viewer"}
    assert fleet.request_for("GET", f"/router/explain/{tried['session_id']}", **asked).json()["simulated"]
    other = {"community_id": fleet.bot().community_id, "right": "owner"}
    assert fleet.request_for("GET", f"/router/explain/{tried['session_id']}", **other).status == 404
    theirs = fleet.request_for("POST", "/router/events", {**bot.event("!help"), "mode": "simulate"}, **other)
    assert theirs.status == 403


def test_while_redis_is_away_nobody_acts(bot):
    key = bot.fleet.actor_key
    nowhere = redis.Redis(host="127.0.0.1", port=free_port(), socket_connect_timeout=1)
    actor = actor_of(bot)
    with pytest.raises(Busy):
        Actors(key, nowhere).read(key.sign(actor), method="GET", path=actor.path)


def test_only_the_private_half_signs():
    public = ActorKey.parse(ActorKey.make().public_text)
    asked = {"login_id": 1, "community_id": 1, "right": "owner", "area": "bot", "method": "GET", "path": "/x"}
    with pytest.raises(ConfigError, match="private"):
        sign_actor(public, **asked)


@pytest.mark.parametrize("text", ["", "private:", "public:x", "secret:AAAA", "public:é", "private:" + "A" * 80])
def test_a_key_that_is_none_is_named(text):
    with pytest.raises(ConfigError, match="WADDLEBOT_ACTOR_KEY"):
        ActorKey.parse(text)


# Two keys for an account


def works(fleet, key):
    return fleet.request("GET", "/router/commands", key=key).status == 200


def forget(key_ids):
    """What the command line does after a change."""
    SERVICES[0].bus.invalidate(ACCOUNTS, *key_ids)


def test_a_key_is_rotated_without_a_gap(fleet):
    name = new_id()
    old = fleet.make_key(name, "services", module_name="inventory")
    assert works(fleet, old)
    with fleet.database.transaction() as db:
        new = rotate_key(db, name, overlap=timedelta(hours=1))
    forget(new.ended)

    assert works(fleet, old)
    assert works(fleet, new.api_key)
    assert new.account.groups == frozenset({"services"})
    with pytest.raises(TooManyKeys), fleet.database.transaction() as db:
        rotate_key(db, name, overlap=timedelta(hours=1))


def test_the_old_key_ends_with_the_overlap(fleet):
    name = new_id()
    old = fleet.make_key(name, "admins")
    assert works(fleet, old)
    with fleet.database.transaction() as db:
        new = rotate_key(db, name, overlap=timedelta(0))
    forget(new.ended)

    assert not works(fleet, old)
    assert works(fleet, new.api_key)
    with fleet.database.transaction() as db:
        rotate_key(db, name, overlap=timedelta(0))


def test_a_key_that_would_end_sooner_is_not_prolonged_by_a_rotation(fleet):
    name, soon = new_id(), datetime.now(UTC) + timedelta(minutes=5)
    fleet.make_key(name, "admins", expires_at=soon)
    with fleet.database.transaction() as db:
        new = rotate_key(db, name, overlap=timedelta(hours=1))
        row = fetch_one(db, "SELECT expires_at FROM service_account_keys WHERE key_id = %s", (new.ended[0],))
    assert row == {"expires_at": soon}


def test_one_of_two_keys_is_revoked_and_the_name_stays(fleet):
    name = new_id()
    old = fleet.make_key(name, "admins")
    with fleet.database.transaction() as db:
        new = rotate_key(db, name, overlap=timedelta(hours=1))
        forget(revoke_account(db, old.split("_")[1]))
    assert (works(fleet, old), works(fleet, new.api_key)) == (False, True)
    with fleet.database.transaction() as db:
        forget(revoke_account(db, name))
    assert not works(fleet, new.api_key)
    assert works(fleet, fleet.make_key(name, "admins"))


def test_a_name_whose_keys_have_all_ended_can_be_freed(fleet):
    name = new_id()
    fleet.make_key(name, "admins", expires_at=datetime.now(UTC) - timedelta(days=1))
    with fleet.database.transaction() as db:
        revoke_account(db, name)
        create_account(db, name=name, groups=["admins"])


def test_the_accounts_of_a_home_that_is_older_keep_their_keys(simulated):
    """As a home has them that was made before an account could have two keys."""
    (before,) = [each for each in list_migrations() if each.name == "0016_pre_account_keys"]
    (after,) = [each for each in list_migrations() if each.name == "0017_post_account_keys"]
    with simulated.database.transaction() as db:
        fetch(db, "DROP TABLE service_account_keys")
        fetch(
            db,
            "ALTER TABLE service_accounts ADD COLUMN key_id text NOT NULL UNIQUE DEFAULT 'x',"
            " ADD COLUMN key_hash text NOT NULL DEFAULT '', ADD COLUMN expires_at timestamptz",
        )
        fetch(db, "DROP INDEX servers_community")
        old = "INSERT INTO service_accounts (key_id, name, groups, key_hash) VALUES (%s, %s, '{admins}', 'h')"
        fetch(db, old, ("aaaaaaaa", "first"))
        fetch(db, before.sql)
        # What the older code, which still runs, does meanwhile.
        fetch(db, old, ("bbbbbbbb", "second"))
        fetch(db, "UPDATE service_accounts SET key_id = 'cccccccc', key_hash = 'i' WHERE name = 'first'")
        fetch(db, "UPDATE service_accounts SET is_active = false WHERE name = 'second'")
        fetch(db, after.sql)
        rows = fetch(db, "SELECT key_id, key_hash, is_active FROM service_account_keys ORDER BY key_id")
    assert [tuple(row.values()) for row in rows] == [
        ("aaaaaaaa", "h", False),
        ("bbbbbbbb", "h", False),
        ("cccccccc", "i", True),
    ]


# From the command line


def waddlebot(home, *words):
    return CliRunner().invoke(cli, [*words, "--home", str(home)])


def test_keys_are_made_with_an_end_rotated_and_revoked_from_the_command_line(fleet, home):
    name = new_id()
    made = json.loads(
        waddlebot(home, "keys", "create", "--name", name, "--group", "admins", "--expires", "90d", "--json").stdout
    )
    ends = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < ends <= timedelta(days=90)
    assert works(fleet, made["api_key"])

    rotated = json.loads(waddlebot(home, "keys", "rotate", name, "--overlap", "0s", "--json").stdout)
    assert (rotated["name"], rotated["group"], rotated["expires_at"]) == (name, "admins", None)
    eventually(lambda: not works(fleet, made["api_key"]))
    assert works(fleet, rotated["api_key"])
    assert waddlebot(home, "keys", "revoke", rotated["id"]).exit_code == 0
    eventually(lambda: not works(fleet, rotated["api_key"]))
    assert not home.exists(), "a home that nobody made is not made for this"


@pytest.mark.parametrize("expires", ["soon", "0d", "-1d", "2020-01-01", "9999999999999d", ""])
def test_an_end_that_cannot_be_is_refused_in_words(fleet, home, expires):
    refused = waddlebot(home, "keys", "create", "--name", new_id(), "--group", "admins", "--expires", expires)
    assert refused.exit_code == 2
    assert "--expires" in refused.output


def test_a_homes_own_account_goes_on_with_its_new_key(home):
    home.mkdir()
    kept = Home(home)
    made, _ = kept.load_secrets()
    make_missing_keys(made, all_manifests())
    kept.save_secrets(made)

    new = make_key()[1]
    assert kept.replace_key("console", new)
    assert not kept.replace_key("somebody", new)
    assert kept.console_key() == new
    kept.forget_keys([new.split("_")[1]])
    assert "console" not in kept.load_secrets()[0].keys


def test_the_home_agrees_with_the_database_after_a_rotation_and_after_a_revocation(simulated):
    made = Secrets()
    make_missing_keys(made, all_manifests())

    def start():
        with simulated.database.transaction() as db:
            bootstrap(db, made, all_manifests())
            return fetch(db, "SELECT key_id FROM service_account_keys WHERE is_active ORDER BY key_id")

    before = start()
    assert start() == before
    with simulated.database.transaction() as db:
        made.keys["console"] = rotate_key(db, "console", overlap=timedelta(hours=1)).api_key
    assert len(start()) == len(before) + 1, "both work until the overlap is over"
    with simulated.database.transaction() as db:
        revoke_account(db, "console")
    with pytest.raises(ConfigError, match="was revoked"):
        start()
    del made.keys["console"]
    make_missing_keys(made, all_manifests())
    assert len(start()) == len(before)


# A community's own


def test_an_owner_makes_lists_and_ends_keys_of_the_community(bot, fleet):
    path = f"/router/communities/{bot.slug}/keys"
    owner = {"community_id": bot.community_id, "right": "owner", "area": "settings"}
    made = fleet.request_for("POST", path, {"name": "stream deck", "performed_by": 7}, **owner).json()["key"]
    own = f"/router/communities/{bot.slug}/modules"
    assert fleet.request("GET", own, key=made["api_key"]).status == 200
    assert fleet.request("GET", f"/router/communities/{fleet.bot().slug}/modules", key=made["api_key"]).status == 403

    listed = fleet.request_for("GET", path, **owner)
    assert [each["name"] for each in listed.json()["keys"]] == [f"{bot.slug}/stream deck"]
    assert made["api_key"] not in listed.body.decode()
    assert fleet.request_for("POST", path, {"name": "stream deck"}, **owner).status == 409
    assert fleet.request_for("DELETE", f"{path}/{made['id']}", **owner).status == 200
    assert fleet.request("GET", own, key=made["api_key"]).status == 401
    assert fleet.request_for("DELETE", f"{path}/{made['id']}", **owner).status == 404


def test_no_key_of_another_community_or_of_a_service_is_listed_or_ended(bot, fleet):
    other = fleet.bot()
    theirs = {"community_id": other.community_id, "right": "owner", "area": "settings"}
    key = fleet.make_key(new_id(), "api-users", community_id=bot.community_id)
    service = fleet.make_key(new_id(), "services", module_name="inventory", community_id=other.community_id)
    path = f"/router/communities/{other.slug}/keys"

    assert fleet.request_for("GET", path, **theirs).json()["keys"] == []
    for each in (key, service):
        assert fleet.request_for("DELETE", f"{path}/{each.split('_')[1]}", **theirs).status == 404
    assert works(fleet, key)
    assert works(fleet, service)


@pytest.mark.parametrize(
    "body", [{"name": ""}, {"name": "a/b"}, {"name": "x" * 65}, {}, {"name": "x", "group": "admins"}]
)
def test_a_key_of_a_community_that_cannot_be_is_refused(bot, fleet, body):
    assert fleet.request("POST", f"/router/communities/{bot.slug}/keys", body, key="admin").status == 422


def test_a_key_that_would_have_ended_is_refused(bot, fleet):
    body = {"name": "x", "expires_at": "2020-01-01T00:00:00Z"}
    assert fleet.request("POST", f"/router/communities/{bot.slug}/keys", body, key="admin").status == 422


def test_a_program_of_a_community_makes_no_keys(bot, fleet):
    key = fleet.make_key(new_id(), "api-users", community_id=bot.community_id)
    assert fleet.request("POST", f"/router/communities/{bot.slug}/keys", {"name": "x"}, key=key).status == 403


# Where a key may stand


@pytest.fixture(scope="module")
def probe(fleet):
    """Endpoints that no module has, which say where they take their key from."""
    service = SERVICES[0]

    @endpoint("GET", "/probe/bearer", caller=ADMINS, key_in=("X-API-Key", "Authorization"))
    def read_bearer(caller: Account) -> dict[str, str]:
        """Say who calls."""
        return {"name": caller.name}

    @endpoint("GET", "/probe/broker", caller=ADMINS, key_in=("X-Broker-Key",))
    def read_broker(caller: Account) -> dict[str, str]:
        """Say who calls."""
        return {"name": caller.name}

    @endpoint("GET", "/probe/limited", caller=ADMINS)
    def refuse() -> dict[str, str]:
        """Say that it was asked for too often."""
        raise RateLimited(retry_after_s=7)

    for each in (read_bearer, read_broker, refuse):
        each.__module__ = "apps.router_module.probe"  # py4web has routes of apps only.
    mounted = Mount(
        "/probe", service.accounts, service.actors, service.database, service.log, service.metrics, service.calls
    )
    mounted.mount(read_bearer, read_broker, refuse)
    return fleet


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("bearer", {"Authorization": "Bearer {}"}, 200),
        ("bearer", {"Authorization": "bearer {}"}, 200),
        ("bearer", {"X-API-Key": "{}"}, 200),
        ("bearer", {"Authorization": "Basic {}"}, 401),
        ("bearer", {"Authorization": "{}"}, 401),
        ("bearer", {"X-Broker-Key": "{}"}, 401),
        ("broker", {"X-Broker-Key": "{}"}, 200),
        ("broker", {"X-API-Key": "{}"}, 401),
        ("broker", {"Authorization": "Bearer {}"}, 401),
    ],
)
def test_an_endpoint_takes_its_key_from_where_it_says(probe, path, headers, status):
    sent = {name: value.format(probe.keys["admin"]) for name, value in headers.items()}
    assert probe.request("GET", f"/probe/{path}", key=None, headers=sent).status == status


def test_too_often_says_when_to_come_again(probe):
    answer = probe.request("GET", "/probe/limited", key="admin")
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["code"] == "rate_limited"


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer {}"}, {"X-Broker-Key": "{}"}])
def test_other_headers_are_taken_only_where_an_endpoint_says_so(fleet, headers):
    sent = {name: value.format(fleet.keys["admin"]) for name, value in headers.items()}
    assert fleet.request("GET", "/router/commands", key=None, headers=sent).status == 401
