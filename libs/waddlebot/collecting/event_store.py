"""What a platform sent, kept until the router has taken it: `{platform}_events` as a queue with leases."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from psycopg2 import sql
from pydal import DAL, Field
from pydantic_core import to_json as encode

from ..base.contracts import MAX_BATCH
from ..base.errors import UpstreamError
from ..base.wire import clean
from ..data.database import UNHURRIED, Database, Prepared, fetch, fetch_one
from ..data.outbox import MODERATION_ORDINAL, USEFUL_FOR, Priority, Waiting

# A forwarder that has not renewed its hold for this long is taken for dead.
LEASE = timedelta(seconds=6)
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 5.0
STALLED_AFTER_S = 60

Intake = Literal["stored", "ignored", "repeated"]


@dataclass(frozen=True, slots=True)
class EventTable:
    """A platform's event table, and its columns for where something happened and who did it."""

    name: str
    channel: str
    person: str

    @property
    def platform(self) -> str:
        return self.name.removesuffix("_events")

    @property
    def activities(self) -> str:
        return f"{self.platform}_activities"


@dataclass(frozen=True, slots=True)
class Holding:
    """A claim under which a socket is held. A later claim of the same entity has a higher epoch."""

    entity_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a platform delivered. `ignored` says why it is kept but not forwarded; `holding`, under which claim its
    socket was held when it came.
    """

    delivery_id: str
    event_id: str
    type: str
    channel_id: str
    person_id: str
    data: dict[str, Any]
    occurred_at: datetime | None = None
    ignored: str = ""
    holding: Holding | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A delivery on its way to the router."""

    id: int
    event_id: str
    type: str
    channel_id: str
    data: dict[str, Any]
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True)
class Order:
    """What the router wants done about an event: the platform's part of a moderation."""

    id: int
    event_id: str
    entity_id: str
    session_id: str
    data: dict[str, Any]
    # Of several for one event.
    nth: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """How forwarding an event ended."""

    id: int
    state: Literal["forwarded", "failed"]
    detail: str = ""
    session_id: str | None = None
    # What is kept of it from now on, if not all.
    kept: dict[str, Any] | None = None


