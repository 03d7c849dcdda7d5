"""Signing in by a platform: there, and back."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from py4web import request
from waddlebot.base.errors import WaddleBotError
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw
from waddlebot.web.pages import HTML
from waddlebot.web.sessions import PageFlash
from waddlebot.web.site import Site, go_to, page

from ..services.platform_logins import PlatformLogins


@page("GET", "/portal/auth/with/<platform>", caller=ANYBODY)
def send_there(platform: str, logins: PlatformLogins, site: Site) -> Raw:
    """Send a browser to a platform, to say who its person is."""
    login = site.signin.login_now
    connecting = login.id if login is not None and request.query.get("connect") and _is_from_here(site) else None
    url, started = logins.begin(platform, site.local(request.query.get("next")), connecting=connecting)
    return Raw("", HTML, 303, {"Location": url}, [started.set_cookie])


@page("GET", "/portal/auth/callback/<platform>", caller=ANYBODY)
def come_back(platform: str, logins: PlatformLogins, site: Site, flash: PageFlash) -> Any:
    """Sign in whoever was there."""
    asked, cookies, login = request.query, request.environ.get("HTTP_COOKIE", ""), site.signin.login_now
    following = ""
    try:
        begun = logins.take_up(asked.get("state") or "", cookies)
        following = str(begun["next"])
        entered = logins.finish(platform, begun, asked.get("code") or "", login_id=login.id if login else None)
    except WaddleBotError as err:
        flash.set(err.message, "bad")
        again = f"{site.signin.route}/login" + (f"?{urlencode({'next': following})}" if following else "")
        return go_to("/portal/profile" if login else again)
    if entered.is_connected:
        flash.set("Connected. You may sign in with it from now on.")
        return go_to(entered.following)
    login = site.signin.find_login(entered.login_id)
    if login is not None and site.signin.needs_second_step(login):
        site.signin.begin_second_step(login, entered.following)
        return go_to(f"{site.signin.route}/second-step")
    site.signin.store_user_in_session(entered.login_id)
    return go_to(entered.following)


def _is_from_here(site: Site) -> bool:
    """Whether a link of our own pages was followed: nobody else may begin to join an account to a login."""
    return str(request.environ.get("HTTP_REFERER", "")).startswith(f"{site.url}/")
