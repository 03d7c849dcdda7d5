"""The pages on which people add the bot to a server, and where Discord sends them back."""

from __future__ import annotations

from pydantic import Field
from waddlebot.base.contracts import Wire
from waddlebot.base.errors import WaddleBotError
from waddlebot.community.oauth import STARTS_PER_MINUTE
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.oauth_service import OAuthService
from .pages import ConsentPages

START = "/discord/auth"


class StartQuery(Wire):
    community: str = Field("", max_length=64)


class CallbackQuery(Wire):
    state: str = Field("", max_length=256)
    code: str = Field("", max_length=512)
    error: str = Field("", max_length=512)


@endpoint("GET", "/discord/auth", caller=ANYBODY, query=StartQuery)
def show_start(query: StartQuery, oauth: OAuthService, pages: ConsentPages) -> Raw:
    """Show what the bot will do in a server, and the way to add it."""
    return pages.start(community=query.community, is_possible=oauth.is_possible)


@endpoint("GET", "/discord/auth/login", caller=ANYBODY, query=StartQuery, per_minute=STARTS_PER_MINUTE)
def send_to_discord(query: StartQuery, oauth: OAuthService, pages: ConsentPages) -> Raw:
    """Send somebody to Discord to choose a server and consent."""
    try:
        url, started = oauth.begin(community=query.community)
    except WaddleBotError as err:
        return pages.refusal(err, again=START)
    return pages.redirect(url, cookies=[started.set_cookie])


@endpoint("GET", "/discord/auth/callback", caller=ANYBODY, query=CallbackQuery)
def take_back(query: CallbackQuery, request: RawRequest, oauth: OAuthService, pages: ConsentPages) -> Raw:
    """Take back whoever has been to Discord, serve their server, and show what came of it."""
    try:
        added = oauth.finish(query.state, request.headers.get("cookie", ""), code=query.code, error=query.error)
    except WaddleBotError as err:
        return pages.refusal(err, again=START)
    return pages.added(added)
