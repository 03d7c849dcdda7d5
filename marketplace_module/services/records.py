"""What of the marketplace a community can carry away, and where people stand in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from psycopg2.extras import Json
from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import ModuleName
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.base.wire import to_json
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.people import IN_COMMUNITY, Keeps, Personal
from waddlebot.module.portable import Item, Part

from .state import KEY, MAX_KEYS

BY = "portal"
# Shorter ids than this may as well be some other number.
MIN_ID_CHARS = 5


class InstallationItem(Item):
    """A module that is installed, with what was agreed to and what is set for it. No secrets."""

    kind: Literal["installation"] = "installation"
    module_id: ModuleName
    entity_id: Annotated[str, StringConstraints(max_length=512)] | None = None
    version: Annotated[str, StringConstraints(max_length=32)]
    enabled: bool = True
    # The core module that it stands in for; itself where it answers to `!`, too.
    replaces: list[ModuleName] = Field(default_factory=list, max_length=30)
    config: dict[str, Any] = Field(default_factory=dict)


class NoteItem(Item):
    """Something that a module remembers."""

    kind: Literal["note"] = "note"
    module_id: ModuleName
    key: Annotated[str, StringConstraints(pattern=f"^{KEY.pattern}$")]
    value: Any = None


def installation_part() -> Part[InstallationItem]:
    def export(db: DAL, community_id: int) -> list[InstallationItem]:
        rows = fetch(
            db,
            "SELECT i.id, i.module_id, i.entity_id, coalesce(i.target_version, i.version) AS version,"
            " i.is_enabled AS enabled, i.replaces, coalesce(i.target_config, s.config, '{}') AS config"
            " FROM module_installations i LEFT JOIN module_switches s ON s.community_id = i.community_id"
            "  AND s.module_name = i.module_id AND s.entity_id IS NOT DISTINCT FROM i.entity_id"
            " WHERE i.community_id = %s AND i.state <> 'uninstalling' ORDER BY i.module_id, i.entity_id NULLS FIRST",
            (community_id,),
        )
        return [InstallationItem(**row).of_row(row_id) for row in rows if (row_id := row.pop("id"))]

    def put(db: DAL, community_id: int, item: InstallationItem, _known: InstallationItem | None) -> str:
        """On record now; the job that finishes installations has the router do it."""
        version = fetch_one(
            db,
            "SELECT asks, price FROM module_versions WHERE module_id = %s AND version = %s AND state = 'approved'",
            (item.module_id, item.version),
        )
        if version is None:
            raise NotFound(f"This fleet's marketplace has no {item.module_id} {item.version}.")
        if version["price"] > 0:
            raise Conflict(f"{item.module_id} has to be paid for here first.")
        if item.entity_id is not None and not fetch(
            db,
            "SELECT FROM entities WHERE entity_id = %s AND community_id = %s",
            (item.entity_id, community_id),
        ):
            raise NotFound(f"{item.entity_id} is not a channel of this community.")
        fetch(
            db,
            "INSERT INTO module_installations (community_id, entity_id, module_id, is_enabled, state, target_version,"
            " target_asks, target_config, replaces, installed_by, updated_at)"
            " VALUES (%s, %s, %s, %s, 'installing', %s, %s, %s, %s, %s, now() - interval '1 minute')"
            " ON CONFLICT (community_id, entity_id, module_id) DO UPDATE SET state = 'installing',"
            " is_enabled = excluded.is_enabled, target_version = excluded.target_version,"
            " target_asks = excluded.target_asks, target_config = excluded.target_config, replaces = excluded.replaces,"
            " updated_at = excluded.updated_at",
            (
                community_id,
                item.entity_id,
                item.module_id,
                item.enabled,
                item.version,
                version["asks"],
                Json(item.config),
                item.replaces,
                BY,
            ),
        )
        return "It will be installed in a moment."

    return Part(
        InstallationItem, lambda item: (item.module_id, item.entity_id), export, put, tables=("module_installations",)
    )


def note_part() -> Part[NoteItem]:
    def export(db: DAL, community_id: int) -> list[NoteItem]:
        rows = fetch(
            db,
            "SELECT module_id, key, value FROM module_state WHERE community_id = %s ORDER BY module_id, key",
            (community_id,),
        )
        return [NoteItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: NoteItem, known: NoteItem | None) -> None:
        count = fetch_one(
            db,
            "SELECT count(*) AS n FROM module_state WHERE module_id = %s AND community_id = %s",
            (item.module_id, community_id),
        )
        if known is None and count and count["n"] >= MAX_KEYS:
            raise Conflict(f"{item.module_id} remembers {MAX_KEYS} things already.")
        fetch(
            db,
            "INSERT INTO module_state AS s (module_id, community_id, key, value) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (module_id, community_id, key) DO UPDATE SET value = excluded.value, version = s.version + 1,"
            " updated_at = now()",
            (item.module_id, community_id, item.key, Json(item.value, dumps=to_json)),
        )

    return Part(NoteItem, lambda item: (item.module_id, item.key), export, put, tables=("module_state",))


PEOPLE = [
    Personal(
        "module_reviews",
        where="own_id = ANY(%(own_ids)s)",
        shown="module_id, user_name, rating, title, review_text, created_at",
    ),
    Personal(
        "module_reports",
        where="own_id = ANY(%(own_ids)s)",
        shown="module_id, reason, details, created_at",
    ),
    # What modules note is theirs to shape. What is kept under somebody's number, name or id is theirs and goes with
    # them; whoever is named in another note is blotted out there.
    Personal(
        "module_state",
        where="split_part(key, ':', 1) = 'user' AND split_part(key, ':', 2) = ANY(%(own_texts)s)"
        " OR regexp_split_to_array(lower(key), '[:.]') && (%(names)s::text[]"
        f" || ARRAY(SELECT lower(i) FROM unnest(%(ids)s::text[]) AS i WHERE length(i) >= {MIN_ID_CHARS}))",
        within=IN_COMMUNITY,
        mentions=("value",),
        shown="module_id, community_id, key, value, updated_at",
    ),
]
KEEPS = [
    Keeps("what they published", "Others have it installed; who published it is a number."),
]
