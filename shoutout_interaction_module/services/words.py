"""What a shoutout says in chat and shows on the stream."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waddlebot.base.chat import shorten
from waddlebot.base.contracts import ModuleResponse

MAX_LINE_CHARS = 450
# A clip ends by itself; a page in which it does not come up lets it go after this.
LOADING_S = 8.0
ANNOUNCEMENT_S = 10.0
PLAIN = "Give it up for {user}!"
PLACEHOLDER = re.compile(r"\{(user|username|game|link)\}")
# Where a sentence, or a part of one after a dash, ends.
CLAUSES = re.compile(r"(?<=[.!?])\s+|\s+[–—-]\s+")


@dataclass(frozen=True, slots=True)
class Profile:
    """Somebody, as their platform shows them; what it does not know is empty."""

    name: str
    link: str = ""
    game: str = ""
    picture: str = ""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip at Twitch. `embed_url` is its player's, which wants to be told the page that it is in."""

    id: str
    embed_url: str
    title: str
    picture: str
    duration_s: float


def line_of(profile: Profile, template: str, links: Sequence[str]) -> str:
    """What is said: the template, without the parts that nothing is known for, and the links."""
    known = {"user": profile.name, "username": profile.name, "game": profile.game, "link": profile.link}
    words = _without_unknown(template, known) or PLAIN
    filled = PLACEHOLDER.sub(lambda each: known[each[1]], words)
    new = [link for link in links if link not in filled]
    return shorten(" ".join([filled, *new]), MAX_LINE_CHARS)


def _without_unknown(template: str, known: Mapping[str, str]) -> str:
    kept, separator = "", ""
    at = 0
    for end in [*CLAUSES.finditer(template), None]:
        clause = template[at : end.start() if end else len(template)]
        if all(known[name] for name in PLACEHOLDER.findall(clause)):
            kept += (separator if kept else "") + clause
        separator = end[0] if end else ""
        at = end.end() if end else at
    return kept.strip()


def card_of(profile: Profile, clip: Clip | None, *, picture_s: float, by: str) -> ModuleResponse:
    """What the stream shows: the clip, full screen; without one their picture; without that their name."""
    shown: dict[str, Any] = {
        "title": f"{profile.name} – {profile.game}" if profile.game else profile.name,
        "service": "Twitch",
        "requested_by": by,
    }
    under = profile.link.removeprefix("https://")
    if clip is not None:
        own = {
            "media_type": "clip",
            "media_url": clip.embed_url,
            "artwork_url": clip.picture or profile.picture,
            "artist": f"{clip.title} · {under}" if clip.title else under,
            "duration_ms": round(clip.duration_s * 1000),
            "display_s": clip.duration_s + LOADING_S,
        }
        return ModuleResponse(response_action="media", response_data={**shown, **own})
    if profile.picture:
        own = {"media_type": "image", "media_url": profile.picture, "artist": under, "display_s": picture_s}
        return ModuleResponse(response_action="media", response_data={**shown, **own})
    general = {"title": shown["title"], "text": under, "display_s": ANNOUNCEMENT_S}
    return ModuleResponse(response_action="general", response_data=general)
