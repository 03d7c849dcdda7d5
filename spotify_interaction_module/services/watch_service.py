"""Looks at what plays while an overlay is looked at, and tells overlays what has changed.

Each community's player has the time of its next look in the database; whoever takes it looks, so replicas share the
work.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property

import redis
from pydal import DAL
from waddlebot.base.contracts import ModuleResponse
from waddlebot.base.errors import UpstreamError
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.community.screens import watched_communities
from waddlebot.data.database import Database, fetch
from waddlebot.web.clients import RouterClient

from .account_service import PLAYERS, AccountService, Player
from .now_playing_service import NowPlayingService
from .player_service import PlayerService
from .tracks import Playing

# Pauses and other tracks are seen within 5 s: this, a sweep, and the call.
PLAYING_S = 3.0
# Where nothing plays that may begin at any time.
IDLE_S = 15.0
FAILED_S = 30.0
MOST_FAILED_S = 3600.0
# As long as a look may take; who dies meanwhile is in nobody's way for longer.
LEASE_S = 15.0
LOOK_WITHIN_S = 4.0
AT_ONCE = 8
# A command is seen in what Spotify says after about this.
AFTER_COMMAND_S = 1.0


class WatchService:
    def __init__(
        self,
        database: Database,
        client: redis.Redis,
        router: RouterClient,
        accounts: AccountService,
        players: PlayerService,
        now_playing: NowPlayingService,
        *,
        activity_changed: threading.Event,
        log: AAALog,
    ) -> None:
        self._db = database
        self._client = client
        self._router = router
        self._accounts = accounts
        self._players = players
        self._now_playing = now_playing
        self._activity_changed = activity_changed
        self._log = log

    def sweep(self) -> bool:
        """Look at every player that is due and watched. True when there may be more."""
        watched = watched_communities(self._client, "media")
        due = self._take_due(watched) if watched else []
        list(self._pool.map(lambda look: self._look(*look), due))
        return len(due) == AT_ONCE

    def soon(self, db: DAL, community_id: int, *, after_s: float = AFTER_COMMAND_S) -> None:
        """Look anew soon, because something was done."""
        fetch(
            db,
            "UPDATE spotify_players SET look_at = now() + make_interval(secs => %s) WHERE community_id = %s",
            (after_s, community_id),
        )

    def see(self, player: Player, playing: Playing | None) -> None:
        """Take down what plays, and announce in another thread what overlays have to know."""
        cards = self._take_down(player, playing, None)
        # In the thread of a request no other one can be made.
        self._pool.submit(self._announce, player.community_id, cards)

    def _take_down(self, player: Player, playing: Playing | None, seen_at: datetime | None) -> list[ModuleResponse]:
        with self._db.transaction() as db:
            before = self._now_playing.find(db, player.community_id)
            cards = self._now_playing.see(db, player.community_id, playing, seen_at=seen_at)
        if (before is not None and before.is_playing) != (playing is not None and playing.is_playing):
            self._activity_changed.set()
        return cards

    def _announce(self, community_id: int, cards: Sequence[ModuleResponse]) -> None:
        if not cards:
            return
        try:
            self._router.announce(f"spotify-{new_id()}", cards, community_id=community_id)
        except UpstreamError as err:
            self._log.error("card_not_announced", community=community_id, code=err.code, why=err.message)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(AT_ONCE, "spotify-look")

    def _take_due(self, watched: Collection[int]) -> list[tuple[Player, datetime]]:
        """Players to look at, and since when: no two processes get the same."""
        with self._db.transaction() as db:
            taken = fetch(
                db,
                "UPDATE spotify_players SET look_at = now() + make_interval(secs => %s) WHERE community_id IN ("
                " SELECT community_id FROM spotify_players WHERE look_at <= now() AND community_id = ANY(%s)"
                " ORDER BY look_at LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING community_id, now() AS taken_at",
                (LEASE_S, list(watched), AT_ONCE),
            )
            if not taken:
                return []
            rows = fetch(db, f"{PLAYERS} WHERE p.community_id = ANY(%s)", ([each["community_id"] for each in taken],))
        return [(Player(**row), taken[0]["taken_at"]) for row in rows]

    def _look(self, player: Player, taken_at: datetime) -> None:
        try:
            playing = self._players.look(player, within_s=LOOK_WITHIN_S)
        except UpstreamError as err:
            asked_s = getattr(err, "retry_after_s", 0.0)
            self._put_off([player.community_id], min(max(FAILED_S, asked_s), MOST_FAILED_S))
            return
        self._announce(player.community_id, self._take_down(player, playing, taken_at))
        self._put_off([player.community_id], _next_look_s(playing))

    def _put_off(self, community_ids: Sequence[int], by_s: float) -> None:
        if community_ids:
            self._db.statement(
                "UPDATE spotify_players SET look_at = now() + make_interval(secs => %s) WHERE community_id = ANY(%s)",
                (by_s, list(community_ids)),
            )


def _next_look_s(playing: Playing | None) -> float:
    if playing is None or not playing.is_playing:
        return IDLE_S
    left_s = (playing.track.duration_ms - playing.progress_ms) / 1000
    # A track's end is known ahead.
    return min(PLAYING_S, left_s + 0.3) if left_s > 0 else PLAYING_S