# One statement for a batch of deliveries; each may be from anywhere. Of two copies of one event the first counts.
# With EXISTS for a LIMIT 1, here and below, a plan made while the table was new reads all of it for each batch.
STORE = """
INSERT INTO {table} (delivery_id, event_id, type, {channel}, {person}, event_data, occurred_at, state, detail,
    processed_at, attempts, holder, lease_until)
SELECT delivery_id, event_id, type, channel, person,
    -- Of a copy only what lists find it by: what of the first is for no record is not known here.
    CASE why WHEN 'another delivery brought it' THEN jsonb_strip_nulls(jsonb_build_object('guild_id',
        data->'guild_id', 'team_id', data->'team_id', 'message_type', data->'message_type')) ELSE data END, occurred_at,
    CASE WHEN why <> '' THEN 'ignored' WHEN goes_on THEN 'forwarding' ELSE 'pending' END, why,
    CASE WHEN why <> '' THEN now() END, CASE WHEN goes_on THEN 1 ELSE 0 END,
    CASE WHEN goes_on THEN %(holder)s::text ELSE '' END, CASE WHEN goes_on THEN now() + %(lease)s::interval END
FROM (SELECT *, %(goes_on)s::boolean AND why = '' AND (
    SELECT true FROM {table} b WHERE b.{channel} = delivery.channel AND b.{person} = delivery.person
        AND b.state IN ('pending', 'forwarding') LIMIT 1) IS NULL AS goes_on
FROM (
    SELECT d.*, CASE
        WHEN d.why <> '' THEN d.why
        WHEN held_entity IS NOT NULL AND (
            SELECT true FROM coordination c WHERE c.entity_id = held_entity AND c.epoch = held_epoch
                AND c.claimed_by IS NOT NULL LIMIT 1) IS NULL THEN 'no longer held here'
        WHEN row_number() OVER (PARTITION BY d.event_id, d.why = '' ORDER BY ordinal) > 1 OR (
            SELECT true FROM {table} t WHERE t.event_id = d.event_id AND t.state <> 'ignored' LIMIT 1)
            THEN 'another delivery brought it'
        ELSE '' END
    FROM ROWS FROM (jsonb_to_recordset(%(rows)s::jsonb) AS (delivery_id text, event_id text, type text, channel text,
        person text, data jsonb, occurred_at timestamptz, why text, held_entity text, held_epoch bigint))
        WITH ORDINALITY AS d (delivery_id, event_id, type, channel, person, data, occurred_at, why, held_entity,
        held_epoch, ordinal)
) AS delivery (delivery_id, event_id, type, channel, person, data, occurred_at, given, held_entity, held_epoch,
    ordinal, why)) AS decided
ORDER BY ordinal
ON CONFLICT (delivery_id) DO NOTHING RETURNING id, delivery_id, state
"""
# `free` can miss a row that another forwarder is just taking, and then `first` leaves the later ones of that person
# alone as well.
CLAIM = """
WITH free AS (
    SELECT id, {channel} AS channel_id, {person} AS person_id FROM {table} e
    WHERE state IN ('pending', 'forwarding')
        AND CASE state WHEN 'pending' THEN available_at ELSE lease_until END <= now()
        AND (
            SELECT true FROM {table} b WHERE b.{channel} = e.{channel} AND b.{person} = e.{person} AND b.id < e.id
                AND b.state IN ('pending', 'forwarding')
                AND CASE b.state WHEN 'pending' THEN b.available_at ELSE b.lease_until END > now() LIMIT 1) IS NULL
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), first AS (
    SELECT id FROM free f WHERE (
        SELECT true FROM {table} b WHERE b.{channel} = f.channel_id AND b.{person} = f.person_id AND b.id < f.id
            AND b.state IN ('pending', 'forwarding') AND b.id NOT IN (SELECT id FROM free) LIMIT 1) IS NULL
)
UPDATE {table} t SET state = 'forwarding', holder = %(holder)s::text, attempts = attempts + 1,
    lease_until = now() + %(lease)s::interval
FROM first WHERE t.id = first.id
RETURNING t.id, event_id, type, {channel} AS channel_id, event_data AS data, occurred_at
"""
# Rows that are just being finished are left alone: waiting for one while holding others is how deadlocks begin.
RENEW = """
UPDATE {table} SET lease_until = now() + %(lease)s::interval WHERE id IN (
    SELECT id FROM {table} WHERE id = ANY(%(ids)s::bigint[]) AND state = 'forwarding' AND holder = %(holder)s::text
    FOR UPDATE SKIP LOCKED)
"""
# How forwarding ended; what was earned, by the ledger; what is to be done, in the outbox.
FINISH = """
WITH done AS (
    UPDATE {table} t SET state = r.state, detail = left(r.detail, 500), session_id = r.session_id::uuid,
        lease_until = NULL, processed_at = now(), event_data = coalesce(r.kept, t.event_data)
    FROM jsonb_to_recordset(%(results)s::jsonb) AS r (id bigint, state text, detail text, session_id text, kept jsonb)
    -- Twice, so that a plan made while the table was new looks at these few rows only, too.
    WHERE t.id = r.id AND t.id = ANY(%(ids)s::bigint[]) AND t.state = 'forwarding' AND t.holder = %(holder)s::text
    RETURNING t.id, t.event_id, t.session_id, t.{person} AS person
), earned AS (
    INSERT INTO {activities} (event_id, activity_type, platform_user_id, entity_id, amount, session_id)
    SELECT d.event_id, e.event_name, d.person, e.entity_id, e.event_score, d.session_id
    FROM done d JOIN reputation_events e ON e.source_id = d.session_id
    ON CONFLICT (session_id) DO NOTHING
)
INSERT INTO outbox (platform, event_id, execution_id, ordinal, session_id, entity_id, community_id, module_name,
    response_action, response_data, expires_at)
SELECT '{platform}', o.event_id, NULL, {ordinal} + coalesce(o.nth, 0), o.session_id, o.entity_id, e.community_id,
    'router', 'moderate', o.data, now() + %(useful_for)s::interval
FROM jsonb_to_recordset(%(orders)s::jsonb) AS o (id bigint, event_id text, entity_id text, session_id uuid, data jsonb,
        nth integer) JOIN done d USING (id) JOIN entities e ON e.entity_id = o.entity_id
ON CONFLICT (platform, event_id, execution_id, ordinal) DO NOTHING
RETURNING id, entity_id
"""


