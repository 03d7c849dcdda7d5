"""Spotify on loopback: what a test holds in its hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

from ..server import AsyncLoopbackServer
from .accounts import Accounts, Person
from .catalogue import Playlist, Track
from .faults import Fault, Faults, Kind
from .player import Player
from .web_api import WebAPI


class SpotifySimulator(AsyncLoopbackServer):
    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self._faults = Faults()
        self.accounts = Accounts(self._faults)
        self.api = WebAPI(self.accounts, self._faults)

    def make_app(self) -> web.Application:
        app = web.Application(middlewares=self.middlewares)
        app.add_routes([*self.accounts.routes(), *self.api.routes()])
        return app

    def start(self) -> SpotifySimulator:
        super().start()
        self.api.base_url = self.url
        return self

    def settings(self) -> dict[str, str]:
        """The environment that points the fleet here."""
        app = self.accounts.app()
        return {
            "SPOTIFY_CLIENT_ID": app.client_id,
            "SPOTIFY_CLIENT_SECRET": app.client_secret,
            "SPOTIFY_API_BASE_URL": f"{self.url}/v1/",
            "SPOTIFY_ACCOUNTS_BASE_URL": self.url,
        }

    def user(
        self, name: str, *, premium: bool = True, listed: bool = True, devices: Sequence[str] = (), active: bool = True
    ) -> Person:
        """Somebody with an account; the first of their devices is the active one."""
        person = self.accounts.people[name] = Person(name, name.title(), premium, listed)
        for number, device in enumerate(devices):
            person.player.add_device(device, active=active and number == 0)
        return person

    def player(self, name: str) -> Player:
        return self.accounts.people[name].player

    def track(self, name: str) -> Track:
        return next(each for each in self.api.tracks.values() if each.name == name)

    def add_track(self, track: Track) -> Track:
        self.api.tracks[track.id] = track
        return track

    def add_playlist(self, name: str, owner: str, *tracks: Track) -> Playlist:
        self.api.playlists.append(Playlist(name, owner, tracks))
        return self.api.playlists[-1]

    def calls(self, path: str = "", method: str = "", user: str = "") -> int:
        """How often something was asked for since `forget_calls`, by anybody or with somebody's token."""
        wanted = (method, path, user)
        return sum(
            all(not want or want == has for want, has in zip(wanted, each, strict=True)) for each in self.api.calls
        )

    def forget_calls(self) -> None:
        self.api.calls.clear()

    def fail_next(
        self,
        kind: Kind | int,
        *,
        at: str = "",
        times: int = 1,
        headers: Mapping[str, str] | None = None,
        message: str = "",
        reason: str = "",
    ) -> None:
        """Let the next calls go wrong, those of one path such as `me/player/play` or `api/token`, or any."""
        if isinstance(kind, int):
            fault = Fault("status", kind, headers or {}, message, reason)
        else:
            fault = Fault(kind, headers=headers or {}, message=message, reason=reason)
        self._faults.add(fault, at=at, times=times)

    def heal(self) -> None:
        self._faults.clear()
