"""Brings what modules show on overlays from the outbox to the browser sources, at once and in order.

Any router may deliver any row. A row whose router died is delivered again, which changes nothing there: its item id is
made from the outbox id.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from waddlebot.base.contracts import OVERLAY_SOURCES, OutboxState
from waddlebot.base.errors import UpstreamError, UpstreamRefused
from waddlebot.base.ids import as_traceparent, traceparent_of
from waddlebot.base.logs import AAALog
from waddlebot.base.metrics import Metrics
from waddlebot.data.database import Database, fetch
from waddlebot.data.outbox import OUTBOX_CHANNEL, USEFUL_FOR
from waddlebot.web.clients import FleetClient

BATCH = 50
TIMEOUT_S = 5.0
# Long enough for a whole batch that is answered slowly.
LEASE = timedelta(seconds=30)
RETRY_AFTER = timedelta(seconds=2)
# What says that this very item cannot be shown; anything else may be over in a moment.
ITEM_REFUSED = frozenset({400, 409, 413, 415, 422})
# A line that a delivery adds stands far behind the replies of its execution, which are counted from 0.
FOLLOW_UP = 1000


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    community_id: int
    session_id: str
    response_action: str
    response_data: dict[str, Any]
    traceparent: str | None


class OverlayDelivery:
    """Delivers with the router's own key. `url` is where the browser sources serve `/display`."""

    def __init__(
        self, db: Database, client: FleetClient, url: str, *, holder: str, log: AAALog, metrics: Metrics
    ) -> None:
        self._db = db
        self._client = client
        self._url = url.rstrip("/")
        self._holder = holder
        self._log = log
        self._delivered = metrics.counter("overlay_items", "Overlay replies, by what became of them.", ["state"])
        self.wake = threading.Event()

    def show(
        self,
        *,
        item_id: str,
        session_id: str,
        community_id: int,
        action: str,
        data: dict[str, Any],
        mode: Literal["live", "simulate"],
        traceparent: str | None = None,
    ) -> dict[str, Any]:
        """Show one response and return what the browser sources answered.

        Calls out: never with a transaction open, nor in the thread that serves a request.
        Raises: UpstreamError; UpstreamRefused when this item cannot be shown.
        """
        body = {
            "item_id": item_id,
            "session_id": session_id,
            "community_id": community_id,
            "source_type": OVERLAY_SOURCES[action],
            "response_action": action,
            "response_data": data,
            "mode": mode,
        }
        headers = {"traceparent": as_traceparent(traceparent) or traceparent_of(session_id)}
        response = self._client.post(
            f"{self._url}/display", json.dumps(body).encode(), timeout_s=TIMEOUT_S, headers=headers
        )
        if response.status != 200:
            kind = UpstreamRefused if response.status in ITEM_REFUSED else UpstreamError
            raise kind(f"The browser sources answered HTTP {response.status}: {response.body[:200]!r}")
        answer: dict[str, Any] = response.json()
        return answer

    def step(self) -> bool:
        """Deliver what waits. True when there may be more.

        Raises: UpstreamError when the browser sources are away; everything is tried again then.
        """
        rows = self._take()
        for place, row in enumerate(rows):
            try:
                self._deliver(row)
            except UpstreamRefused as err:
                self._end([row.id], OutboxState.DROPPED, err.message)
            except UpstreamError:
                self._put_back([each.id for each in rows[place:]])
                raise
        return len(rows) == BATCH

    def _deliver(self, row: _Row) -> None:
        answer = self.show(
            item_id=f"outbox-{row.id}",
            session_id=row.session_id,
            community_id=row.community_id,
            action=row.response_action,
            data=row.response_data,
            mode="live",
            traceparent=row.traceparent,
        )
        if "form_url" in answer:
            self._tell_viewer(row.id, answer["form_url"])
        self._end([row.id], OutboxState.SENT)

    def _take(self) -> list[_Row]:
        """The oldest rows that nobody is delivering, in the order in which they were said."""
        rows = self._db.statement(
            "UPDATE outbox SET state = 'sending', sender = %(holder)s, lease_until = now() + %(lease)s WHERE id IN ("
            "SELECT id FROM outbox WHERE response_action <> 'chat' AND response_action NOT IN ('moderate', 'private')"
            " AND expires_at > now() AND (state = 'pending' OR (state = 'sending' AND lease_until <= now()))"
            " ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"
            " RETURNING id, community_id, session_id::text, response_action, response_data,"
            " (SELECT event->>'traceparent' FROM router_events e WHERE e.session_id = outbox.session_id) traceparent",
            {"holder": self._holder, "lease": LEASE, "limit": BATCH},
        )
        return sorted((_Row(**row) for row in rows), key=lambda row: row.id)

    def _put_back(self, ids: Sequence[int]) -> None:
        """Let rows be taken again in a moment."""
        self._db.statement(
            "UPDATE outbox SET lease_until = now() + %s WHERE id = ANY(%s) AND state = 'sending' AND sender = %s",
            (RETRY_AFTER, list(ids), self._holder),
        )

    def _end(self, ids: Sequence[int], state: OutboxState, detail: str = "") -> None:
        self._db.statement(
            "UPDATE outbox SET state = %s, detail = %s, finished_at = now() WHERE id = ANY(%s) AND state = 'sending'",
            (state.value, detail[:500], list(ids)),
        )
        self._delivered.labels(state.value).inc(len(ids))
        if state is not OutboxState.SENT:
            self._log.system("overlay_item_dropped", result="FAILED", outbox_ids=list(ids), detail=detail[:300])

    def _tell_viewer(self, outbox_id: int, url: str) -> None:
        """Say in chat where a form can be answered, to whoever caused it; once, as any reply."""
        with self._db.transaction() as db:
            fetch(
                db,
                "WITH said AS (INSERT INTO outbox (platform, event_id, execution_id, ordinal, session_id, entity_id,"
                " community_id, module_name, response_action, response_data, reply_to, expires_at)"
                " SELECT platform, event_id, execution_id, ordinal + %(behind)s, session_id, entity_id, community_id,"
                " module_name, 'chat', jsonb_build_object('message', %(message)s::text, 'reply', true), event_id,"
                " now() + %(useful)s FROM outbox WHERE id = %(id)s ON CONFLICT DO NOTHING RETURNING platform)"
                " SELECT pg_notify(%(channel)s, platform) FROM said",
                {
                    "behind": FOLLOW_UP,
                    "message": f"Please answer here, the link works once: {url}",
                    "useful": USEFUL_FOR,
                    "id": outbox_id,
                    "channel": OUTBOX_CHANNEL,
                },
            )
