"""What of the overlays a community can carry away, and where people stand in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydal import DAL
from pydantic import StringConstraints
from waddlebot.data.database import fetch
from waddlebot.module.people import IN_COMMUNITY, Personal, is_named
from waddlebot.module.portable import Item, Part

from .browser_source_service import BrowserSourceService
from .frames import SOURCE_TYPES, Source
from .theme_service import ThemeService

BY = "portal"
SESSIONS = (
    "(SELECT session_id::text FROM router_events WHERE entity_id IN (SELECT entity_id FROM entities)"
    " AND user_id = ANY(%(own_ids)s))"
)


class ThemeItem(Item):
    """A community's CSS variables, and CSS of its own. Its tokens are secrets, and stay."""

    kind: Literal["theme"] = "theme"
    variables: dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=255)]]
    css: str = ""


def theme_part(themes: ThemeService, overlays: BrowserSourceService) -> Part[ThemeItem]:
    def export(db: DAL, community_id: int) -> list[ThemeItem]:
        rows = fetch(
            db,
            "SELECT variables, css FROM browser_source_themes"
            " WHERE community_id = %s AND (variables <> '{}' OR css <> '')",
            (community_id,),
        )
        return [ThemeItem(**row) for row in rows]

    def put(db: DAL, community_id: int, item: ThemeItem, _known: ThemeItem | None) -> None:
        themes.save(db, community_id, variables=item.variables, css=item.css)
        for source_type in SOURCE_TYPES:
            overlays.add_control(db, Source(community_id, source_type), "theme", by=BY)

    return Part(ThemeItem, lambda _: "theme", export, put, tables=("browser_source_themes",))


PEOPLE = [
    Personal(
        "browser_source_history",
        where=f"session_id IN {SESSIONS}",
        become="content = jsonb_build_object('action', content->'action', 'data', '{}'::jsonb),"
        " state = CASE WHEN state IN ('queued', 'shown') THEN 'skipped' ELSE state END",
        within=IN_COMMUNITY,
        mentions=("content",),
        shown="community_id, source_type, content, created_at",
    ),
    Personal(
        "browser_source_forms",
        where=f"session_id IN {SESSIONS}",
        within=IN_COMMUNITY,
        mentions=("form",),
        shown="community_id, form, state, created_at",
    ),
    Personal(
        "browser_source_controls",
        where=is_named("created_by"),
        become="created_by = ''",
        within=IN_COMMUNITY,
        shown="community_id, source_type, action, created_at",
    ),
]
