"""What happened, on record: events, executions, replies. Each method is one transaction, so that a crash between any
two leaves something that another router can finish and nothing that happens twice (design §9)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic_core import to_json
from waddlebot.base.combine import FairCombiner
from waddlebot.base.contracts import (
    OVERLAY_SOURCES,
    RENEWALS,
    RENEWED_WITHIN,
    ErrorInfo,
    Event,
    ExecutionInfo,
    ExecutionStatus,
    MessageType,
    Moderation,
    ModuleResponse,
    ResponseInfo,
)
from waddlebot.base.ids import first_id_at
from waddlebot.base.module_settings import HIDDEN
from waddlebot.base.secret_words import without
from waddlebot.data.database import Database, Prepared, fetch, fetch_one
from waddlebot.data.outbox import ASKER_FIRST, OUTBOX_CHANNEL, PRIVATE, USEFUL_FOR

from ..engines.execution_engine import Result
from .work import Job, Said, Work

T = TypeVar("T")

TAKE_OVER_BATCH = 50
OUTBOX_TIMES = {"asker_first": ASKER_FIRST, "useful_for": USEFUL_FOR, "channel": OUTBOX_CHANNEL}

# Each of the three statements is a transaction by itself, which spares two round trips and most of the planning. They
# end alike: for what is in `fresh`, sessions or executions, add the executions and replies that it caused, and wake the
# collectors for replies that are late.
AND_ADD = """
jobs AS (
    INSERT INTO command_executions (execution_id, parent_id, depth, session_id, platform, command_id, module_name,
        command, trigger_type, entity_id, community_id, user_id, message_content, parameters, location_url,
        request_payload, decision, error_code, error_message, status, response_status, response_data,
        execution_time_ms, completed_at)
    SELECT j.execution_id, j.parent_id, j.depth, session_id, j.platform, j.command_id, j.module_name, j.command,
        j.trigger_type, j.entity_id, j.community_id, j.user_id, j.message_content, j.parameters, j.location_url,
        j.request_payload::json, j.decision, j.error_code, j.error_message, j.status, j.http_status, j.response_data,
        j.took_ms, CASE WHEN j.status <> 'pending' THEN now() END
    FROM jsonb_to_recordset(%(jobs)s::jsonb) AS j (cause uuid, execution_id uuid, parent_id uuid, depth integer,
        platform text, command_id bigint, module_name text, command text, trigger_type text, entity_id text,
        community_id bigint, user_id bigint, message_content text, parameters jsonb, location_url text,
        request_payload text, decision json, error_code text, error_message text, status text, http_status integer,
        response_data jsonb, took_ms float)
        JOIN fresh USING (cause)
    ON CONFLICT (execution_id) DO NOTHING
), said AS (
    INSERT INTO outbox (platform, event_id, execution_id, ordinal, session_id, entity_id, community_id, module_name,
        response_action, response_data, reply_to, available_at, expires_at)
    SELECT s.platform, s.event_id, s.execution_id, s.ordinal, session_id, s.entity_id, s.community_id, s.module_name,
        s.response_action, s.response_data, s.reply_to,
        CASE WHEN s.is_late THEN now() ELSE now() + %(asker_first)s::interval END, now() + %(useful_for)s::interval
    FROM jsonb_to_recordset(%(said)s::jsonb) AS s (cause uuid, platform text, event_id text, execution_id uuid,
        ordinal integer, entity_id text, community_id bigint, module_name text, response_action text,
        response_data jsonb, reply_to text, is_late boolean) JOIN fresh USING (cause)
    ON CONFLICT (platform, event_id, execution_id, ordinal) DO NOTHING
    RETURNING session_id, id, execution_id, ordinal, platform, available_at
)
SELECT cause::text, said.id, execution_id::text, ordinal,
    CASE WHEN available_at <= now() THEN pg_notify(%(channel)s::text, platform) END
