"""The music module's settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from waddlebot.base.settings import Secret, Settings, WebURL


class YouTubeMusicSettings(Settings):
    prefix: ClassVar[str] = "YOUTUBE_MUSIC"

    youtube_api_key: Secret | None = Field(
        None, alias="YOUTUBE_API_KEY", description="A key for the YouTube Data API v3; without one nothing is found."
    )
    youtube_api_version: str = Field(
        "v3", alias="YOUTUBE_API_VERSION", pattern="^v3$", description="Version of the Data API; there is only v3."
    )
    youtube_api_endpoint: str = Field(
        "https://youtube.googleapis.com",
        alias="YOUTUBE_API_ENDPOINT",
        pattern=r"^https?://[A-Za-z0-9.:-]+/?$",
        description="Where the Data API is; scheme and host.",
    )
    category_id: str = Field(
        "10",
        alias="YOUTUBE_MUSIC_CATEGORY_ID",
        pattern=r"^\d{1,4}$",
        description="YouTube's category that searches look in; 10 is music.",
    )
    region_code: str = Field(
        "US",
        alias="YOUTUBE_REGION_CODE",
        pattern="^[A-Z]{2}$",
        description="Where songs must be allowed to be played, unless a community says another country.",
    )
    daily_searches: int = Field(
        100, alias="YOUTUBE_DAILY_SEARCHES", ge=0, description="Searches that Google gives the key a day."
    )
    daily_units: int = Field(
        10_000, alias="YOUTUBE_DAILY_UNITS", ge=0, description="Units that Google gives the key a day for all else."
    )
    search_cache_h: float = Field(
        72,
        alias="YOUTUBE_SEARCH_CACHE_HOURS",
        gt=0,
        le=720,
        description="What was found for some words is given to everybody who looks for them this long, h.",
    )
    browser_source_url: WebURL = Field(
        "http://127.0.0.1:8027/browser/source",
        alias="BROWSER_SOURCE_API_URL",
        description="Read by the router, which brings what is shown to the overlays.",
    )

    max_search_results: int = Field(
        10, alias="MAX_SEARCH_RESULTS", ge=1, le=50, description="Songs that a search finds at most."
    )
    cache_ttl_s: float = Field(
        300, alias="CACHE_TTL", gt=0, description="A number of one's last search can be chosen this long, s."
    )
    max_queue_size: int = Field(
        50, alias="MAX_QUEUE_SIZE", ge=1, le=500, description="Songs that wait in a community at most."
    )
    enable_playlists: bool = Field(True, alias="ENABLE_PLAYLISTS", description="Communities have playlists.")
    enable_queue: bool = Field(True, alias="ENABLE_QUEUE", description="Songs wait for each other.")
    enable_history: bool = Field(True, alias="ENABLE_HISTORY", description="It is remembered what was played.")
    enable_autoplay: bool = Field(
        True, alias="ENABLE_AUTOPLAY", description="A community may have music go on by itself."
    )
