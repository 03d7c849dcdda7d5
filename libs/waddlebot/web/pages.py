"""How pages look: one frame, one policy that lets nothing foreign in, and templates in py4web's own language.

`Look` renders a module's templates with the shared ones below them. `Pages` is what a module needs that only has pages
for people on their way to a platform and back; modules with signed-in people have a `Site`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from py4web import URL, request
from py4web.core import HELPERS, Renoir, RenoirCustomWriter
from yatl.helpers import XML

from ..base.errors import WaddleBotError
from .endpoint import Raw
from .static import LOOK, StaticFiles

TEMPLATES = Path(__file__).parent / "templates"
HTML = "text/html; charset=utf-8"
THEMES = ("light", "dark")
THEME_COOKIE = "theme"
# Of somebody in a community; each has some kilobytes.
PARTS_KEPT = 500
# What a module serves below its pages' root that is for programs.
FOR_PROGRAMS = ("api", "execute", "health", "metrics", "openapi.json", "ready", "static")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'{framed}; form-action 'self'{beyond};"
    " base-uri 'none'; frame-ancestors 'none'"
)
MESSAGES = {
    404: ("There is nothing here", "The address may be mistyped, or what was here is gone."),
    405: ("That does not work here", "This address does not take that kind of request."),
    500: ("Something broke", "This is a bug on our side; it was logged. Try again in a moment."),
}


class Writer(RenoirCustomWriter):  # type: ignore[misc]
    """py4web's own finds out by an exception, for each text, that it is no helper; a page has hundreds of texts."""

    def __init__(self) -> None:
        super().__init__()
        # What a template itself says is text already.
        self.write = self.body.write

    def escape(self, data: Any) -> None:
        kind = type(data)
        if kind is str:
            self.write(escape(data))
        elif kind is XML or kind is int:
            self.write(str(data))
        else:
            super().escape(data)


class Templates(Renoir):  # type: ignore[misc]
    """py4web's templates, from the first folder that has one of that name."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        super().__init__(path=str(folders[0]), delimiters=("[[", "]]"))
        # They stay where they are while a process runs.
        self.preload = lru_cache(self._find)
        self.writer_cls = Writer

    def _find(self, name: str, path: str | Path | None = None) -> tuple[str, str]:
        folders = (Path(path),) if path else self._folders
        return str(next((each for each in folders if (each / name).is_file()), folders[0])), name


class Look:
    """One module's pages. `root` is the path that they are below; a form may lead to us, and by way of us to the site
    `leads_to`. `folder` may have `templates/` and `static/` of its own."""

    def __init__(
        self,
        root: str,
        folder: Path | None = None,
        *,
        prefix: str | None = None,
        leads_to: str = "",
        referrer: Literal["no-referrer", "same-origin"] = "no-referrer",
        start: str | None = None,
        frames: str = "",
    ) -> None:
        """`start` is where an error page leads back to: the root, unless it is nothing to look at; of
        `frames`, addresses with commas between, pages may be shown within ours."""
        own = [folder] if folder else []
        self._start = root if start is None else start
        self.statics = StaticFiles(f"{prefix or root}/static/", LOOK, *(each / "static" for each in own))
        self._templates = Templates(*(each / "templates" for each in own), TEMPLATES)
        # Browsers hold where a form's answer leads against form-action too.
        beyond, framed = _origin(leads_to), "".join(map(_origin, frames.split(",")))
        self.headers = {
            "Content-Security-Policy": POLICY.format(beyond=beyond, framed=framed),
            "Referrer-Policy": referrer,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
            "Cache-Control": "no-store",
        }
        LOOKS[root] = self
        # The same on every page that somebody looks at, and more markup than most pages have themselves.
        self.part = lru_cache(PARTS_KEPT)(self._part)

    def _part(self, template: str, **values: Hashable) -> XML:
        """What a template makes of these values, which are all that it may depend on; kept, by `part`."""
        own = {"static": self.statics.base, "icon": self.icon}
        return XML(self._templates.render(template, {**own, **values}))

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """A template with values, which it escapes."""
        theme = request.get_cookie(THEME_COOKIE)
        common = {
            **HELPERS,
            "URL": URL,
            "static": self.statics.base,
            "icon": self.icon,
            "theme": theme if theme in THEMES else "",
            "here": request.path,
            "title": "",
        }
        text: str = self._templates.render(template, {**common, **values})
        return text

    def icon(self, name: str, more: str = "") -> XML:
        """One of the icons of `icons.svg`; it says nothing to who cannot see it."""
        href = self.statics.url("icons.svg")
        return XML(f'<svg class="icon {more}" aria-hidden="true"><use href="{href}#{name}"></use></svg>')

    def error(self, status: int, message: str = "", *, headers: Mapping[str, str] | None = None) -> Raw:
        """What did not work, in the look."""
        title, text = MESSAGES.get(status, ("That did not work" if status < 500 else "Not just now", ""))
        values = {"title": title, "text": message or text, "status": status, "start": self._start}
        return Raw(self.render("error.html", values), HTML, status, {**self.headers, **(headers or {})})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f" {parts.scheme}://{parts.netloc}" if url else ""


# By the root of their paths: whose pages an address that nobody serves would have been.
LOOKS: dict[str, Look] = {}


def find_look(path: str) -> Look | None:
    """Whose pages a path is below; none for what is for programs."""
    for root, look in LOOKS.items():
        if path == root or path.startswith(root + "/"):
            first = path[len(root) + 1 :].partition("/")[0]
            return None if first in FOR_PROGRAMS else look
    return None


def prefers_html(accept: str) -> bool:
    """Whether a client wants a page rather than JSON: browsers name text/html first, programs do not."""
    wanted = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if kind in wanted:
            wanted[kind] = next((_number(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
    return wanted["text/html"] > 0 and wanted["text/html"] >= wanted["application/json"]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class Pages:
    """Pages without a shell. `platform` is whose mark stands at their head; values are escaped by the templates."""

    def __init__(
        self,
        root: str,
        folder: Path | None = None,
        *,
        prefix: str | None = None,
        platform: str = "",
        leads_to: str = "",
        start: str | None = None,
    ) -> None:
        self.look = Look(root, folder, prefix=prefix, leads_to=leads_to, start=start)
        self._platform = platform

    def page(
        self,
        template: str,
        title: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        cookies: Sequence[str] = (),
        **values: Any,
    ) -> Raw:
        """A whole page."""
        text = self.look.render(template, {"title": title, "platform": self._platform, **values})
        return Raw(text, HTML, status, {**self.look.headers, **(headers or {})}, cookies)

    def message(
        self,
        title: str,
        text: str,
        *,
        action: tuple[str, str] | None = None,
        status: int = 200,
        cookies: Sequence[str] = (),
    ) -> Raw:
        """A page that says one thing, and where to go from there: what the button says, and its address."""
        return self.page("message.html", title, status=status, cookies=cookies, text=text, action=action)

    def refusal(self, err: WaddleBotError, *, again: str, cookies: Sequence[str] = ()) -> Raw:
        """What did not work, in words, and the way to begin again."""
        title = "That did not work" if err.http_status < 500 else "Not just now"
        text = err.message if err.http_status < 502 else f"{err.message} Nothing was changed. Try again in a moment."
        return self.message(title, text, action=("Begin again", again), status=err.http_status, cookies=cookies)

    def redirect(self, url: str, *, cookies: Sequence[str] = ()) -> Raw:
        """Send a browser elsewhere, with cookies that it brings back."""
        return Raw("", HTML, 303, {**self.look.headers, "Location": url}, cookies)