FROM fresh LEFT JOIN said USING (session_id)
"""
# What modules answered, of executions that end with it.
AND_ANSWER = """
answered AS (
    INSERT INTO module_responses (execution_id, module_name, success, response_action, response_data, media_type,
        media_url, ticker_text, ticker_duration, chat_message, error_message, processing_time_ms)
    SELECT execution_id, module_name, success, response_action, response_data, media_type, media_url, ticker_text,
        ticker_duration, chat_message, error_message, processing_time_ms
    FROM jsonb_to_recordset(%(responses)s::jsonb) AS r (cause uuid, execution_id uuid, module_name text,
        success boolean, response_action text, response_data jsonb, media_type text, media_url text, ticker_text text,
        ticker_duration float, chat_message text, error_message text, processing_time_ms float)
        JOIN fresh USING (cause)
),
"""
# And two of them give points, once for each event.
AND_EARN = """
earned AS (
    INSERT INTO reputation_events (source_id, community_id, user_id, entity_id, event_name, event_score, amount)
    SELECT session_id, p.community_id, p.user_id, p.entity_id, p.event_name, p.event_score, p.amount
    FROM jsonb_to_recordset(%(points)s::jsonb) AS p (session_id uuid, community_id bigint, user_id bigint,
        entity_id text, event_name text, event_score bigint, amount float) JOIN fresh USING (session_id)
    WHERE (p.event_name <> 'follow' OR NOT EXISTS (SELECT FROM reputation_events e WHERE e.event_name = 'follow'
        AND e.community_id = p.community_id AND e.user_id = p.user_id AND e.entity_id = p.entity_id))
    -- One renewal may come as both.
    AND (p.event_name <> ALL(%(renewals)s::text[]) OR NOT EXISTS (SELECT FROM router_events o
        JOIN reputation_events e ON e.source_id = o.session_id WHERE o.entity_id = p.entity_id
        AND o.user_id = p.user_id AND o.session_id >= %(renewed_since)s::uuid
        AND o.message_type = ANY(%(renewals)s::text[]) AND o.message_type <> p.event_name))
    ON CONFLICT (source_id) DO NOTHING
    RETURNING community_id, user_id, event_score
), balances AS (
    INSERT INTO user_reputation AS b (community_id, user_id, current_score, total_events)
    SELECT community_id, user_id, sum(event_score), count(*) FROM earned GROUP BY 1, 2
    -- In one order, too.
    ORDER BY 1, 2
    ON CONFLICT (community_id, user_id) DO UPDATE SET current_score = b.current_score + excluded.current_score,
        total_events = b.total_events + excluded.total_events, last_activity = now()
),
"""
OPEN = Prepared(
    "router_open",
    """
WITH fresh AS (
    INSERT INTO router_events (platform, event_id, session_id, entity_id, community_id, user_id, message_type, event,
        verdict)
    SELECT platform, event_id, session_id, entity_id, community_id, user_id, message_type, event::json, verdict
    FROM jsonb_to_recordset(%(events)s::jsonb) AS e (platform text, event_id text, session_id uuid, entity_id text,
        community_id bigint, user_id bigint, message_type text, event text, verdict json)
    -- In one order everywhere, so that two batches with the same events cannot wait for each other for ever.
    ORDER BY platform, event_id
    ON CONFLICT (platform, event_id) DO NOTHING
    RETURNING session_id, session_id AS cause
), begun AS (
    INSERT INTO router_work (session_id, holder, lease_until)
    SELECT session_id, %(holder)s::text, now() + %(lease)s::interval
    FROM fresh WHERE session_id::text = ANY(%(unfinished)s::text[])
), """
    + AND_EARN
    + AND_ANSWER
    + AND_ADD,
)
PLAN = Prepared(
    "router_plan",
    """
WITH held AS (
    -- Whoever has taken it over meanwhile plans it too, with other executions.
    SELECT session_id FROM router_work
    WHERE session_id = %(session_id)s::uuid AND holder = %(holder)s::text AND attempts = %(attempts)s::integer
    FOR UPDATE
), fresh AS (
    UPDATE router_events SET verdict = %(verdict)s::json WHERE session_id = (SELECT session_id FROM held)
    RETURNING session_id, session_id AS cause
), """
    + AND_EARN
    + AND_ANSWER
    + AND_ADD,
)
RECORD = Prepared(
    "router_record",
    """
