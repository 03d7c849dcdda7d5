"""The Data API v3 and the embedded player, with Google's own words where something is wrong.

Sources: developers.google.com/youtube/v3/docs (search, videos, playlistItems, errors) and /youtube/player_parameters.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from ..server import LoopbackServer, Reply, Request

API_KEY = "simulated-youtube-key"
PLAYER = Path(__file__).with_name("player.html")
VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}")
# A picture of a record, so that nothing is loaded from anywhere else.
SLEEVE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 360"><rect width="480" height="360" fill="{colour}"/>'
    '<circle cx="240" cy="180" r="130" fill="#111"/><circle cx="240" cy="180" r="48" fill="{colour}"/>'
    '<circle cx="240" cy="180" r="9" fill="#111"/></svg>'
)


@dataclass(slots=True)
class Video:
    """`error` is what the player says instead of playing it: 2, 5, 100, 101, 150 or 153."""

    title: str
    channel: str = "A Channel"
    video_id: str = ""
    duration_s: int = 180
    live: str = "none"
    is_embeddable: bool = True
    is_age_restricted: bool = False
    blocked_in: tuple[str, ...] = ()
    allowed_in: tuple[str, ...] = ()
    category: str = "10"
    error: int = 0
    privacy: str = "public"

    @property
    def duration(self) -> str:
        """As ISO 8601 has it; days where there are some, and P0D while it is live."""
        if self.live != "none":
            return "P0D"
        minutes, seconds = divmod(self.duration_s, 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        time = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number)
        return "P" + (f"{days}D" if days else "") + (f"T{time}" if time else "")


@dataclass(frozen=True, slots=True)
class Fault:
    """What comes instead of an answer: an error of Google's, anything else as it is, or nothing for a while."""

    status: int = 500
    reason: str = "backendError"
    body: bytes | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    hangs_up: bool = False


