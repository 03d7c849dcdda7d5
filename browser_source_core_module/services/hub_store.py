"""What a hub reads and writes in the database, each a statement of its own. Blocking: call it from a thread."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waddlebot.data.database import StatementPool

from .admission import FIND, WORKS, Admission, hash_token
from .frames import Source, control_frame, item_frame

# A theme as pages get it: the variables, with CSS of the community's own as one more.
THEME = "variables || CASE css WHEN '' THEN '{}' ELSE jsonb_build_object('css', css) END AS theme"
FIND_THEME = f"SELECT {THEME} FROM browser_source_themes WHERE community_id = %s"
# More than a page could ever show; what is above stays in the database until the page has caught up.
MAX_BACKLOG = 2000
# How long a page leads without its hub saying so again.
LEASE_S = 6.0
SAVE_PLAYING = """
WITH said AS (
    SELECT w.*, p.item_id
    FROM jsonb_to_recordset(%s::jsonb) AS w (n integer, c bigint, t text, s text, p bigint, e integer)
    JOIN browser_source_playback p ON p.community_id = w.c AND p.track_id = w.t AND p.state NOT IN ('ended', 'failed')
), now_at AS (
    UPDATE browser_source_playback p SET state = last.s, position_ms = last.p, code = last.e, reported_at = now()
    FROM (SELECT DISTINCT ON (c) * FROM said ORDER BY c, n DESC) AS last
    WHERE p.community_id = last.c AND p.track_id = last.t
)
INSERT INTO browser_source_playback_reports (community_id, item_id, track_id, state, position_ms, code)
SELECT c, item_id, t, s, p, e FROM said ORDER BY n ON CONFLICT DO NOTHING RETURNING id
"""
ACK_RANKS = {"received": 1, "shown": 2, "done": 3}


@dataclass(frozen=True, slots=True)
class Numbered:
    """A frame and its place in its queue."""

    number: int
    frame: str
    action: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A page that would lead its community's media overlay."""

    community_id: int
    page: str
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class Playing:
    """What the page that leads said of a track."""

    community_id: int
    track_id: str
    state: str
    position_ms: int
    code: int


@dataclass(frozen=True, slots=True)
class QueueState:
    last_seq: int = 0
    last_control: int = 0
    is_paused: bool = False


