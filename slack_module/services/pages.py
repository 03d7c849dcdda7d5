"""The pages that people see on the way into a workspace."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from waddlebot.web import Raw

if TYPE_CHECKING:
    from .oauth_service import Installed

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def page(content: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Raw:
    text = _template("page").replace("{{content}}", content)
    return Raw(text, "text/html; charset=utf-8", status, {**HEADERS, **(headers or {})})


def install(community: str) -> str:
    return _filled("install", community=community)


def refused(message: str) -> str:
    return _filled("refused", message=message)


def installed(found: Installed) -> str:
    missing = ""
    if found.missing_scopes:
        missing = _filled("missing", scopes=", ".join(found.missing_scopes))
    deletes = (
        "It may delete messages that break a rule of yours."
        if found.may_delete
        else "It warns about messages that break a rule of yours; it may not delete them."
    )
    page = _filled("installed", team=found.team_name, community=found.settled.community_name, deletes=deletes)
    return page.replace("{{missing}}", missing)


def _filled(name: str, **values: str) -> str:
    text = _template(name)
    for key, value in values.items():
        text = text.replace("{{" + key + "}}", html.escape(value))
    return text


@lru_cache
def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.html").read_text(encoding="utf-8")