WITH fresh AS (
    UPDATE command_executions x SET status = r.status, error_code = r.error_code, error_message = r.error_message,
        response_status = r.http_status, response_data = r.response_data, execution_time_ms = r.took_ms,
        retry_count = r.retries, completed_at = now()
    FROM jsonb_to_recordset(%(results)s::jsonb) AS r (execution_id uuid, status text, error_code text,
        error_message text, http_status integer, response_data jsonb, took_ms float, retries integer, is_late boolean)
    -- Twice, so that however the two are joined only these few rows are looked at.
    WHERE x.execution_id = r.execution_id AND x.execution_id = ANY(%(executions)s::text[]::uuid[]) AND (
        x.status = 'pending'
        -- A module may answer at once with nothing to say, and say it later: once.
        OR (r.is_late AND x.status = 'success' AND x.response_data->>'digest' IS NULL AND (
            SELECT count(*) FROM module_responses m
            WHERE m.execution_id = x.execution_id AND m.response_action IS NOT NULL) = 0))
    RETURNING x.session_id, x.execution_id AS cause
), closed AS (
    DELETE FROM router_work w WHERE w.session_id = ANY(%(done)s::text[]::uuid[])
        AND w.session_id IN (SELECT session_id FROM fresh) AND (
        SELECT count(*) FROM command_executions x WHERE x.session_id = w.session_id AND x.status = 'pending'
            AND x.execution_id <> ALL(%(executions)s::text[]::uuid[])) = 0
), """
    + AND_ANSWER
    + AND_ADD,
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event that this fleet has seen before: its answer so far."""

    session_id: str
    executions: list[ExecutionInfo]
    responses: list[ResponseInfo]
    moderation: Moderation | None


@dataclass(frozen=True, slots=True)
class Orphan:
    """An event whose router died, now held by this one, with the executions that it had not finished."""

    event: Event
    session_id: str
    # How many routers have had it, this one included.
    attempts: int
    planned: bool
    unfinished: list[dict[str, Any]]


# What a statement stored: by the session or execution that caused it, the numbers of its replies in the outbox.
Stored = dict[str, dict[tuple[str | None, int], int]]


@dataclass(frozen=True, slots=True)
class _Ending:
    """What an execution leaves on record when it ends: rows, and its session if that is done with it."""

    execution_id: str
    result: dict[str, Any]
    responses: list[dict[str, Any]]
    jobs: list[dict[str, Any]]
    said: list[dict[str, Any]]
    done: str | None


