"""A module's pages for people who sign in.

`@page` says what a handler serves and to whom; it returns the values for a template, or `go_to(…)`. A `Site` is what
the pages stand on: session, flash, signing in, the look. Handlers are filled as those of `@endpoint` are, and with
`Login`, `PageSession` and `PageFlash` where they ask for them.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
from py4web import HTTP, action, request, response
from py4web.core import Fixture
from pydantic import Field as Setting
from yatl.helpers import XML

from ..base.errors import NotAllowed, TooLarge, WaddleBotError
from ..base.logs import AAALog
from ..base.metrics import Metrics
from ..base.settings import WebURL
from ..data.database import Database
from ..data.ratelimit import RateLimiter
from .auth import ANYBODY, Caller
from .endpoint import Bound, Endpoint, Mount, Raw, plain_error
from .mail import Mail, MailSettings
from .pages import HTML, Look, prefers_html
from .sessions import PageFlash, PageSession, SessionStore
from .signin import TRIES_WITHIN_S, Login, SignIn
from .static import WORTH_COMPRESSING

Handler = TypeVar("Handler", bound=Callable[..., Any])

# Of a page only: no key is a person.
SIGNED_IN = Caller("open", "a person who is signed in", lambda _: False)
SESSION_LIFETIME_S = 12 * 3600
MAX_FORM_BYTES = 1024 * 1024
# Twice as fast as the middle, and a sixth larger.
PAGES_LEVEL = 1
VARIES = "Accept-Encoding, Sec-Fetch-Site"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SiteSettings(MailSettings):
    """What a module with pages has beside the others' settings."""

    portal_url: WebURL | None = Setting(
        None, alias="PORTAL_URL", description="How browsers reach the pages; BASE_URL unless set."
    )

    @property
    def pages_url(self) -> str:
        return (self.portal_url or self.base_url).rstrip("/")


class WrongHost(WaddleBotError):
    """This is not the address of these pages."""

    code, http_status = "wrong_host", 421


class CrossSite(NotAllowed):
    """Another site's page sent this. Nothing was changed."""

    code = "cross_site"


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the navigation; `icon` is one of `icons.svg`, `count` what waits there. It is the current one below
    each of `also`, too."""

    label: str
    icon: str
    href: str
    count: int = 0
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shell:
    """What stands around the pages of somebody who is signed in: on a phone `tabs`, at most four, and the rest under
    "More". `elsewhere` are the other places that somebody may switch to."""

    name: str
    note: str
    groups: tuple[tuple[str, tuple[Link, ...]], ...]
    tabs: tuple[Link, ...] = ()
    profile: str = ""
    elsewhere: tuple[Link, ...] = ()

    def current(self, path: str) -> str:
        """The entry that a path is below, by its address."""
        found = [
            (len(href), each.href)
            for _, links in self.groups
            for each in links
            for href in (each.href, *each.also)
            if _is_below(path, href)
        ]
        return max(found, default=(0, ""))[1]


def _is_below(path: str, href: str) -> bool:
    return path == href or path.startswith(href.rstrip("/") + "/")


@dataclass(frozen=True, slots=True)
class Page(Endpoint):
    """A handler whose values a template shows. One that only leads on has none."""

    template: str = ""
    max_body_bytes: int = MAX_FORM_BYTES

    @property
    def answers(self) -> str:
        return HTML

    def bind(self, mount: Mount, services: Mapping[type, object]) -> BoundPage:
        return BoundPage(mount, self, services)


def page(
    method: str,
    path: str,
    template: str = "",
    *,
    caller: Caller = SIGNED_IN,
    query: Any = None,
    max_body_bytes: int = MAX_FORM_BYTES,
) -> Callable[[Handler], Handler]:
    """Declare what a function serves to people; `mount` makes it reachable, with the `Site` among its services.

    `method` is `GET`, `POST`, or both with a space between; `caller` is SIGNED_IN or ANYBODY.
    """

    def declare(function: Handler) -> Handler:
        function.__endpoint__ = Page(  # type: ignore[attr-defined]
            method, path, function, caller, query=query, template=template, max_body_bytes=max_body_bytes
        )
        return function

    return declare


def go_to(url: str) -> Raw:
    """Lead a browser on. What `flash.set` said is shown there."""
    return Raw("", HTML, 303, {"Location": url})


class Site:
    """One module's pages and what they stand on. `prefix` is the path that all of them are below."""

    def __init__(
        self,
        prefix: str,
        folder: Path,
        settings: SiteSettings,
        *,
        database: Database,
        client: redis.Redis,
        log: AAALog,
        metrics: Metrics,
        hosts: Sequence[str] = (),
        shell: Callable[[Login], Shell] | None = None,
        session_lifetime_s: int = SESSION_LIFETIME_S,
        frames: str = "",
        **signing_in: Any,
    ) -> None:
        """`hosts` are names that the fleet itself calls this module by; `shell` is asked for each page of somebody
        signed in; of `frames`, an address, pages may be shown within these; `signing_in` goes to `SignIn`."""
        self.prefix, self.url = prefix, settings.pages_url
        self.shell = shell
        self.look = Look(prefix, folder, referrer="same-origin", frames=frames)
        secure = self.url.startswith("https://")
        cookie = f"{prefix.strip('/').replace('/', '_')}_session"
        self.session = PageSession(SessionStore(client, cookie=cookie, secure=secure, lifetime_s=session_lifetime_s))
        self.flash = PageFlash(secure=secure)
        self.signin = SignIn(
            self.session,
            self.flash,
            database,
            route=f"{prefix}/auth",
            limiter=RateLimiter(client, log, metrics, window_s=TRIES_WITHIN_S),
            log=log,
            **signing_in,
        )
        self.mail = Mail(settings, log)
        # Other ways in than a password: what the button says, its icon's platform, and where it leads.
        self.ways_in: Sequence[Link] = ()
        named = {_host_of(self.url), _host_of(settings.base_url), *hosts, *LOOPBACK}
        self._hosts = named - {""}
        # py4web's own URL() believes the Host header unless it is told the names.
        os.environ["PY4WEB_DOMAINS"] = urlsplit(self.url).netloc

    def fixtures(self, template: str, caller: Caller) -> list[Fixture]:
        """py4web's, in the order of `action.uses`: what a template needs stands after it."""
        who = [self.signin] if caller is ANYBODY else [self.signin, self.signin.user]
        return [Template(self.look, template), Frame(self), self.session, self.flash, *who]

    def check_request(self) -> None:
        """Raises: WrongHost for a name that is not ours; CrossSite for a change that another site's page asks for."""
        if _host_of(f"//{request.environ.get('HTTP_HOST', '')}") not in self._hosts:
            raise WrongHost(f"These pages are at {self.url}.")
        is_foreign = request.environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin")
        if is_foreign and request.method not in ("GET", "HEAD"):
            raise CrossSite()

    def local(self, url: str | None) -> str:
        """An address below the prefix, or the prefix: nobody is led to another site from here."""
        # Browsers take a backslash for a slash, and drop what ends lines.
        if not url or url.startswith("//") or set(url) & set("\\\r\n\t"):
            return self.prefix
        path = url.partition("?")[0].partition("#")[0]
        return url if _is_below(path, self.prefix) else self.prefix


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


