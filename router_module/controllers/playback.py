"""What pages tell of what they play."""

from __future__ import annotations

from typing import Any

from waddlebot.base.contracts import Playback
from waddlebot.web.auth import OVERLAYS_ONLY
from waddlebot.web.endpoint import endpoint

from ..services.records.playback_service import PlaybackService


@endpoint("POST", "/router/playback", caller=OVERLAYS_ONLY, body=Playback)
def report_playback(said: Playback, playback: PlaybackService) -> dict[str, Any]:
    """Tell the module whose track it is what became of it; each state of a track once."""
    return {"success": True, "track_id": said.track_id, "duplicate": not playback.accept(said)}
