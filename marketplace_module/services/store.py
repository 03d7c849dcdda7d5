"""The store's shelves: what there is, found by word, category or rank, and a module's own page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydal import DAL
from waddlebot.base.text import fold
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import fetch, fetch_one
from waddlebot.module.package import in_words

from .publishing import UnknownModule

CACHE = "marketplace"
FRONT_TTL_S = 30.0
MAX_WORDS = 8
# PostgreSQL takes words of up to 2046 bytes.
MAX_WORD_CHARS = 100
FEATURED, POPULAR, RECENT, REVIEWS_SHOWN = 6, 8, 8, 10
ORDERS = {
    "popular": "download_count DESC, id",
    "recent": "updated_at DESC, id",
    "rating": "rating_average DESC, rating_count DESC, id",
    "name": "lower(display_name), id",
}
SHOWN = (
    "module_id, module_id AS name, display_name, description, author, category, tags, icon_url,"
    " latest_version AS version, is_featured, is_verified, download_count, rating_average, rating_count, price,"
    " currency, published_at, updated_at"
)


class Store:
    """Reads only. What needs no number of its own is kept for half a minute."""

    def __init__(self, bus: Bus) -> None:
        self._front: Cache[str, dict[str, Any]] = bus.cache(CACHE, ttl_s=FRONT_TTL_S)

    def front(self, db: DAL) -> dict[str, Any]:
        """Featured, popular and recent modules, and the categories."""
        return self._front.get("front", lambda _fresh: self._load_front(db))

    def categories(self, db: DAL) -> list[dict[str, Any]]:
        """The tree of categories, each with how many modules it and those below it have."""
        found = self._front.get("categories", lambda _fresh: {"tree": _tree(_counted(db))})
        return list(found["tree"])

    def browse(
        self,
        db: DAL,
        *,
        category: str | None,
        search: str | None,
        sort: str,
        free: bool | None,
        verified: bool | None,
        limit: int,
        offset: int,
    ) -> tuple[list[dict[str, Any]], int]:
        """One page of what fits, and how much fits."""
        where, parameters = _filters(db, category=category, search=search, free=free, verified=verified)
        if where is None:
            return [], 0
        total = fetch_one(db, f"SELECT count(*) AS n FROM marketplace_modules WHERE {where}", parameters)
        rows = fetch(
            db,
            f"SELECT {SHOWN} FROM marketplace_modules WHERE {where} ORDER BY {ORDERS[sort]}"
            " LIMIT %(limit)s OFFSET %(offset)s",
            {**parameters, "limit": limit, "offset": offset},
        )
        return rows, total["n"] if total else 0

    def suggest(self, db: DAL, text: str, limit: int) -> list[dict[str, Any]]:
        """The modules that somebody who has typed so much most likely means."""
        query = tsquery(text)
        if query is None:
            return []
        return fetch(
            db,
            "SELECT module_id, display_name AS name, left(description, 100) AS description, rating_average AS rating"
            " FROM marketplace_modules WHERE words @@ %(query)s::tsquery AND latest_version IS NOT NULL"
            " ORDER BY ts_rank(words, %(query)s::tsquery) DESC, download_count DESC, id LIMIT %(limit)s",
            {"query": query, "limit": limit},
        )

    def page(self, db: DAL, module_id: str) -> dict[str, Any]:
        """A module's own page. Raises: UnknownModule."""
        module = fetch_one(
            db,
            f"SELECT {SHOWN}, long_description, author_email, website, repository, license, screenshots,"
            " taken_down_at, taken_down_why FROM marketplace_modules"
            " WHERE module_id = %s AND (latest_version IS NOT NULL OR taken_down_at IS NOT NULL)",
            (module_id,),
        )
        if module is None:
            raise UnknownModule(f"There is no module {module_id[:64]}.")
        versions = fetch(
            db,
            "SELECT version, changelog, sha256 AS checksum, file_size, permissions, hosts, limits, asks, price,"
            " currency, is_stable, version = %(latest)s AS is_latest, download_count, created_at,"
            " manifest->'runtime'->>'type' AS runtime FROM module_versions"
            " WHERE module_id = %(module)s AND state = 'approved' ORDER BY id DESC LIMIT 100",
            {"module": module_id, "latest": module["version"]},
        )
        newest = fetch_one(
            db,
            "SELECT manifest FROM module_versions WHERE module_id = %s AND state = 'approved'"
            " ORDER BY version = coalesce(%s, '') DESC, id DESC LIMIT 1",
            (module_id, module["version"]),
        )
        if newest is None:  # It was taken down before anybody could have it.
            raise UnknownModule(f"There is no module {module_id[:64]}.")
        manifest = newest["manifest"]
        installs = fetch_one(
            db,
            "SELECT count(*) AS n FROM module_installations WHERE module_id = %s AND version IS NOT NULL",
            (module_id,),
        )
        for each in versions:
            each["asks_in_words"] = in_words(each["asks"])
        return {
            "module": {**module, "replaces": manifest.get("replaces"), "settings": manifest["settings"]},
            "versions": versions,
            "commands": [_command(each) for each in manifest["commands"]],
            "reviews": list_reviews(db, module_id, limit=REVIEWS_SHOWN, offset=0)[0],
            "installation_count": installs["n"] if installs else 0,
        }

    def _load_front(self, db: DAL) -> dict[str, Any]:
        show = partial(_shelf, db)
        return {
            "featured_modules": show("is_featured", ORDERS["rating"], FEATURED)
            or show("rating_count > 0", ORDERS["rating"], FEATURED),
            "popular_modules": show("true", ORDERS["popular"], POPULAR),
            "recent_modules": show("true", ORDERS["recent"], RECENT),
            "categories": _tree(_counted(db)),
        }