class EventStore:
    """A platform's deliveries in PostgreSQL: pending → forwarding (with a lease) → forwarded or failed."""

    def __init__(self, db: Database, table: EventTable, *, holder: str) -> None:
        self._db = db
        self._holder = holder
        self._names = {
            "table": sql.Identifier(table.name),
            "channel": sql.Identifier(table.channel),
            "person": sql.Identifier(table.person),
        }
        names = {"table": table.name, "channel": table.channel, "person": table.person}
        self._store = Prepared(f"{table.name}_store", STORE.format(**names))
        self._claim = Prepared(f"{table.name}_claim", UNHURRIED, CLAIM.format(**names))
        finish = FINISH.format(
            **names, platform=table.platform, activities=table.activities, ordinal=MODERATION_ORDINAL
        )
        self._finish = Prepared(f"{table.name}_finish", UNHURRIED, finish)
        self._finish_and_order = Prepared(f"{table.name}_finish_and_order", finish)
        self._renew = Prepared(f"{table.name}_renew", UNHURRIED, RENEW.format(**names))

    def store(self, deliveries: Sequence[Delivery], *, goes_on: bool = False) -> tuple[list[Intake], list[StoredEvent]]:
        """Keep deliveries. When this returns they are committed and the platform may be told.

        The same delivery again is `repeated`; the same event in another delivery is kept and `ignored`, and so is what
        comes through a socket whose claim has passed to another container. With `goes_on` whatever need not wait for an
        earlier event of the same person is claimed at once, and returned.
        """
        encoded, is_clean = _as_json([_as_row(each) for each in deliveries])
        stored = self._db.statement(
            self._store, {"rows": encoded, "goes_on": goes_on and is_clean, "holder": self._holder, "lease": LEASE}
        )
        found = {row["delivery_id"]: row for row in stored}
        outcomes: list[Intake] = []
        claimed: list[StoredEvent] = []
        for each in deliveries:
            # The first of two copies in one batch is the one that was stored.
            row = found.pop(each.delivery_id, None)
            outcomes.append(_intake(row["state"] if row else None))
            if row and row["state"] == "forwarding":
                claimed.append(_as_stored(row["id"], each))
        return outcomes, claimed

    def claim(self, limit: int = MAX_BATCH) -> list[StoredEvent]:
        """Take the oldest events that may go out now, each person's in their order.

        An event waits while an earlier one of the same person in the same channel is with another batch or is to be
        tried again later.
        """
        rows = self._db.statement(self._claim, {"limit": limit, "holder": self._holder, "lease": LEASE})
        return [StoredEvent(**row) for row in sorted(rows, key=lambda row: int(row["id"]))]

    def renew(self, ids: Sequence[int]) -> None:
        """Say that this process still has these events under way."""
        self._db.statement(self._renew, {"ids": list(ids), "holder": self._holder, "lease": LEASE})

    def release(self, ids: Sequence[int], *, detail: str) -> None:
        """Let events be tried again, each time after twice as long."""
        with self._db.transaction() as db:
            fetch(
                db,
                self._sql(
                    "UPDATE {table} SET state = 'pending', detail = %(detail)s, available_at = now()"
                    " + interval '1 second' * least(%(max_s)s, %(first_s)s * power(2, least(attempts, 10) - 1))"
                    " WHERE id = ANY(%(ids)s) AND state = 'forwarding' AND holder = %(holder)s"
                ),
                {
                    "ids": list(ids),
                    "holder": self._holder,
                    "detail": detail[:500],
                    "first_s": FIRST_PAUSE_S,
                    "max_s": MAX_PAUSE_S,
                },
            )

    def finish(self, results: Sequence[Result], orders: Sequence[Order] = ()) -> list[Waiting]:
        """Record how forwarding ended, for those events that are still with this process: what each of them earned, and
        what is to be done about it. Returns what has been ordered now.
        """
        rows = self._db.statement(
            self._finish_and_order if orders else self._finish,
            {
                "results": encode(results).decode(),
                "ids": [each.id for each in results],
                "orders": encode(orders).decode(),
                "holder": self._holder,
                "useful_for": USEFUL_FOR,
            },
        )
        return [Waiting(row["id"], row["entity_id"], Priority.MODERATION) for row in rows]

    def check(self) -> str:
        """Say how many events wait. Raises: UpstreamError when the oldest has waited for long."""
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                self._sql(
                    "SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(received_at)), 0) AS oldest_s"
                    " FROM (SELECT received_at FROM {table} WHERE state IN ('pending', 'forwarding')"
                    " ORDER BY id LIMIT 1000) AS oldest"
                ),
            )
        assert row is not None
        text = f"{row['waiting']} waiting"
        if row["oldest_s"] > STALLED_AFTER_S:
            raise UpstreamError(f"{text}, the oldest for {row['oldest_s']:.0f} s")
        return text

    def _sql(self, text: str) -> Any:
        return sql.SQL(text).format(**self._names)


