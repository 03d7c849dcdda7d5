"""Whose a channel or a server is: what every endpoint asks that names one."""

from __future__ import annotations

from pydal import DAL

from ..base.contracts import CONSOLE
from ..base.errors import NotAllowed
from ..base.ids import EntityId
from ..data.database import Database, fetch, fetch_one
from ..web.auth import Account


def find_community_of(db: DAL, entity: EntityId) -> int | None:
    """The community that an entity belongs to.

    A channel in which nobody has spoken yet belongs with the whole of its server, one of the console by its name.
    """
    row = fetch_one(
        db,
        "SELECT community_id FROM entities WHERE is_active AND (entity_id = %(entity)s"
        "  OR (%(server_id)s <> '' AND entity_id = %(server)s))"
        " ORDER BY entity_id <> %(entity)s LIMIT 1",
        {
            "entity": str(entity),
            "server_id": entity.server_id,
            "server": str(EntityId(entity.platform, entity.server_id, "")),
        },
    )
    if row is None and entity.platform == CONSOLE:
        row = fetch_one(
            db, "SELECT id AS community_id FROM communities WHERE is_active AND slug = %s", (entity.server_id,)
        )
    return row["community_id"] if row else None


def check_place(db: Database, caller: Account, entity: EntityId) -> None:
    """Whether the caller may act in an entity. Who is confined is told the same of what is not served at all.

    Raises: NotAllowed.
    """
    caller.check_platform(entity.platform)
    if caller.community_id is None:
        return
    with db.transaction() as transaction:
        found = find_community_of(transaction, entity)
    if found != caller.community_id:
        raise NotAllowed(f"{entity} is not a channel of the community of account {caller.name}.")


def check_server(db: Database, caller: Account, platform: str, server_id: str) -> None:
    """Whether the caller may do what touches the whole of a server: it is all of the caller's community.

    Raises: NotAllowed.
    """
    caller.check_platform(platform)
    if caller.community_id is None:
        return
    with db.transaction() as transaction:
        rows = fetch(
            transaction,
            "SELECT DISTINCT community_id FROM entities"
            " WHERE is_active AND platform = %s AND server_id = %s AND server_id <> ''",
            (platform, server_id),
        )
    if [row["community_id"] for row in rows] != [caller.community_id]:
        raise NotAllowed(f"The server {server_id} is not all of the community of account {caller.name}.")
