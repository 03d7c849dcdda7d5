"""The pages that OBS opens, with a policy that lets nothing in that is not ours."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from waddlebot.base.errors import BadRequest, NotFound
from waddlebot.base.wire import parse_json

from .frames import ALL, SOURCE_TYPES
from .safe_content import MediaPolicy, csp_source

REPORT_PATH = "/browser/source/csp-report"
COMMON_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class PageService:
    """Renders the overlays. Their files are below `static`."""

    def __init__(
        self,
        folder: Path,
        media: MediaPolicy,
        *,
        static: str,
        sockets_url: str,
        frame_ancestors: Sequence[str] = (),
        portal: str | None = None,
        youtube: str,
        clips: str,
    ) -> None:
        # Twitch has no files of clips for others, only its player.
        self._youtube, self._clips = youtube, csp_source(clips)
        self._players = f"{self._clips} {youtube}"
        self._static = static
        self._templates = {
            name: Template((folder / "templates" / f"{name}.html").read_text("utf-8")) for name in (*SOURCE_TYPES, ALL)
        }
        self._sockets_url = sockets_url
        self._frame_ancestors = " ".join(("frame-ancestors 'self'", *frame_ancestors))
        # What is for looking only is framed by the portal, where there is one, and by nobody else.
        self._portal = portal or ""
        self._preview_ancestors = "frame-ancestors " + (portal or "'self'")
        self.overlay_policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self' 'unsafe-inline'",
                f"img-src 'self' {media.csp_sources}",
                f"media-src 'self' {media.csp_sources}",
                f"frame-src {self._players}",
                f"connect-src {sockets_url}",
                "base-uri 'none'",
                "form-action 'none'",
                self._frame_ancestors,
                f"report-uri {REPORT_PATH}",
            )
        )

    def check(self, source_type: str) -> None:
        """Raises: NotFound for a source that does not exist."""
        if source_type not in (*SOURCE_TYPES, ALL):
            raise NotFound("There are three overlays: ticker, media and general, and all of them.")

    def overlay(self, token: str, source_type: str, theme: dict[str, str], *, is_preview: bool = False) -> str:
        """The page of one overlay, or of all."""
        if source_type == ALL:
            return self._render(ALL)
        socket = f"{self._sockets_url}/ws/{token}/{source_type}"
        settings = {
            "socket": socket,
            "theme": theme,
            "muted": is_preview,
            "youtube": self._youtube,
            "clips": self._clips,
            **({"portal": self._portal} if is_preview else {}),
        }
        return self._render(source_type, settings=_as_data(settings))

    def overlay_headers(self, source_type: str, *, is_preview: bool = False) -> dict[str, str]:
        policy = self.overlay_policy
        if source_type == ALL:
            policy = policy.replace(f"frame-src {self._players}", "frame-src 'self'")
        if is_preview:
            # The page with all of them has the others in frames of its own.
            ancestors = self._preview_ancestors + ("" if source_type == ALL else " 'self'")
            policy = policy.replace(self._frame_ancestors, ancestors)
            # A picture that is chosen in the portal and kept nowhere yet.
            policy = re.sub(r"\b(img-src|media-src) 'self'", r"\1 'self' blob:", policy)
        return {**COMMON_HEADERS, "Content-Security-Policy": policy}

    def _render(self, template: str, **parts: str) -> str:
        return self._templates[template].substitute(static=self._static, **parts)


def read_report(body: bytes) -> dict[str, Any]:
    """What of a browser's report goes into a log: the page's address, which holds its token, does not."""
    try:
        report = parse_json(body)["csp-report"]
        directive, blocked = str(report["violated-directive"]), str(report["blocked-uri"])
        page = urlsplit(str(report.get("document-uri", ""))).path.rpartition("/")[2]
    except (BadRequest, ValueError, KeyError, TypeError, AttributeError):
        return {"directive": "unreadable"}
    return {
        "directive": directive[:100],
        "blocked": _origin(blocked)[:100],
        "overlay": page if page in SOURCE_TYPES else "-",
    }


def _origin(url: str) -> str:
    """Where something was to be loaded from, without what may be secret in its path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else parts.scheme or url.partition("/")[0]


def _as_data(value: Any) -> str:
    """JSON that can stand in a script element of type application/json."""
    return json.dumps(value).replace("<", "\\u003c")


def escape(text: str) -> str:
    return html.escape(text, quote=True)