class YouTubeSimulator:
    """`requests` are the paths and queries that came to the API, keys left out; `fail_next` breaks what comes.

    Songs are over `speed` times as fast as in life. `searches_left` is today's quota for search, as since June 2026.
    """

    def __init__(self, *, port: int = 0, speed: float = 1.0, api_key: str = API_KEY) -> None:
        self.port = port
        self.speed = speed
        self.api_key = api_key
        self.videos: dict[str, Video] = {}
        self.playlists: dict[str, list[str]] = {}
        self.private_playlists: set[str] = set()
        self.requests: list[tuple[str, dict[str, str]]] = []
        # How often each video's player was opened, and with which referrer.
        self.embeds: list[tuple[str, str]] = []
        self.searches_left = 100
        self._faults: list[Fault] = []
        self._waiting = threading.Event()
        self._server: LoopbackServer | None = None

    # The world

    def add(self, title: str, **about: Any) -> Video:
        """A video; its id is made up unless it is given."""
        video = Video(title, **about)
        video.video_id = video.video_id or secrets.token_urlsafe(8)[:11]
        self.videos[video.video_id] = video
        return video

    def add_some_songs(self) -> None:
        """For a demo: songs of nobody, short enough to hear the end of."""
        for number, (title, channel, seconds) in enumerate(
            [
                ("Waddle On", "The Emperors - Topic", 45),
                ("Ice &amp; Snow", "The Emperors - Topic", 40),
                ("Slide Down the Hill", "Belly Sliders", 50),
                ("Fish for Breakfast", "Belly Sliders", 35),
                ("Forty Thousand Friends", "Colony", 60),
                ("Aurora (Live in Adélie Land)", "Colony", 55),
            ]
        ):
            self.add(title, channel=channel, duration_s=seconds, video_id=f"demo-song-{number}"[:11].ljust(11, "0"))

    def fail_next(self, times: int = 1, **fault: Any) -> None:
        self._faults += [Fault(**fault)] * times

    def mend(self) -> None:
        """Nothing that comes is broken any more."""
        self._faults.clear()

    # A server

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        self._server = LoopbackServer(self._answer, port=self.port)
        self.port = self._server.port
        return self

    def stop(self) -> None:
        self._waiting.set()
        if self._server is not None:
            self._server.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self) -> dict[str, str]:
        """The environment that points a fleet here."""
        return {
            "YOUTUBE_API_KEY": self.api_key,
            "YOUTUBE_API_ENDPOINT": self.url,
            "YOUTUBE_EMBED_BASE_URL": self.url,
        }

    def _answer(self, request: Request) -> Reply:
        if request.path.startswith("/embed/"):
            return self._player(request)
        if request.path.startswith("/vi/"):
            return self._thumbnail(request.path.split("/")[2])
        if request.path == "/control":
            return self._control(request)
        query = dict(parse_qsl(urlsplit(request.target).query))
        key = query.pop("key", None)
        self.requests.append((request.path, query))
        if self._faults:
            return self._broken(self._faults.pop(0))
        if key != self.api_key:
            return _error(400, "badRequest", "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT")
        answers = {"search": self._search, "videos": self._list_videos, "playlistItems": self._list_items}
        kind = request.path.removeprefix("/youtube/v3/")
        if kind not in answers:
            return _error(404, "notFound", "Not Found", "NOT_FOUND")
        return answers[kind](query)

    def _broken(self, fault: Fault) -> Reply:
        if fault.after_s:
            self._waiting.wait(fault.after_s)
        if fault.hangs_up:
            return Reply(0, hangs_up=True)
        if fault.body is not None:
            return Reply(fault.status, fault.body, {"Content-Type": fault.content_type, **fault.headers})
        broken = _error(fault.status, fault.reason, fault.reason, "UNAVAILABLE")
        return Reply(broken.status, broken.body, fault.headers)

    def _control(self, request: Request) -> Reply:
        """For tests from outside: POST {"add": {...}} or {"fail_next": {...}}, or GET what came."""
        if request.method == "POST":
            asked = request.json()
            if "add" in asked:
                return Reply(200, {"video_id": self.add(**asked["add"]).video_id})
            self.fail_next(**asked.get("fail_next", {}))
        return Reply(200, {"requests": self.requests, "embeds": self.embeds, "searches_left": self.searches_left})

    # The Data API

    def _search(self, query: dict[str, str]) -> Reply:
        if self.searches_left <= 0:
            return quota_exceeded()
        self.searches_left -= 1
        words = query.get("q", "").casefold().split()
        # As the real one, it finds what cannot be played too, unless it is asked not to.
        found = [
            video
            for video in self.videos.values()
            if all(word in f"{video.title} {video.channel}".casefold() for word in words)
            and query.get("videoCategoryId") in (None, video.category)
            and (video.is_embeddable or query.get("videoEmbeddable") != "true")
            and video.privacy == "public"
        ]
        most = int(query.get("maxResults", 5))
        return Reply(
            200,
            {
                "kind": "youtube#searchListResponse",
                "etag": "x",
                "regionCode": query.get("regionCode", "US"),
                "pageInfo": {"totalResults": len(found), "resultsPerPage": most},
                "items": [
                    {
                        "kind": "youtube#searchResult",
                        "etag": "x",
                        "id": {"kind": "youtube#video", "videoId": video.video_id},
                        "snippet": self._snippet(video),
                    }
                    for video in found[:most]
                ],
            },
        )

    def _list_videos(self, query: dict[str, str]) -> Reply:
        ids = query.get("id", "").split(",")
        if len(ids) > 50:
            return _error(400, "invalidValue", "The request specifies an invalid filter parameter.", "INVALID_ARGUMENT")
        # What was deleted or is private is left out, in silence.
        found = [self.videos[each] for each in ids if each in self.videos and self.videos[each].privacy != "private"]
        return Reply(
            200,
            {
                "kind": "youtube#videoListResponse",
                "etag": "x",
                "items": [self._video(video) for video in found],
                "pageInfo": {"totalResults": len(found), "resultsPerPage": len(found)},
            },
        )

    def _list_items(self, query: dict[str, str]) -> Reply:
        name = query.get("playlistId", "")
        if name in self.private_playlists:
            return _error(
                403, "playlistItemsNotAccessible", "The request is not properly authorized.", "PERMISSION_DENIED"
            )
        if name not in self.playlists:
            words = "The playlist identified with the request's <code>playlistId</code> parameter cannot be found."
            return _error(404, "playlistNotFound", words, "NOT_FOUND")
        ids = self.playlists[name][: int(query.get("maxResults", 5))]
        items = [{"kind": "youtube#playlistItem", "contentDetails": {"videoId": each}} for each in ids]
        return Reply(200, {"kind": "youtube#playlistItemListResponse", "etag": "x", "items": items})

    def _snippet(self, video: Video) -> dict[str, Any]:
        picture = f"{self.url}/vi/{video.video_id}/hqdefault.jpg"
        return {
            "publishedAt": "2020-01-01T00:00:00Z",
            "channelId": "UC0000000000000000000000",
            "title": video.title,
            "description": "",
            "channelTitle": video.channel,
            "categoryId": video.category,
            "liveBroadcastContent": video.live,
            "thumbnails": {
                name: {"url": picture, "width": 480, "height": 360} for name in ("default", "medium", "high")
            },
        }

    def _video(self, video: Video) -> dict[str, Any]:
        details: dict[str, Any] = {
            "duration": video.duration,
            "dimension": "2d",
            "definition": "hd",
            "caption": "false",
            "licensedContent": True,
            "contentRating": {"ytRating": "ytAgeRestricted"} if video.is_age_restricted else {},
        }
        if video.blocked_in:
            details["regionRestriction"] = {"blocked": list(video.blocked_in)}
        if video.allowed_in:
            details["regionRestriction"] = {"allowed": list(video.allowed_in)}
        status = {
            "uploadStatus": "processed",
            "privacyStatus": video.privacy,
            "license": "youtube",
            "embeddable": video.is_embeddable,
            "publicStatsViewable": True,
            "madeForKids": False,
        }
        return {
            "kind": "youtube#video",
            "etag": "x",
            "id": video.video_id,
            "snippet": self._snippet(video),
            "contentDetails": details,
            "status": status,
        }

    # The player

    def _player(self, request: Request) -> Reply:
        """A page that speaks the player's messages. What is wrong with a video it says as the real one does."""
        video_id = request.path.removeprefix("/embed/")
        referrer = request.headers.get("referer", "")
        self.embeds.append((video_id, referrer))
        video = self.videos.get(video_id)
        page = PLAYER.read_text("utf-8")
        values = {
            "title": video.title if video else "",
            "duration": str(video.duration_s if video else 0),
            "error": str(self._player_error(video_id, video, referrer)),
            "speed": str(self.speed),
        }
        for name, value in values.items():
            page = page.replace(f"[[{name}]]", value.replace("<", "&lt;").replace('"', "&quot;"))
        return Reply(200, page.encode(), {"Content-Type": "text/html; charset=utf-8"})

    @staticmethod
    def _player_error(video_id: str, video: Video | None, referrer: str) -> int:
        if not referrer:
            return 153
        if not VIDEO_ID.fullmatch(video_id):
            return 2
        if video is None or video.privacy == "private":
            return 100
        return video.error or (0 if video.is_embeddable else 150)

    def _thumbnail(self, video_id: str) -> Reply:
        colours = ("#2b6cb0", "#b83280", "#2f855a", "#c05621", "#6b46c1", "#0987a0")
        picture = SLEEVE.format(colour=colours[sum(video_id.encode()) % len(colours)])
        return Reply(200, picture.encode(), {"Content-Type": "image/svg+xml"})


def quota_exceeded() -> Reply:
    words = (
        "The request cannot be completed because you have exceeded your"
        ' <a href="/youtube/v3/getting-started#quota">quota</a>.'
    )
    return _error(403, "quotaExceeded", words, "RESOURCE_EXHAUSTED", domain="youtube.quota")


def _error(code: int, reason: str, message: str, status: str, *, domain: str = "global") -> Reply:
    """As Google writes errors."""
    detail = {"message": message, "domain": domain, "reason": reason}
    return Reply(code, {"error": {"code": code, "message": message, "errors": [detail], "status": status}})
