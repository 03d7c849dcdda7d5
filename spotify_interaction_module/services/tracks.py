"""Tracks as Spotify tells of them, and what people write to name one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import Wire
from waddlebot.base.errors import UserError

SHOWN_CHARS = 60
ID = r"[0-9A-Za-z]{22}"
KINDS = r"track|playlist|album|artist|episode|show"
URI = re.compile(rf"spotify:({KINDS}):({ID})", re.ASCII)
LINK = re.compile(
    rf"<?(?:https?://)?(?:open|play)\.spotify\.com/(?:intl-[a-z-]+/)?(?:embed/)?({KINDS})/({ID})(?:[/?#][^\s>]*)?>?",
    re.ASCII | re.IGNORECASE,
)
SHORT_LINK = re.compile(r"<?(?:https?://)?spotify\.(?:link|app\.link)/\S+", re.ASCII | re.IGNORECASE)

Kind = Literal["track", "playlist", "album"]


class NoTrack(UserError):
    """That is no track of Spotify's."""

    code = "no_track"


@dataclass(frozen=True, slots=True)
class Track:
    uri: str
    name: str
    artists: str
    album: str = ""
    duration_ms: int = 0
    art_url: str = ""
    explicit: bool = False

    @property
    def title(self) -> str:
        """For chat: in quotes, so that no title is anybody's command."""
        by = f" – {shorten(self.artists, SHOWN_CHARS)}" if self.artists else ""
        return f"“{shorten(self.name, SHOWN_CHARS)}”{by}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Playing:
    """What an account's player is at, just now."""

    track: Track
    is_playing: bool
    progress_ms: int
    device_name: str = ""
    volume: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    id: str
    name: str
    type: str
    is_active: bool
    is_restricted: bool
    volume: int | None


class Named(Wire):
    name: str = ""


class Image(Wire):
    url: str
    width: int = 0


class Album(Named):
    images: list[Image] = Field(default_factory=list)


class Linked(Wire):
    uri: str


class WireTrack(Wire):
    uri: str
    name: str = ""
    duration_ms: int = Field(0, ge=0)
    explicit: bool = False
    artists: list[Named] = Field(default_factory=list)
    album: Album = Field(default_factory=Album)
    # An episode's.
    show: Album = Field(default_factory=Album)
    images: list[Image] = Field(default_factory=list)
    # The one that was asked for, where another copy of it is played in this country.
    linked_from: Linked | None = None

    def as_track(self) -> Track:
        album = self.album if self.album.name or self.album.images else self.show
        images = album.images or self.images
        return Track(
            uri=self.linked_from.uri if self.linked_from else self.uri,
            name=_line(self.name) or "Something without a name",
            artists=", ".join(_line(each.name) for each in self.artists) or _line(self.show.name),
            album=_line(album.name),
            duration_ms=self.duration_ms,
            art_url=_art(images),
            explicit=self.explicit,
        )


class WireDevice(Wire):
    id: str = ""
    name: str = ""
    type: str = ""
    is_active: bool = False
    is_restricted: bool = False
    volume_percent: int | None = None

    def as_device(self) -> Device:
        name = _line(self.name) or "a device"
        return Device(self.id, name, self.type, self.is_active, self.is_restricted, self.volume_percent)


class WirePlayback(Wire):
    is_playing: bool = False
    progress_ms: int = Field(0, ge=0)
    # None for advertisements.
    item: WireTrack | None = None
    device: WireDevice = Field(default_factory=WireDevice)


def read_playing(said: Mapping[str, Any] | None) -> Playing | None:
    """What plays; None for 204, and for what is no track. Raises: ValueError."""
    playback = WirePlayback.model_validate(said) if said else None
    if playback is None or playback.item is None:
        return None
    name = playback.device.name and playback.device.as_device().name
    volume = playback.device.volume_percent
    return Playing(playback.item.as_track(), playback.is_playing, playback.progress_ms, name, volume)


def read_tracks(items: list[Any]) -> list[Track]:
    """Raises: ValueError."""
    return [WireTrack.model_validate(each).as_track() for each in items if each]


def read_devices(said: Mapping[str, Any]) -> list[Device]:
    """Those that can be spoken to. Raises: ValueError, KeyError."""
    return [WireDevice.model_validate(each).as_device() for each in said["devices"] if each.get("id")]


def read_reference(text: str) -> tuple[Kind, str] | None:
    """What a URI or link names, as a URI; None for what is neither. Raises: NoTrack for what cannot be played here."""
    found = URI.fullmatch(text) or LINK.fullmatch(text)
    if found is None:
        if SHORT_LINK.fullmatch(text):
            raise NoTrack("Short links are not followed; send the long one, from open.spotify.com.")
        return None
    kind = found[1].lower()
    if kind not in ("track", "playlist", "album"):
        raise NoTrack(f"That is {'an' if kind[0] in 'ae' else 'a'} {kind}; a track is needed.")
    return kind, f"spotify:{kind}:{found[2]}"  # type: ignore[return-value]


def clock(duration_ms: int) -> str:
    """3:05, or 1:02:03."""
    minutes, seconds = divmod(max(0, duration_ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:300]


def _art(images: list[Image]) -> str:
    """One that is large enough for a card, and no larger than it has to be."""
    large = [each for each in images if each.width >= 250]
    chosen = min(large, key=lambda each: each.width) if large else next(iter(images), None)
    return chosen.url if chosen else ""
