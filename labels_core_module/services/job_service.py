"""Long work on labels, in steps: each is one transaction that also moves the job on, so that a crash repeats nothing
and leaves nothing out."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.base.errors import Conflict, Invalid, NotFound
from waddlebot.data import audit
from waddlebot.data.audit import Acting, Undo, acting_as
from waddlebot.data.database import Database, Prepared, fetch, fetch_one
from waddlebot.web.lists import Listed, Page, fetch_page

from .label_service import MODULE, LabelService, Outcome, Wish, count_labels
from .names import check_label

Action = Literal["apply", "remove"]
MAX_ROWS = 200_000
MAX_OPEN = 20
MAX_FAILURES = 1000
MAX_CELL_CHARS = 300
# What the first line of a file may say about its first column.
HEADINGS = frozenset({"user", "user_id", "subject", "subject_id", "person", "id"})

SHOWN = """
id, community_id, kind, action, label, expires_at, min_points AS points_at_least, state, total AS size, done, counts,
failures, error, made_by, created_at, ended_at
"""
LIST = Prepared(
    "labels_jobs",
    f"SELECT {SHOWN}, count(*) OVER () AS total FROM label_jobs WHERE community_id = %(community)s"
    " ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s",
)
# Members by what all of their accounts have earned; of who was erased there are points and no more.
EARNED = """
SELECT coalesce(u.head_id, u.id) AS head_id FROM user_reputation r JOIN users u ON u.id = r.user_id
LEFT JOIN community_memberships m ON m.community_id = r.community_id AND m.user_id = r.user_id AND m.is_active
WHERE r.community_id = %(community)s AND coalesce(u.head_id, u.id) > %(place)s
GROUP BY 1 HAVING sum(r.current_score) >= %(min_points)s AND count(m.user_id) > 0
"""
TAKE = """
SELECT id, community_id, kind, action, label, expires_at, rows[place + 1 : place + %(most)s] AS rows, min_points, place,
    total, counts, failures, made_by, made_by_login, made_by_id
FROM label_jobs WHERE id = %(id)s AND state IN ('queued', 'running') FOR UPDATE SKIP LOCKED
"""
MOVE = """
UPDATE label_jobs SET place = %(place)s, done = done + %(done)s, counts = %(counts)s, failures = %(failures)s,
    state = CASE WHEN %(is_over)s THEN 'done' ELSE 'running' END,
    ended_at = CASE WHEN %(is_over)s THEN now() END, rows = CASE WHEN %(is_over)s THEN '{}' ELSE rows END
