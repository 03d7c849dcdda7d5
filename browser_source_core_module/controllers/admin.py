"""Overlays for those who manage a community: URLs, queue, theme, tests and figures."""

from __future__ import annotations

from typing import Any, Literal

from pydal import DAL
from pydantic import Field
from waddlebot.base.contracts import Attributed, Strict
from waddlebot.base.ids import new_id
from waddlebot.community.communities import community_of
from waddlebot.data.database import Database
from waddlebot.module.service import Service
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANYBODY, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer, whole_list_answer

from ..services.audience_service import AudienceService
from ..services.browser_source_service import BrowserSourceService
from ..services.frames import SOURCE_TYPES, Source
from ..services.router_service import DisplayRequest
from ..services.theme_service import ThemeService
from ..services.token_service import TokenService
from .display import DisplayDesk

SourceType = Literal["ticker", "media", "general"]
MAX_GRACE_S = 7 * 24 * 3600


class TokenQuery(Strict):
    community_id: str | None = None
    reveal: bool = False


class NewTokens(Attributed):
    """Whose tokens to make where there are none; of all three overlays unless one is named. `all` is one for each."""

    community_id: int | str | None = None
    source_type: SourceType | Literal["all"] | None = None


class Regeneration(Attributed):
    """How long the old URL goes on working, in seconds; 0 ends it at once."""

    grace_s: float = Field(0, ge=0, le=MAX_GRACE_S)


class QueueQuery(Page):
    source_type: SourceType
    community_id: str | None = None
    state: Literal["queued", "shown", "done", "skipped", "expired", "dropped"] | None = None


class QueueChange(Attributed):
    """What to do with a queue. `replay` takes the item_id of its history, else the last item that was shown."""

    source_type: SourceType
    action: Literal["skip", "pause", "resume", "clear", "replay"]
    community_id: int | str | None = None
    item_id: str | None = Field(None, max_length=255)


class ThemeChange(Attributed):
    """CSS variables, by name with or without `--`, and CSS of one's own; one of them alone leaves the other as it is.

    A variable that is not named is as it was made.
    """

    community_id: int | str | None = None
    variables: dict[str, str | float] | None = None
    css: str | None = None


class ThemeQuery(Strict):
    community_id: str | None = None


class TestItem(Attributed):
    """Something to try: a kind and what it shows, or nothing for a ready-made one."""

    action: Literal["ticker", "media", "general"]
    community_id: int | str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


SAMPLES: dict[str, dict[str, Any]] = {
    "ticker": {"text": "Hello from WaddleBot – this is a test.", "style": "info"},
    "media": {
        "media_type": "music",
        "title": "Penguin Parade",
        "artist": "The Waddles",
        "album": "Antarctica",
        "service": "WaddleBot",
        "progress_ms": 42_000,
        "duration_ms": 185_000,
        "display_s": 15,
    },
    "general": {"kind": "alert", "title": "It works!", "text": "This is what an alert looks like.", "display_s": 8},
}


@endpoint("GET", "/browser/source/admin/tokens", caller=ADMINS_OR_API_USERS, area="overlays", query=TokenQuery)
def list_tokens(query: TokenQuery, caller: Account, database: Database, tokens: TokenService) -> dict[str, Any]:
    """List a community's tokens, masked unless `reveal=true` asks for them, which is audited."""
    community_id = _community(database, caller, query.community_id)
    found = tokens.list_for(community_id, reveal=query.reveal, by=caller.name)
    return whole_list_answer("tokens", found)


@endpoint("POST", "/browser/source/admin/tokens", caller=ADMINS_OR_API_USERS, area="overlays", body=NewTokens)
def make_tokens(wanted: NewTokens, caller: Account, database: Database, tokens: TokenService) -> dict[str, Any]:
    """Make a community's tokens where there are none, and show them all. An audited act."""
    community_id = _community(database, caller, wanted.community_id)
    kinds = (wanted.source_type,) if wanted.source_type else SOURCE_TYPES
    return {"success": True, "tokens": tokens.ensure(community_id, kinds, by=caller.name)}


@endpoint("GET", "/browser/source/api/communities/<community_id>/urls", caller=ADMINS_OR_API_USERS, area="overlays")
def list_urls(community_id: str, caller: Account, database: Database, tokens: TokenService) -> dict[str, Any]:
    """Show the URLs of a community's overlays. An audited act."""
    found = _community(database, caller, community_id)
    return {"success": True, "community_id": found, "urls": tokens.urls(found, by=caller.name)}


@endpoint(
    "POST",
    "/browser/source/admin/tokens/<token>/regenerate",
    caller=ADMINS_OR_API_USERS,
    area="overlays",
    body=Regeneration | None,
)
def regenerate_token(token: str, wanted: Regeneration | None, caller: Account, tokens: TokenService) -> dict[str, Any]:
    """Replace a token, named by itself or by its id; the old one works on for the grace that is asked for."""
    grace_s = wanted.grace_s if wanted else 0
    return {"success": True, **tokens.regenerate(token, caller, grace_s=grace_s)}


