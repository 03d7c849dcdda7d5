"""Linking people and parting them again, for whoever runs the fleet."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Attributed
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.link_service import Changed, LinkService

# People are the whole fleet's.
FLEET_ADMINS = replace(ADMINS, for_all=True)
Number = Annotated[int, Field(ge=1, lt=2**63)]


class LinksQuery(Page):
    own_id: Number | None = None


class NewLink(Attributed):
    """Two accounts, by number, that are one person; the second one's head speaks for them."""

    own_ids: list[Number] = Field(min_length=2, max_length=2)
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


@endpoint("GET", "/labels/links", caller=FLEET_ADMINS, query=LinksQuery)
def list_links(query: LinksQuery, database: Database, links: LinkService) -> dict[str, Any]:
    """List which accounts were made one person, newest first, by whom, why, and whether they were parted again."""
    with database.reading() as db:
        return list_answer("links", links.list_links(db, query.own_id, query), query)


@endpoint("POST", "/labels/links", caller=FLEET_ADMINS, body=NewLink)
def make_link(body: NewLink, database: Database, links: LinkService, bus: Bus) -> dict[str, Any]:
    """Make two people one; every link can be undone."""
    with database.transaction() as db:
        changed = links.link(db, *body.own_ids, reason=body.reason, community_id=None)
    return _answer(changed, bus)


@endpoint("DELETE", "/labels/links/<link_id:int>", caller=FLEET_ADMINS)
def undo_link(link_id: int, database: Database, links: LinkService, bus: Bus) -> dict[str, Any]:
    """Part the accounts of a link again, as they were before it."""
    with database.transaction() as db:
        changed = links.undo(db, link_id)
    return _answer(changed, bus)


def _answer(changed: Changed, bus: Bus) -> dict[str, Any]:
    bus.invalidate_all(changed.stale)
    return {"success": True, "link_id": changed.link_id, "own_ids": list(changed.together)}
