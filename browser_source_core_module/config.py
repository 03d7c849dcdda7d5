"""The browser sources' settings, for the HTTP side and for the hub."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field
from waddlebot.base.settings import CommaList, FolderURL, Settings, SocketURL, WebURL

# Where the art, clips and videos come from that our own modules show. Overlays load nothing else from outside.
MEDIA_HOSTS = [
    "i.scdn.co",
    "*.spotifycdn.com",
    "i.ytimg.com",
    "*.ytimg.com",
    "*.googleusercontent.com",
    "static-cdn.jtvnw.net",
    "clips-media-assets2.twitch.tv",
    "clips.twitch.tv",
    "production.assets.clips.twitchcdn.net",
    "cdn.discordapp.com",
]


class BrowserSourceSettings(Settings):
    prefix: ClassVar[str] = "BROWSER_SOURCE_CORE"

    base_url: WebURL = Field(
        "http://localhost:8027", alias="BASE_URL", description="How OBS reaches the pages; what their URLs begin with."
    )
    websocket_public_url: SocketURL | None = Field(
        None,
        alias="WEBSOCKET_PUBLIC_URL",
        description="How OBS reaches the sockets, such as wss://bot.example; follows BASE_URL unless set.",
    )
    websocket_host: str = Field("0.0.0.0", alias="WEBSOCKET_HOST", description="Address that the hub listens on.")  # noqa: S104 - the specification's default; `waddlebot up` listens on loopback
    websocket_port: int = Field(8028, alias="WEBSOCKET_PORT", ge=1, le=65535, description="Port of the hub.")
    max_connections: int = Field(1000, alias="MAX_CONNECTIONS", ge=1, description="Sockets that one hub holds.")

    max_workers: int = Field(
        50, alias="MAX_WORKERS", ge=1, le=500, description="Threads at most in which the hub asks the database."
    )
    queue_interval_s: float = Field(
        1.0,
        alias="QUEUE_PROCESSING_INTERVAL",
        gt=0,
        le=60,
        description="The hub looks for items that nobody told it of, and queues are trimmed, this often, s.",
    )
    cleanup_interval_s: float = Field(
        300, alias="CLEANUP_INTERVAL", gt=0, description="What is too old is deleted this often, s."
    )
    queue_size: int = Field(
        100, alias="TICKER_QUEUE_SIZE", ge=1, description="Items that wait for a page that is away; of each source."
    )
    item_expiry_s: float = Field(
        900, alias="ITEM_EXPIRY", gt=0, description="An item that nobody was shown by then is not shown any more, s."
    )

    token_length: int = Field(32, alias="TOKEN_LENGTH", ge=32, le=64, description="Random bytes in a token.")
    access_log_retention_days: int = Field(
        30, alias="ACCESS_LOG_RETENTION_DAYS", ge=0, description="Days that the access log is kept."
    )
    history_retention_days: int = Field(
        90, alias="HISTORY_RETENTION_DAYS", ge=1, description="Days that shown items can be replayed."
    )

    ticker_duration_s: float = Field(
        10, alias="DEFAULT_TICKER_DURATION", gt=0, description="A ticker is shown this long unless it says, s."
    )
    media_duration_s: float = Field(
        30, alias="DEFAULT_MEDIA_DURATION", gt=0, description="Media are shown this long unless they say, s."
    )
    max_ticker_length: int = Field(
        200, alias="MAX_TICKER_LENGTH", ge=1, description="Characters of a ticker; longer texts are cut."
    )
    twitch_embed_base_url: FolderURL = Field(
        "https://clips.twitch.tv/", alias="TWITCH_EMBED_BASE_URL", description="Where Twitch's player of clips is."
    )
    media_hosts: CommaList = Field(
        default_factory=lambda: list(MEDIA_HOSTS),
        alias="MEDIA_HOSTS",
        description="Hosts that art, clips and videos may be loaded from; *.example takes subdomains.",
    )
    frame_ancestors: CommaList = Field(
        default_factory=list,
        alias="OVERLAY_FRAME_ANCESTORS",
        description="Origins whose pages may show an overlay in a frame, besides our own; OBS needs none.",
    )
    overlays_url: WebURL | None = Field(
        None, alias="OVERLAYS_URL", description="Where overlays are for OBS; BASE_URL unless set."
    )
    portal_url: WebURL | None = Field(
        None, alias="PORTAL_URL", description="The portal's address; only its pages may show a preview in a frame."
    )
    youtube_embed_base_url: WebURL = Field(
        "https://www.youtube-nocookie.com",
        alias="YOUTUBE_EMBED_BASE_URL",
        pattern=r"^https?://[A-Za-z0-9.:-]+/?$",
        description="Where the media overlay finds YouTube's player.",
    )
    form_expiry_s: float = Field(
        900, alias="FORM_EXPIRY", gt=0, description="A viewer can answer a form for this long, s."
    )

    @property
    def clips_host(self) -> str:
        """Where clips are played, as MEDIA_HOSTS has hosts."""
        return urlsplit(self.twitch_embed_base_url).netloc

    @property
    def portal_origin(self) -> str | None:
        """As a policy names it: scheme, host and port."""
        parts = urlsplit(self.portal_url or "")
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None

    @property
    def sockets_url(self) -> str:
        """Where pages find the hub: beside BASE_URL, behind the same proxy where that is https."""
        if self.websocket_public_url:
            return self.websocket_public_url.rstrip("/")
        parts = urlsplit(self.base_url)
        if parts.scheme == "https":
            return f"wss://{parts.netloc}"
        return f"ws://{parts.hostname}:{self.websocket_port}"