def define_events(db: DAL, table: EventTable) -> None:
    """PyDAL's view of what a platform delivered, and of what people earned there; the module's migrations make both."""
    db.define_table(
        table.name,
        Field("delivery_id", "text"),
        Field("event_id", "text"),
        Field("type", "text"),
        Field(table.channel, "text"),
        Field(table.person, "text"),
        Field("event_data", "json"),
        Field("occurred_at", "datetime"),
        Field("state", "text"),
        Field("detail", "text"),
        Field("attempts", "integer"),
        Field("available_at", "datetime"),
        Field("holder", "text"),
        Field("lease_until", "datetime"),
        Field("session_id", "text"),
        Field("received_at", "datetime"),
        Field("processed_at", "datetime"),
    )
    db.define_table(
        table.activities,
        Field("event_id", "text"),
        Field("activity_type", "text"),
        Field("platform_user_id", "text"),
        Field("entity_id", "text"),
        Field("amount", "bigint"),
        Field("context_sent", "boolean"),
        Field("session_id", "text"),
        Field("created_at", "datetime"),
    )


def _as_row(delivery: Delivery) -> dict[str, Any]:
    held = delivery.holding
    return {
        "delivery_id": delivery.delivery_id,
        "event_id": delivery.event_id,
        "type": delivery.type,
        "channel": delivery.channel_id,
        "person": delivery.person_id,
        "data": delivery.data,
        "occurred_at": delivery.occurred_at,
        "why": delivery.ignored,
        "held_entity": held.entity_id if held else None,
        "held_epoch": held.epoch if held else None,
    }


def _as_stored(id_: int, delivery: Delivery) -> StoredEvent:
    return StoredEvent(id_, delivery.event_id, delivery.type, delivery.channel_id, delivery.data, delivery.occurred_at)


def _as_json(rows: list[dict[str, Any]]) -> tuple[str, bool]:
    """What PostgreSQL or UTF-8 cannot hold, and a socket's own parser let through, becomes U+FFFD. Returns, too,
    whether there was nothing of that."""
    with contextlib.suppress(ValueError):  # A lone surrogate.
        encoded = encode(rows)
        if b"\\u0000" not in encoded:
            return encoded.decode(), True
    return encode(clean(rows)).decode(), False


def _intake(state: str | None) -> Intake:
    if state is None:
        return "repeated"
    return "ignored" if state == "ignored" else "stored"
