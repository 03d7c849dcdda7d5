"""A community's theme: a few CSS variables, each of a kind that can be checked, and CSS that loads nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydal import DAL
from waddlebot.base.errors import Invalid
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import Database, fetch, fetch_one

from .hub_store import FIND_THEME, THEME

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
MAX_CSS_CHARS = 20_000
# What would load something, or spell it, or end the style. The pages' policy refuses to load it as well.
LOADS = re.compile(
    r"\\|<|(url|src|image|image-set|cross-fade|element|expression|paint)\(|javascript:"
    r"|@(?!(-webkit-)?keyframes\b|media\b|supports\b|container\b)",
    re.IGNORECASE,
)
BOUNDS = {"radius": (0, 64), "scale": (0.5, 3), "speed": (0.25, 4)}


class ThemeService:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, community_id: int) -> dict[str, str]:
        """The variables, with the CSS as `css` where there is some: what pages get."""
        rows = self._database.statement(FIND_THEME, (community_id,))
        return dict(rows[0]["theme"]) if rows else {}

    def save(
        self, db: DAL, community_id: int, *, variables: Mapping[str, str] | None, css: str | None
    ) -> dict[str, str]:
        """Replace a community's variables, its CSS, or both; None leaves one as it is. Returns what `find` does.

        Raises: Invalid, naming the variable, or css.
        """
        checked = None
        if variables is not None:
            checked = dict(_checked(name.removeprefix("--"), str(value)) for name, value in variables.items())
        if css is not None:
            check_css(css)
        row = fetch_one(
            db, "SELECT variables, css FROM browser_source_themes WHERE community_id = %s FOR UPDATE", (community_id,)
        )
        before = row or {"variables": {}, "css": ""}
        (row,) = fetch(
            db,
            "INSERT INTO browser_source_themes AS t (community_id, variables, css)"
            " VALUES (%(community)s, coalesce(%(variables)s::jsonb, '{}'), coalesce(%(css)s, ''))"
            " ON CONFLICT (community_id) DO UPDATE SET variables = coalesce(%(variables)s::jsonb, t.variables),"
            f" css = coalesce(%(css)s, t.css), updated_at = now() RETURNING {THEME}",
            {
                "community": community_id,
                "variables": None if checked is None else json.dumps(checked),
                "css": css,
            },
        )
        theme = dict(row["theme"])
        audit.record(
            db,
            "browser_source_core",
            "overlay_theme_changed",
            "theme",
            community_id=community_id,
            before=before,
            after={
                "variables": {name: value for name, value in theme.items() if name != "css"},
                "css": theme.get("css", ""),
            },
            undo=Undo("PUT", "/browser/source/admin/theme", {"community_id": community_id, **before}),
        )
        return theme


def check_css(css: str) -> None:
    """Raises: Invalid for CSS that would load something from elsewhere."""
    if len(css) > MAX_CSS_CHARS:
        raise Invalid(f"css has more than {MAX_CSS_CHARS} characters.", field="css")
    found = LOADS.search(css)
    if found:
        raise Invalid(f"css: {found[0][:40]!r} is not allowed; CSS here loads nothing. Upload pictures.", field="css")


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
