"""Tips: the address that Ko-fi, Buy Me a Coffee or anything else posts to, and those who manage it."""

from __future__ import annotations

from typing import Any

from pydal import DAL
from waddlebot.base.contracts import Strict
from waddlebot.community.communities import Reference, community_of
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANYBODY, Account
from waddlebot.web.endpoint import RawRequest, endpoint

from ..services.tip_formats import read_tip
from ..services.tip_service import TipService

MAX_TIP_BYTES = 64 * 1024


class TipLink(Strict):
    """Whose address for tips to show; `renew` replaces it, and what was posted to the old one is refused."""

    community_id: Reference | None = None
    renew: bool = False


class TipLinkQuery(Strict):
    community_id: str | None = None


@endpoint("POST", "/browser/source/admin/tips", caller=ADMINS_OR_API_USERS, area="overlays", body=TipLink)
def show_tip_link(wanted: TipLink, caller: Account, db: DAL, tips: TipService) -> dict[str, Any]:
    """Show a community's address for tips, made where there is none. An audited act."""
    community_id = community_of(db, caller, wanted.community_id)
    return {"success": True, "url": tips.link(db, community_id, renew=wanted.renew, by=caller.name)}


@endpoint("DELETE", "/browser/source/admin/tips", caller=ADMINS_OR_API_USERS, area="overlays", query=TipLinkQuery)
def end_tip_link(query: TipLinkQuery, caller: Account, db: DAL, tips: TipService) -> dict[str, Any]:
    """Take no more tips for a community."""
    community_id = community_of(db, caller, query.community_id)
    return {"success": True, "deleted": tips.unlink(db, community_id, by=caller.name)}


@endpoint("POST", "/browser/tips/<token>", caller=ANYBODY, max_body_bytes=MAX_TIP_BYTES)
def take_tip(token: str, request: RawRequest, db: DAL, tips: TipService) -> dict[str, Any]:
    """Take a tip as Ko-fi or Buy Me a Coffee post it, or plain `{id, name, amount, currency, message}`; once each."""
    community_id = tips.community_of_token(db, token)
    tip = read_tip(request.body, request.headers.get("content-type", ""))
    if tip is None:
        return {"success": True, "ignored": True}
    return {"success": True, "duplicate": not tips.take(db, community_id, tip)}
