"""The pages on which streamers let the bot in and take it out again, and where Twitch sends them back."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from pydantic import Field
from waddlebot.base.contracts import Wire
from waddlebot.base.errors import WaddleBotError
from waddlebot.community.oauth import STARTS_PER_MINUTE
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.account_service import AccountService
from ..services.oauth_service import BotGranted, Joined, OAuthService, Purpose
from .pages import ConsentPages

START = "/twitch/auth"
MAX_FORM_BYTES = 4096


class StartQuery(Wire):
    community: str = Field("", max_length=64)
    moderate: str = Field("", max_length=8)


class CallbackQuery(Wire):
    state: str = Field("", max_length=256)
    code: str = Field("", max_length=512)
    error: str = Field("", max_length=512)


class AuthDesk:
    """Answers with pages, refusals too."""

    def __init__(self, oauth: OAuthService, pages: ConsentPages, accounts: AccountService) -> None:
        self.oauth = oauth
        self.pages = pages
        self._accounts = accounts

    @property
    def bot(self) -> str:
        return self._accounts.bot_login()

    def send_to_twitch(self, purpose: Purpose, **options: Any) -> Raw:
        try:
            url, started = self.oauth.begin(purpose, **options)
        except WaddleBotError as err:
            return self.pages.refusal(err, again=START)
        return self.pages.redirect(url, cookies=[started.set_cookie])


@endpoint("GET", "/twitch/auth", caller=ANYBODY, query=StartQuery)
def show_start(query: StartQuery, desk: AuthDesk) -> Raw:
    """Show what the bot will do in a channel and why it asks for what it asks for."""
    return desk.pages.start(desk.oauth.features, community=query.community)


@endpoint("GET", "/twitch/auth/login", caller=ANYBODY, query=StartQuery, per_minute=STARTS_PER_MINUTE)
def send_streamer(query: StartQuery, desk: AuthDesk) -> Raw:
    """Send a streamer to Twitch to consent."""
    return desk.send_to_twitch("join", community=query.community, moderate=bool(query.moderate))


@endpoint("GET", "/twitch/auth/bot", caller=ANYBODY)
def show_bot(desk: AuthDesk) -> Raw:
    """Show what the bot's own account has to grant."""
    return desk.pages.bot()


@endpoint("GET", "/twitch/auth/bot/login", caller=ANYBODY, per_minute=STARTS_PER_MINUTE)
def send_bot(desk: AuthDesk) -> Raw:
    """Send the operator to Twitch to consent as the bot; no other account's consent is taken."""
    return desk.send_to_twitch("bot")


@endpoint("GET", "/twitch/auth/leave", caller=ANYBODY)
def show_leave(desk: AuthDesk) -> Raw:
    """Show what becomes of a channel that the bot leaves."""
    return desk.pages.leave()


@endpoint("GET", "/twitch/auth/leave/login", caller=ANYBODY, per_minute=STARTS_PER_MINUTE)
def send_leaver(desk: AuthDesk) -> Raw:
    """Send a streamer to Twitch to prove whose channel it is."""
    return desk.send_to_twitch("leave")


@endpoint("POST", "/twitch/auth/leave", caller=ANYBODY, max_body_bytes=MAX_FORM_BYTES)
def leave_channel(request: RawRequest, desk: AuthDesk) -> Raw:
    """Leave the channel of whoever has just proved whose it is."""
    form = parse_qs(request.body.decode("utf-8", "replace"))
    state = form.get("state", [""])[-1]
    try:
        done = desk.oauth.leave(state, request.headers.get("cookie", ""))
    except WaddleBotError as err:
        return desk.pages.refusal(err, again="/twitch/auth/leave")
    return desk.pages.left(done)


@endpoint("GET", "/twitch/auth/callback", caller=ANYBODY, query=CallbackQuery)
def take_back(query: CallbackQuery, request: RawRequest, desk: AuthDesk) -> Raw:
    """Take back whoever has been to Twitch, and show what came of it."""
    cookies = request.headers.get("cookie", "")
    try:
        done = desk.oauth.finish(query.state, cookies, code=query.code, error=query.error)
    except WaddleBotError as err:
        return desk.pages.refusal(err, again=START)
    if isinstance(done, Joined):
        return desk.pages.joined(done, bot=desk.bot)
    if isinstance(done, BotGranted):
        return desk.pages.bot_granted(done)
    return desk.pages.confirm(done)
