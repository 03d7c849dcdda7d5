"""kill -9 at every database step of what is done with labels, links and roles: as if it had happened, or not. In a file
of its own for a worker of its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from crashing_fleet import MAX_STEPS, CrashingFleet, at_every_step, crashing_fleet, event_for
from waddlebot.base.ids import new_id
from waddlebot.community.directory import add_server
from waddlebot.data.database import Database, fetch
from waddlebot.testing.plugin import eventually
from waddlebot.web.auth import create_account

from simulators.discord import DiscordSimulator

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
PEOPLE, A_STEP = 30, 10
numbers = itertools.count(1)


def test_a_label_is_given_once(tmp_path):
    with crashing_fleet(tmp_path) as crashing:
        crashing.submit_until_done(event_for("!label list"))
        name = ""

        def label() -> str:
            nonlocal name
            name = f"l{new_id()[-12:]}"
            return f"!label add @alice {name}"

        def is_given(said: str) -> None:
            assert said == f"alice has “{name}”."
            (row,) = crashing.rows("SELECT given_by_id, own_id FROM labels_of_people WHERE name = %s", name)
            assert row["given_by_id"] == row["own_id"]
            assert len(crashing.rows("SELECT 1 FROM audit WHERE subject LIKE %s", f"label/user/%/{name}")) == 1
            crashing.rows("DELETE FROM labels_of_people WHERE name = %s RETURNING 1", name)

        assert at_every_step(crashing, label, is_given) > 10


class Pair:
    """Somebody with an account on the console and one on Discord, whom nobody has heard before."""

    def __init__(self, crashing: CrashingFleet) -> None:
        self.crashing = crashing
        self.name = f"p{next(numbers)}"

    def here(self, text: str) -> dict[str, Any]:
        return {**event_for(text), "user": {"platform_user_id": self.name, "name": self.name}}

    def there(self, text: str) -> dict[str, Any]:
        return {**self.here(text), "platform": "discord", "server_id": "g1", "channel_id": "c1"}

    def say(self, event: dict[str, Any]) -> str:
        self.crashing.submit_until_done(event)
        sql = "SELECT response_data FROM outbox WHERE event_id = %s"
        return self.crashing.rows(sql, event["event_id"])[0]["response_data"]["message"]

    def code(self) -> str:
        return code_in(self.say(self.here("!link")))

    def claim(self) -> None:
        assert "Now say" in self.say(self.there(f"!verify {self.code()}"))

    def links(self, *, undone: bool) -> int:
        """How many links of theirs there are, each with one entry in the audit log."""
        sql = (
            "SELECT l.id, (SELECT count(*) FROM audit a WHERE a.subject = 'link/' || l.id AND a.action = %s) AS entries"
            " FROM account_links l JOIN platform_identities i ON i.user_id = l.own_id OR i.user_id = l.with_id"
            " WHERE i.platform = 'console' AND i.platform_user_id = %s AND (l.undone_at IS NOT NULL) = %s"
        )
        action = "accounts_parted" if undone else "accounts_linked"
        rows = self.crashing.rows(sql, action, self.name, undone)
        assert all(row["entries"] == 1 for row in rows)
        return len(rows)

    @property
    def is_one(self) -> bool:
        sql = (
            "SELECT count(DISTINCT coalesce(u.head_id, u.id)) AS people FROM users u"
            " JOIN platform_identities i ON i.user_id = u.id WHERE i.platform_user_id = %s"
        )
        return self.crashing.rows(sql, self.name)[0]["people"] == 1


def code_in(said: str) -> str:
    found = re.search(r"[2-9A-Z]{4}-[2-9A-Z]{4}", said)
    assert found, said
    return found[0]


@pytest.fixture
def crashing(tmp_path) -> Iterator[CrashingFleet]:
    """A fleet with a community on the console and on Discord."""
    with crashing_fleet(tmp_path) as fleet:
        with fleet.database.transaction() as db:
            add_server(db, "discord", "c1", server_id="g1", community="demo")
            platforms = ["console", "discord"]
            made = create_account(db, name="both", groups=["collectors", "admins"], platforms=platforms)
        fleet.key = made.api_key
        yield fleet


def test_a_code_is_given_out_once(crashing):
    pair = Pair(crashing)

    def ask() -> dict[str, Any]:
        nonlocal pair
        pair = Pair(crashing)
        return pair.here("!link")

    def is_good(said: str) -> None:
        sql = (
            "SELECT count(*) AS n FROM link_codes c JOIN platform_identities i ON i.user_id = c.own_id"
            " WHERE i.platform_user_id = %s AND c.ended_at IS NULL"
        )
        assert crashing.rows(sql, pair.name)[0]["n"] == 1
        assert "Now say" in pair.say(pair.there(f"!verify {code_in(said)}"))

    assert at_every_step(crashing, ask, is_good) > 10


def test_a_code_is_claimed_once(crashing):
    pair = Pair(crashing)

    def ask() -> dict[str, Any]:
        nonlocal pair
        pair = Pair(crashing)
        return pair.there(f"!verify {pair.code()}")

    def is_claimed(said: str) -> None:
        assert "Now say" in said and not pair.is_one
        assert "one person now" in pair.say(pair.here("!link confirm"))

    assert at_every_step(crashing, ask, is_claimed) > 10


def test_accounts_are_linked_once(crashing):
    pair = Pair(crashing)

    def ask() -> dict[str, Any]:
        nonlocal pair
        pair = Pair(crashing)
        pair.claim()
        return pair.here("!link confirm")

    def are_linked(said: str) -> None:
        assert "one person now" in said and pair.is_one and pair.links(undone=False) == 1
        assert "and also" in pair.say(pair.there("!whoami"))

    assert at_every_step(crashing, ask, are_linked) > 10


def test_accounts_are_parted_once(crashing):
    pair = Pair(crashing)

    def ask() -> dict[str, Any]:
        nonlocal pair
        pair = Pair(crashing)
        pair.claim()
        pair.say(pair.here("!link confirm"))
        return pair.here("!unlink")

    def are_parted(said: str) -> None:
        assert "of its own again" in said and not pair.is_one
        assert (pair.links(undone=False), pair.links(undone=True)) == (0, 1)
        assert "and also" not in pair.say(pair.there("!whoami"))

    assert at_every_step(crashing, ask, are_parted) > 10


def people(database: Database) -> list[int]:
    with database.transaction() as db:
        rows = fetch(
            db,
            "WITH u AS (INSERT INTO users (display_name) SELECT 'p' FROM generate_series(1, %s) RETURNING id),"
            " m AS (INSERT INTO community_memberships (community_id, user_id)"
            "  SELECT c.id, u.id FROM u, communities c WHERE c.slug = 'demo') SELECT id FROM u",
            (PEOPLE,),
        )
    return [row["id"] for row in rows]


def test_many_get_a_label_all_or_none(tmp_path):
    with crashing_fleet(tmp_path) as crashing:
        own_ids = [str(each) for each in people(crashing.database)]
        for step in range(1, MAX_STEPS):
            name = f"l{step}"
            body = {"label": name, "subject_type": "user", "subject_ids": own_ids, "community_id": "demo"}
            answer = crashing.request("POST", "/labels/apply", body, crash_at=step)
            count = len(crashing.rows("SELECT 1 FROM labels_of_people WHERE name = %s", name))
            entries = crashing.rows("SELECT 1 FROM audit WHERE undo->'body'->>'label' = %s", name)
            assert (count, len(entries)) in ((0, 0), (PEOPLE, 1)), f"after dying at step {step}"
            if answer is not None:
                assert answer.json()["changed"] == PEOPLE
                break
            crashing.start()
            again = crashing.request("POST", "/labels/apply", body)
            assert again is not None and again.json()["changed"] == PEOPLE - count
            crashing.rows("DELETE FROM labels_of_people WHERE name = %s RETURNING 1", name)
        assert step > 5


def test_a_job_goes_on_where_it_was(tmp_path):
    with crashing_fleet(tmp_path, environment={"LABELS_CORE_BULK_OPERATION_SIZE": str(A_STEP)}) as crashing:
        csv = "\n".join(str(each) for each in people(crashing.database))
        for step in range(1, MAX_STEPS):
            name = f"l{step}"
            body = {"label": name, "action": "apply", "csv": csv, "community_id": "demo"}
            answer = crashing.request("POST", "/labels/jobs", body, crash_at=step, later=True)
            sql = "SELECT id, state, done, counts FROM label_jobs WHERE label = %s"
            eventually(lambda sql=sql, name=name: not crashing.is_alive or is_over(crashing.rows(sql, name)))
            crashed = not crashing.is_alive
            if crashed:
                crashing.start()
            jobs = crashing.rows(sql, name)
            assert len(jobs) <= 1 and (jobs or answer is None)
            if not jobs:  # It died before the job was on record, and nobody was told that it is.
                continue
            eventually(lambda sql=sql, name=name: is_over(crashing.rows(sql, name)))
            (job,) = crashing.rows(sql, name)
            assert (job["state"], job["done"], job["counts"]) == ("done", PEOPLE, {"changed": PEOPLE}), step
            given = crashing.rows("SELECT 1 FROM labels_of_people WHERE name = %s", name)
            entries = crashing.rows("SELECT 1 FROM audit WHERE undo->'body'->>'label' = %s", name)
            assert (len(given), len(entries)) == (PEOPLE, PEOPLE // A_STEP), f"after dying at step {step}"
            crashing.rows("DELETE FROM labels_of_people WHERE name = %s RETURNING 1", name)
            if not crashed:
                break
        assert step > 20


def is_over(jobs: list[dict[str, Any]]) -> bool:
    return bool(jobs) and jobs[0]["state"] == "done"


def test_a_role_is_given_and_taken_whenever_it_dies(tmp_path):
    with (
        DiscordSimulator(hurried=True) as discord,
        crashing_fleet(tmp_path, "discord", environment=discord.settings()) as crashing,
    ):
        guild = discord.add_guild("Guild")
        role = guild.add_role("Fans")
        discord.person(guild, "4711")
        roles = guild.members["4711"].roles
        with crashing.database.transaction() as db:
            add_server(db, "discord", "", server_id=guild.id, community="demo")
            made = create_account(db, name="both", groups=["collectors", "admins"], platforms=["console", "discord"])
        crashing.key = made.api_key
        place = f"discord:{guild.id}:"
        heard = {**event_for("hello"), "platform": "discord", "server_id": guild.id, "channel_id": "c1"}
        heard["user"] = {"platform_user_id": "4711", "name": "pip"}
        crashing.submit(heard)
        rule = {"label": "fan", "entity_id": place, "role_id": role}
        body = {"name": "Everywhere", "community_id": "demo", "entities": [place], "rules": [rule]}
        answer = crashing.request("POST", "/labels/groups", body)
        assert answer is not None and answer.status == 200
        label = {"label": "fan", "subject_type": "user", "subject_id": "discord:4711", "community_id": "demo"}

        def settled() -> list[dict[str, Any]]:
            sql = "SELECT is_ours FROM label_roles WHERE is_wanted AND has_it AND NOT is_asked"
            waiting = crashing.rows("SELECT 1 FROM label_roles WHERE is_wanted <> has_it OR is_asked")
            return [] if waiting else crashing.rows(sql)

        def is_so(wanted: list[str]) -> bool:
            return roles == wanted and bool(settled()) == bool(wanted)

        for step in range(1, MAX_STEPS):
            crashed = False
            for action, wanted in (("apply", [role]), ("remove", [])):
                crashing.request("POST", f"/labels/{action}", label, crash_at=step, later=True)
                eventually(lambda wanted=wanted: not crashing.is_alive or is_so(wanted), within_s=30)
                if not crashing.is_alive:
                    crashed = True
                    # The next look at all roles, and the next try of one that was being asked for, come within a
                    # minute; nobody waits for that here.
                    crashing.rows("UPDATE jobs SET began_at = now() - interval '1 hour' RETURNING 1")
                    crashing.rows("UPDATE label_roles SET next_try_at = now() WHERE is_asked RETURNING 1")
                    crashing.start()
                    # Whoever was not answered asks again.
                    crashing.request("POST", f"/labels/{action}", label)
                eventually(lambda wanted=wanted: is_so(wanted), within_s=30)
                assert all(row["is_ours"] for row in settled()), f"after dying at step {step} of {action}"
            if not crashed:
                break
        assert step > 10
