"""What happened, on record: events, executions, replies. Each method is one transaction, so that a crash between any
two leaves something that another router can finish and nothing that happens twice (design §9)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg2.extras import Json, execute_values
from pydal import DAL
from waddlebot.contracts import OVERLAY_SOURCES, ErrorInfo, Event, ExecutionInfo, ExecutionStatus, ResponseInfo
from waddlebot.database import Database, fetch, fetch_one
from waddlebot.outbox import ASKER_FIRST, USEFUL_FOR

from .cache_manager import Place
from .work import Job, Said, Work

OUTBOX_CHANNEL = "waddlebot_outbox"
TAKE_OVER_BATCH = 50
RESPONSE_COLUMNS = ("id", "execution_id", "ordinal", "module_name", "response_action", "response_data")


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event that this fleet has seen before: its answer so far."""

    session_id: str
    executions: list[ExecutionInfo]
    responses: list[ResponseInfo]


@dataclass(frozen=True, slots=True)
class Orphan:
    """An event whose router died, now held by this one, with the executions that it had not finished."""

    event: Event
    session_id: str
    planned: bool
    unfinished: list[dict[str, Any]]


class Ledger:
    """The record in PostgreSQL. `holder` names this router process."""

    def __init__(self, db: Database, *, holder: str, lease_s: float) -> None:
        self._db = db
        self._holder = holder
        self._lease = timedelta(seconds=lease_s)

    def open(self, works: Sequence[Work]) -> None:
        """Store events with the executions planned for them; mark those that were stored before as duplicates."""
        with self._db.transaction() as db:
            fresh = execute_values(
                db._adapter.cursor,
                "INSERT INTO router_events (platform, event_id, session_id, entity_id, community_id, user_id,"
                " message_type, event, state, holder, lease_until, finished_at) VALUES %s"
                " ON CONFLICT (platform, event_id) DO NOTHING RETURNING session_id::text",
                [self._event_row(work) for work in works],
                template="(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now() + %s, CASE WHEN %s THEN now() END)",
                fetch=True,
            )
            ours = {row[0] for row in fresh}
            for work in works:
                work.duplicate = work.session_id not in ours
            mine = [work for work in works if not work.duplicate]
            _insert_jobs(db, [(work, job) for work in mine for job in work.jobs])
            for work in mine:
                work.responses += _say(db, work, work.refusals)

    def plan(self, work: Work) -> None:
        """Add the executions of an event that was stored before they could be planned."""
        with self._db.transaction() as db:
            _insert_jobs(db, [(work, job) for job in work.jobs])
            work.responses += _say(db, work, work.refusals)
            if work.is_finished:
                _close(db, work.session_id)

    def record(self, work: Work, job: Job, said: Sequence[Said], children: Sequence[Job]) -> list[ResponseInfo] | None:
        """Store what came of an execution: its result, what it says, the commands that it runs next, and the end of
        the event if that was all. None when it is on record already, with the job brought up to date from there.
        """
        with self._db.transaction() as db:
            if not _finish_execution(db, job):
                row = fetch_one(
                    db,
                    "SELECT status, error_code, error_message FROM command_executions WHERE execution_id = %s",
                    (job.execution_id,),
                )
                assert row is not None
                job.status, job.error = ExecutionStatus(row["status"]), _error(row)
                return None
            _insert_responses(db, job)
            rows = _say(db, work, said)
            _insert_jobs(db, [(work, child) for child in children])
            if work.unfinished == 0:
                _close(db, work.session_id)
        return rows

    def close(self, session_id: str) -> None:
        with self._db.transaction() as db:
            _close(db, session_id)

    def find(self, event: Event) -> Recorded | None:
        """The answer so far to an event that was stored before."""
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "SELECT session_id::text FROM router_events WHERE platform = %s AND event_id = %s",
                (event.platform, event.event_id),
            )
            if row is None:
                return None
            session_id = row["session_id"]
            executions = fetch(
                db,
                "SELECT execution_id::text, module_name, command, status, error_code, error_message"
                " FROM command_executions WHERE session_id = %s ORDER BY id",
                (session_id,),
            )
            said = fetch(db, "SELECT * FROM outbox WHERE session_id = %s ORDER BY id", (session_id,))
        return Recorded(
            session_id,
            [
                ExecutionInfo(
                    execution_id=each["execution_id"],
                    module_name=each["module_name"],
                    command=each["command"],
                    status=each["status"],
                    error=_error(each),
                )
                for each in executions
            ],
            [response_info(each) for each in said],
        )

    def renew(self, session_ids: Sequence[str]) -> None:
        """Say that this process is still at work on these events."""
        with self._db.transaction() as db:
            fetch(
                db,
                "UPDATE router_events SET lease_until = now() + %s"
                " WHERE session_id = ANY(%s::uuid[]) AND state = 'processing' AND holder = %s",
                (self._lease, list(session_ids), self._holder),
            )

    def take_over(self) -> list[Orphan]:
        """Take events that nobody has been at work on for a lease."""
        with self._db.transaction() as db:
            rows = fetch(
                db,
                "UPDATE router_events SET holder = %s, lease_until = now() + %s WHERE id IN ("
                "SELECT id FROM router_events WHERE state = 'processing' AND lease_until < now()"
                " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING session_id::text, event",
                (self._holder, self._lease, TAKE_OVER_BATCH),
            )
            sessions = [row["session_id"] for row in rows]
            executions = (
                fetch(
                    db,
                    "SELECT *, execution_id::text AS execution_id, session_id::text AS session_id,"
                    " parent_id::text AS parent_id FROM command_executions WHERE session_id = ANY(%s::uuid[]) ORDER BY id",
                    (sessions,),
                )
                if sessions
                else []
            )
        return [
            Orphan(
                event=Event.model_validate(row["event"]),
                session_id=row["session_id"],
                planned=any(each["session_id"] == row["session_id"] for each in executions),
                unfinished=[
                    each
                    for each in executions
                    if each["session_id"] == row["session_id"] and each["status"] == ExecutionStatus.PENDING
                ],
            )
            for row in rows
        ]

    def _event_row(self, work: Work) -> tuple[Any, ...]:
        event = work.event
        done = work.is_finished
        return (
            event.platform,
            event.event_id,
            work.session_id,
            work.place.entity_id,
            work.place.community_id,
            work.person.user_id,
            event.message_type.value,
            event.model_dump_json(),
            "done" if done else "processing",
            self._holder,
            self._lease,
            done,
        )


