"""YouTube's links: which video or list they name, and from where it is to be played."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
LIST_ID = re.compile(r"[A-Za-z0-9_-]{10,64}", re.ASCII)
HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "youtube-nocookie.com"}
    | {"www.youtube-nocookie.com"}
)
SHORT_HOSTS = frozenset({"youtu.be", "www.youtu.be"})
# youtube.com/shorts/<id> and the like.
PATHS = frozenset({"shorts", "embed", "live", "v"})
TIME = re.compile(r"(?:(\d{1,3})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s?)?", re.ASCII)
MOST_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Link:
    """A video, a list, or a video in a list."""

    video_id: str = ""
    list_id: str = ""
    start_s: int = 0


def looks_like_link(text: str) -> bool:
    return "://" in text or text.lower().removeprefix("www.").startswith(("youtube.", "youtu.be", "music.youtube."))


def read_link(text: str) -> Link | None:
    """The video or list that a link of YouTube's names; None for any other text."""
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or parts.username is not None:
        return None
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    video_id = _video_in(host, parts.path.strip("/").split("/"), query)
    list_id = query.get("list", "")
    if host not in HOSTS | SHORT_HOSTS or not LIST_ID.fullmatch(list_id):
        list_id = ""
    if not video_id and not list_id:
        return None
    start = query.get("t") or query.get("start") or parts.fragment.removeprefix("t=")
    return Link(video_id, list_id, _seconds(start) if video_id else 0)


def watch_link(video_id: str) -> str:
    return f"https://www.youtube.com/watch?v={video_id}"


def _video_in(host: str, path: list[str], query: dict[str, str]) -> str:
    found = ""
    if host in SHORT_HOSTS:
        found = path[0]
    elif host in HOSTS and path[0] == "watch":
        found = query.get("v", "")
    elif host in HOSTS and path[0] in PATHS and len(path) > 1:
        found = path[1]
    return found if VIDEO_ID.fullmatch(found) else ""


def _seconds(text: str) -> int:
    """`90`, `90s`, `1m30s` or `1h2m3s`; 0 for what is none of these."""
    match = TIME.fullmatch(text.lower())
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    return total if total <= MOST_S else 0
