"""What an account's player is told and asked. Each method asks Spotify, so no transaction is open."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from waddlebot.base.chat import closest
from waddlebot.base.errors import Away, NotFound, Unclear
from waddlebot.base.text import fold

from .account_service import AccountService, Player
from .spotify_service import NoActiveDevice
from .tracks import Device, NoTrack, Playing, Track, read_devices, read_playing, read_tracks

if TYPE_CHECKING:
    from .sdk import Client

PLAYLISTS_SHOWN = 50


class PlayerService:
    """Methods that change something raise NoActiveDevice and PremiumRequired, certainly without having done it."""

    def __init__(self, accounts: AccountService, *, search_limit: int) -> None:
        self._accounts = accounts
        self._search_limit = search_limit

    def look(self, player: Player, *, within_s: float | None = None) -> Playing | None:
        """What plays, or None."""
        calls = self._accounts.calls(player)
        return calls.look_up(
            lambda sp: read_playing(sp.current_playback(additional_types="episode")), within_s=within_s
        )

    def search(self, player: Player, query: str, *, within_s: float | None = None) -> list[Track]:
        limit = self._search_limit
        return self._accounts.calls(player).look_up(
            lambda sp: read_tracks(sp.search(query, limit=limit, type="track")["tracks"]["items"]), within_s=within_s
        )

    def get_track(self, player: Player, uri: str, *, within_s: float | None = None) -> Track:
        """Raises: NotThere."""
        return self._accounts.calls(player).look_up(lambda sp: read_tracks([sp.track(uri)])[0], within_s=within_s)

    def coming(self, player: Player, *, within_s: float | None = None) -> tuple[Track | None, list[Track]]:
        """What plays, and what comes next: at most twenty, those that people queued first."""

        def ask(sp: Client) -> tuple[Track | None, list[Track]]:
            said = sp.queue()
            current = read_tracks([said["currently_playing"]])
            return (current[0] if current else None), read_tracks(said["queue"])

        return self._accounts.calls(player).look_up(ask, within_s=within_s)

    def devices(self, player: Player, *, within_s: float | None = None) -> list[Device]:
        return self._accounts.calls(player).look_up(lambda sp: read_devices(sp.devices()), within_s=within_s)

    def playlists(self, player: Player, *, within_s: float | None = None) -> list[tuple[str, str]]:
        """The account's playlists: each one's name and URI."""

        def ask(sp: Client) -> list[tuple[str, str]]:
            items = sp.current_user_playlists(limit=PLAYLISTS_SHOWN)["items"]
            return [(" ".join(str(each["name"]).split()), str(each["uri"])) for each in items if each]

        return self._accounts.calls(player).look_up(ask, within_s=within_s)

    def play(self, player: Player, uri: str, *, within_s: float) -> None:
        """Play a track, a playlist or an album now."""
        if uri.startswith("spotify:track:"):
            self._command(player, lambda sp, device: sp.start_playback(device, uris=[uri]), within_s)
        else:
            self._command(player, lambda sp, device: sp.start_playback(device, context_uri=uri), within_s)

    def resume(self, player: Player, *, within_s: float) -> None:
        self._command(player, lambda sp, device: sp.start_playback(device), within_s)

    def pause(self, player: Player, *, within_s: float) -> None:
        """Where no device is active nothing plays either."""
        self._accounts.calls(player).effect(lambda sp: sp.pause_playback(), within_s=within_s)

    def skip(self, player: Player, *, within_s: float) -> None:
        self._command(player, lambda sp, device: sp.next_track(device), within_s)

    def add(self, player: Player, uri: str, *, within_s: float) -> None:
        """Put a track at the end of what people have queued."""
        self._command(player, lambda sp, device: sp.add_to_queue(uri, device), within_s)

    def set_volume(self, player: Player, percent: int, *, within_s: float) -> None:
        self._command(player, lambda sp, device: sp.volume(percent, device), within_s)

    def transfer(self, player: Player, device: Device, *, within_s: float) -> None:
        """Go on there, playing or not as before."""
        self._accounts.calls(player).effect(
            lambda sp: sp.transfer_playback(device.id, force_play=False), within_s=within_s
        )

    def _command(self, player: Player, do: Callable[[Client, str | None], object], within_s: float) -> None:
        """Do something, and where Spotify says that no device is active, wake one and do it then: once more."""
        until = time.monotonic() + within_s
        calls = self._accounts.calls(player)
        try:
            calls.effect(lambda sp: do(sp, None), within_s=within_s)
        except NoActiveDevice:
            device = self._wake(player, until)
            calls.effect(lambda sp: do(sp, device.id), within_s=until - time.monotonic())

    def _wake(self, player: Player, until: float) -> Device:
        """Move the player to the preferred device. What was asked for is not begun by this, however it ends."""
        try:
            device = choose_device(self.devices(player, within_s=until - time.monotonic()), player)
            self.transfer(player, device, within_s=until - time.monotonic())
        except Unclear as err:
            raise Away(err.message) from err
        return device


def choose_device(devices: Sequence[Device], player: Player) -> Device:
    """The one that is preferred, else the active one, else the first. Raises: NoActiveDevice."""
    usable = [each for each in devices if not each.is_restricted]
    if not usable:
        raise NoActiveDevice(status=404)
    preferred = [each for each in usable if each.id == player.device_id]
    preferred += [each for each in usable if player.device_name and each.name == player.device_name]
    return [*preferred, *(each for each in usable if each.is_active), *usable][0]


def find_device(devices: Sequence[Device], wanted: str) -> Device:
    """The device that a number or a name means. Raises: NotFound; NoActiveDevice where there is none at all."""
    if not devices:
        raise NoActiveDevice(status=404)
    if wanted.isascii() and wanted.isdigit() and 1 <= int(wanted[:4]) <= len(devices):
        return devices[int(wanted[:4]) - 1]
    names = {fold(each.name): each for each in devices}
    beginning = [each for name, each in names.items() if name.startswith(fold(wanted))]
    guess = closest(fold(wanted), names)
    if found := names.get(fold(wanted)) or (beginning[0] if len(beginning) == 1 else None):
        return found
    hint = f" Did you mean “{names[guess].name}”?" if guess else " !spotify devices lists them."
    raise NotFound(f"There is no device “{wanted[:40]}”.{hint}")


__all__ = ["NoTrack", "PlayerService", "choose_device", "find_device"]
