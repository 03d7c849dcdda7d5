"""What viewers ask for: whether it may go into the queue, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydal import DAL
from waddlebot.base.chat import count_of
from waddlebot.base.errors import UserError
from waddlebot.base.text import fold
from waddlebot.data.database import Database, fetch, fetch_one

from .tracks import Track, clock

# Spotify tells of no more that come next, so more could not be looked after.
MOST_WAITING = 20
# A place is kept for so long while Spotify is told, and a track that was queued is looked for only after so long.
ASKED_FOR = "2 minutes"
SEEN_AFTER = "30 seconds"
WAITING = f"(state = 'queued' OR state = 'asked' AND requested_at > now() - interval '{ASKED_FOR}')"


class NotTaken(UserError):
    """That is not taken into the queue."""

    code = "not_taken"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a community takes; 0 is no limit."""

    allowed: bool
    per_person: int
    longest_min: int
    repeat_after_min: int
    explicit: bool
    blocked: Sequence[str]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Limits:
        return cls(
            settings["requests"],
            settings["requests_per_person"],
            settings["longest_minutes"],
            settings["repeat_after_minutes"],
            settings["explicit"],
            settings["blocklist"],
        )


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks: all their numbers, the one that it is kept under, and their name."""

    ids: Sequence[int]
    own_id: int | None
    name: str


class RequestService:
    def __init__(self, database: Database) -> None:
        self._db = database

    def check(self, db: DAL, community_id: int, track: Track, who: Requester, limits: Limits) -> None:
        """Raises: NotTaken, saying why."""
        if not limits.allowed:
            raise NotTaken("Requests are off here.")
        if entry := _blocked(track, limits.blocked):
            raise NotTaken(f"{track.title} is not played here (“{entry[:40]}” is blocked).")
        if track.explicit and not limits.explicit:
            raise NotTaken(f"{track.title} is marked explicit, which is not played here.")
        if limits.longest_min and track.duration_ms > limits.longest_min * 60_000:
            longest = count_of(limits.longest_min, "minute is", "minutes are")
            raise NotTaken(f"{track.title} is {clock(track.duration_ms)} long; at most {longest} taken.")
        self._check_repeat(db, community_id, track, limits)
        self._check_share(db, community_id, who, limits)

    def reserve(
        self, community_id: int, track: Track, who: Requester, limits: Limits, *, execution_id: str | None = None
    ) -> int:
        """Keep a place in the queue while Spotify is told, in a transaction of its own: two at once cannot both have
        the last one. Raises: NotTaken."""
        with self._db.transaction() as db:
            fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"spotify_queue:{community_id}",))
            kept = fetch_one(db, "SELECT id FROM spotify_queue WHERE execution_id = %s::uuid", (execution_id,))
            if kept:
                return int(kept["id"])
            self.check(db, community_id, track, who, limits)
            row = fetch_one(
                db,
                "INSERT INTO spotify_queue (community_id, execution_id, user_id, requested_by, track_uri, track_name,"
                " artists, duration_ms) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
                (
                    community_id,
                    execution_id,
                    who.own_id,
                    who.name,
                    track.uri,
                    track.name,
                    track.artists,
                    track.duration_ms,
                ),
            )
        assert row is not None
        return int(row["id"])

    def give_up(self, request_id: int) -> None:
        """It was certainly not queued."""
        self._db.statement("DELETE FROM spotify_queue WHERE id = %s AND state = 'asked'", (request_id,))

    def queued(self, db: DAL, request_id: int) -> None:
        fetch(db, "UPDATE spotify_queue SET state = 'queued' WHERE id = %s AND state = 'asked'", (request_id,))

    def compare(self, db: DAL, community_id: int, coming: Collection[str]) -> None:
        """Let go of requests that Spotify does not know any more: skipped, or removed by hand."""
        fetch(
            db,
            "UPDATE spotify_queue SET state = 'gone', ended_at = now()"
            " WHERE community_id = %s AND NOT track_uri = ANY(%s)"
            f" AND (state = 'queued' AND requested_at < now() - interval '{SEEN_AFTER}'"
            f"  OR state = 'asked' AND requested_at < now() - interval '{ASKED_FOR}')",
            (community_id, list(coming)),
        )

    def take(self, db: DAL, community_id: int, uri: str) -> dict[str, Any] | None:
        """Whose request has begun to play, if it is one."""
        return fetch_one(
            db,
            "UPDATE spotify_queue SET state = 'played', ended_at = now() WHERE id = (SELECT id FROM spotify_queue"
            " WHERE community_id = %s AND track_uri = %s AND state IN ('asked', 'queued') ORDER BY id LIMIT 1)"
            " RETURNING user_id, requested_by",
            (community_id, uri),
        )

    def requesters(self, db: DAL, community_id: int) -> dict[str, str]:
        """Who asked for what of the tracks that wait."""
        rows = fetch(
            db,
            f"SELECT track_uri, requested_by FROM spotify_queue WHERE community_id = %s AND {WAITING} ORDER BY id DESC",
            (community_id,),
        )
        return {row["track_uri"]: row["requested_by"] for row in rows}

    def forget_old(self) -> None:
        self._db.statement("DELETE FROM spotify_queue WHERE ended_at < now() - interval '7 days'")

    def _check_repeat(self, db: DAL, community_id: int, track: Track, limits: Limits) -> None:
        row = fetch_one(
            db,
            f"SELECT EXISTS (SELECT FROM spotify_queue WHERE community_id = %(community)s AND {WAITING}"
            "  AND track_uri = %(uri)s) AS waits,"
            " EXISTS (SELECT FROM spotify_now_playing WHERE community_id = %(community)s AND track_uri = %(uri)s"
            "  AND is_playing) AS plays,"
            " EXISTS (SELECT FROM spotify_history WHERE community_id = %(community)s AND track_uri = %(uri)s"
            "  AND played_at > now() - make_interval(mins => %(minutes)s)) AS played",
            {"community": community_id, "uri": track.uri, "minutes": limits.repeat_after_min},
        )
        assert row is not None
        if row["waits"]:
            raise NotTaken(f"{track.title} is in the queue already.")
        if row["plays"]:
            raise NotTaken(f"{track.title} plays right now.")
        if row["played"]:
            raise NotTaken(f"{track.title} was played within the last {count_of(limits.repeat_after_min, 'minute')}.")

    def _check_share(self, db: DAL, community_id: int, who: Requester, limits: Limits) -> None:
        row = fetch_one(
            db,
            "SELECT count(*) AS all, count(*) FILTER (WHERE user_id = ANY(%s)) AS own FROM spotify_queue"
            f" WHERE community_id = %s AND {WAITING}",
            (list(who.ids), community_id),
        )
        assert row is not None
        if limits.per_person and row["own"] >= limits.per_person:
            waiting = "1 request waits" if row["own"] == 1 else f"{row['own']} requests wait"
            raise NotTaken(f"{who.name}, your {waiting} already; ask again when one has played.")
        if row["all"] >= MOST_WAITING:
            raise NotTaken(f"The queue is full: {row['all']} requests wait. Ask again in a few minutes.")


def _blocked(track: Track, blocked: Sequence[str]) -> str | None:
    """The entry of the blocklist that a track falls under: a part of its name or artists, a URI, link or id."""
    text = fold(f"{track.name} – {track.artists}")
    track_id = track.uri.rpartition(":")[2]
    return next(
        (each for each in blocked if each.strip() and (fold(each.strip()) in text or track_id in each)),
        None,
    )
