"""Long work on labels: by file, by points, seen, cancelled, and for each replica once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually


@pytest.fixture
def crowd(fleet, bot) -> list[int]:
    """2 500 members, with 0, 1, 2… points."""
    with fleet.database.transaction() as db:
        mark = new_id()
        fetch(
            db,
            "WITH u AS (INSERT INTO users (display_name) SELECT %(mark)s FROM generate_series(1, 2500) RETURNING id),"
            " m AS (INSERT INTO community_memberships (community_id, user_id) SELECT %(c)s, id FROM u),"
            " i AS (INSERT INTO platform_identities (user_id, platform, platform_user_id)"
            "  SELECT id, 'console', %(mark)s || id FROM u)"
            " INSERT INTO user_reputation (community_id, user_id, current_score)"
            " SELECT %(c)s, id, row_number() OVER (ORDER BY id) - 1 FROM u",
            {"mark": mark, "c": bot.community_id},
        )
        rows = fetch(db, "SELECT id FROM users WHERE display_name = %s ORDER BY id", (mark,))
    return [row["id"] for row in rows]


def begin(bot, **job):
    answer = bot.fleet.request("POST", "/labels/jobs", {"community_id": bot.slug, **job})
    assert answer.status == 200, answer.body
    return answer.json()["job"]


def ended(bot, job):
    def show():
        return bot.fleet.request("GET", f"/labels/jobs/{job['id']}").json()["job"]

    eventually(lambda: show()["state"] not in ("queued", "running"), within_s=30)
    return show()


def bearers(bot, label: str) -> int:
    sql = "SELECT count(*) AS n FROM labels_of_people WHERE community_id = %s AND name = %s"
    return bot.fleet.database.statement(sql, (bot.community_id, label))[0]["n"]


def test_everybody_in_a_file_gets_a_label_and_the_rest_is_named(bot, crowd):
    lines = ["user_id", *(str(each) for each in crowd), str(crowd[0]), "twitch:nobody", '"12, 13"']
    job = begin(bot, label="Regular", csv="\n".join(f"{each},ignored" for each in lines[:-1]) + "\n" + lines[-1])
    assert (job["state"], job["size"], job["label"]) == ("queued", 2503, "regular")
    done = ended(bot, job)
    assert (done["state"], done["done"]) == ("done", 2503)
    assert done["counts"] == {"changed": 2500, "unchanged": 1, "unknown_subject": 2}
    assert [each["place"] for each in done["failures"]] == [2502, 2503]
    assert bearers(bot, "regular") == 2500
    listed = bot.fleet.request("GET", "/labels/jobs", query={"community_id": bot.slug}).json()
    assert [(each["id"], each["size"]) for each in listed["jobs"]] == [(job["id"], 2503)]
    assert bot.fleet.request("DELETE", f"/labels/jobs/{job['id']}").json()["error"]["code"] == "job_over"
    again = ended(bot, begin(bot, label="regular", action="remove", csv="\n".join(map(str, crowd))))
    assert (again["counts"], bearers(bot, "regular")) == ({"changed": 2500}, 0)


def test_everybody_with_so_many_points_gets_a_label(bot, crowd):
    bot.fleet.database.statement("UPDATE users SET head_id = %s WHERE id = %s", (crowd[0], crowd[300]))
    done = ended(bot, begin(bot, label="rich", points_at_least=500))
    assert done["counts"] == {"changed": 2000}
    bot.fleet.database.statement("UPDATE users SET head_id = %s WHERE id = %s", (crowd[0], crowd[400]))
    gone = "DELETE FROM community_memberships WHERE community_id = %s AND user_id = %s"
    bot.fleet.database.statement(gone, (bot.community_id, crowd[-1]))
    done = ended(bot, begin(bot, label="rich", points_at_least=500))
    assert (done["size"], done["counts"]) == (2000, {"changed": 1, "unchanged": 1999})


def test_a_job_is_cancelled_and_its_community_alone_sees_it(fleet, bot, crowd):
    key = fleet.make_key(new_id(), "api-users", community_id=fleet.bot().community_id)
    lock = "pg_advisory_lock(hashtextextended('labels of ' || %s, 0))"
    with fleet.database.session() as session, ThreadPoolExecutor(1) as pool:
        session.run(f"SELECT {lock}", (str(bot.community_id),))
        # Its first step waits for whoever changes labels here, and who cancels it waits for that step.
        path = f"/labels/jobs/{begin(bot, label='late', points_at_least=0)['id']}"
        eventually(lambda: waiting(fleet, "SELECT pg_advisory_xact_lock%labels of%"))
        assert fleet.request("GET", path, key=key).status == fleet.request("DELETE", path, key=key).status == 404
        cancelled = pool.submit(fleet.request, "DELETE", path)
        eventually(lambda: waiting(fleet, "UPDATE label_jobs SET state = %cancelled%"))
        session.run(f"SELECT {lock.replace('_lock', '_unlock')}", (str(bot.community_id),))
        job = cancelled.result().json()["job"]
    assert (job["state"], job["done"], bearers(bot, "late")) == ("cancelled", 1000, 1000)


def waiting(fleet, statement: str) -> bool:
    """Whether such a statement waits for a lock of somebody else's."""
    sql = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    return bool(fleet.database.statement(sql, (statement,)))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"csv": "1", "points_at_least": 1},
        {"csv": ""},
        {"csv": 'a"b\n"'},
        {"csv": "user_id\n"},
        {"csv": "1", "label": ""},
        {"csv": "1\n" * 200_001},
    ],
)
def test_a_job_that_makes_no_sense_is_refused(bot, wrong):
    body = {"community_id": bot.slug, "label": "x", **wrong}
    assert bot.fleet.request("POST", "/labels/jobs", body).status == 422
