"""What a community plays and what waits. Each change holds the community's row in youtube_players, so that a song that
ends and one that is skipped at the same moment are one after the other.

A song is over when the overlay's page says so, when somebody ends it, or when it cannot be played; then comes the next
one that waits, else what the community has for when nothing waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.base.chat import count_of
from waddlebot.base.errors import Conflict, NotFound, UserError
from waddlebot.base.ids import new_id
from waddlebot.base.text import fold
from waddlebot.data.database import Database, Prepared, fetch, fetch_one
from waddlebot.data.retention import delete_old

from .playlists import first_of
from .tracks import NotPlayable, Track, as_time

Outcome = Literal["played", "skipped", "stopped", "failed"]

# Songs in a row that could not be played, after which the reason is not the songs.
MOST_FAILURES = 5
ACTIVITY = "youtube_activity"


class QueueFull(UserError):
    """The queue is full."""

    code = "queue_full"


class NothingPlays(NotFound):
    """Nothing is playing."""

    code = "nothing_plays"


@dataclass(frozen=True, slots=True)
class By:
    """Who asks. `own_id` is the account, `ids` all of theirs; nobody where it is a program."""

    name: str
    own_id: int | None = None
    ids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What a community lets be played, and how: its settings within the operator's."""

    max_queue: int
    per_person: int
    max_s: int
    duplicates: bool
    blocked_words: Sequence[str]
    region: str
    vote_skip: int
    volume: int
    card_s: int
    ticker: bool
    announce_songs: bool
    autoplay: str
    autoplay_playlist: str
    has_queue: bool
    has_history: bool


@dataclass(frozen=True, slots=True)
class Now:
    """What plays. `position_s` is where the page was when it was last heard of, and how long ago that is added."""

    track_id: str
    track: Track
    requested_by: str
    own_id: int | None
    is_paused: bool
    volume: int
    started_at: datetime
    state: str = "waiting"
    position_s: int = 0
    # Whether a page is open that plays it.
    has_page: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    id: int
    place: int
    track: Track
    requested_by: str
    own_id: int | None


@dataclass(frozen=True, slots=True)
class Requested:
    """What came of asking for songs: the one that begins now, and those that wait."""

    started: Now | None
    waiting: Sequence[Waiting]
    # Why the rest of a list was left out.
    left_out: str = ""


NOW = Prepared(
    "youtube_now",
    """
SELECT n.*, coalesce(y.volume, %(volume)s::integer) AS volume, p.state, p.position_ms,
    p.reported_at IS NOT NULL AS is_reported, coalesce(l.lease_until > now(), false) AS has_page,
    extract(epoch FROM now() - p.reported_at)::float AS ago_s
FROM youtube_now_playing n JOIN youtube_players y USING (community_id)
    LEFT JOIN browser_source_playback p ON p.community_id = n.community_id AND p.track_id = n.track_id
    LEFT JOIN browser_source_leaders l ON l.community_id = n.community_id
WHERE n.community_id = %(community)s::bigint
""",
)
WAITING = """
SELECT q.*, row_number() OVER (ORDER BY rank, id) AS place, count(*) OVER () AS total
FROM youtube_queue q WHERE community_id = %(community)s ORDER BY rank, id LIMIT %(limit)s OFFSET %(offset)s
"""


