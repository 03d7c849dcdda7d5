"""Everything the bot says, from the moment it is decided until it was sent (contracts §5).

The compare-and-set from `pending` to `sending` is what keeps two senders from saying one reply twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any

from pydal import DAL

from ..base.contracts import OutboxState
from ..base.errors import Conflict, NotFound
from ..base.wire import clean, for_chat
from .database import Database, Prepared, fetch, fetch_one

# Collectors listen here for late replies; the payload is the platform, or this where an overlay shows the reply.
OUTBOX_CHANNEL = "waddlebot_outbox"
TO_OVERLAYS = "overlays"
# How a text for one person alone is marked: no `chat`, so that nobody says it aloud who does not know what it is.
PRIVATE = "private"
# Why it is not said where others would read it.
NOT_PRIVATE_HERE = "not_private_here"
# What a module said unasked is a reply to this and an id of its own.
ANNOUNCED = "announcement:"
# A reply that nobody could deliver for this long would only confuse; it is dropped and counted.
USEFUL_FOR = timedelta(minutes=5)
# How long a sender may be between taking a reply and reporting what became of it.
SEND_LEASE = timedelta(seconds=30)
# Replies in an Answer are left to the collector that asked for this long before another may drain them.
ASKER_FIRST = timedelta(seconds=3)
# Nobody asked for what a rule says. Much later it would be about something that everybody has forgotten.
CHATTER_USEFUL_FOR = timedelta(seconds=30)
# Out of the way of an event's replies, which are counted from 0.
MODERATION_ORDINAL = 1_000_000


class Priority(IntEnum):
    """Which of the things to say goes first, when not all of them may."""

    MODERATION = 0
    # To somebody who gave a command.
    REPLY = 1
    # To everybody, about a follow, a raid…
    EVENT = 2
    # What a rule makes the bot say.
    CHATTER = 3


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A reply that this process now has to send."""

    id: int
    entity_id: str
    response_action: str
    response_data: dict[str, Any]
    reply_to: str
    module_name: str
    # What it is a reply to, also where it is not threaded to it.
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reply that nobody has taken yet, as far as is known."""

    id: int
    entity_id: str
    priority: Priority = Priority.REPLY


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a reply that was being sent. PENDING: it goes back, and is not taken again before `after`."""

    id: int
    state: OutboxState
    detail: str
    after: timedelta


# What was for one person alone has no use, and may be a ticket, once it is said or never will be.
KEPT = (
    """CASE WHEN response_data->>'private' = 'true' THEN response_data || '{"message": "•"}' ELSE response_data END"""
)
# For each reply twice, so one statement for as many as there are.
STEP = Prepared(
    "outbox_step",
    f"""
WITH ended AS (
    UPDATE outbox o SET state = e.state, detail = e.detail,
        available_at = CASE e.state WHEN 'pending' THEN now() + e.after ELSE available_at END,
        finished_at = CASE e.state WHEN 'pending' THEN NULL ELSE now() END,
        response_data = CASE e.state WHEN 'pending' THEN response_data ELSE {KEPT} END
    FROM unnest(%(ended)s::bigint[], %(states)s::text[], %(details)s::text[], %(after)s::interval[])
        AS e (id, state, detail, after)
    WHERE o.id = e.id AND o.id = ANY(%(ended)s::bigint[]) AND o.state = 'sending'
)
UPDATE outbox SET state = 'sending', sender = %(sender)s::text, lease_until = now() + %(lease)s::interval
WHERE id = ANY(%(ids)s::bigint[]) AND (state = 'pending' OR state = 'sending' AND sender = %(sender)s::text)
    AND expires_at > now()
RETURNING id, entity_id, response_action, response_data, reply_to, module_name, event_id
""",
)


def step(db: Database, *, take: Sequence[int], ended: Sequence[Ended], sender: str) -> list[Outgoing]:
    """Record what became of replies, and take those of the named ones that nobody else took yet.

    Whose connection breaks cannot know whether it took them. It asks again, for what it has not begun to say and with a
    name that no other process ever has, not even itself after another start.
    """
    rows = db.statement(
        STEP,
        {
            "ids": list(take),
            "ended": [each.id for each in ended],
            "states": [each.state.value for each in ended],
            "details": [clean(each.detail[:500]) for each in ended],
            "after": [each.after for each in ended],
            "sender": sender,
            "lease": SEND_LEASE,
        },
    )
    return [
        Outgoing(**{**row, "response_data": {name: _sayable(value) for name, value in row["response_data"].items()}})
        for row in sorted(rows, key=lambda row: int(row["id"]))
    ]


def _sayable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sayable(each) for name, each in value.items()}
    return for_chat(value) if isinstance(value, str) else value


