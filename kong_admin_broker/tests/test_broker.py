"""The broker over HTTP, in front of a Kong whose answers are those of a real one."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from waddlebot.base.api_key import MAX_KEY_LENGTH, make_key
from waddlebot.base.ids import new_id
from waddlebot.data.chain import verify
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import Fleet
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED
from waddlebot.web.auth import revoke_account

from simulators.kong import KongSimulator


@dataclass
class Broker:
    fleet: Fleet
    kong: KongSimulator
    key: str

    def ask(self, method: str, path: str, body: Any = None, *, key: str | None = None, **query: Any) -> Any:
        headers = {"X-Broker-Key": key or self.key, "User-Agent": "tests"}
        return self.fleet.request(method, f"/api/broker/v1{path}", body, key=None, headers=headers, query=query)

    def make(self, username: str = "", **more: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/super-admins", {"username": username or name(), **more})
        assert answer.status == 201, answer.body
        return answer.json()

    def opens(self, key: str) -> bool:
        return bool(self.ask("GET", "/statistics", key=key).status == 200)

    def log_of(self, username: str) -> list[tuple[str, str]]:
        entries = self.ask("GET", "/audit-log", username=username).json()["entries"]
        return [(each["action"], each["result"]) for each in reversed(entries)]


def name() -> str:
    return f"t-{new_id()}"


def part(name: str) -> Any:
    return getattr(importlib.import_module("apps.kong_admin_broker.app"), name)


@pytest.fixture(scope="module")
def key(fleet: Fleet) -> str:
    return fleet.make_key(name(), "super-admins")


@pytest.fixture
def broker(fleet: Fleet, kong_simulator: KongSimulator, key: str) -> Iterator[Broker]:
    # Somebody else is always there, so that nobody here is the last one.
    yield Broker(fleet, kong_simulator, key)
    kong_simulator.faults.clear()
    part("reconciliation").finish_changes()


def test_a_super_admin_is_made_here_and_in_kong_and_the_key_is_shown_once(broker):
    username = name()
    made = broker.make(username, email="ada@example.org", full_name="Ada")
    shown = made["super_admin"]

    assert re.fullmatch(r"wbot_[a-z0-9]{8}_[A-Za-z0-9]{50}", made["api_key"])
    assert (shown["state"], shown["tier"], shown["groups"]) == ("active", "super-admin", ["super-admins"])
    assert broker.kong.keys_of(username) == {made["api_key"]: None}
    assert broker.kong.groups_of(username) == {"super-admins"}
    assert broker.kong.consumers[username]["id"] == shown["kong_consumer_id"]
    assert broker.opens(made["api_key"])
    read = broker.ask("GET", f"/super-admins/{username.upper()}")
    everywhere = [read, broker.ask("GET", "/super-admins"), broker.ask("GET", "/audit-log", username=username)]
    with broker.fleet.database.transaction() as db:
        stored = str(fetch(db, "SELECT * FROM kong_admin_users u JOIN service_account_keys k USING (account_id)"))
    assert all(made["api_key"] not in text for text in [*(each.body.decode() for each in everywhere), stored])
    assert read.json()["super_admin"]["keys"][0]["id"] == made["key_id"]
    assert broker.log_of(username) == [("created", "done")]


@pytest.mark.parametrize(("tier", "path"), [("admin", "/router/entities"), ("service", "/router/commands")])
def test_other_tiers_open_the_services_and_not_the_broker(broker, tier, path):
    made = broker.make(tier=tier)

    assert broker.kong.groups_of(made["super_admin"]["username"]) == {f"{tier}s"}
    assert broker.fleet.request("GET", path, key=made["api_key"]).status == 200
    assert broker.ask("GET", "/super-admins", key=made["api_key"]).status == 403


@pytest.mark.parametrize(
    "username",
    ["a", "", "x/y", "-a-", "Дмитрий", "ünder", "a" * 10_000, "a b", "22222222-2222-4222-8222-222222222222", "router"],
)
def test_names_that_kong_could_not_be_asked_for_are_refused(broker, username):
    writes = len(broker.kong.writes)
    answer = broker.ask("POST", "/super-admins", {"username": username})

    assert answer.status == 422, answer.body
    assert len(broker.kong.writes) == writes


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": 5},
        {"username": "fine", "email": "a@b\r\nBcc: c@d.e"},
        {"username": "fine", "tier": "root"},
        {"username": "fine", "foo": 1},
        [],
    ],
)
def test_bodies_that_are_wrong_are_named(broker, body):
    answer = broker.ask("POST", "/super-admins", body)
    assert (answer.status, answer.json()["error"]["code"]) == (422, "invalid")


def test_a_hundred_at_once_are_each_made_once(broker):
    distinct, shared = [name() for _ in range(50)], name()
    wanted = [*distinct, *[shared] * 50]
    with ThreadPoolExecutor(20) as threads:
        statuses = list(
            threads.map(lambda each: broker.ask("POST", "/super-admins", {"username": each}).status, wanted)
        )

    assert statuses[:50] == [201] * 50
    assert sorted(statuses[50:]) == [201, *[409] * 49]
    for each in (*distinct, shared):
        assert len(broker.kong.keys_of(each)) == 1
        assert broker.kong.groups_of(each) == {"super-admins"}
    assert verify(broker.fleet.database, part("keyring")).holds


def test_a_name_that_kong_has_already_is_left_alone(broker):
    username = name()
    broker.kong.consumers[username] = {"id": new_id(), "username": username, "custom_id": None, "tags": None}
    answer = broker.ask("POST", "/super-admins", {"username": username})

    assert (answer.status, answer.json()["error"]["code"]) == (409, "taken_in_kong")
    assert username in broker.kong.consumers
    assert broker.ask("GET", f"/super-admins/{username}").status == 404


FAULTS = [500, 503, "html", "drop"]


@pytest.mark.parametrize("step", ["POST /consumers", "PUT /consumers"])
@pytest.mark.parametrize("fault", FAULTS)
def test_half_a_creation_is_taken_back(broker, step, fault):
    username = name()
    broker.kong.faults[step] = fault
    answer = broker.ask("POST", "/super-admins", {"username": username})
    error = answer.json()["error"]

    assert (answer.status, error["code"], error["details"]["done"]) == (503, "kong_unavailable", [])
    assert "the account here" in error["details"]["not_done"]
    assert username not in broker.kong.consumers
    broker.kong.faults.clear()
    assert broker.opens(broker.make(username)["api_key"])


def test_an_answer_that_was_lost_makes_nothing_twice(broker):
    username = name()
    broker.kong.faults["POST /consumers"] = "lost"
    made = broker.make(username)

    assert broker.kong.keys_of(username) == {made["api_key"]: None}


def test_what_cannot_be_taken_back_at_once_is_later(broker):
    username = name()
    broker.kong.faults |= {"PUT /consumers": 500, "DELETE ": 500}
    answer = broker.ask("POST", "/super-admins", {"username": username})
    assert answer.json()["error"]["details"]["done"] == ["the consumer in Kong"]
    assert username in broker.kong.consumers

    broker.kong.faults.clear()
    with broker.fleet.database.transaction() as db:
        fetch(
            db, "UPDATE kong_admin_users SET doing_since = now() - interval '1 hour' WHERE username = %s", (username,)
        )
    part("reconciliation").finish_changes()
    assert username not in broker.kong.consumers
    assert broker.make(username)


def test_a_name_is_had_again_as_soon_as_kong_is_back(broker):
    username = name()
    broker.kong.faults[""] = "drop"
    answers = [broker.ask("POST", "/super-admins", {"username": username}) for _ in range(2)]
    assert [each.json()["error"]["code"] for each in answers] == ["kong_unavailable"] * 2
    assert not part("users").is_known(username)

    broker.kong.faults.clear()
    assert broker.opens(broker.make(username)["api_key"])


@pytest.mark.parametrize("step", ["", "PUT "])
def test_a_kong_that_hangs_is_waited_for_once(broker, step, monkeypatch):
    monkeypatch.setattr(part("kong"), "_timeout_s", 1.0)
    username = name()
    broker.kong.faults[step] = "hang"
    began = time.monotonic()
    answer = broker.ask("POST", "/super-admins", {"username": username})

    assert (answer.status, answer.json()["error"]["code"]) == (503, "kong_unavailable")
    assert time.monotonic() - began < 1.9
    broker.kong.faults.clear()
    assert broker.kong.keys_of(broker.make(username)["super_admin"]["username"])


def test_without_a_kong_nothing_is_begun(broker, monkeypatch):
    monkeypatch.setattr(part("kong"), "_url", None)
    username = name()
    answer = broker.ask("POST", "/super-admins", {"username": username})

    assert (answer.status, answer.json()["error"]["code"], answer.json()["error"]["details"]) == (
        503,
        "not_configured",
        None,
    )
    assert broker.log_of(username) == [] and not part("users").is_known(username)


def test_a_key_is_rotated_with_an_overlap_and_at_once(broker):
    made = broker.make()
    username, path = made["super_admin"]["username"], f"/super-admins/{made['super_admin']['username']}/regenerate-key"
    second = broker.ask("POST", path, {"overlap_s": 600}).json()["api_key"]
    left = broker.kong.keys_of(username)

    assert left[second] is None
    assert 590 <= left[made["api_key"]] <= 600
    assert broker.opens(made["api_key"]) and broker.opens(second)
    assert broker.ask("POST", path, {"overlap_s": 600}).json()["error"]["code"] == "too_many_keys"

    third = broker.ask("POST", path, {"overlap_s": 0}).json()["api_key"]
    assert broker.kong.keys_of(username) == {third: None}
    assert [broker.opens(each) for each in (made["api_key"], second, third)] == [False, False, True]
    assert broker.log_of(username) == [("created", "done"), *[("key_regenerated", "done")] * 2]


def test_a_rotation_that_kong_does_not_hear_changes_nothing_or_is_finished_later(broker):
    made = broker.make()
    username = made["super_admin"]["username"]
    path = f"/super-admins/{username}/regenerate-key"
    broker.kong.faults["PUT "] = 500
    refused = broker.ask("POST", path, {"overlap_s": 0})
    assert refused.status == 503
    assert broker.opens(made["api_key"])

    broker.kong.faults = {"DELETE ": 500}
    second = broker.ask("POST", path, {"overlap_s": 0}).json()
    assert second["not_done"] == ["the end of the old one in Kong"]
    assert not broker.opens(made["api_key"])
    broker.kong.faults.clear()
    part("reconciliation").finish_changes()
    assert broker.kong.keys_of(username) == {second["api_key"]: None}


def test_what_kong_refuses_once_more_is_tried_until_it_is_done(broker):
    made = broker.make()
    username = made["super_admin"]["username"]
    broker.kong.faults["DELETE "] = 500
    assert broker.ask("POST", f"/super-admins/{username}/deactivate").status == 503
    part("reconciliation").finish_changes()
    assert broker.ask("GET", f"/super-admins/{username}").json()["super_admin"]["is_unfinished"] is True

    broker.kong.faults.clear()
    part("reconciliation").finish_changes()
    assert (broker.kong.keys_of(username), broker.kong.groups_of(username)) == ({}, set())
    assert broker.ask("GET", f"/super-admins/{username}").json()["super_admin"]["is_unfinished"] is False


def test_a_change_in_which_the_broker_died_is_finished(broker):
    made = broker.make()
    username = made["super_admin"]["username"]
    broker.kong.faults["DELETE "] = 500
    broker.ask("POST", f"/super-admins/{username}/deactivate")
    broker.kong.faults.clear()
    with broker.fleet.database.transaction() as db:
        left = "is_unfinished = false, doing = 'deactivate', doing_since = now() - interval '1 hour'"
        fetch(db, f"UPDATE kong_admin_users SET {left} WHERE username = %s", (username,))
    part("reconciliation").finish_changes()

    assert (broker.kong.keys_of(username), broker.kong.groups_of(username)) == ({}, set())
    assert broker.ask("POST", f"/super-admins/{username}/reactivate").status == 200


def test_who_is_deactivated_is_out_at_once_and_in_again_with_another_key(broker):
    made = broker.make()
    username = made["super_admin"]["username"]
    broker.kong.faults["DELETE "] = "drop"
    answer = broker.ask("POST", f"/super-admins/{username}/deactivate")
    assert answer.status == 503
    assert answer.json()["error"]["details"]["done"] == ["its keys and rights here"]
    assert not broker.opens(made["api_key"])

    broker.kong.faults.clear()
    again = broker.ask("POST", f"/super-admins/{username}/deactivate")
    assert again.json()["super_admin"]["state"] == "inactive"
    assert (broker.kong.keys_of(username), broker.kong.groups_of(username)) == ({}, set())
    assert broker.ask("POST", f"/super-admins/{username}/regenerate-key").status == 409

    back = broker.ask("POST", f"/super-admins/{username}/reactivate").json()
    assert broker.opens(back["api_key"]) and not broker.opens(made["api_key"])
    assert broker.kong.keys_of(username) == {back["api_key"]: None}
    assert broker.ask("POST", f"/super-admins/{username}/reactivate").status == 409
    actions = [action for action, _ in broker.log_of(username)]
    assert actions == ["created", "deactivated", "reactivated"]


def test_another_tier_moves_the_key_to_another_group(broker):
    made = broker.make(email="ada@example.org", notes="on call")
    username = made["super_admin"]["username"]
    changed = broker.ask("PUT", f"/super-admins/{username}", {"tier": "admin", "email": None})

    assert changed.status == 200, changed.body
    assert (changed.json()["super_admin"]["email"], changed.json()["super_admin"]["notes"]) == (None, "on call")
    assert broker.kong.groups_of(username) == {"admins"}
    assert not broker.opens(made["api_key"])
    assert broker.fleet.request("GET", "/router/entities", key=made["api_key"]).status == 200
    entry = broker.ask("GET", "/audit-log", username=username, action="updated").json()["entries"][0]
    assert (entry["before"]["tier"], entry["after"]["tier"]) == ("super-admin", "admin")
    assert entry["after"]["changed"] == ["email"]
    assert "ada@" not in str(entry)
    assert broker.ask("PUT", f"/super-admins/{username}", {"username": "other-name"}).status == 422


def test_the_last_super_admin_stays(broker):
    users = part("users")
    made = broker.make()
    username = made["super_admin"]["username"]
    with broker.fleet.database.transaction() as db:
        others = [
            row["id"]
            for row in fetch(
                db,
                "UPDATE kong_admin_users SET state = 'inactive' WHERE state = 'active' AND tier = 'super-admin'"
                " AND username <> %s RETURNING id",
                (username,),
            )
        ]
    try:
        assert users.count_active() == 1
        for answer in (
            broker.ask("POST", f"/super-admins/{username}/deactivate"),
            broker.ask("PUT", f"/super-admins/{username}", {"tier": "admin"}),
        ):
            assert (answer.status, answer.json()["error"]["code"]) == (409, "last_super_admin")
        assert broker.opens(made["api_key"])
    finally:
        with broker.fleet.database.transaction() as db:
            fetch(db, "UPDATE kong_admin_users SET state = 'active' WHERE id = ANY(%s)", (others,))


def test_what_was_done_behind_the_brokers_back_is_seen_and_put_right(broker):
    whole, lost, moved = (broker.make()["super_admin"]["username"] for _ in range(3))
    del broker.kong.consumers[lost]
    number = broker.kong.consumers[moved]["id"]
    next(each for each in broker.kong.acls.values() if each["consumer"]["id"] == number)["group"] = "admins"
    extra = str(uuid.uuid4())
    broker.kong.keys[extra] = {
        **next(each for each in broker.kong.keys.values() if each["consumer"]["id"] == number),
        "id": extra,
        "key": "of-somebody",
    }
    mine = {whole, lost, moved}
    found = [each for each in broker.ask("GET", "/reconcile").json()["differences"] if each["username"] in mine]

    assert {each["username"] for each in found} == {lost, moved}
    mended = broker.ask("POST", "/reconcile", {}).json()["mended"]
    assert len([each for each in mended if each["username"] in mine]) == len(found)
    assert broker.kong.groups_of(moved) == {"super-admins"}
    assert "of-somebody" not in broker.kong.keys_of(moved)
    left = broker.ask("GET", "/reconcile").json()["differences"]
    # Nobody but its owner knows the key that was lost.
    assert [each["what"] for each in left if each["username"] in mine] == [
        "its key is not in Kong; only whoever has it knows it"
    ]
    assert broker.kong.groups_of(lost) == {"super-admins"}
    again = broker.ask("POST", f"/super-admins/{lost}/regenerate-key", {"overlap_s": 0}).json()
    assert broker.kong.keys_of(lost) == {again["api_key"]: None}


def test_a_kong_that_was_lost_is_restored_with_the_same_keys_and_without_those_that_ended(broker):
    kept, ended = broker.make(), broker.make()
    names = [each["super_admin"]["username"] for each in (kept, ended)]
    backup = broker.ask("POST", "/backup").json()["backup"]
    assert kept["api_key"] not in backup["content"]
    broker.ask("POST", f"/super-admins/{names[1]}/deactivate")
    for username in names:
        del broker.kong.consumers[username]

    plan = {
        each["username"]: each["action"]
        for each in broker.ask("POST", "/restore", {"backup_id": backup["id"]}).json()["plan"]
    }
    assert [plan[each] for each in names] == ["update", "skip"]
    assert names[0] not in broker.kong.consumers
    done = broker.ask("POST", "/restore", {"content": backup["content"], "apply": True})
    assert done.json()["applied"] is True
    assert broker.kong.keys_of(names[0]) == {kept["api_key"]: None}
    assert names[1] not in broker.kong.consumers
    for wrong in ({"content": "1:abc"}, {"content": backup["content"][:-8]}, {}, {"backup_id": 1, "content": "x"}):
        assert broker.ask("POST", "/restore", wrong).status == 422
    assert broker.ask("POST", "/restore", {"backup_id": 10**9}).status == 404


def test_a_restore_that_kong_does_not_hear_to_its_end_says_how_far_it_came(broker):
    whole, keyless = (broker.make()["super_admin"]["username"] for _ in range(2))
    number = broker.kong.consumers[keyless]["id"]
    broker.kong.keys = {n: each for n, each in broker.kong.keys.items() if each["consumer"]["id"] != number}
    content = broker.ask("POST", "/backup").json()["backup"]["content"]
    with broker.fleet.database.transaction() as db:
        for username in (whole, keyless):
            del broker.kong.consumers[username]
            fetch(db, "DELETE FROM kong_admin_users WHERE username = %s", (username,))
            fetch(db, "DELETE FROM service_accounts WHERE name = %s", (username,))
    plan = broker.ask("POST", "/restore", {"content": content}).json()["plan"]
    assert {each["username"]: each["action"] for each in plan}[keyless] == "conflict"

    broker.kong.faults["PUT "] = 500
    answer = broker.ask("POST", "/restore", {"content": content, "apply": True})
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["details"]["done"]) == (503, "kong_unavailable", [])
    assert whole in error["details"]["not_done"]
    broker.kong.faults.clear()
    broker.ask("POST", "/restore", {"content": content, "apply": True})
    assert broker.ask("GET", f"/super-admins/{whole}").status == 200
    assert broker.ask("GET", f"/super-admins/{keyless}").status == 404


def test_a_log_that_was_tampered_with_is_told(broker):
    database, keyring = broker.fleet.database, part("keyring")
    broker.make()
    assert broker.ask("GET", "/audit-log/verify").json()["holds"] is True
    assert verify(database, keyring).is_sealed

    def without_guard(*statements: str) -> Any:
        with database.transaction() as db:
            fetch(db, "ALTER TABLE kong_admin_audit_log DISABLE TRIGGER USER")
            for each in statements:
                fetch(db, each)
            try:
                return verify_here(db)
            finally:
                db.rollback()

    def verify_here(db: Any) -> Any:
        chain = importlib.import_module("waddlebot.data.chain")
        return chain.check(db, keyring)

    last = "(SELECT max(id) FROM kong_admin_audit_log)"
    changed = without_guard(f"UPDATE kong_admin_audit_log SET action = 'nothing' WHERE id = {last}")
    assert [each.endswith("was changed") for each in changed.problems] == [True]
    cut = without_guard(f"DELETE FROM kong_admin_audit_log WHERE id = {last}")
    assert "the log ends at row" in cut.problems[0]
    hidden = without_guard(
        f"DELETE FROM kong_admin_audit_log WHERE id = {last}",
        "UPDATE kong_admin_audit_head SET id = l.id, digest = l.digest FROM"
        f" (SELECT id, digest FROM kong_admin_audit_log WHERE id = {last}) AS l",
    )
    assert hidden.problems == ("the head of the log is not the one that was sealed",)
    with pytest.raises(Exception, match="append-only"), database.transaction() as db:
        fetch(db, "UPDATE kong_admin_audit_log SET action = 'x'")


def test_the_command_line_says_whether_the_log_holds(broker, tmp_path):
    broker.make()
    digest = verify(broker.fleet.database, part("keyring")).digest

    def run(*arguments: str) -> Any:
        names = ("DATABASE_URL", "WADDLEBOT_ENCRYPTION_KEYS")
        environment = {**AS_STARTED, **{name: os.environ[name] for name in names}}
        command = [sys.executable, "-m", "waddlebot.cli.cli", "audit", "verify", "--home", str(tmp_path), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = run("--digest", digest)
    assert (done.returncode, "its end is sealed" in done.stdout) == (0, True), done.stderr
    other = run("--digest", "0" * 64)
    assert (other.returncode, other.stdout) == (1, "no row has the digest that was kept\n")


def test_kong_is_told_of_without_its_secrets_and_lists_go_on(broker):
    for _ in range(3):
        broker.make()
    info = broker.ask("GET", "/kong/info").json()["kong"]
    assert (info["version"], info["database"]) == ("3.9.3", "postgres")
    assert "configuration" not in info
    first = broker.ask("GET", "/kong/consumers", size=2).json()
    second = broker.ask("GET", "/kong/consumers", size=2, after=first["next"]).json()
    assert len({each["username"] for page in (first, second) for each in page["consumers"]}) == 4
    for wrong in ({"size": 0}, {"size": 1001}, {"after": "a b"}):
        assert broker.ask("GET", "/kong/consumers", **wrong).status == 422
    statistics = broker.ask("GET", "/statistics").json()["statistics"]
    assert statistics["kong"]["reachable"] is True
    assert statistics["users"]["by_tier"]["super-admin"] >= 3


def test_where_a_key_is_used_from_is_kept_by_the_hour(broker):
    made = broker.make()
    for _ in range(3):
        broker.ask("GET", "/statistics", key=made["api_key"])
    (session,) = broker.ask("GET", "/sessions", username=made["super_admin"]["username"]).json()["sessions"]

    assert (session["requests"], session["agent"]) == (3, "tests")


@pytest.mark.parametrize("fault", [500, "html", "drop"])
def test_a_kong_that_is_away_is_503_and_health_says_so(broker, fault):
    broker.kong.faults[""] = fault

    for path in ("/kong/info", "/kong/consumers", "/reconcile"):
        answer = broker.ask("GET", path)
        assert (answer.status, answer.json()["error"]["code"]) == (503, "kong_unavailable"), path
        assert "Retry-After" in answer.headers or "retry-after" in answer.headers
    for path, not_done in (("/backup", "the backup"), ("/reconcile", "what differs")):
        error = broker.ask("POST", path, {}).json()["error"]
        assert (error["code"], error["details"]) == ("kong_unavailable", {"done": [], "not_done": [not_done]})
    assert broker.ask("GET", "/statistics").json()["statistics"]["kong"]["reachable"] is False
    assert broker.ask("GET", "/super-admins").status == 200
    eventually(lambda: not broker.ask("GET", "/health").json()["checks"]["kong"]["ok"])
    broker.kong.faults.clear()
    eventually(lambda: broker.ask("GET", "/health").json()["checks"]["kong"] == {"ok": True, "detail": "reachable"})


def test_a_broker_whose_kong_hangs_is_not_taken_for_dead(broker):
    broker.kong.faults["GET /status"] = "hang"
    eventually(lambda: not broker.ask("GET", "/health").json()["checks"]["kong"]["ok"])
    time.sleep(1.1)  # What was found is kept for a second.
    began = time.monotonic()
    assert broker.ask("GET", "/health").status == 200
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_kong_that_refuses_is_502_and_leaves_nothing(broker, status):
    username = name()
    broker.kong.faults["PUT /consumers"] = status
    assert broker.ask("POST", "/super-admins", {"username": username}).status == 502
    assert username not in broker.kong.consumers


def test_only_the_brokers_header_opens_it_at_both_doors(broker, key):
    for path in ("/broker/super-admins", "/api/broker/v1/super-admins"):
        assert broker.fleet.request("GET", path, key=None, headers={"X-Broker-Key": key}).status == 200
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"X-Broker-Key": key[:-1]}, {}):
            assert broker.fleet.request("GET", path, key=None, headers=headers).status == 401
    longer = make_key(MAX_KEY_LENGTH)[1]
    assert len(longer) == MAX_KEY_LENGTH


def test_an_address_is_verified_by_the_link_of_a_mail_once(broker):
    """As REQUIRE_EMAIL_VERIFICATION has it made; what the mail server takes is tested with the library's mail."""
    users, mails = part("users"), part("mails")
    by = importlib.import_module("apps.kong_admin_broker.services.audit_log").ITSELF
    object.__setattr__(mails, "secret", part("settings").api_key)
    nonce = mails.make()
    made = users.create(name(), by, tier="super-admin", email="ada@example.org", verification=nonce)
    token = mails.token(made.user.id, nonce)
    link = f"/broker/verify/{token}"

    def open_link(method: str, path: str = link) -> int:
        return int(broker.fleet.request(method, path, key=None).status)

    assert re.fullmatch(r"[A-Za-z0-9_-]{16,128}", token)
    assert not broker.opens(made.api_key)
    assert broker.kong.groups_of(made.user.username) == set()
    assert open_link("GET") == 200
    assert not broker.opens(made.api_key), "opening it is not enough: mail servers do that"
    assert open_link("POST", link[:-2] + "aa") == 404
    broker.kong.faults["PUT "] = 500
    assert open_link("POST") == 503
    broker.kong.faults.clear()
    assert open_link("POST") == 200
    assert broker.opens(made.api_key)
    assert broker.kong.groups_of(made.user.username) == {"super-admins"}
    assert open_link("POST") == 404
    waiting = users.create(name(), by, tier="super-admin", email="b@example.org", verification=mails.make())
    path = f"/super-admins/{waiting.user.username}"
    old = f"/broker/verify/{mails.token(waiting.user.id, waiting.user.verification)}"
    broker.ask("POST", f"{path}/deactivate")
    back = broker.ask("POST", f"{path}/reactivate").json()
    assert back["super_admin"]["state"] == "pending" and "verification_mail" in back
    assert not broker.opens(back["api_key"]) and broker.kong.groups_of(waiting.user.username) == set()
    assert open_link("POST", old) == 404
    assert broker.log_of(made.user.username) == [("created", "done"), ("verified", "done")]


