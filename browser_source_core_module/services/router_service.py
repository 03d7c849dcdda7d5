"""What the router hands over, made fit to be shown: checked, completed, cut to size and made safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import OVERLAY_SOURCES, RESPONSE_DATA, OpaqueId, Wire
from waddlebot.base.errors import Invalid
from waddlebot.base.wire import for_screen, invalid
from waddlebot.base.youtube_links import VIDEO_ID, read_link, watch_link
from waddlebot.web.http import has_dot_segments

from .safe_content import MediaPolicy, is_own, one_line

MAX_TITLE_CHARS = 200
MAX_TEXT_CHARS = 2000
MAX_MESSAGE_CHARS = 300
MAX_HTML_CHARS = 50_000
# Longer than anybody streams; anything above is a mistake in units.
MAX_DISPLAY_S = 24 * 3600.0


class DisplayRequest(Wire):
    """Something to show. Repeating it under the same `item_id` changes nothing."""

    item_id: OpaqueId
    session_id: OpaqueId
    community_id: int | str
    source_type: Literal["ticker", "media", "general"]
    response_action: Literal["media", "ticker", "general", "form"]
    response_data: dict[str, Any]
    mode: Literal["live", "simulate"] = "live"


@dataclass(frozen=True, slots=True)
class Content:
    """An item's content as the page gets it."""

    action: str
    source_type: str
    data: dict[str, Any]
    display_s: float
    priority: int = 5

    def as_json(self) -> dict[str, Any]:
        return {"action": self.action, "data": self.data}


@dataclass(frozen=True, slots=True)
class Limits:
    ticker_duration_s: float
    media_duration_s: float
    max_ticker_length: int


class ContentService:
    """Turns `response_data` into what an overlay shows."""

    def __init__(self, media: MediaPolicy, limits: Limits) -> None:
        self._media = media
        self._limits = limits

    def read(self, action: str, sent: dict[str, Any]) -> Content:
        """Raises: Invalid, naming the field."""
        try:
            data = RESPONSE_DATA[action].model_validate(sent).model_dump()
        except ValidationError as err:
            raise invalid(err) from err
        defaults = {"ticker": self._limits.ticker_duration_s, "media": self._limits.media_duration_s}
        wanted_s = data.pop("display_s")
        display_s = min(defaults[action] if wanted_s is None else wanted_s, MAX_DISPLAY_S)
        clean = {"ticker": self._ticker, "media": self._media_data, "general": self._general, "form": self._form}
        priority = data.get("priority", 5)
        return Content(action, OVERLAY_SOURCES[action], clean[action](data), display_s, priority)

    def _ticker(self, data: dict[str, Any]) -> dict[str, Any]:
        text = one_line(data["text"], self._limits.max_ticker_length)
        if not text:
            raise Invalid("text: there is nothing to show.", field="text")
        return {**data, "text": text}

    def _media_data(self, data: dict[str, Any]) -> dict[str, Any]:
        names = ("title", "artist", "album", "service", "requested_by")
        texts = {name: one_line(data[name], MAX_TITLE_CHARS) for name in names}
        urls = {name: self._media.kept(data[name]) for name in ("media_url", "artwork_url")}
        if data["player"] == "youtube":
            urls["media_url"] = _youtube_link(data)
        return {**data, **texts, **urls}

    def _general(self, data: dict[str, Any]) -> dict[str, Any]:
        if len(data["html"]) > MAX_HTML_CHARS:
            raise Invalid(f"html has more than {MAX_HTML_CHARS} characters.", field="html")
        return {
            "kind": data["kind"],
            "title": one_line(data["title"], MAX_TITLE_CHARS),
            "text": shorten(for_screen(data["text"]).strip(), MAX_TEXT_CHARS),
            "html": self._media.clean_html(data["html"]) if data["kind"] == "html" else "",
            **({"alert": self._alert(data["alert"])} if data["kind"] == "alert" and data["alert"] else {}),
        }

    def _alert(self, look: dict[str, Any]) -> dict[str, Any]:
        media = {
            name: look[name] if is_own(look[name]) else self._media.kept(look[name]) for name in ("image", "sound")
        }
        return {
            **look,
            "name": one_line(look["name"], MAX_TITLE_CHARS),
            "message": one_line(look["message"], MAX_MESSAGE_CHARS),
            **media,
        }

    def _form(self, data: dict[str, Any]) -> dict[str, Any]:
        """What the overlay shows of a form. Its addresses and choices are nobody's business there."""
        if has_dot_segments(data["form_submit_url"]):
            raise Invalid("form_submit_url: no . or .. is taken in its path.", field="form_submit_url")
        return {
            "title": one_line(data["form_title"], MAX_TITLE_CHARS),
            "text": shorten(for_screen(data["form_description"]).strip(), MAX_TEXT_CHARS),
            "fields": [one_line(each["label"] or each["name"], MAX_TITLE_CHARS) for each in data["form_fields"]][:12],
        }


def _youtube_link(data: dict[str, Any]) -> str:
    """The link of the video that a page's player is given. Raises: Invalid."""
    link, given = read_link(data["media_url"]), data["media_url"]
    video_id = link.video_id if link else given if VIDEO_ID.fullmatch(given) else ""
    if not video_id:
        raise Invalid("media_url: player youtube needs the link of a video on YouTube.", field="media_url")
    if not data["track_id"]:
        raise Invalid("track_id: what is played needs one, to tell what became of it.", field="track_id")
    return watch_link(video_id)
