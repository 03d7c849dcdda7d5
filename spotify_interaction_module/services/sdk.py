"""spotipy as it is used here. It loads a lot, so this file is imported when somebody is first asked."""

from __future__ import annotations

from typing import Any

import requests
import spotipy
from spotipy.cache_handler import CacheHandler
from spotipy.oauth2 import SpotifyOAuth

from ..config import App
from .wire import open_session


class Client(spotipy.Spotify):  # type: ignore[misc]
    """The Web API with one token. There is no auth manager: one without a token asks on stdin."""

    def __init__(self, access: str, *, base_url: str, session: requests.Session, timeout_s: float) -> None:
        # A session of ours, because spotipy's own repeats what must not be repeated.
        super().__init__(auth=access, requests_session=session, requests_timeout=timeout_s)
        self.prefix = f"{base_url}/"

    def __del__(self) -> None:
        """spotipy closes its session here, which is everybody's."""


class Consent(SpotifyOAuth):  # type: ignore[misc]
    """The accounts service for one app."""

    def __init__(self, app: App, *, base_url: str, redirect_uri: str, scopes: str, timeout_s: float = 0) -> None:
        self.OAUTH_AUTHORIZE_URL = f"{base_url}/authorize"
        self.OAUTH_TOKEN_URL = f"{base_url}/api/token"
        super().__init__(
            client_id=app.client_id,
            client_secret=app.client_secret.get_secret_value(),
            redirect_uri=redirect_uri,
            scope=scopes,
            cache_handler=_Nowhere(),
            open_browser=False,
            requests_session=open_session(),
            requests_timeout=timeout_s,
            show_dialog=True,
        )

    def _add_custom_values_to_token_info(self, token_info: dict[str, Any]) -> dict[str, Any]:
        """spotipy writes what was asked for over what was granted."""
        granted = token_info.get("scope") or ""
        return {**super()._add_custom_values_to_token_info(token_info), "scope": granted}


class _Nowhere(CacheHandler):  # type: ignore[misc]
    """Tokens are kept by whoever asked for them; spotipy would write them into a file."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] | None = None

    def get_cached_token(self) -> dict[str, Any] | None:
        return self.kept

    def save_token_to_cache(self, token_info: dict[str, Any]) -> None:
        self.kept = token_info
