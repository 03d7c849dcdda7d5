"""Some music. Ids are 22 characters of base 62, as Spotify's are."""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass
from typing import Any

BASE62 = string.digits + string.ascii_letters
MINUTE_MS = 60_000


def made_id(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    made = ""
    for _ in range(22):
        number, digit = divmod(number, 62)
        made += BASE62[digit]
    return made


@dataclass(frozen=True, slots=True)
class Track:
    name: str
    artist: str
    album: str = "Songs"
    duration_ms: int = 3 * MINUTE_MS
    explicit: bool = False
    is_playable: bool = True

    @property
    def id(self) -> str:
        return made_id(f"{self.name}/{self.artist}")

    @property
    def uri(self) -> str:
        return f"spotify:track:{self.id}"

    def as_json(self, base_url: str) -> dict[str, Any]:
        images = [{"url": f"{base_url}/image/{self.id}", "height": size, "width": size} for size in (640, 300, 64)]
        return {
            "type": "track",
            "id": self.id,
            "uri": self.uri,
            "name": self.name,
            "duration_ms": self.duration_ms,
            "explicit": self.explicit,
            "is_local": False,
            "is_playable": self.is_playable,
            "artists": [{"name": name.strip(), "type": "artist"} for name in self.artist.split(",")],
            "album": {"name": self.album, "images": images, "type": "album"},
            "external_urls": {"spotify": f"https://open.spotify.com/track/{self.id}"},
        }


@dataclass(frozen=True, slots=True)
class Playlist:
    name: str
    owner: str
    tracks: tuple[Track, ...]

    @property
    def id(self) -> str:
        return made_id(f"{self.owner}/{self.name}")

    @property
    def uri(self) -> str:
        return f"spotify:playlist:{self.id}"

    def as_json(self) -> dict[str, Any]:
        return {
            "type": "playlist",
            "id": self.id,
            "uri": self.uri,
            "name": self.name,
            "owner": {"id": self.owner, "display_name": self.owner.title()},
            "items": {"total": len(self.tracks)},
        }


SOME = [
    Track("Blue Lagoon", "The Waddlers", "Cold Feet", 201_000),
    Track("Blue Monday", "New Order", "Substance", 449_000),
    Track("Icebreaker", "The Waddlers", "Cold Feet", 187_000),
    Track("Long March", "Emperor", "Rookery", 12 * MINUTE_MS),
    Track("Slippery Slope", "Rockhopper, Gentoo", "Landfall", 175_000, explicit=True),
    Track("!ban everybody <b>&amp;</b> @here 🐧", 'DJ "Krill"', "Markup", 160_000),
    *(Track(f"Fish {number}", "The Shoal", "Numbers", 150_000 + number * 1000) for number in range(1, 16)),
]