class HubStore:
    def __init__(self, url: str, *, pool_size: int) -> None:
        self._pool = StatementPool(url, pool_size)
        self.run = self._pool.run

    def find_admission(self, token: str, source_type: str) -> Admission | None:
        rows = self._pool.run(FIND, (hash_token(token), source_type))
        return Admission(**rows[0]) if rows else None

    def list_working_tokens(self, token_ids: Sequence[int]) -> set[int]:
        """Those of the tokens that still work."""
        rows = self._pool.run(
            f"SELECT id FROM browser_source_tokens WHERE id = ANY(%s) AND {WORKS}", (list(token_ids),)
        )
        return {row["id"] for row in rows}

    def save_last_seen(self, token_ids: Sequence[int]) -> None:
        self._pool.run("UPDATE browser_source_tokens SET last_seen = now() WHERE id = ANY(%s)", (list(token_ids),))

    def list_queues(self, sources: Iterable[Source]) -> dict[Source, QueueState]:
        """How far each queue is, of those that have one."""
        wanted = list(sources)
        rows = self._pool.run(
            "SELECT q.* FROM browser_source_queues q"
            " JOIN unnest(%s::bigint[], %s::text[]) AS w (community_id, source_type)"
            " USING (community_id, source_type)",
            ([each.community_id for each in wanted], [each.source_type for each in wanted]),
        )
        return {
            Source(row["community_id"], row["source_type"]): QueueState(
                row["last_seq"], row["last_control"], row["is_paused"]
            )
            for row in rows
        }

    def find_theme(self, community_id: int) -> dict[str, str]:
        rows = self._pool.run(FIND_THEME, (community_id,))
        return dict(rows[0]["theme"]) if rows else {}

    def list_items(self, source: Source, *, after: int, until: int) -> list[Numbered]:
        """The items between two numbers that still wait to be shown."""
        return self._items(
            source, "state = 'queued' AND seq > %(after)s AND seq <= %(until)s", after=after, until=until
        )

    def list_backlog(self, source: Source, *, after: int, until: int) -> list[Numbered]:
        """What a page that has seen everything up to `after` is owed.

        That is what nobody was shown, with what no page ever confirmed to have received; for a page that has seen
        nothing also what stands until it is replaced, and what plays now.
        """
        return self._items(
            source,
            "seq <= %(until)s AND ((state = 'queued' AND (seq > %(after)s OR received_at IS NULL))"
            " OR (%(after)s = 0 AND display_s = 0 AND state = 'shown' AND seq = (SELECT max(seq)"
            " FROM browser_source_history WHERE community_id = %(community)s AND source_type = %(source)s"
            " AND state <> 'queued')) OR (%(after)s = 0 AND plays))",
            after=after,
            until=until,
        )

    def list_controls(self, source: Source, *, after: int, until: int) -> list[Numbered]:
        rows = self._pool.run(
            "SELECT number, action, seq, note FROM browser_source_controls WHERE community_id = %s AND source_type = %s"
            " AND number > %s AND number <= %s ORDER BY number",
            (source.community_id, source.source_type, after, until),
        )
        return [
            Numbered(
                row["number"],
                control_frame(row["number"], row["action"], seq=row["seq"], note=row["note"]),
                row["action"],
            )
            for row in rows
        ]

    def lease_leaders(self, candidates: Sequence[Candidate]) -> set[str]:
        """Which of these pages lead now: those that did, or where none does; one that is seen before one that is
        hidden."""
        rows = self._pool.run(
            "INSERT INTO browser_source_leaders AS l (community_id, page, is_hidden, lease_until)"
            " SELECT c.id, w.page, w.is_hidden, now() + %s * interval '1 second'"
            " FROM unnest(%s::bigint[], %s::text[], %s::boolean[]) AS w (id, page, is_hidden)"
            # In one order everywhere, so that two hubs cannot wait for each other for ever.
            " JOIN communities c USING (id) ORDER BY c.id"
            " ON CONFLICT (community_id) DO UPDATE SET page = excluded.page, is_hidden = excluded.is_hidden,"
            " lease_until = excluded.lease_until WHERE l.page = excluded.page OR l.lease_until <= now()"
            " OR (l.is_hidden AND NOT excluded.is_hidden) RETURNING page",
            (
                LEASE_S,
                [each.community_id for each in candidates],
                [each.page for each in candidates],
                [each.is_hidden for each in candidates],
            ),
        )
        return {row["page"] for row in rows}

    def end_leases(self, pages: Sequence[str]) -> None:
        self._pool.run(
            "UPDATE browser_source_leaders SET lease_until = now() WHERE page = ANY(%s) AND lease_until > now()",
            (list(pages),),
        )

    def save_playing(self, said: Sequence[Playing]) -> bool:
        """Record what pages play, and once for each state of a track that the router is to be told. True when there is
        something to tell.

        Of a track that is not the one that was sent last, or that has ended, nothing more is taken.
        """
        rows = [
            {
                "n": n,
                "c": each.community_id,
                "t": each.track_id,
                "s": each.state,
                "p": each.position_ms,
                "e": each.code,
            }
            for n, each in enumerate(said)
        ]
        return bool(self._pool.run(SAVE_PLAYING, (json.dumps(rows),)))

    def save_acks(self, acks: Mapping[tuple[Source, int], int]) -> list[dict[str, Any]]:
        """Record how far items came; never back, and never for what was skipped. Returns those shown only now, as
        {community_id, source_type, item_id, session_id, traceparent, after_ms}.

        What was shown at the moment at which it was given up counts as shown.
        """
        rows = [
            {"c": source.community_id, "t": source.source_type, "s": seq, "r": rank}
            for (source, seq), rank in sorted(acks.items(), key=lambda each: (str(each[0][0]), each[0][1]))
        ]
        saved = self._pool.run(
            "UPDATE browser_source_history h SET received_at = coalesce(received_at, now()),"
            " shown_at = CASE WHEN r >= 2 THEN coalesce(shown_at, now()) ELSE shown_at END,"
            " done_at = CASE WHEN r = 3 THEN coalesce(done_at, now()) ELSE done_at END,"
            " state = CASE WHEN state IN ('skipped', 'done') OR r = 1 THEN state"
            " WHEN r = 3 THEN 'done' ELSE 'shown' END"
            " FROM jsonb_to_recordset(%s::jsonb) AS a (c bigint, t text, s bigint, r integer)"
            " WHERE h.community_id = a.c AND h.source_type = a.t AND h.seq = a.s"
            " RETURNING h.community_id, h.source_type, h.item_id, h.session_id, h.traceparent,"
            " h.shown_at = now() AS is_new,"
            " round(extract(epoch FROM h.shown_at - h.created_at) * 1000)::integer AS after_ms",
            (json.dumps(rows),),
        )
        return [each for each in saved if each.pop("is_new")]

    def close(self) -> None:
        self._pool.close()

    def _items(self, source: Source, which: str, **parameters: Any) -> list[Numbered]:
        rows = self._pool.run(
            "SELECT * FROM (SELECT seq, item_id, display_s, is_test, state, received_at, expires_at,"
            " extract(epoch FROM expires_at - now())::float AS left_s, p.plays IS NOT NULL AS plays,"
            # Where the page that led is or was with it, so that the next one goes on from there.
            " CASE WHEN p.at_ms IS NULL THEN content ELSE"
            " jsonb_set(content, '{data,progress_ms}', to_jsonb(p.at_ms)) END AS content"
            " FROM browser_source_history h LEFT JOIN (SELECT seq AS plays, CASE WHEN reported_at IS NOT NULL"
            "  THEN position_ms + CASE state WHEN 'started' THEN"
            "  (least(extract(epoch FROM now() - reported_at), %(lease)s) * 1000)::bigint ELSE 0 END END AS at_ms"
            "  FROM browser_source_playback WHERE community_id = %(community)s"
            "  AND %(source)s = 'media' AND state NOT IN ('ended', 'failed')) AS p ON p.plays = h.seq"
            " WHERE community_id = %(community)s AND source_type = %(source)s) AS item"
            f" WHERE (expires_at > now() OR state = 'shown' OR plays) AND ({which}) ORDER BY seq LIMIT {MAX_BACKLOG}",
            {"community": source.community_id, "source": source.source_type, "lease": LEASE_S, **parameters},
        )
        return [
            Numbered(
                row["seq"],
                item_frame(
                    row["seq"],
                    row["item_id"],
                    row["content"],
                    display_s=row["display_s"],
                    is_test=row["is_test"],
                    expires_in_s=max(row["left_s"], 1.0),
                ),
            )
            for row in rows
        ]
