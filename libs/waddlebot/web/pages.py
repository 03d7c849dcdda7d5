"""Small pages for people on their way to a platform's consent and back: no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from ..base.errors import WaddleBotError
from .endpoint import Raw

FRAME = Path(__file__).parent / "templates" / "page.html"
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
HTML = "text/html; charset=utf-8"


def escape(text: str) -> str:
    """A text as HTML, also for an attribute in quotes."""
    return html.escape(text, quote=True)


class Pages:
    """One module's pages. `folder` has its own templates; what is put into those is HTML, so escape it first.

    `accent` is a colour for light and one for dark. A form may lead to us, and by way of us to the site `leads_to`.
    """

    def __init__(self, folder: Path | None = None, *, accent: tuple[str, str], leads_to: str = "") -> None:
        self._templates = (
            {path.stem: Template(path.read_text("utf-8")) for path in folder.glob("*.html")} if folder else {}
        )
        light, dark = accent
        self._frame = Template(
            Template(FRAME.read_text("utf-8")).safe_substitute(accent=light, accent_in_the_dark=dark)
        )
        style = STYLE.search(self._frame.template)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        parts = urlsplit(leads_to)
        # Browsers hold where a form's answer leads against form-action too.
        beyond = f" {parts.scheme}://{parts.netloc}" if leads_to else ""
        self._headers = {
            "Content-Security-Policy": (
                f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none';"
                f" form-action 'self'{beyond}"
            ),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cache-Control": "no-store",
        }

    def fill(self, template: str, **parts: str) -> str:
        """One of the module's templates with its parts, which are HTML."""
        return self._templates[template].substitute(parts)

    def page(self, title: str, body: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Raw:
        """A whole page; its title is text, its body HTML."""
        text = self._frame.substitute(title=escape(title), body=body)
        return Raw(text, HTML, status, {**self._headers, **(headers or {})})

    def message(
        self,
        title: str,
        text: str,
        *,
        action: tuple[str, str] | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Raw:
        """A page that says one thing, and where to go from there: what the button says, and its address."""
        link = f'<p><a class="button" href="{escape(action[1])}">{escape(action[0])}</a></p>' if action else ""
        return self.page(title, f"<p>{escape(text)}</p>\n{link}", status=status, headers=headers)

    def refusal(self, err: WaddleBotError, *, again: str, headers: Mapping[str, str] | None = None) -> Raw:
        """What did not work, in words, and the way to begin again."""
        title = "That did not work" if err.http_status < 500 else "Not just now"
        text = err.message if err.http_status < 502 else f"{err.message} Nothing was changed. Try again in a moment."
        return self.message(title, text, action=("Begin again", again), status=err.http_status, headers=headers)

    def redirect(self, url: str, *, set_cookie: str) -> Raw:
        """Send a browser elsewhere with a cookie that it brings back."""
        return Raw("", HTML, 303, {**self._headers, "Location": url, "Set-Cookie": set_cookie})
