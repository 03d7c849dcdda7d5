"""The Spotify module's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr
from waddlebot.base.errors import ConfigError
from waddlebot.base.settings import BaseURL, Identifier, Secret, Settings, WebURL

CALLBACK = "/spotify/auth/callback"
SCOPES = (
    "user-read-playback-state user-modify-playback-state user-read-currently-playing streaming playlist-read-private"
)
# Spotify's API takes no more than ten results since February 2026.
MOST_RESULTS = 10


@dataclass(frozen=True, slots=True)
class App:
    """An app at developer.spotify.com."""

    client_id: str
    client_secret: SecretStr = field(repr=False)


class SpotifySettings(Settings):
    prefix: ClassVar[str] = "SPOTIFY"

    client_id: Identifier | None = Field(
        None, alias="SPOTIFY_CLIENT_ID", description="Client ID of the app at developer.spotify.com."
    )
    client_secret: Secret | None = Field(None, alias="SPOTIFY_CLIENT_SECRET", description="Its client secret.")
    redirect_uri: BaseURL | None = Field(
        None,
        alias="SPOTIFY_REDIRECT_URI",
        description="Where Spotify sends people back to, as the app has it registered; BASE_URL's if unset.",
    )
    scopes: str = Field(SCOPES, alias="SPOTIFY_SCOPES", description="What people are asked to grant.")
    api_base_url: BaseURL = Field(
        "https://api.spotify.com/v1", alias="SPOTIFY_API_BASE_URL", description="Where the Web API is."
    )
    accounts_base_url: BaseURL = Field(
        "https://accounts.spotify.com", alias="SPOTIFY_ACCOUNTS_BASE_URL", description="Where people consent."
    )
    browser_source_api_url: WebURL | None = Field(
        None, alias="BROWSER_SOURCE_API_URL", description="Without effect: the router delivers to overlays."
    )
    max_search_results: int = Field(
        MOST_RESULTS, alias="MAX_SEARCH_RESULTS", ge=1, le=50, description="Tracks of a search; Spotify gives ten."
    )
    cache_ttl_s: float = Field(
        300, alias="CACHE_TTL", gt=0, description="So long the numbers of somebody's last search hold, s."
    )
    token_refresh_buffer_s: float = Field(
        300, alias="TOKEN_REFRESH_BUFFER", ge=0, le=3000, description="A token that ends so soon is renewed, s."
    )
    enable_playlists: bool = Field(True, alias="ENABLE_PLAYLISTS", description="!spotify playlist.")
    enable_queue: bool = Field(True, alias="ENABLE_QUEUE", description="!spotify queue and request, and !sr.")
    enable_history: bool = Field(True, alias="ENABLE_HISTORY", description="What was played is kept.")
    enable_device_control: bool = Field(
        True, alias="ENABLE_DEVICE_CONTROL", description="!spotify devices, device and volume."
    )
    media_display_duration_s: float = Field(
        30, alias="MEDIA_DISPLAY_DURATION", ge=0, description="How long a track's card is shown, s; 0: while it plays."
    )
    show_album_art: bool = Field(True, alias="SHOW_ALBUM_ART", description="Covers on the card.")
    show_progress_bar: bool = Field(True, alias="SHOW_PROGRESS_BAR", description="A progress bar on the card.")

    @property
    def app(self) -> App | None:
        """The fleet's app. Raises: ConfigError when half of it is missing."""
        if not self.client_id and not self.client_secret:
            return None
        if not self.client_id or not self.client_secret:
            raise ConfigError("Set both SPOTIFY_CLIENT_ID and SPOTIFY_CLIENT_SECRET, or none.")
        return App(self.client_id, self.client_secret)

    @property
    def redirect_url(self) -> str:
        """Spotify takes no `localhost` since November 2025, only the address that it stands for."""
        url = urlsplit(self.redirect_uri or f"{self.base_url.rstrip('/')}{CALLBACK}")
        if url.hostname != "localhost":
            return urlunsplit(url)
        return urlunsplit(url._replace(netloc=url.netloc.replace("localhost", "127.0.0.1", 1)))

    @property
    def search_limit(self) -> int:
        return min(self.max_search_results, MOST_RESULTS)