def list_reviews(db: DAL, module_id: str, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    rows = fetch(
        db,
        "SELECT id AS review_id, user_name, rating, title, review_text, version, created_at, updated_at,"
        " count(*) OVER () AS total FROM module_reviews WHERE module_id = %s ORDER BY id DESC LIMIT %s OFFSET %s",
        (module_id, limit, offset),
    )
    counted = rows or fetch(db, "SELECT count(*) AS total FROM module_reviews WHERE module_id = %s", (module_id,))
    return [{name: value for name, value in row.items() if name != "total"} for row in rows], counted[0]["total"]


def tsquery(text: str) -> str | None:
    """What somebody typed as PostgreSQL looks for it: each word, as the beginning of one. None without any word."""
    words = re.findall(r"\w+", fold(text).replace("_", " "))[:MAX_WORDS]
    return " & ".join(f"{word[:MAX_WORD_CHARS]}:*" for word in words) or None


def _filters(
    db: DAL, *, category: str | None, search: str | None, free: bool | None, verified: bool | None
) -> tuple[str | None, dict[str, Any]]:
    """None where nothing can fit."""
    where, parameters = ["latest_version IS NOT NULL"], dict[str, Any]()
    if category:
        below = fetch(
            db, "SELECT name FROM module_categories WHERE name = %(it)s OR parent_category = %(it)s", {"it": category}
        )
        where.append("category = ANY(%(categories)s)")
        parameters["categories"] = [row["name"] for row in below]
    if search and search.strip():
        query = tsquery(search)
        if query is None:
            return None, {}
        where.append("words @@ %(query)s::tsquery")
        parameters["query"] = query
    if free is not None:
        where.append("price = 0" if free else "price > 0")
    if verified is not None:
        where.append("is_verified" if verified else "NOT is_verified")
    return " AND ".join(where), parameters


def _shelf(db: DAL, where: str, order: str, limit: int) -> list[dict[str, Any]]:
    return fetch(
        db,
        f"SELECT {SHOWN} FROM marketplace_modules WHERE latest_version IS NOT NULL AND {where}"
        f" ORDER BY {order} LIMIT %s",
        (limit,),
    )


def _counted(db: DAL) -> list[dict[str, Any]]:
    return fetch(
        db,
        "SELECT c.name, c.display_name, c.description, c.icon, c.parent_category, coalesce(n, 0) AS module_count"
        " FROM module_categories c LEFT JOIN (SELECT category, count(*) AS n FROM marketplace_modules"
        "  WHERE latest_version IS NOT NULL GROUP BY 1) m ON m.category = c.name ORDER BY sort_order, c.name",
    )


def _tree(rows: Sequence[Mapping[str, Any]], parent: str | None = None) -> list[dict[str, Any]]:
    made = []
    for row in rows:
        if row["parent_category"] == parent:
            below = _tree(rows, row["name"])
            count = row["module_count"] + sum(each["module_count"] for each in below)
            made.append({**row, "module_count": count, "categories": below})
    return made


def _command(command: Mapping[str, Any]) -> dict[str, Any]:
    shown = ("usage", "description", "examples", "level", "rate_limit", "events", "subcommands")
    return {"command": f"#{command['command']}", **{name: command[name] for name in shown}}
