"""What of the shoutouts a community can carry away, and where people stand in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import OpaqueId, PlatformName
from waddlebot.base.errors import Conflict
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.people import IN_COMMUNITY, Personal, hash_of
from waddlebot.module.portable import Item, Part

from .people_service import MAX_LINK_CHARS, MAX_LINKS, MAX_MESSAGE_CHARS, Auto, Identity, PeopleService


class PersonItem(Item):
    """What is set for somebody."""

    kind: Literal["person"] = "person"
    platform: PlatformName
    platform_user_id: OpaqueId
    message: Annotated[str, StringConstraints(max_length=MAX_MESSAGE_CHARS)] = ""
    links: list[Annotated[str, StringConstraints(max_length=MAX_LINK_CHARS)]] = Field(
        default_factory=list, max_length=MAX_LINKS
    )
    auto: Auto = "default"


def person_part(people: PeopleService) -> Part[PersonItem]:
    def export(db: DAL, community_id: int) -> list[PersonItem]:
        rows = fetch(
            db,
            "SELECT i.platform, i.platform_user_id, p.message, p.links, p.auto FROM shoutout_people p"
            " JOIN LATERAL (SELECT * FROM platform_identities i WHERE i.user_id = p.own_id ORDER BY i.id LIMIT 1) AS i"
            " ON true WHERE p.community_id = %s ORDER BY i.platform, i.platform_user_id",
            (community_id,),
        )
        return [PersonItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: PersonItem, _known: PersonItem | None) -> None:
        if people.of_identity(db, item.platform, item.platform_user_id) is None:
            _check_not_erased(db, f"{item.platform}:{item.platform_user_id}")
        known = people.meet(db, Identity(item.platform, item.platform_user_id, "", ""))
        people.set(db, community_id, known, message=item.message, links=tuple(item.links), auto=item.auto)

    return Part(
        PersonItem, lambda item: (item.platform, item.platform_user_id), export, put, tables=("shoutout_people",)
    )


def _check_not_erased(db: DAL, identity: str) -> None:
    """Raises: Conflict for somebody who asked to be forgotten: an old export does not bring them back."""
    if fetch_one(db, "SELECT 1 FROM erased_people WHERE id_hash = %s LIMIT 1", (hash_of(identity),)):
        raise Conflict("They asked to be forgotten here.")


PEOPLE = [
    Personal(
        "shoutout_people",
        where="own_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, message, links, auto, updated_at",
    ),
    Personal(
        "shoutout_history",
        where="own_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, cause, entity_id, game, clip_id, created_at",
    ),
    Personal(
        "shoutout_history",
        where="by_id = ANY(%(own_ids)s)",
        become="by_id = NULL",
        within=IN_COMMUNITY,
        shown="community_id, cause, entity_id, created_at",
    ),
]
