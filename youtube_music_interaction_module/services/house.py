"""What the operator and a community allow, as the player takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydal import DAL
from waddlebot.base.manifest import Manifest
from waddlebot.base.module_settings import defaults_of, fitting
from waddlebot.data.database import Prepared, fetch_one

from ..config import YouTubeMusicSettings
from .player_service import Rules
from .youtube_music_service import YouTubeMusicService

CONFIG = Prepared(
    "youtube_config",
    "SELECT config FROM module_switches WHERE community_id = %(community)s AND module_name = %(module)s"
    " AND entity_id IS NULL",
)


class House:
    """The operator's settings, with a community's within them."""

    def __init__(self, settings: YouTubeMusicSettings, manifest: Manifest, finder: YouTubeMusicService) -> None:
        self.settings = settings
        self._manifest = manifest
        self._finder = finder

    def rules_of(self, db: DAL, community_id: int) -> Rules:
        """A community's, for who is no call and so is not told of its settings."""
        row = fetch_one(db, CONFIG, {"community": community_id, "module": self._manifest.name})
        specs = self._manifest.settings
        return self.rules({**defaults_of(specs), **(fitting(specs, row["config"]) if row else {})})

    def rules(self, given: Mapping[str, Any]) -> Rules:
        operator = self.settings
        return Rules(
            max_queue=min(given["max_queue"], operator.max_queue_size),
            per_person=given["per_person"],
            max_s=int(given["max_minutes"] * 60),
            duplicates=given["duplicates"],
            blocked_words=given["blocked_words"] or [],
            region=self._finder.region_of(given["region"] or ""),
            vote_skip=given["vote_skip"],
            volume=given["volume"],
            card_s=given["card_s"],
            ticker=given["ticker"],
            announce_songs=given["announce_songs"],
            autoplay=given["autoplay"] if operator.enable_autoplay else "off",
            autoplay_playlist=given["autoplay_playlist"] or "",
            has_queue=operator.enable_queue,
            has_history=operator.enable_history,
        )
