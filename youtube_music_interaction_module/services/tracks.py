"""A song as it is found, and what keeps it from being played."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from waddlebot.base.contracts import Wire
from waddlebot.base.errors import UserError

MAX_TITLE_CHARS = 150
SHOWN_CHARS = 70
# YouTube makes a channel of this name for an artist who has none.
TOPIC = " - Topic"
# `P1DT2H3M4S`; P0D is a stream that has not ended.
DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)
THUMBNAILS = ("high", "medium", "default")
CONTROLS = re.compile("[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class NotPlayable(UserError):
    """That cannot be played."""

    code = "not_playable"


@dataclass(frozen=True, slots=True)
class Track:
    """A video that is a song. `refusal` says why it cannot be played, in words that follow its title."""

    video_id: str
    title: str
    artist: str
    duration: int
    thumbnail_url: str = ""
    start_s: int = 0
    refusal: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The track in a row of a table, or in what was cached."""
        return cls(**{name: row[name] for name in cls.__slots__ if name in row})

    @property
    def shown(self) -> str:
        """The title with its artist, unless the title says that already; as a line of chat has it."""
        return in_words(self.title, self.artist)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def starting_at(self, start_s: int) -> Track:
        return replace(self, start_s=start_s if start_s < self.duration else 0)


class Camel(Wire):
    """Names as Google writes them."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class _Thumbnail(Camel):
    url: str = ""


class _Snippet(Camel):
    title: str = ""
    channel_title: str = ""
    live_broadcast_content: str = "none"
    thumbnails: dict[str, _Thumbnail] = Field(default_factory=dict)


class _Region(Camel):
    allowed: list[str] | None = None
    blocked: list[str] = Field(default_factory=list)


class _Rating(Camel):
    yt_rating: str = ""


class _Details(Camel):
    duration: str = "P0D"
    region_restriction: _Region = Field(default_factory=_Region)
    content_rating: _Rating = Field(default_factory=_Rating)


class _Status(Camel):
    upload_status: str = "processed"
    privacy_status: str = "public"
    embeddable: bool = True


class Video(Camel):
    """A video as `videos.list` has it, as far as it matters here."""

    id: str
    snippet: _Snippet
    content_details: _Details = Field(default_factory=_Details)
    status: _Status = Field(default_factory=_Status)

    def as_track(self, region: str) -> Track:
        snippet = self.snippet
        duration = read_duration(self.content_details.duration)
        pictures = [snippet.thumbnails[size].url for size in THUMBNAILS if size in snippet.thumbnails]
        return Track(
            video_id=self.id,
            title=plain(snippet.title) or self.id,
            artist=plain(snippet.channel_title.removesuffix(TOPIC)),
            duration=duration,
            thumbnail_url=pictures[0] if pictures else "",
            refusal=self._refusal(region, duration),
        )

    def _refusal(self, region: str, duration: int) -> str:
        details, status = self.content_details, self.status
        if status.upload_status not in ("processed", "uploaded") or status.privacy_status == "private":
            return "is private or was taken down"
        if self.snippet.live_broadcast_content != "none" or not duration:
            return "is a live stream, which has no end"
        if details.content_rating.yt_rating == "ytAgeRestricted":
            return "is for adults only, and YouTube shows it to nobody who is not signed in"
        allowed, blocked = details.region_restriction.allowed, details.region_restriction.blocked
        if region in blocked or (allowed is not None and region not in allowed):
            return f"may not be played in {region}"
        if not status.embeddable:
            return "may only be played on YouTube itself"
        return ""


def read_duration(text: str) -> int:
    """Seconds of an ISO 8601 duration; 0 for what is none."""
    match = DURATION.fullmatch(text)
    if match is None:
        return 0
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds


def plain(text: str) -> str:
    """A text of YouTube's as it is meant: their API escapes it for HTML."""
    text = " ".join(CONTROLS.sub(" ", html.unescape(text)).split())
    return text if len(text) <= MAX_TITLE_CHARS else text[: MAX_TITLE_CHARS - 1].rstrip() + "…"


def in_words(title: str, artist: str) -> str:
    words = title if not artist or artist.casefold() in title.casefold() else f"{title} – {artist}"
    return words if len(words) <= SHOWN_CHARS else words[: SHOWN_CHARS - 1].rstrip() + "…"


def as_time(seconds: int) -> str:
    """`3:05`, `1:02:03`."""
    minutes, rest = divmod(max(0, seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