WHERE id = %(id)s
"""


class UnknownJob(NotFound):
    """There is no such job."""

    code = "unknown_job"


class TooManyJobs(Conflict):
    """This community has many jobs waiting. Let some end first."""

    code = "too_many_jobs"


class JobOver(Conflict):
    """That job is over."""

    code = "job_over"


class JobService:
    def __init__(self, db: Database, labels: LabelService, *, max_workers: int, step_size: int) -> None:
        self._db = db
        self._labels = labels
        self._workers = ThreadPoolExecutor(max_workers, thread_name_prefix="label-jobs")
        self._max_workers = max_workers
        self._step_size = step_size
        self.wake = threading.Event()

    def make(
        self,
        db: DAL,
        community_id: int,
        action: Action,
        label: str,
        *,
        file: str | None,
        min_points: int | None,
        expires_at: datetime | None,
    ) -> dict[str, Any]:
        """Begin a job for everybody in a file, or who has so many points. Raises: BadLabel; Invalid; TooManyJobs."""
        rows = read_rows(file) if file is not None else []
        who = audit.who_acts() or Acting(MODULE)
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('label jobs of ' || %s, 0))", (str(community_id),))
        (waiting,) = fetch(
            db,
            "SELECT count(*) AS n FROM label_jobs WHERE community_id = %s AND state IN ('queued', 'running')",
            (community_id,),
        )
        if waiting["n"] >= MAX_OPEN:
            raise TooManyJobs()
        asked = {
            "community": community_id,
            "kind": "csv" if file is not None else "points",
            "action": action,
            "label": check_label(label),
            "ends": expires_at,
            "rows": rows,
            "min_points": min_points,
            "place": 0,
            "by": who.account,
            "login": who.login_id,
            "own": who.own_id,
        }
        if file is None:
            (counted,) = fetch(db, f"SELECT count(*) AS n FROM ({EARNED}) AS earned", asked)
        row = fetch_one(
            db,
            "INSERT INTO label_jobs (community_id, kind, action, label, expires_at, rows, min_points, total, made_by,"
            " made_by_login, made_by_id) VALUES (%(community)s, %(kind)s, %(action)s, %(label)s, %(ends)s,"
            " %(rows)s::text[], %(min_points)s, %(total)s, %(by)s, %(login)s, %(own)s) RETURNING id",
            {**asked, "total": len(rows) if file is not None else counted["n"]},
        )
        assert row is not None
        audit.record(
            db,
            MODULE,
            "job_begun",
            f"job/{row['id']}",
            community_id=community_id,
            after={"action": action, "label": asked["label"], "kind": asked["kind"]},
            undo=Undo("DELETE", f"/labels/jobs/{row['id']}"),
        )
        return self.get(db, row["id"], community_id)

    def get(self, db: DAL, job_id: int, community_id: int | None) -> dict[str, Any]:
        """Raises: UnknownJob, also for another community's."""
        row = fetch_one(
            db,
            f"SELECT {SHOWN} FROM label_jobs WHERE id = %s AND (%s::bigint IS NULL OR community_id = %s)",
            (job_id, community_id, community_id),
        )
        if row is None:
            raise UnknownJob(f"There is no job {job_id}.")
        return row

    def list_jobs(self, community_id: int, page: Page) -> Listed[dict[str, Any]]:
        return fetch_page(self._db.statement, LIST, {"community": community_id}, page)

    def cancel(self, db: DAL, job_id: int, community_id: int | None) -> dict[str, Any]:
        """End a job; what it has done stays. Raises: UnknownJob; JobOver."""
        job = self.get(db, job_id, community_id)
        ended = fetch(
            db,
            "UPDATE label_jobs SET state = 'cancelled', ended_at = now(), rows = '{}'"
            " WHERE id = %s AND state IN ('queued', 'running') RETURNING 1",
            (job_id,),
        )
        if not ended:
            raise JobOver()
        audit.record(
            db,
            MODULE,
            "job_cancelled",
            f"job/{job_id}",
            community_id=job["community_id"],
            before={"action": job["action"], "label": job["label"], "kind": job["kind"]},
        )
        return self.get(db, job_id, community_id)

    def step(self) -> bool:
        """Move each of some jobs on by a step. Returns whether there is more to do."""
        open_jobs = self._db.statement(
            "SELECT id FROM label_jobs WHERE state IN ('queued', 'running') ORDER BY id LIMIT %s", (self._max_workers,)
        )
        return any(list(self._workers.map(self._advance, [row["id"] for row in open_jobs])))

    def counts(self) -> dict[str, int]:
        rows = self._db.statement(
            "SELECT state, count(*) AS n FROM label_jobs WHERE state IN ('queued', 'running') GROUP BY state"
        )
        return {"queued": 0, "running": 0, **{row["state"]: row["n"] for row in rows}}

    def _advance(self, job_id: int) -> bool:
        """Do one step of a job, unless another process does one. Returns whether it moved and is not over."""
        with self._db.transaction() as db:
            job = fetch_one(db, TAKE, {"id": job_id, "most": self._step_size})
            if job is None:
                return False
            subjects, place = self._next(db, job)
            outcomes = self._change(db, job, subjects)
            is_over = len(subjects) < self._step_size
            counts = dict(job["counts"])
            for end, count in count_labels(outcomes).items():
                counts[end] = counts.get(end, 0) + count
            failures = job["failures"] + _failures(job, outcomes)
            moved = {"place": place, "done": len(subjects), "is_over": is_over, "id": job_id}
            fetch(db, MOVE, {**moved, "counts": Json(counts), "failures": Json(failures[:MAX_FAILURES])})
        self._labels.tell(job["community_id"], outcomes)
        return not is_over

    def _next(self, db: DAL, job: dict[str, Any]) -> tuple[list[str], int]:
        """Whom the next step is about, and where the one after begins."""
        if job["kind"] == "csv":
            return job["rows"], job["place"] + len(job["rows"])
        asked = {
            "community": job["community_id"],
            "place": job["place"],
            "min_points": job["min_points"],
            "most": self._step_size,
        }
        heads = [row["head_id"] for row in fetch(db, f"{EARNED} ORDER BY 1 LIMIT %(most)s", asked)]
        return [str(each) for each in heads], heads[-1] if heads else job["place"]

    def _change(self, db: DAL, job: dict[str, Any], subjects: Sequence[str]) -> list[Outcome]:
        change = self._labels.apply if job["action"] == "apply" else self._labels.remove
        wishes = [Wish(job["label"], "user", each, job["expires_at"]) for each in subjects]
        with acting_as(Acting(job["made_by"], login_id=job["made_by_login"], own_id=job["made_by_id"])):
            return change(db, job["community_id"], wishes) if wishes else []


def read_rows(file: str) -> list[str]:
    """The people in the first column of a CSV: numbers, or `platform:platform_user_id`. Raises: Invalid."""
    try:
        rows = [row[0].strip() for row in csv.reader(io.StringIO(file), strict=True) if row and row[0].strip()]
    except csv.Error as err:
        raise Invalid(f"The CSV cannot be read: {err}.", field="csv") from err
    if rows and rows[0].lower() in HEADINGS:
        del rows[0]
    if not rows or len(rows) > MAX_ROWS:
        raise Invalid(f"A CSV has 1 to {MAX_ROWS} people in it, one a line; this has {len(rows)}.", field="csv")
    if any(len(each) > MAX_CELL_CHARS for each in rows):
        raise Invalid(f"A person in a CSV has at most {MAX_CELL_CHARS} characters.", field="csv")
    return rows


def _failures(job: dict[str, Any], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    first = job["place"] + 1 if job["kind"] == "csv" else None
    return [
        {"place": first + n if first else None, "subject_id": each.wish.subject_id, "code": each.error.code}
        for n, each in enumerate(outcomes)
        if each.error
    ]