class Ledger:
    """The record in PostgreSQL. `holder` names this router process."""

    def __init__(self, db: Database, *, holder: str, lease_s: float) -> None:
        self._db = db
        self._holder = holder
        self._lease = timedelta(seconds=lease_s)
        # What ends at the same moment goes into one statement and one commit.
        self._record_with_others = FairCombiner(_for_each(self._record))

    def open(self, works: Sequence[Work]) -> None:
        """Store events with the executions planned for them; mark those that were stored before as duplicates."""
        stored = self._open(works)
        for work in works:
            work.duplicate = work.session_id not in stored
            work.responses += _responses_of(work, stored.get(work.session_id, {}))

    def _open(self, works: Sequence[Work]) -> Stored:
        rows = self._db.statement(
            OPEN,
            {
                "events": _as_json(_event_row(work) for work in works),
                "unfinished": [work.session_id for work in works if not work.is_finished],
                "holder": self._holder,
                **_earned(works),
                "jobs": _as_json(_job_row(work, job, work.session_id) for work in works for job in work.jobs),
                "responses": _as_json(row for work in works for row in _read_rows(work)),
                "said": _as_json(row for work in works for row in _said_at_once(work)),
                "lease": self._lease,
                **OUTBOX_TIMES,
            },
        )
        return _stored(rows)

    def plan(self, work: Work) -> bool:
        """Add the executions of an event that was stored before they could be planned. False when it is no longer
        ours, and then nothing is added."""
        rows = self._db.statement(
            PLAN,
            {
                "session_id": work.session_id,
                "holder": self._holder,
                "attempts": work.attempts,
                "verdict": json.dumps(work.verdict) if work.verdict else None,
                **_earned([work]),
                "jobs": _as_json(_job_row(work, job, work.session_id) for job in work.jobs),
                "responses": _as_json(_read_rows(work)),
                "said": _as_json(_said_at_once(work)),
                **OUTBOX_TIMES,
            },
        )
        stored = _stored(rows)
        if work.session_id not in stored:
            return False
        work.responses += _responses_of(work, stored[work.session_id])
        if work.is_finished:
            self.close(work.session_id)
        return True

    def record(self, work: Work, job: Job, said: Sequence[Said], children: Sequence[Job]) -> list[ResponseInfo] | None:
        """Store what came of an execution: its result, what it says, the commands that it runs next, and the end of
        the event if that was all. None when it is on record already, with the job brought up to date from there.
        """
        ending = _Ending(
            job.execution_id,
            _result_row(work, job),
            list(_response_rows(work, job, job.execution_id)),
            [_job_row(work, child, job.execution_id) for child in children],
            list(_said_rows(work, said, job.execution_id)),
            work.session_id if work.ends_with(job, children) else None,
        )
        stored = self._record_with_others(ending)
        if job.execution_id in stored:
            return _said_in(stored[job.execution_id], said)
        found = self._db.statement(
            "SELECT status, error_code, error_message FROM command_executions WHERE execution_id = %s",
            (job.execution_id,),
        )
        job.status, job.error = ExecutionStatus(found[0]["status"]), _error(found[0])
        return None

    def _record(self, endings: Sequence[_Ending]) -> Stored:
        # In one order everywhere, so that two routers with the same executions cannot wait for each other for ever.
        endings = sorted(endings, key=lambda ending: ending.execution_id)
        rows = self._db.statement(
            RECORD,
            {
                "executions": [ending.execution_id for ending in endings],
                "results": _as_json(ending.result for ending in endings),
                "responses": _as_json(row for ending in endings for row in ending.responses),
                "jobs": _as_json(row for ending in endings for row in ending.jobs),
                "said": _as_json(row for ending in endings for row in ending.said),
                "done": [ending.done for ending in endings if ending.done],
                **OUTBOX_TIMES,
            },
        )
        return _stored(rows)

    def list_ended(self, execution_ids: Sequence[str]) -> list[str]:
        """Those of these executions that have ended, whichever router recorded it."""
        rows = self._db.statement(
            "SELECT execution_id::text FROM command_executions WHERE execution_id = ANY(%s::uuid[])"
            " AND status <> 'pending'",
            (list(execution_ids),),
        )
        return [row["execution_id"] for row in rows]

    def close(self, session_id: str) -> None:
        """End an event that has nothing left to do."""
        self._db.statement(
            "DELETE FROM router_work WHERE session_id = %(session)s AND NOT EXISTS ("
            "SELECT 1 FROM command_executions WHERE session_id = %(session)s AND status = 'pending')",
            {"session": session_id},
        )

    def give_up(self, session_id: str) -> None:
        """End an event that no router can finish: what it had not done is `unknown`."""
        with self._db.transaction() as db:
            fetch(
                db,
                "UPDATE command_executions SET status = 'unknown', error_code = 'given_up', completed_at = now(),"
                " error_message = 'It could not be finished; the log has the reason.'"
                " WHERE session_id = %s AND status = 'pending'",
                (session_id,),
            )
            fetch(db, "DELETE FROM router_work WHERE session_id = %s", (session_id,))

    def find(self, event: Event) -> Recorded | None:
        """The answer so far to an event that was stored before."""
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "SELECT session_id::text, verdict->'moderation' AS moderation FROM router_events"
                " WHERE platform = %s AND event_id = %s",
                (event.platform, event.event_id),
            )
            if row is None:
                return None
            session_id = row["session_id"]
            executions = fetch(
                db,
                "SELECT execution_id::text, module_name, command, status, error_code, error_message"
                " FROM command_executions WHERE session_id = %s ORDER BY execution_id",
                (session_id,),
            )
            said = fetch(
                db,
                "SELECT * FROM outbox WHERE platform = %s AND event_id = %s AND response_action <> 'moderate'"
                " ORDER BY id",
                (event.platform, event.event_id),
            )
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
            Moderation.model_validate(row["moderation"]) if row["moderation"] else None,
        )

    def renew(self, session_ids: Sequence[str]) -> None:
        """Say that this process is still at work on these events."""
        self._db.statement(
            "UPDATE router_work SET lease_until = now() + %s WHERE session_id = ANY(%s::uuid[]) AND holder = %s",
            (self._lease, list(session_ids), self._holder),
        )

    def take_over(self) -> list[Orphan]:
        """Take events that nobody has been at work on for a lease, of each person in each place the first."""
        with self._db.transaction() as db:
            taken = fetch(
                db,
                "UPDATE router_work SET holder = %s, lease_until = now() + %s, attempts = attempts + 1"
                " WHERE session_id IN (SELECT w.session_id FROM router_work w JOIN router_events e USING (session_id)"
                "  WHERE lease_until < now() AND NOT EXISTS (SELECT 1 FROM router_work w2"
                "   JOIN router_events e2 USING (session_id) WHERE w2.session_id < w.session_id"
                "   AND (e2.entity_id, e2.user_id) = (e.entity_id, e.user_id))"
                "  ORDER BY w.session_id LIMIT %s FOR UPDATE OF w SKIP LOCKED) RETURNING session_id::text, attempts",
                (self._holder, self._lease, TAKE_OVER_BATCH),
            )
            if not taken:
                return []
            sessions = [row["session_id"] for row in taken]
            events = fetch(
                db,
                "SELECT session_id::text, event FROM router_events WHERE session_id = ANY(%s::uuid[])"
                " ORDER BY session_id",
                (sessions,),
            )
            executions = fetch(
                db,
                "SELECT *, execution_id::text AS execution_id, session_id::text AS session_id,"
                " parent_id::text AS parent_id FROM command_executions"
                " WHERE session_id = ANY(%s::uuid[]) ORDER BY command_executions.execution_id",
                (sessions,),
            )
        attempts = {row["session_id"]: row["attempts"] for row in taken}
        return [
            Orphan(
                event=Event.model_validate(row["event"]),
                session_id=row["session_id"],
                attempts=attempts[row["session_id"]],
                planned=any(each["session_id"] == row["session_id"] for each in executions),
                unfinished=[
                    each
                    for each in executions
                    if each["session_id"] == row["session_id"] and each["status"] == ExecutionStatus.PENDING
                ],
            )
            for row in events
        ]