def test_a_key_that_was_made_elsewhere_is_told_to_kong_until_it_ends(broker):
    key = broker.fleet.make_key(name(), "collectors")
    before = set(broker.kong.consumers)

    assert [broker.ask("POST", "/kong/keys", {"api_key": key}).json() for _ in range(2)] == [
        {"success": True, "gateway": True}
    ] * 2
    (consumer,) = set(broker.kong.consumers) - before
    assert broker.kong.keys_of(consumer) == {key: None}
    assert broker.kong.groups_of(consumer) == {"collectors"}
    assert not [each for each in broker.ask("GET", "/reconcile").json()["differences"] if each["username"] == consumer]
    log = broker.ask("GET", "/audit-log", limit=1).json()["entries"][0]
    assert log["action"] == "key_admitted" and key not in str(log)

    part("kong").ensure_consumer("somebody's", "made by hand", tag="waddlebot-programs")
    part("program_keys").forget_ended()
    assert consumer in broker.kong.consumers and "somebody's" not in broker.kong.consumers
    with broker.fleet.database.transaction() as db:
        revoke_account(db, key.split("_")[1])
    part("program_keys").forget_ended()
    assert consumer not in broker.kong.consumers


@pytest.mark.parametrize("api_key", ["", "x", "wbot_aaaaaaaa_" + "a" * 50, "ключ", None, 7, "a" * 10_000])
def test_what_is_no_key_here_is_not_told_to_kong(broker, api_key):
    writes = len(broker.kong.writes)
    answer = broker.ask("POST", "/kong/keys", {"api_key": api_key})

    assert answer.status == 422 and (not api_key or str(api_key) not in answer.body.decode())
    assert len(broker.kong.writes) == writes


def test_a_key_that_kong_does_not_hear_of_says_how_far_it_came(broker):
    key = broker.fleet.make_key(name(), "collectors")
    broker.kong.faults["PUT "] = 500
    error = broker.ask("POST", "/kong/keys", {"api_key": key}).json()["error"]

    assert (error["code"], error["details"]["done"]) == ("kong_unavailable", ["the consumer in Kong"])
    broker.kong.faults.clear()
    assert broker.ask("POST", "/kong/keys", {"api_key": key}).status == 200


def test_keys_of_super_admins_and_of_others_programs_are_not_let_in_by_that_door(broker):
    assert broker.ask("POST", "/kong/keys", {"api_key": broker.key}).status == 409
    own = broker.fleet.make_key(name(), "api-users", community_id=broker.fleet.bot().community_id)
    answer = broker.fleet.request("POST", "/broker/programs", {"api_key": own}, key=own)
    assert (answer.status, answer.json()["error"]["code"]) == (403, "not_allowed")
