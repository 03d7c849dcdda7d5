"""Whose app at Spotify is asked: the fleet's, or one that a community brings along."""

from __future__ import annotations

from pydantic import SecretStr
from waddlebot.base.errors import NotConfigured, UserError
from waddlebot.community.credentials import Credentials

from ..config import App

PROVIDER = "spotify"


class NoApp(UserError, NotConfigured):
    """Spotify is not set up yet: whoever runs this bot has to set SPOTIFY_CLIENT_ID and SPOTIFY_CLIENT_SECRET, or this
    community's owner brings an app of their own (see the module's README)."""

    code = NotConfigured.code
    http_status = NotConfigured.http_status


class Apps:
    def __init__(self, credentials: Credentials, fleets: App | None) -> None:
        self._credentials = credentials
        self._fleets = fleets

    def get(self, community_id: int) -> App:
        """The app with which a community's people consent from now on. Raises: NoApp."""
        app = self._own(community_id) or self._fleets
        if app is None:
            raise NoApp()
        return app

    def find(self, community_id: int, client_id: str) -> App | None:
        """The app that a consent was given to, as long as it is still known."""
        known = (self._own(community_id), self._fleets)
        return next((each for each in known if each and each.client_id == client_id), None)

    def _own(self, community_id: int) -> App | None:
        found = self._credentials.find(community_id, PROVIDER)
        return App(found["client_id"].strip(), SecretStr(found["client_secret"].strip())) if found else None