class Rehearsal:
    """A Ledger for simulated events: everything goes on as usual and nothing is kept."""

    def open(self, works: Sequence[Work]) -> None:
        for work in works:
            work.responses += [_unsent(work, each, n) for n, each in enumerate(work.refusals)]

    def plan(self, work: Work) -> None:
        self.open([work])

    def record(self, work: Work, job: Job, said: Sequence[Said], children: Sequence[Job]) -> list[ResponseInfo] | None:
        return [_unsent(work, each, n) for n, each in enumerate(said)]

    def close(self, session_id: str) -> None:
        pass


def _unsent(work: Work, said: Said, ordinal: int) -> ResponseInfo:
    return ResponseInfo(
        outbox_id=None,
        execution_id=said.execution_id,
        ordinal=ordinal,
        module_name=said.module_name,
        response_action=said.action,
        response_data=said.data,
    )


def _insert_jobs(db: DAL, pairs: Sequence[tuple[Work, Job]]) -> None:
    if not pairs:
        return
    execute_values(
        db._adapter.cursor,
        "INSERT INTO command_executions (execution_id, parent_id, depth, session_id, platform, command_id, module_name,"
        " command, entity_id, community_id, user_id, message_content, parameters, location_url, request_payload,"
        " error_code, error_message, status, completed_at) VALUES %s ON CONFLICT (execution_id) DO NOTHING",
        [_job_row(work, job) for work, job in pairs],
        template="(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)",
    )


def _job_row(work: Work, job: Job) -> tuple[Any, ...]:
    place: Place = work.place
    return (
        job.execution_id,
        job.parent_id,
        job.depth,
        work.session_id,
        place.platform,
        job.command.id,
        job.command.module_name,
        job.command.name,
        place.entity_id,
        place.community_id,
        work.person.user_id,
        work.event.message,
        json.dumps(job.args, ensure_ascii=False),
        job.command.spec.location_url,
        job.call.model_dump_json() if job.call else None,
        job.error.code if job.error else None,
        job.error.message if job.error else None,
        job.status.value,
        job.status is not ExecutionStatus.PENDING,
    )