class Rehearsal:
    """A Ledger for simulated events: everything goes on as usual and nothing is kept."""

    def open(self, works: Sequence[Work]) -> None:
        for work in works:
            work.responses += [_unsent(each, n) for n, each in enumerate(work.refusals)]

    def plan(self, work: Work) -> bool:
        self.open([work])
        return True

    def record(
        self,
        work: Work,  # noqa: ARG002 - the Ledger's signature
        job: Job,  # noqa: ARG002
        said: Sequence[Said],
        children: Sequence[Job],  # noqa: ARG002
    ) -> list[ResponseInfo] | None:
        return [_unsent(each, n) for n, each in enumerate(said)]

    def close(self, session_id: str) -> None:
        pass


def _for_each(run: Callable[[Sequence[T]], Stored]) -> Callable[[Sequence[T]], list[Stored]]:
    """The same for a combiner: everybody gets the whole and finds their own in it."""
    return lambda items: [run(items)] * len(items)


def _stored(rows: Iterable[dict[str, Any]]) -> Stored:
    stored: Stored = {}
    for row in rows:
        replies = stored.setdefault(row["cause"], {})
        if row["id"] is not None:
            replies[row["execution_id"], row["ordinal"]] = row["id"]
    return stored


def _event_row(work: Work) -> dict[str, Any]:
    event = work.event
    return {
        "platform": event.platform,
        "event_id": event.event_id,
        "session_id": work.session_id,
        "entity_id": work.place.entity_id,
        "community_id": work.place.community_id,
        "user_id": work.person.own_id,
        "message_type": event.message_type.value,
        "event": _kept_event(work),
        "verdict": work.verdict,
    }


