"""The pages that OBS opens, and the files they need: read once, and served with a policy that lets nothing else in."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from waddlebot.base.errors import NotFound

from .frames import ALL, SOURCE_TYPES
from .safe_content import MediaPolicy

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
REPORT_PATH = "/browser/source/csp-report"
# Twitch has no files of clips for others, only its player.
PLAYERS = "https://clips.twitch.tv https://player.twitch.tv"
COMMON_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    text: str
    content_type: str


class PageService:
    """Renders pages. All static files share one version in their path, so that no cache can mix two of them."""

    def __init__(
        self,
        folder: Path,
        media: MediaPolicy,
        *,
        sockets_url: str,
        frame_ancestors: Sequence[str] = (),
        portal: str | None = None,
    ) -> None:
        self._templates = {path.stem: Template(path.read_text("utf-8")) for path in folder.glob("templates/*.html")}
        self._files = {
            str(path.relative_to(folder / "static")): StaticFile(path.read_text("utf-8"), TYPES[path.suffix])
            for path in sorted(folder.glob("static/*/*"))
            if path.suffix in TYPES
        }
        whole = "\0".join(f"{name}\0{file.text}" for name, file in self._files.items())
        self.version = hashlib.sha256(whole.encode()).hexdigest()[:12]
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
        self.form_policy = (
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
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

    def form(self, **parts: str) -> str:
        return self._render("form", **parts)

    def overlay_headers(self, source_type: str, *, is_preview: bool = False) -> dict[str, str]:
        policy = self.overlay_policy
        if source_type == ALL:
            policy = policy.replace(f"frame-src {PLAYERS}", "frame-src 'self'")
        if is_preview:
            # The page with all of them has the others in frames of its own.
            ancestors = self._preview_ancestors + ("" if source_type == ALL else " 'self'")
            policy = policy.replace(self._frame_ancestors, ancestors)
        return {**COMMON_HEADERS, "Content-Security-Policy": policy}

    def form_headers(self) -> dict[str, str]:
        return {**COMMON_HEADERS, "Content-Security-Policy": self.form_policy}

    def static_file(self, name: str) -> StaticFile:
        """Raises: NotFound."""
        try:
            return self._files[name]
        except KeyError:
            raise NotFound("There is no such file.") from None

    def static_headers(self, version: str) -> dict[str, str]:
        """Kept for good under the present version; under another one, which is a page of before, not at all."""
        age = "public, max-age=31536000, immutable" if version == self.version else "no-store"
        return {"Cache-Control": age, "X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "*"}

    def _render(self, template: str, **parts: str) -> str:
        return self._templates[template].substitute(static=f"/browser/static/{self.version}", **parts)


def _as_data(value: Any) -> str:
    """JSON that can stand in a script element of type application/json."""
    return json.dumps(value).replace("<", "\\u003c")


def escape(text: str) -> str:
    return html.escape(text, quote=True)