def list_waiting(db: DAL, platform: str, *, except_ids: Sequence[int], limit: int) -> list[Waiting]:
    """The oldest replies of a platform that wait for a sender, for one that takes them when it comes to them."""
    rows = fetch(
        db,
        "SELECT o.id, o.entity_id, CASE WHEN response_action = 'moderate' THEN %(moderation)s"
        "  WHEN o.event_id LIKE %(announced)s THEN %(event)s WHEN o.execution_id IS NULL THEN %(chatter)s"
        "  WHEN x.trigger_type = 'event' THEN %(event)s"
        "  ELSE %(reply)s END AS priority"
        " FROM outbox o LEFT JOIN command_executions x USING (execution_id)"
        " WHERE o.platform = %(platform)s AND o.state = 'pending'"
        " AND response_action IN ('chat', 'private', 'moderate') AND available_at <= now() AND expires_at > now()"
        " AND o.id <> ALL(%(known)s::bigint[])"
        " ORDER BY o.id LIMIT %(limit)s",
        {
            "platform": platform,
            "known": list(except_ids),
            "limit": limit,
            "announced": f"{ANNOUNCED}%",
            **{each.name.lower(): each.value for each in Priority},
        },
    )
    return [Waiting(row["id"], row["entity_id"], Priority(row["priority"])) for row in rows]


def drop(db: DAL, ids: Sequence[int], *, detail: str) -> list[int]:
    """Give up replies that nobody has taken. Returns those that were dropped by this."""
    rows = fetch(
        db,
        f"UPDATE outbox SET state = 'dropped', detail = %s, finished_at = now(), response_data = {KEPT}"
        " WHERE id = ANY(%s) AND state = 'pending' RETURNING id",
        (detail, list(ids)),
    )
    return [row["id"] for row in rows]


def sweep(db: DAL) -> dict[str, int]:
    """Drop what nobody sent in time, and own up to not knowing where a sender vanished in the middle.

    What an overlay shows is not among the unknown: it is sent again, because that changes nothing (contracts §8).
    """
    rows = fetch(
        db,
        "UPDATE outbox SET finished_at = now(), state = CASE WHEN state = 'pending' THEN 'dropped' ELSE 'unknown' END,"
        " detail = CASE WHEN state = 'pending' THEN 'too old' ELSE 'its sender vanished' END,"
        f" response_data = {KEPT}"
        " WHERE id IN (SELECT id FROM outbox WHERE (state = 'pending' AND expires_at <= now())"
        " OR (state = 'sending' AND lease_until <= now() AND (response_action IN ('chat', 'private', 'moderate')"
        " OR expires_at <= now()))"
        " LIMIT 1000 FOR UPDATE SKIP LOCKED) RETURNING state",
    )
    return {state: sum(row["state"] == state for row in rows) for state in {row["state"] for row in rows}}


def confirm(db: DAL, outbox_id: int, state: OutboxState, *, sender: str) -> dict[str, Any]:
    """Move a reply on for a collector without a session of its own: pending → sending → sent, dropped or unknown.

    A collector that sends at once may go from pending straight to the end.
    Raises: NotFound; Conflict when the reply is already past that, naming its state, or is an overlay's.
    """
    allowed = ["pending"] if state is OutboxState.SENDING else ["pending", "sending"]
    row = fetch_one(
        db,
        "UPDATE outbox SET state = %(state)s, sender = %(sender)s,"
        " lease_until = CASE WHEN %(state)s = 'sending' THEN now() + %(lease)s END,"
        " finished_at = CASE WHEN %(state)s = 'sending' THEN NULL ELSE now() END,"
        f" response_data = CASE WHEN %(state)s = 'sending' THEN response_data ELSE {KEPT} END"
        " WHERE id = %(id)s AND response_action IN ('chat', 'private') AND state = ANY(%(allowed)s)"
        " AND (state = 'pending' OR sender = %(sender)s) RETURNING *",
        {"id": outbox_id, "state": state.value, "sender": sender, "lease": SEND_LEASE, "allowed": allowed},
    )
    if row is None:
        reply = get(db, outbox_id)
        if reply["response_action"] not in ("chat", PRIVATE):
            raise Conflict(f"Reply {outbox_id} is shown on an overlay; that is not yours to do.")
        raise Conflict(f"Reply {outbox_id} is already {reply['state']}.")
    return row


def get(db: DAL, outbox_id: int) -> dict[str, Any]:
    """Raises: NotFound."""
    row = fetch_one(db, "SELECT * FROM outbox WHERE id = %s", (outbox_id,))
    if row is None:
        raise NotFound(f"There is no reply {outbox_id}.")
    return row
