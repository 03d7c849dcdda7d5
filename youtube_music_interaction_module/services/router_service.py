"""What of the music is shown and said, and bringing to the router what nobody typed for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.base.contracts import ModuleResponse
from waddlebot.base.errors import UpstreamError, UpstreamRefused
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.base.youtube_links import watch_link
from waddlebot.data.database import Database, fetch
from waddlebot.module.interaction import say
from waddlebot.web.clients import RouterClient

from .player_service import Now, Rules

SERVICE = "YouTube Music"
BATCH = 100
# Much later it would be about another song.
USEFUL_FOR = "5 minutes"
# What is changed of a song that plays is seen that long.
CHANGE_SHOWN_S = 5.0
GONE_SHOWN_S = 1.0


def song_begins(now: Now, rules: Rules) -> list[ModuleResponse]:
    """The song for the page to play, its card, and the ticker; nothing in chat."""
    shown = [media(now, display_s=rules.card_s)]
    if rules.ticker:
        asked = f" – asked for by {now.requested_by}" if now.requested_by else ""
        shown.append(ticker(f"♪ {now.track.shown}{asked}"))
    return shown


def song_begins_unasked(now: Now, rules: Rules) -> list[ModuleResponse]:
    """The same where chat may want to hear of it too."""
    said = [say(f"Now playing: {now.track.shown}")] if rules.announce_songs else []
    return [*said, *song_begins(now, rules)]


def song_changes(now: Now) -> ModuleResponse:
    """The song paused, going on, louder: the page goes on with it and never begins anew."""
    return media(now, display_s=CHANGE_SHOWN_S)


def song_shown(now: Now, rules: Rules) -> list[ModuleResponse]:
    """What plays, for who asks."""
    return [media(now, display_s=max(rules.card_s, CHANGE_SHOWN_S)), ticker(f"♪ {now.track.shown}")]


def song_is_over(now: Now) -> ModuleResponse:
    """The page takes its player away."""
    return media(now, display_s=GONE_SHOWN_S, player="none")


def media(now: Now, *, display_s: float, player: str = "youtube") -> ModuleResponse:
    track = now.track
    data = {
        "media_type": "music",
        "media_url": watch_link(track.video_id) if player == "youtube" else "",
        "title": track.title,
        "artist": track.artist,
        "artwork_url": track.thumbnail_url,
        "service": SERVICE,
        "progress_ms": now.position_s * 1000,
        "duration_ms": track.duration * 1000,
        "is_playing": not now.is_paused and player == "youtube",
        "requested_by": now.requested_by,
        "track_id": now.track_id,
        "player": player,
        "volume": now.volume,
        "display_s": display_s,
    }
    return ModuleResponse(response_action="media", response_data=data)


def ticker(text: str) -> ModuleResponse:
    return ModuleResponse(response_action="ticker", response_data={"text": text, "style": "info"})


class Outgoing:
    """What was asked for over HTTP: written down with what it changes, then announced, once."""

    def __init__(self, database: Database, router: RouterClient, log: AAALog) -> None:
        self._database = database
        self._router = router
        self._log = log
        self.wake = threading.Event()

    def add(self, db: DAL, community_id: int, responses: Sequence[ModuleResponse]) -> None:
        """Wake the loop once this is committed."""
        if not responses:
            return
        fetch(
            db,
            "INSERT INTO youtube_outgoing (community_id, announcement_id, responses) VALUES (%s, %s, %s)",
            (community_id, f"music-{new_id()}", Json([each.model_dump() for each in responses])),
        )

    def step(self) -> bool:
        """Announce what waits. True when there may be more. Raises: UpstreamError; what failed is tried again then."""
        self._database.statement(f"DELETE FROM youtube_outgoing WHERE created_at < now() - interval '{USEFUL_FOR}'")
        rows: list[dict[str, Any]] = self._database.statement(
            "SELECT * FROM youtube_outgoing ORDER BY id LIMIT %s", (BATCH,)
        )
        failed: UpstreamError | None = None
        for row in rows:
            responses = [ModuleResponse.model_validate(each) for each in row["responses"]]
            try:
                self._router.announce(row["announcement_id"], responses, community_id=row["community_id"])
            except UpstreamRefused as err:
                self._log.system("not_announced", result="FAILED", community=row["community_id"], detail=err.message)
            except UpstreamError as err:
                failed = failed or err  # One community's limit is not the others'.
                continue
            self._database.statement("DELETE FROM youtube_outgoing WHERE id = %s", (row["id"],))
        if failed:
            raise failed
        return len(rows) == BATCH
