"""The pages that OBS opens, with a policy that lets nothing in that is not ours."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from waddlebot.base.errors import NotFound

from .frames import ALL, SOURCE_TYPES
from .safe_content import MediaPolicy

REPORT_PATH = "/browser/source/csp-report"
# Twitch has no files of clips for others, only its player.
PLAYERS = "https://clips.twitch.tv https://player.twitch.tv"
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
    ) -> None:
        self._static = static
        self._templates = {
            name: Template((folder / "templates" / f"{name}.html").read_text("utf-8")) for name in (*SOURCE_TYPES, ALL)
        }
        self._sockets_url = sockets_url
        self._frame_ancestors = " ".join(("frame-ancestors 'self'", *frame_ancestors))
        # What is for looking only is framed by the portal, where there is one, and by nobody else.
        self._preview_ancestors = "frame-ancestors " + (portal or "'self'")
        self.overlay_policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self' 'unsafe-inline'",
                f"img-src 'self' {media.csp_sources}",
                f"media-src 'self' {media.csp_sources}",
                f"frame-src {PLAYERS}",
                f"connect-src {sockets_url}",
                "base-uri 'none'",
                "form-action 'none'",
                self._frame_ancestors,
                f"report-uri {REPORT_PATH}",
            )
        )

    def overlay(self, token: str, source_type: str, theme: dict[str, str], *, is_preview: bool = False) -> str:
        """The page of one overlay, or of all. Raises: NotFound for a source that does not exist."""
        if source_type == ALL:
            return self._render(ALL)
        if source_type not in SOURCE_TYPES:
            raise NotFound("There are three overlays: ticker, media and general, and all of them.")
        socket = f"{self._sockets_url}/ws/{token}/{source_type}"
        settings = {"socket": socket, "theme": theme, "muted": is_preview}
        return self._render(source_type, settings=_as_data(settings))

    def overlay_headers(self, source_type: str, *, is_preview: bool = False) -> dict[str, str]:
        policy = self.overlay_policy
        if source_type == ALL:
            policy = policy.replace(f"frame-src {PLAYERS}", "frame-src 'self'")
        if is_preview:
            # The page with all of them has the others in frames of its own.
            ancestors = self._preview_ancestors + ("" if source_type == ALL else " 'self'")
            policy = policy.replace(self._frame_ancestors, ancestors)
        return {**COMMON_HEADERS, "Content-Security-Policy": policy}

    def _render(self, template: str, **parts: str) -> str:
        return self._templates[template].substitute(static=self._static, **parts)


def _as_data(value: Any) -> str:
    """JSON that can stand in a script element of type application/json."""
    return json.dumps(value).replace("<", "\\u003c")


def escape(text: str) -> str:
    return html.escape(text, quote=True)