class PlayerService:
    """Each method works in the transaction that it is given."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What plays

    def find_now(self, db: DAL, community_id: int, rules: Rules) -> Now | None:
        row = fetch_one(db, NOW, {"community": community_id, "volume": rules.volume})
        return _now(row) if row else None

    def get_now(self, db: DAL, community_id: int, rules: Rules) -> Now:
        """Raises: NothingPlays."""
        now = self.find_now(db, community_id, rules)
        if now is None:
            raise NothingPlays()
        return now

    def has_page(self, db: DAL, community_id: int) -> bool:
        """Whether a page is open that would play something."""
        row = fetch_one(
            db,
            "SELECT 1 FROM browser_source_leaders WHERE community_id = %s AND lease_until > now()",
            (community_id,),
        )
        return row is not None

    def list_waiting(self, db: DAL, community_id: int, *, limit: int, offset: int = 0) -> tuple[list[Waiting], int]:
        """What waits, the next one first, and how many there are in all."""
        rows = fetch(db, WAITING, {"community": community_id, "limit": limit, "offset": offset})
        counted = (
            rows if rows or not offset else fetch(db, WAITING, {"community": community_id, "limit": 1, "offset": 0})
        )
        return [_waiting(row) for row in rows], counted[0]["total"] if counted else 0

    # Asking for songs

    def request(self, db: DAL, community_id: int, tracks: Sequence[Track], by: By, rules: Rules) -> Requested:
        """Play a song if nothing plays, else let it wait. Of several as many as there is room for.

        Raises: QueueFull; Conflict for one that is there already; NotPlayable for what this community does not play;
        each only if not even the first one is taken.
        """
        self._lock(db, community_id)
        started: Now | None = None
        waiting: list[Waiting] = []
        left_out = ""
        for track in tracks:
            try:
                self._check_allowed(db, community_id, track, rules)
                now = self.find_now(db, community_id, rules)
                if now is None:
                    started = self._start(db, community_id, track, by, rules)
                else:
                    waiting.append(self._append(db, community_id, track, by, rules))
            except UserError as err:
                if not started and not waiting and track is tracks[-1]:
                    raise
                left_out = err.message
                if isinstance(err, QueueFull):
                    if not started and not waiting:
                        raise
                    break
        return Requested(started, waiting, left_out)

    def _check_allowed(self, db: DAL, community_id: int, track: Track, rules: Rules) -> None:
        """Raises: NotPlayable; Conflict."""
        if track.refusal:
            raise NotPlayable(f"“{track.shown}” {track.refusal}.")
        if track.duration > rules.max_s:
            raise NotPlayable(
                f"“{track.shown}” takes {as_time(track.duration)}; songs here may take {as_time(rules.max_s)}."
            )
        words = fold(f"{track.title} {track.artist}")
        if any(fold(word) in words or word == track.video_id for word in rules.blocked_words if fold(word).strip()):
            raise NotPlayable(f"“{track.shown}” is not played here.")
        known = fetch_one(
            db,
            "SELECT EXISTS (SELECT FROM youtube_blocked WHERE community_id = %(community)s AND video_id = %(video)s)"
            " AS blocked, EXISTS (SELECT FROM youtube_now_playing WHERE community_id = %(community)s"
            "  AND video_id = %(video)s) AS plays, EXISTS (SELECT FROM youtube_queue WHERE community_id = %(community)s"
            "  AND video_id = %(video)s) AS waits",
            {"community": community_id, "video": track.video_id},
        )
        assert known is not None
        if known["blocked"]:
            raise NotPlayable(f"“{track.shown}” is not played here.")
        if not rules.duplicates and (known["plays"] or known["waits"]):
            raise Conflict(f"“{track.shown}” {'is playing already' if known['plays'] else 'is in the queue already'}.")

    def _append(self, db: DAL, community_id: int, track: Track, by: By, rules: Rules) -> Waiting:
        if not rules.has_queue:
            raise QueueFull("Something is playing, and songs do not wait here. Try again when it is over.")
        row = fetch_one(
            db,
            "SELECT count(*) AS total, count(*) FILTER (WHERE own_id = ANY(%s)) AS own FROM youtube_queue"
            " WHERE community_id = %s",
            (list(by.ids), community_id),
        )
        assert row is not None
        if row["total"] >= rules.max_queue:
            raise QueueFull(f"The queue is full: {count_of(rules.max_queue, 'song waits', 'songs wait')}.")
        if row["own"] >= rules.per_person:
            raise QueueFull(
                f"You have {count_of(row['own'], 'song')} in the queue already; that is as many as one may have here."
            )
        added = fetch_one(
            db,
            "INSERT INTO youtube_queue (community_id, video_id, title, artist, duration, thumbnail_url, start_s,"
            " requested_by, own_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
            (community_id, *_columns(track), by.name, by.own_id),
        )
        assert added is not None
        return Waiting(added["id"], row["total"] + 1, track, by.name, by.own_id)

    def put_in_queue(self, db: DAL, community_id: int, tracks: Sequence[Track], by: By, rules: Rules) -> Requested:
        """As `request`, for a moderator who plays a playlist: one person's share does not count."""
        return self.request(db, community_id, tracks, By(by.name, by.own_id), rules)

    # Ending songs

    def go_on(self, db: DAL, community_id: int, rules: Rules) -> Now | None:
        """Play what waits, else what the community has for when nothing waits; None where there is nothing."""
        self._lock(db, community_id)
        row = fetch_one(
            db,
            "DELETE FROM youtube_queue WHERE id = (SELECT id FROM youtube_queue WHERE community_id = %s"
            " ORDER BY rank, id LIMIT 1) RETURNING *",
            (community_id,),
        )
        if row is not None:
            return self._start(db, community_id, Track.of(row), By(row["requested_by"], row["own_id"]), rules)
        track = self._by_itself(db, community_id, rules)
        return self._start(db, community_id, track, By(""), rules) if track else None

    def end(
        self, db: DAL, community_id: int, outcome: Outcome, rules: Rules, *, track_id: str | None = None
    ) -> Now | None:
        """End what plays; None where nothing does, or something else than that track does."""
        player = self._lock(db, community_id)
        now = self.find_now(db, community_id, rules)
        if now is None or track_id not in (None, now.track_id):
            return None
        fetch(db, "DELETE FROM youtube_now_playing WHERE community_id = %s", (community_id,))
        fetch(db, "DELETE FROM youtube_skip_votes WHERE community_id = %s", (community_id,))
        failures = player["failures"] + 1 if outcome == "failed" else 0
        fetch(db, "UPDATE youtube_players SET failures = %s WHERE community_id = %s", (failures, community_id))
        if rules.has_history:
            fetch(
                db,
                "INSERT INTO youtube_history (community_id, track_id, video_id, title, artist, duration, thumbnail_url,"
                " requested_by, own_id, outcome) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (community_id, now.track_id, *_columns(now.track)[:-1], now.requested_by, now.own_id, outcome),
            )
        return now

    def keeps_failing(self, db: DAL, community_id: int) -> bool:
        """Whether so many songs in a row failed that the next one would too. They are counted anew then."""
        row = fetch_one(
            db,
            "UPDATE youtube_players SET failures = 0 WHERE community_id = %s AND failures >= %s RETURNING 1 AS yes",
            (community_id, MOST_FAILURES),
        )
        return row is not None

    def put_back(self, db: DAL, community_id: int, now: Now) -> None:
        """Let a song that was not to blame be the next one again."""
        fetch(
            db,
            "INSERT INTO youtube_queue (rank, community_id, video_id, title, artist, duration, thumbnail_url, start_s,"
            " requested_by, own_id) VALUES (-1, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (community_id, *_columns(now.track), now.requested_by, now.own_id),
        )

    def vote(self, db: DAL, community_id: int, now: Now, own_id: int) -> int:
        """Count somebody who wants a song to end, once. Returns how many people do."""
        self._lock(db, community_id)
        fetch(
            db,
            "INSERT INTO youtube_skip_votes (community_id, track_id, own_id) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (community_id, now.track_id, own_id),
        )
        row = fetch_one(
            db,
            "SELECT count(DISTINCT coalesce(u.head_id, u.id)) AS votes FROM youtube_skip_votes v"
            " JOIN users u ON u.id = v.own_id WHERE v.community_id = %s AND v.track_id = %s",
            (community_id, now.track_id),
        )
        return row["votes"] if row else 0

    # Changing what plays and waits

    def set_paused(self, db: DAL, community_id: int, rules: Rules, *, is_paused: bool) -> Now:
        """Raises: NothingPlays; Conflict where it is so already."""
        self._lock(db, community_id)
        now = self.get_now(db, community_id, rules)
        if now.is_paused is is_paused:
            raise Conflict("The music is paused already." if is_paused else "The music is playing already.")
        fetch(
            db,
            "UPDATE youtube_now_playing SET is_paused = %s, updated_at = now() WHERE community_id = %s",
            (is_paused, community_id),
        )
        return self.get_now(db, community_id, rules)

    def set_volume(self, db: DAL, community_id: int, rules: Rules, volume: int) -> Now | None:
        """Set how loud it is, from now on. Returns what plays, if anything does."""
        self._lock(db, community_id)
        fetch(db, "UPDATE youtube_players SET volume = %s WHERE community_id = %s", (volume, community_id))
        return self.find_now(db, community_id, rules)

    def remove(self, db: DAL, community_id: int, place: int, by: By, *, may_remove_any: bool) -> Waiting:
        """Raises: NotFound; UserError for somebody else's song."""
        self._lock(db, community_id)
        found = self.list_waiting(db, community_id, limit=1, offset=place - 1)[0] if place > 0 else []
        if not found:
            raise NotFound(f"There is no number {place} in the queue.")
        if not may_remove_any and found[0].own_id not in by.ids:
            raise UserError("That is somebody else's song; a moderator may remove it.")
        fetch(db, "DELETE FROM youtube_queue WHERE id = %s", (found[0].id,))
        return found[0]

    def block(self, db: DAL, community_id: int, track: Track, by: By) -> int:
        """Never play a video here again. Returns how often it waited."""
        fetch(
            db,
            "INSERT INTO youtube_blocked (community_id, video_id, title, own_id) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (community_id, track.video_id, track.title, by.own_id),
        )
        gone = fetch(
            db,
            "DELETE FROM youtube_queue WHERE community_id = %s AND video_id = %s RETURNING id",
            (community_id, track.video_id),
        )
        return len(gone)

    def unblock(self, db: DAL, community_id: int, video_id: str) -> str:
        """Returns its title. Raises: NotFound."""
        row = fetch_one(
            db,
            "DELETE FROM youtube_blocked WHERE community_id = %s AND video_id = %s RETURNING title",
            (community_id, video_id),
        )
        if row is None:
            raise NotFound("That video is not blocked.")
        return row["title"] or video_id

    # For all communities

    def list_active(self) -> list[int]:
        """The communities in which something plays."""
        rows = self._database.statement(
            "SELECT community_id FROM youtube_now_playing ORDER BY community_id LIMIT 10000"
        )
        return [row["community_id"] for row in rows]

    def forget(self) -> bool:
        """Delete what is older than records are kept. True when there may be more."""
        self._database.statement("DELETE FROM youtube_search_cache WHERE created_at < now() - interval '1 day'")
        tables = {"youtube_history": "played_at", ACTIVITY: "created_at"}
        more = [delete_old(self._database, table, age) for table, age in tables.items()]
        return any(more)

    # Small print

    def _lock(self, db: DAL, community_id: int) -> dict[str, Any]:
        fetch(db, "INSERT INTO youtube_players (community_id) VALUES (%s) ON CONFLICT DO NOTHING", (community_id,))
        row = fetch_one(db, "SELECT * FROM youtube_players WHERE community_id = %s FOR UPDATE", (community_id,))
        assert row is not None
        return row

    def _start(self, db: DAL, community_id: int, track: Track, by: By, rules: Rules) -> Now:
        fetch(
            db,
            "INSERT INTO youtube_now_playing (community_id, track_id, video_id, title, artist, duration, thumbnail_url,"
            " start_s, requested_by, own_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (community_id, new_id(), *_columns(track), by.name, by.own_id),
        )
        return self.get_now(db, community_id, rules)

    def _by_itself(self, db: DAL, community_id: int, rules: Rules) -> Track | None:
        """What plays when nothing waits: what was played the longest ago."""
        if rules.autoplay == "playlist":
            source = first_of(rules.autoplay_playlist)
        elif rules.autoplay == "history":
            source = (
                "SELECT DISTINCT ON (video_id) id, video_id, title, artist, duration, thumbnail_url"
                " FROM youtube_history WHERE community_id = %(community)s AND outcome = 'played'"
                " ORDER BY video_id, id DESC",
                {},
            )
        else:
            return None
        sql, parameters = source
        row = fetch_one(
            db,
            f"SELECT t.* FROM ({sql}) AS t LEFT JOIN (SELECT video_id, max(id) AS last FROM youtube_history"
            " WHERE community_id = %(community)s GROUP BY video_id) AS h USING (video_id)"
            " WHERE t.duration <= %(max_s)s AND NOT EXISTS (SELECT FROM youtube_blocked b"
            "  WHERE b.community_id = %(community)s AND b.video_id = t.video_id)"
            " ORDER BY h.last NULLS FIRST, t.id LIMIT 1",
            {"community": community_id, "max_s": rules.max_s, **parameters},
        )
        return Track.of(row) if row else None