def _finish_execution(db: DAL, job: Job) -> bool:
    result = job.result
    row = fetch_one(
        db,
        "UPDATE command_executions SET status = %s, error_code = %s, error_message = %s, response_status = %s,"
        " response_data = %s, execution_time_ms = %s, retry_count = %s, completed_at = now()"
        # A module may answer at once with nothing to say, and say it later: once.
        " WHERE execution_id = %s AND (status = 'pending' OR (%s AND status = 'success'"
        "  AND response_data->>'digest' IS NULL AND NOT EXISTS (SELECT 1 FROM module_responses r"
        "  WHERE r.execution_id = command_executions.execution_id AND r.response_action IS NOT NULL))) RETURNING id",
        (
            job.status.value,
            job.error.code if job.error else None,
            job.error.message if job.error else None,
            result.http_status if result else None,
            Json({"module_ms": result.module_ms, "digest": result.digest}) if result else None,
            result.took_ms if result else None,
            result.retries if result else 0,
            job.execution_id,
            result is not None and result.digest is not None,
        ),
    )
    return row is not None


def _insert_responses(db: DAL, job: Job) -> None:
    """The spec's module_responses: one row for each response, or one that says there was none."""
    result = job.result
    responses = [(each.response_action, each.response_data) for each in (result.responses if result else [])]
    execute_values(
        db._adapter.cursor,
        "INSERT INTO module_responses (execution_id, module_name, success, response_action, response_data, media_type,"
        " media_url, ticker_text, ticker_duration, chat_message, error_message, processing_time_ms) VALUES %s",
        [
            (
                job.execution_id,
                job.command.module_name,
                job.status is ExecutionStatus.SUCCESS,
                action,
                Json(data) if action else None,
                data.get("media_type"),
                data.get("media_url"),
                data.get("text") if action == "ticker" else None,
                data.get("display_s") if action == "ticker" else None,
                data.get("message") if action == "chat" else None,
                job.error.message if job.error else None,
                result.module_ms if result else None,
            )
            for action, data in responses or [(None, {})]
        ],
    )


def _say(db: DAL, work: Work, said: Sequence[Said]) -> list[ResponseInfo]:
    """Put replies into the outbox. Those of an event that was answered already go out by whichever collector is first."""
    if not said:
        return []
    late = work.answered
    rows = execute_values(
        db._adapter.cursor,
        "INSERT INTO outbox (platform, event_id, execution_id, ordinal, session_id, entity_id, community_id, module_name,"
        " response_action, response_data, reply_to, available_at, expires_at) VALUES %s"
        " ON CONFLICT (platform, event_id, execution_id, ordinal) DO NOTHING RETURNING id, execution_id, ordinal, module_name, response_action, response_data",
        [
            (
                work.place.platform,
                work.event.event_id,
                each.execution_id,
                ordinal,
                work.session_id,
                work.place.entity_id,
                work.place.community_id,
                each.module_name,
                each.action,
                Json(each.data),
                work.event.event_id if each.data.get("reply") else "",
                timedelta(0) if late else ASKER_FIRST,
                USEFUL_FOR,
            )
            for ordinal, each in enumerate(said)
        ],
        template="(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now() + %s, now() + %s)",
        fetch=True,
    )
    if late:
        fetch(db, "SELECT pg_notify(%s, %s)", (OUTBOX_CHANNEL, work.place.platform))
    return [response_info(dict(zip(RESPONSE_COLUMNS, row, strict=True))) for row in rows]


def _close(db: DAL, session_id: str) -> None:
    fetch(
        db,
        "UPDATE router_events SET state = 'done', finished_at = now() WHERE session_id = %s AND state = 'processing'"
        " AND NOT EXISTS (SELECT 1 FROM command_executions WHERE session_id = %s AND status = 'pending')",
        (session_id, session_id),
    )


def response_info(row: dict[str, Any]) -> ResponseInfo:
    """A row of the outbox as a collector sees it."""
    return ResponseInfo(
        outbox_id=row["id"],
        execution_id=str(row["execution_id"]) if row["execution_id"] else None,
        ordinal=row["ordinal"],
        module_name=row["module_name"],
        response_action=row["response_action"],
        response_data=summarise(row["response_action"], row["response_data"]),
    )


def summarise(action: str, data: dict[str, Any]) -> dict[str, Any]:
    """What a collector needs to know: chat in full, of an overlay only which one shows it."""
    return {"delivered_to": OVERLAY_SOURCES[action]} if action in OVERLAY_SOURCES else data


def _error(row: dict[str, Any]) -> ErrorInfo | None:
    return ErrorInfo(code=row["error_code"], message=row["error_message"] or "") if row["error_code"] else None