def _earned(works: Sequence[Work]) -> dict[str, Any]:
    """What events earn: of several in one batch that are paid once, the first."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for work in works:
        if work.points.score:
            rows.setdefault(_paid_as(work), _points_row(work))
    since = first_id_at(datetime.now(UTC) - RENEWED_WITHIN)
    return {"points": _as_json(rows.values()), "renewals": list(RENEWALS), "renewed_since": since}


def _paid_as(work: Work) -> tuple[Any, ...]:
    kind = work.event.message_type
    person = work.place.community_id, work.place.entity_id, work.person.own_id
    if kind in RENEWALS:
        return (RENEWALS, *person)
    return (kind, *person) if kind is MessageType.FOLLOW else (work.session_id,)


def _points_row(work: Work) -> dict[str, Any]:
    return {
        "session_id": work.session_id,
        "community_id": work.place.community_id,
        "user_id": work.person.own_id,
        "entity_id": work.place.entity_id,
        "event_name": work.event.message_type.value,
        "event_score": work.points.score,
        "amount": work.points.amount,
    }


def _unsent(said: Said, ordinal: int) -> ResponseInfo:
    return ResponseInfo(
        outbox_id=None,
        execution_id=said.execution_id,
        ordinal=ordinal,
        module_name=said.module_name,
        response_action=said.action,
        response_data=summarise(said.action, said.data),
    )


def _job_row(work: Work, job: Job, cause: str) -> dict[str, Any]:
    place = work.place
    is_elsewhere = job.command.spec.type != "container"
    return {
        "cause": cause,
        "execution_id": job.execution_id,
        "parent_id": job.parent_id,
        "depth": job.depth,
        "platform": place.platform,
        "command_id": job.command.id,
        "module_name": job.command.module_name,
        "command": job.command.name,
        "trigger_type": job.trigger,
        "entity_id": place.entity_id,
        "community_id": place.community_id,
        "user_id": work.person.own_id,
        "message_content": without(work.event.message, work.secrets),
        "parameters": without(job.args, work.secrets),
        "location_url": job.command.spec.location_url,
        # A container's call can be put together again from the event; what was sent elsewhere is kept as it was.
        "request_payload": job.kept_payload(work.secrets) if is_elsewhere and job.payload else None,
        "decision": job.decided(),
        "error_code": job.error.code if job.error else None,
        "error_message": without(job.error.message, work.secrets) if job.error else None,
        "status": job.status.value,
        **(_came_of(job.result) if job.result else {}),
    }


def _kept_event(work: Work) -> str:
    event = work.event
    if work.secrets:
        changes = {"message": without(event.message, work.secrets), "data": without(event.data, work.secrets)}
        event = event.model_copy(update=changes)
    return event.model_dump_json()


def _result_row(work: Work, job: Job) -> dict[str, Any]:
    assert job.result is not None
    result = job.result
    return {
        "execution_id": job.execution_id,
        "status": job.status.value,
        "error_code": job.error.code if job.error else None,
        "error_message": without(job.error.message, work.secrets) if job.error else None,
        "retries": result.retries,
        "is_late": result.digest is not None,
        **_came_of(result),
    }


def _came_of(result: Result) -> dict[str, Any]:
    return {
        "http_status": result.http_status,
        "response_data": {
            "module_ms": result.module_ms,
            "digest": result.digest,
            "responses": [each.response_action for each in result.responses],
        },
        "took_ms": result.took_ms,
    }


def _read_rows(work: Work) -> Iterator[dict[str, Any]]:
    """What came of the executions that were read ahead."""
    for job in work.jobs:
        if job.result is not None:
            yield from _response_rows(work, job, work.session_id)


def _response_rows(work: Work, job: Job, cause: str) -> Iterator[dict[str, Any]]:
    """The spec's module_responses: one row for each response, or one that says there was none."""
    assert job.result is not None
    responses: list[tuple[str | None, dict[str, Any]]] = [
        (each.response_action, _kept(each, work.secrets)) for each in job.result.responses
    ]
    for action, data in responses or [(None, {})]:
        is_ticker = action == "ticker"
        yield {
            "cause": cause,
            "execution_id": job.execution_id,
            "module_name": job.command.module_name,
            "success": job.status is ExecutionStatus.SUCCESS,
            "response_action": action,
            "response_data": data if action else None,
            "media_type": data.get("media_type"),
            "media_url": data.get("media_url"),
            "ticker_text": data.get("text") if is_ticker else None,
            "ticker_duration": data.get("display_s") if is_ticker else None,
            "chat_message": data.get("message") if action == "chat" else None,
            "error_message": without(job.error.message, work.secrets) if job.error else None,
            "processing_time_ms": job.result.module_ms,
        }


