"""What a platform sent, kept until the router has taken it: `{platform}_events` as a queue with leases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from psycopg2 import sql
from psycopg2.extras import Json
from pydal import DAL

from .contracts import MAX_BATCH
from .database import Database, fetch, fetch_one
from .errors import UpstreamError

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


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a platform delivered. `ignored` says why it is kept but not forwarded."""

    delivery_id: str
    event_id: str
    type: str
    channel_id: str
    person_id: str
    data: dict[str, Any]
    occurred_at: datetime | None = None
    ignored: str = ""


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
class Result:
    """How forwarding an event ended."""

    id: int
    state: Literal["forwarded", "failed"]
    detail: str = ""
    session_id: str | None = None


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

    def store(self, delivery: Delivery) -> Intake:
        """Keep a delivery. When this returns it is committed and the platform may be told.

        The same delivery again is `repeated`; the same event in another delivery is kept and `ignored`.
        """
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                self._sql(
                    "INSERT INTO {table} (delivery_id, event_id, type, {channel}, {person}, event_data, occurred_at,"
                    " state, detail, processed_at)"
                    " SELECT %(delivery_id)s, %(event_id)s, %(type)s, %(channel_id)s, %(person_id)s, %(data)s,"
                    "  %(occurred_at)s, CASE WHEN why = '' THEN 'pending' ELSE 'ignored' END, why,"
                    "  CASE WHEN why <> '' THEN now() END"
                    " FROM (SELECT CASE WHEN %(ignored)s <> '' THEN %(ignored)s WHEN EXISTS ("
                    "   SELECT 1 FROM {table} WHERE event_id = %(event_id)s AND state <> 'ignored')"
                    "  THEN 'another delivery brought it' ELSE '' END AS why) AS decided"
                    " ON CONFLICT (delivery_id) DO NOTHING RETURNING state"
                ),
                {
                    "delivery_id": delivery.delivery_id,
                    "event_id": delivery.event_id,
                    "type": delivery.type,
                    "channel_id": delivery.channel_id,
                    "person_id": delivery.person_id,
                    "data": Json(delivery.data),
                    "occurred_at": delivery.occurred_at,
                    "ignored": delivery.ignored,
                },
            )
        if row is None:
            return "repeated"
        return "stored" if row["state"] == "pending" else "ignored"

    def claim(self, limit: int = MAX_BATCH) -> list[StoredEvent]:
        """Take the oldest events that may go out now, each person's in their order.

        An event waits while an earlier one of the same person in the same channel is with another batch or is to be
        tried again later. `free` can miss a row that another forwarder is just taking, and then `first` leaves the
        later ones of that person alone as well.
        """
        with self._db.transaction() as db:
            rows = fetch(
                db,
                self._sql(
                    "WITH free AS ("
                    " SELECT id, {channel} AS channel_id, {person} AS person_id FROM {table} e"
                    " WHERE state IN ('pending', 'forwarding')"
                    "  AND CASE state WHEN 'pending' THEN available_at ELSE lease_until END <= now()"
                    "  AND NOT EXISTS (SELECT 1 FROM {table} b WHERE b.{channel} = e.{channel}"
                    "   AND b.{person} = e.{person} AND b.id < e.id AND b.state IN ('pending', 'forwarding')"
                    "   AND CASE b.state WHEN 'pending' THEN b.available_at ELSE b.lease_until END > now())"
                    " ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
                    "), first AS ("
                    " SELECT id FROM free f WHERE NOT EXISTS (SELECT 1 FROM {table} b"
                    "  WHERE b.{channel} = f.channel_id AND b.{person} = f.person_id AND b.id < f.id"
                    "  AND b.state IN ('pending', 'forwarding') AND b.id NOT IN (SELECT id FROM free))"
                    ") UPDATE {table} t SET state = 'forwarding', holder = %(holder)s, attempts = attempts + 1,"
                    " lease_until = now() + %(lease)s FROM first WHERE t.id = first.id"
                    " RETURNING t.id, event_id, type, {channel} AS channel_id, event_data AS data, occurred_at"
                ),
                {"limit": limit, "holder": self._holder, "lease": LEASE},
            )
        return [StoredEvent(**row) for row in sorted(rows, key=lambda row: int(row["id"]))]

    def renew(self, ids: Sequence[int]) -> None:
        """Say that this process still has these events under way."""
        with self._db.transaction() as db:
            fetch(
                db,
                self._sql(
                    "UPDATE {table} SET lease_until = now() + %(lease)s"
                    " WHERE id = ANY(%(ids)s) AND state = 'forwarding' AND holder = %(holder)s"
                ),
                {"ids": list(ids), "holder": self._holder, "lease": LEASE},
            )

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

    def finish(self, db: DAL, results: Sequence[Result]) -> None:
        """Record how forwarding ended, for those events that are still with this process."""
        fetch(
            db,
            self._sql(
                "UPDATE {table} t SET state = r.state, detail = r.detail, session_id = r.session_id::uuid,"
                " lease_until = NULL, processed_at = now() FROM unnest(%(ids)s::bigint[], %(states)s::text[],"
                " %(details)s::text[], %(sessions)s::text[]) AS r (id, state, detail, session_id)"
                " WHERE t.id = r.id AND t.state = 'forwarding' AND t.holder = %(holder)s"
            ),
            {
                "ids": [each.id for each in results],
                "states": [each.state for each in results],
                "details": [each.detail[:500] for each in results],
                "sessions": [each.session_id for each in results],
                "holder": self._holder,
            },
        )

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
