"""The pages between a link and Spotify, and links for the portal."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field
from waddlebot.base.contracts import UserId, Wire
from waddlebot.base.errors import WaddleBotError
from waddlebot.community.communities import Reference, get_community
from waddlebot.community.oauth import STARTS_PER_MINUTE
from waddlebot.data.database import Database
from waddlebot.web.auth import ANYBODY, PORTAL_ONLY, Account
from waddlebot.web.endpoint import Raw, RawRequest, endpoint
from waddlebot.web.pages import Pages

from ..services.link_service import Done, LinkService

LOGIN = "/spotify/auth/login"
# Chats fetch what is linked in them, which would use a ticket up.
PREVIEWS = re.compile(r"(slack|discord|twitter|telegram)bot|externalhit", re.IGNORECASE)


class TicketQuery(Wire):
    ticket: str = Field("", max_length=256)


class CallbackQuery(Wire):
    state: str = Field("", max_length=256)
    code: str = Field("", max_length=2048)
    error: str = Field("", max_length=512)


class LinkRequest(Wire):
    """Who connects an account, and in which community."""

    community_id: Reference
    own_id: UserId


@endpoint("POST", "/spotify/auth/links", caller=PORTAL_ONLY, area="music", body=LinkRequest)
def make_link(request: LinkRequest, caller: Account, database: Database, links: LinkService) -> dict[str, Any]:
    """Make the address with which somebody connects their Spotify account, once, within ten minutes."""
    community_id = get_community(database, caller, request.community_id)
    with database.transaction() as db:
        url = links.make(db, community_id, request.own_id, by_owner=caller.actor is not None)
    return {"success": True, "url": url, "expires_in_s": 600}


@endpoint("GET", LOGIN, caller=ANYBODY, query=TicketQuery, per_minute=STARTS_PER_MINUTE)
def send_to_spotify(query: TicketQuery, request: RawRequest, links: LinkService, pages: Pages) -> Raw:
    """Send whoever has a ticket to Spotify to consent."""
    if PREVIEWS.search(request.headers.get("user-agent", "")):
        return pages.message("Connect Spotify", "Open this link in your browser.")
    try:
        url, started = links.begin(query.ticket)
    except WaddleBotError as err:
        return _refusal(pages, err)
    return pages.redirect(url, cookies=[started.set_cookie])


@endpoint("GET", "/spotify/auth/callback", caller=ANYBODY, query=CallbackQuery)
def take_back(query: CallbackQuery, request: RawRequest, links: LinkService, pages: Pages) -> Raw:
    """Take back whoever has been to Spotify, and show what came of it."""
    try:
        done = links.finish(query.state, request.headers.get("cookie", ""), code=query.code, error=query.error)
    except WaddleBotError as err:
        return _refusal(pages, err)
    return _connected(pages, done)


def _connected(pages: Pages, done: Done) -> Raw:
    if done.plays:
        text = f"The account {done.account_name} plays for {done.community_name}. Type !spotify devices in chat."
    else:
        text = (
            f"The account {done.account_name} is connected in {done.community_name}. It plays there once the"
            " community's owner chooses it with !spotify account."
        )
    if done.missing:
        text += f" You have not granted {', '.join(done.missing)}, so some commands will not work."
    return pages.message("Spotify is connected", text)


def _refusal(pages: Pages, err: WaddleBotError) -> Raw:
    title = "That did not work" if err.http_status < 500 else "Not just now"
    text = f"{err.message} Type !spotify connect in chat for another link."
    return pages.message(title, text, status=err.http_status)