def _kept(response: ModuleResponse, secrets: Sequence[str]) -> dict[str, Any]:
    """What a module answered, without what is for the person alone."""
    data = dict(without(response.response_data, secrets))
    return {**data, "message": HIDDEN} if response.is_private else data


def _said_at_once(work: Work) -> Iterator[dict[str, Any]]:
    """What is said with the event itself: refusals, and what was read ahead."""
    for said in (work.refusals, *(job.said for job in work.jobs)):
        yield from _said_rows(work, said, work.session_id)


def _responses_of(work: Work, stored: Mapping[tuple[str | None, int], int]) -> list[ResponseInfo]:
    """The same as a collector sees it, if it was stored just now."""
    return [each for said in (work.refusals, *(job.said for job in work.jobs)) for each in _said_in(stored, said)]


def _said_rows(work: Work, said: Sequence[Said], cause: str) -> Iterator[dict[str, Any]]:
    """Replies for the outbox. When the event was answered already, whichever collector is first says them."""
    for ordinal, each in enumerate(said):
        yield {
            "cause": cause,
            "platform": work.place.platform,
            "event_id": work.event.event_id,
            "execution_id": each.execution_id,
            "ordinal": ordinal,
            "entity_id": work.place.entity_id,
            "community_id": work.place.community_id,
            "module_name": each.module_name,
            "response_action": each.action,
            "response_data": each.data,
            "reply_to": work.event.event_id if each.data.get("reply") else "",
            "is_late": work.answered,
        }


def _as_json(rows: Iterable[dict[str, Any]]) -> str:
    return to_json(list(rows)).decode()


def _said_in(ids: Mapping[tuple[str | None, int], int], said: Sequence[Said]) -> list[ResponseInfo]:
    """The replies that were stored just now, as a collector sees them."""
    return [
        ResponseInfo(
            outbox_id=ids[each.execution_id, ordinal],
            execution_id=each.execution_id,
            ordinal=ordinal,
            module_name=each.module_name,
            response_action=each.action,
            response_data=summarise(each.action, each.data),
        )
        for ordinal, each in enumerate(said)
        if (each.execution_id, ordinal) in ids
    ]


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
    """What a collector needs to know: chat in full, of an overlay only which one shows it, and nothing of what is
    private: whoever knows what that is asks for it (contracts §5)."""
    if action == PRIVATE:
        return {"private": True}
    return {"delivered_to": OVERLAY_SOURCES[action]} if action in OVERLAY_SOURCES else data


def _error(row: dict[str, Any]) -> ErrorInfo | None:
    return ErrorInfo(code=row["error_code"], message=row["error_message"] or "") if row["error_code"] else None
