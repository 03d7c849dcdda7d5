"""Single-use links: made for the operator over the fleet's own API, opened by a page whose button signs in."""

from __future__ import annotations

from typing import Any

from py4web import request
from pydantic import Field
from waddlebot.base.contracts import Strict
from waddlebot.web.auth import ADMINS, ANYBODY
from waddlebot.web.endpoint import endpoint
from waddlebot.web.forms import PageForm
from waddlebot.web.sessions import PageSession
from waddlebot.web.site import Site, go_to, page

from ..services.links import MAX_ADDRESS_CHARS, LinkOver, LinkService


class LinkRequest(Strict):
    """Who is to sign in as an operator by a link."""

    email: str = Field(max_length=MAX_ADDRESS_CHARS)


@endpoint("POST", "/portal/links", caller=ADMINS, body=LinkRequest)
def make_link(wanted: LinkRequest, links: LinkService, site: Site) -> dict[str, Any]:
    """Make a link that signs an operator in, once, within ten minutes."""
    return {"success": True, "url": f"{site.url}/portal/auth/link?token={links.operator_link(wanted.email)}"}


@page("GET POST", "/portal/auth/link", "signin.html", caller=ANYBODY)
def open_link(session: PageSession, links: LinkService, site: Site) -> Any:
    """Sign in whoever has a link, by a button: a look at the page alone uses nothing up."""
    token = request.query.get("token") or ""
    form = PageForm([], session, form_name="link", submit_value="Sign in")
    if form.accepted:
        opened = links.use(token, "sign_in")
        assert opened.auth_user_id is not None
        site.signin.store_user_in_session(opened.auth_user_id)
        return go_to(site.prefix)
    if not links.is_open(token):
        raise LinkOver()
    lead = "This link works once, and for ten minutes."
    return {"title": "Welcome to WaddleBot", "form": form, "lead": lead, "forgot": ""}