class Template(Fixture):  # type: ignore[misc]
    """Shows a handler's values. py4web's own looks into one folder only."""

    def __init__(self, look: Look, name: str) -> None:
        self._look = look
        self._name = name

    def on_success(self, context: dict[str, Any]) -> None:
        if isinstance(context["output"], dict):
            context["output"] = self._look.render(self._name, {**context["template_inject"], **context["output"]})


class Frame(Fixture):  # type: ignore[misc]
    """The headers of every page, and what stands around it."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def on_success(self, context: dict[str, Any]) -> None:
        response.headers.update(self._site.look.headers)
        if isinstance(context["output"], dict):
            login = self._site.signin.login_now
            # A page of a place of its own has said what stands around it.
            shell = context["output"].get("shell")
            if shell is None and login and self._site.shell:
                shell = self._site.shell(login)
            around = self._around(shell, login) if login and shell else None
            context["template_inject"].update(shell=shell, root=self._site.prefix, login=login, shell_part=around)

    def _around(self, shell: Shell, login: Login) -> Callable[[str], XML]:
        known = {"shell": shell, "current": shell.current(request.path), "root": self._site.prefix, "name": login.name}
        return lambda template: self._site.look.part(template, **known)


def _sent(page: str, status: int) -> Raw:
    """A page as it goes over the wire, compressed where that tells nobody anything (docs/adr/0055)."""
    asked = request.environ
    body = page.encode()
    is_led_here = asked.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin")
    takes_gzip = "gzip" in asked.get("HTTP_ACCEPT_ENCODING", "").lower()
    if request.method != "GET" or status != 200 or is_led_here or not takes_gzip or len(body) < WORTH_COMPRESSING:
        return Raw(body, HTML, status, {"Vary": VARIES})
    packed = gzip.compress(body, PAGES_LEVEL, mtime=0)
    return Raw(packed, HTML, status, {"Content-Encoding": "gzip", "Vary": VARIES})


class BoundPage(Bound):
    """A page with its services and fixtures, ready to serve requests."""

    endpoint: Page

    def __init__(self, mount: Mount, declared: Page, services: Mapping[type, object]) -> None:
        site = next((each for each in services.values() if isinstance(each, Site)), None)
        if site is None:
            raise TypeError(f"{declared.path}: mount pages with their Site among `using`")
        self.site = site
        super().__init__(mount, declared, {**services, PageSession: site.session, PageFlash: site.flash})
        self.function = self._leading_on
        self._in_fixtures = action.uses(*site.fixtures(declared.template, declared.caller))(self._call)

    def _ask_for(self, kind: Any) -> str | None:
        return "login" if kind is Login else super()._ask_for(kind)

    def _authenticate(self) -> None:
        """The page's fixtures have done it."""

    def _answer(self, path: dict[str, Any]) -> Raw:
        self.site.check_request()
        if int(request.environ.get("CONTENT_LENGTH") or 0) > self.endpoint.max_body_bytes:
            raise TooLarge(f"At most {self.endpoint.max_body_bytes} bytes are taken.")
        try:
            result = self._in_fixtures(path)
        except HTTP as made:
            return self._made(made)
        return result if isinstance(result, Raw) else _sent(result, response.status_code)

    def _leading_on(self, **arguments: Any) -> Any:
        """The handler; py4web's `redirect` would roll its transaction back."""
        if "login" in self.asks:
            arguments[self.asks["login"]] = self.site.signin.login_now
        try:
            return self.endpoint.function(**arguments)
        except HTTP as made:
            if made.status >= 400:
                raise
            return self._made(made)

    def _made(self, made: HTTP) -> Raw:
        if made.status >= 400:
            return self._refusal(made.status, plain_error(made.status, str(made.body)))
        headers = {"Location": response.headers.get("Location", self.site.prefix), **made.headers}
        return Raw(str(made.body), HTML, made.status, headers)

    def _refusal(self, status: int, body: dict[str, Any]) -> Raw:
        if not prefers_html(request.environ.get("HTTP_ACCEPT", "")):
            return super()._refusal(status, body)
        return self.site.look.error(status, body["error"]["message"] if status != 500 else "")