def note(db: DAL, community_id: int, own_id: int | None, action: str, **details: Any) -> None:
    """Write down what somebody did with the music."""
    fetch(
        db,
        "INSERT INTO youtube_activity (community_id, user_id, action, details) VALUES (%s, %s, %s, %s)",
        (community_id, own_id, action, Json(details)),
    )


def _columns(track: Track) -> tuple[Any, ...]:
    return (track.video_id, track.title, track.artist, track.duration, track.thumbnail_url, track.start_s)


def _now(row: Mapping[str, Any]) -> Now:
    track = Track.of(row)
    position_s = row["start_s"]
    if row["is_reported"]:
        runs = row["state"] == "started" and row["has_page"]
        position_s = int(row["position_ms"] / 1000 + (row["ago_s"] if runs else 0))
    return Now(
        track_id=row["track_id"],
        track=track,
        requested_by=row["requested_by"],
        own_id=row["own_id"],
        is_paused=row["is_paused"],
        volume=row["volume"],
        started_at=row["started_at"],
        state=row["state"] or "waiting",
        position_s=min(position_s, track.duration),
        has_page=row["has_page"],
    )


def _waiting(row: Mapping[str, Any]) -> Waiting:
    return Waiting(row["id"], row["place"], Track.of(row), row["requested_by"], row["own_id"])


__all__ = ["By", "NothingPlays", "Now", "PlayerService", "QueueFull", "Requested", "Rules", "Waiting", "note"]
