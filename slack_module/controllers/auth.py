"""Letting the app into a workspace. For people, in a browser."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints
from waddlebot.base.contracts import Wire
from waddlebot.base.errors import UserError, WaddleBotError
from waddlebot.community.oauth import STARTS_PER_MINUTE
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.oauth_service import OAuthService
from .pages import ConsentPages

Short = Annotated[str, StringConstraints(max_length=2048)]


class InstallQuery(Wire):
    moderate: Annotated[str, StringConstraints(max_length=8)] = ""
    community: Annotated[str, StringConstraints(max_length=255)] = ""


class CallbackQuery(Wire):
    code: Short = ""
    state: Short = ""
    error: Short = ""


@endpoint("GET", "/slack/install", caller=ANYBODY, query=InstallQuery)
def show_install_page(query: InstallQuery, pages: ConsentPages) -> Raw:
    """Say what the bot asks for, with a button."""
    return pages.install(community=query.community)


@endpoint("GET", "/slack/oauth/start", caller=ANYBODY, query=InstallQuery, per_minute=STARTS_PER_MINUTE)
def start_install(query: InstallQuery, oauth: OAuthService, pages: ConsentPages) -> Raw:
    """Send the browser to Slack's consent page."""
    url, started = oauth.start(moderate=bool(query.moderate), community=query.community or None)
    return pages.redirect(url, cookies=[started.set_cookie])


@endpoint("GET", "/slack/oauth/callback", caller=ANYBODY, query=CallbackQuery)
def finish_install(query: CallbackQuery, request: RawRequest, oauth: OAuthService, pages: ConsentPages) -> Raw:
    """Take the browser back from Slack, and say what came of it."""
    cookies = [oauth.forget_cookie(query.state)] if query.state else []
    try:
        installed = oauth.finish(
            code=query.code, state=query.state, error=query.error, cookies=request.headers.get("cookie", "")
        )
    except WaddleBotError as err:
        if err.http_status >= 500 and not (err.retryable or isinstance(err, UserError)):
            raise
        return pages.refusal(err, again="/slack/install", cookies=cookies)
    return pages.installed(installed, cookies=cookies)