@endpoint("DELETE", "/browser/source/admin/tokens/<token>", caller=ADMINS_OR_API_USERS, area="overlays")
def revoke_token(token: str, caller: Account, tokens: TokenService) -> dict[str, Any]:
    """End a token at once, named by itself or by its id; pages that use it are closed."""
    return {"success": True, **tokens.revoke(token, caller)}


@endpoint("GET", "/browser/source/admin/queue", caller=ADMINS_OR_API_USERS, area="overlays", query=QueueQuery)
def read_queue(
    query: QueueQuery, caller: Account, db: DAL, overlays: BrowserSourceService, audience: AudienceService
) -> dict[str, Any]:
    """List what an overlay shows, waits for and has shown, newest first."""
    source = Source(community_of(db, caller, query.community_id), query.source_type)
    listed = overlays.list_history(db, source, query, state=query.state)
    connections, hidden = audience.connections(source)
    is_paused = overlays.is_paused(db, source)
    return list_answer("items", listed, query, is_paused=is_paused, connections=connections, hidden=hidden)


@endpoint("POST", "/browser/source/admin/queue", caller=ADMINS_OR_API_USERS, area="overlays", body=QueueChange)
def change_queue(
    change: QueueChange, caller: Account, database: Database, overlays: BrowserSourceService
) -> dict[str, Any]:
    """Skip, pause, resume, clear, or replay from the history."""
    with database.transaction() as db:
        source = Source(community_of(db, caller, change.community_id), change.source_type)
        if change.action == "replay":
            seq: int | None = overlays.replay(db, source, item_id=change.item_id, by=caller.name).seq
        else:
            seq = overlays.control(db, source, change.action, by=caller.name)
    overlays.announce(source)
    return {"success": True, "action": change.action, "source_type": change.source_type, "seq": seq}


@endpoint("GET", "/browser/source/admin/theme", caller=ADMINS_OR_API_USERS, area="overlays", query=ThemeQuery)
def read_theme(query: ThemeQuery, caller: Account, database: Database, themes: ThemeService) -> dict[str, Any]:
    """Show the CSS variables that a community has set."""
    return {"success": True, **_parts(themes.find(_community(database, caller, query.community_id)))}


@endpoint("PUT", "/browser/source/admin/theme", caller=ADMINS_OR_API_USERS, area="overlays", body=ThemeChange)
def change_theme(
    change: ThemeChange, caller: Account, database: Database, themes: ThemeService, overlays: BrowserSourceService
) -> dict[str, Any]:
    """Set a community's CSS variables; open overlays follow at once."""
    with database.transaction() as db:
        community_id = community_of(db, caller, change.community_id)
        sources = [Source(community_id, kind) for kind in SOURCE_TYPES]
        variables = change.variables
        named = None if variables is None else {name: f"{value}" for name, value in variables.items()}
        saved = themes.save(db, community_id, variables=named, css=change.css)
        for source in sources:
            overlays.add_control(db, source, "theme", by=caller.name)
    for source in sources:
        overlays.announce(source)
    return {"success": True, **_parts(saved)}


@endpoint("POST", "/browser/source/admin/test", caller=ADMINS_OR_API_USERS, area="overlays", body=TestItem)
def show_test(test: TestItem, caller: Account, database: Database, desk: DisplayDesk) -> dict[str, Any]:
    """Show something on a community's own overlay that is marked TEST and counts nowhere."""
    item = DisplayRequest(
        item_id=f"test-{new_id()}",
        session_id=new_id(),
        community_id=_community(database, caller, test.community_id),
        source_type=test.action,
        response_action=test.action,
        response_data={**SAMPLES[test.action], **test.data},
        mode="simulate",
    )
    return desk.show(item)


class StatsQuery(Strict):
    """`brief` counts nothing: who looks at a community's overlays, and whether their queues wait."""

    community_id: str | None = None
    brief: bool = False


@endpoint("GET", "/browser/source/stats", caller=ADMINS_OR_API_USERS, area="overlays", query=StatsQuery)
def statistics(query: StatsQuery, caller: Account, database: Database, audience: AudienceService) -> dict[str, Any]:
    """Count connections, deliveries and acknowledgements, of one community or, for admins, of all."""
    everything = query.community_id is None and caller.community_id is None
    community_id = None if everything else _community(database, caller, query.community_id)
    if community_id is not None and query.brief:
        return audience.who_looks(community_id)
    return audience.statistics(community_id)


@endpoint("GET", "/browser/source/health", caller=ANYBODY)
def health(service: Service) -> dict[str, Any]:
    """Say that the process serves. The same in full is at /browser/health."""
    checks = service.run_checks()
    ok = all(each["ok"] for each in checks.values())
    return {"success": True, "status": "healthy" if ok else "degraded", "module": service.name, "checks": checks}


def _parts(theme: dict[str, str]) -> dict[str, Any]:
    css = theme.pop("css", "")
    return {"variables": theme, "css": css}


def _community(database: Database, caller: Account, reference: int | str | None) -> int:
    with database.transaction() as db:
        return community_of(db, caller, reference)
