"""clips.twitch.tv/embed: the player of clips, and pictures that stand for their first frames.

It is as particular as Twitch's about the page that it is in: `parent` names it, the browser says so by the referrer,
and no other page may have it in a frame.
Source: https://dev.twitch.tv/docs/embed/video-and-clips/
"""

from __future__ import annotations

import html
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

MISCONFIGURED = "Whoops! This embed is misconfigured."
GONE = "Sorry. Unless you've got a time machine, that content is unavailable."
# It plays in CSS, so that the page needs no script.
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>
html,body{{margin:0;height:100%;background:hsl({hue} 60% 18%);color:#fff;font:600 5vmin sans-serif;overflow:hidden}}
main{{position:absolute;inset:0;display:grid;place-content:center;text-align:center}}
small{{font-weight:400;opacity:.7}}
i{{position:absolute;bottom:0;left:0;height:1.5vmin;width:100%;background:#9146ff;transform-origin:left;
animation:played {duration}s linear both}}
b{{position:absolute;width:8vmin;height:8vmin;top:12vmin;border-radius:50%;background:hsl({hue} 90% 60%);
animation:moving 2s ease-in-out infinite alternate}}
@keyframes played{{from{{transform:scaleX(0)}}}}@keyframes moving{{from{{left:10%}}to{{left:80%}}}}
</style><main data-clip="{id}" data-muted="{muted}"><span>{title}</span><small>{sound}</small></main><b></b><i></i>"""
PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 272"><rect width="480" height="272" \
fill="hsl({hue} 60% 30%)"/><text x="240" y="150" fill="#fff" font-family="sans-serif" font-size="32" \
text-anchor="middle">{title}</text></svg>"""


@dataclass(frozen=True, slots=True)
class Played:
    """A clip that a page has begun to play."""

    clip_id: str
    parent: str
    is_muted: bool


class ClipPlayer:
    def __init__(self, clips: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self._clips = clips
        self.played: list[Played] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/embed", self._embed), web.get("/pictures/{name}.svg", self._picture)]

    async def _embed(self, request: web.Request) -> web.Response:
        parents = request.query.getall("parent", [])
        if not parents:
            return _page(400, MISCONFIGURED)
        ancestors = " ".join(f"{scheme}://{parent}:*" for parent in parents for scheme in ("https", "http"))
        headers = {"Content-Security-Policy": f"frame-ancestors {ancestors}"}
        if urlsplit(request.headers.get("Referer", "")).hostname not in parents:
            return _page(403, MISCONFIGURED, headers)
        wanted = request.query.get("clip", "")
        clip = next((each for clips in self._clips.values() for each in clips if each["id"] == wanted), None)
        if clip is None:
            return _page(404, GONE, headers)
        is_muted = request.query.get("muted") == "true"
        if request.query.get("autoplay") == "true":
            self.played.append(Played(clip["id"], parents[0], is_muted))
        shown = PAGE.format(
            id=html.escape(clip["id"]),
            title=html.escape(clip["title"]),
            hue=_hue(clip["title"]),
            duration=clip["duration"],
            muted=str(is_muted).lower(),
            sound="muted" if is_muted else "with sound",
        )
        return web.Response(text=shown, content_type="text/html", headers=headers)

    async def _picture(self, request: web.Request) -> web.Response:
        title = request.match_info["name"]
        shown = PICTURE.format(title=html.escape(title), hue=_hue(title))
        return web.Response(text=shown, content_type="image/svg+xml")


def _page(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"<!doctype html><p>{text}", content_type="text/html", headers=headers)


def _hue(text: str) -> int:
    return zlib.crc32(text.encode()) % 360
