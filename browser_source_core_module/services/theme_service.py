"""A community's theme: a few CSS variables, each of a kind that can be checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydal import DAL
from waddlebot.base.errors import Invalid
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import Database, fetch, fetch_one

COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}|[a-zA-Z]{3,24}|(rgb|hsl)a?\([0-9.,%/ deg]{3,40}\)")
FONT = re.compile(r"[\w \-,'\"]{1,200}")
SIDE = re.compile(r"start|center|end")
NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")

VARIABLES: dict[str, re.Pattern[str]] = {
    "accent": COLOUR,
    "background": COLOUR,
    "text": COLOUR,
    "font": FONT,
    "radius": NUMBER,
    "scale": NUMBER,
    "speed": NUMBER,
    "ticker-y": SIDE,
    "media-x": SIDE,
    "media-y": SIDE,
    "general-x": SIDE,
    "general-y": SIDE,
}
BOUNDS = {"radius": (0, 64), "scale": (0.5, 3), "speed": (0.25, 4)}


class ThemeService:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, community_id: int) -> dict[str, str]:
        rows = self._database.statement(
            "SELECT variables FROM browser_source_themes WHERE community_id = %s", (community_id,)
        )
        return dict(rows[0]["variables"]) if rows else {}

    def save(self, db: DAL, community_id: int, variables: Mapping[str, str]) -> dict[str, str]:
        """Replace a community's theme. Raises: Invalid, naming the variable."""
        checked = dict(_checked(name.removeprefix("--"), str(value)) for name, value in variables.items())
        row = fetch_one(
            db, "SELECT variables FROM browser_source_themes WHERE community_id = %s FOR UPDATE", (community_id,)
        )
        before = {"variables": row["variables"] if row else {}}
        fetch(
            db,
            "INSERT INTO browser_source_themes (community_id, variables) VALUES (%s, %s) ON CONFLICT (community_id)"
            " DO UPDATE SET variables = excluded.variables, updated_at = now()",
            (community_id, json.dumps(checked)),
        )
        audit.record(
            db,
            "browser_source_core",
            "overlay_theme_changed",
            "theme",
            community_id=community_id,
            before=before,
            after={"variables": checked},
            undo=Undo("PUT", "/browser/source/admin/theme", {"community_id": community_id, **before}),
        )
        return checked


def _checked(name: str, value: str) -> tuple[str, str]:
    kind = VARIABLES.get(name)
    if kind is None:
        raise Invalid(
            f"variables: there is no {name[:40]}; known are {', '.join(VARIABLES)}.", field=f"variables.{name}"
        )
    low, high = BOUNDS.get(name, (0, 0))
    if not kind.fullmatch(value) or (name in BOUNDS and not low <= float(value) <= high):
        raise Invalid(f"variables.{name}: {value[:40]!r} does not fit.", field=f"variables.{name}")
    return name, value
