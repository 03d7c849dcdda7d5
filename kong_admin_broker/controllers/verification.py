"""The page behind the link in a mail. It asks once more, because mail servers open links by themselves."""

from __future__ import annotations

from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.user_manager import UserManager
from ..services.verification import Verification
from .doors import origin

PER_MINUTE = 30
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>WaddleBot</title><h1>WaddleBot</h1>{body}</html>
"""
ASK = "<p>Is this address yours, and do you want the account?</p><form method=post><button>Yes</button></form>"
DONE = "<p>Thank you. Your key opens the gateway now.</p>"
OVER = "<p>This link was used, or is older than a day. Ask whoever made your account to send another one.</p>"


@endpoint("GET", "/broker/verify/<token>", caller=ANYBODY, per_minute=PER_MINUTE)
def ask_to_verify(token: str, verification: Verification) -> Raw:
    """Ask whoever opens the link of a mail whether they want the account."""
    return _page(ASK) if verification.read(token) else _page(OVER, status=404)


@endpoint("POST", "/broker/verify/<token>", caller=ANYBODY, per_minute=PER_MINUTE, pool="api")
def verify_address(token: str, request: RawRequest, users: UserManager, verification: Verification) -> Raw:
    """Let in whoever has the link, once."""
    found = verification.read(token)
    if found is None or users.verify(*found, by=origin(request)) is None:
        return _page(OVER, status=404)
    return _page(DONE)


def _page(body: str, *, status: int = 200) -> Raw:
    return Raw(PAGE.format(body=body), "text/html; charset=utf-8", status, HEADERS)
