"""Kong as the broker sees it: what it says of itself, its consumers, what differs, and backups."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator
from waddlebot.base.contracts import Attributed, Strict
from waddlebot.web.auth import ANYBODY, Account
from waddlebot.web.endpoint import RawRequest, endpoint
from waddlebot.web.lists import Page, list_answer, whole_list_answer

from ..services.backups import Backups
from ..services.kong_client import KongClient
from ..services.reconciliation import Reconciliation
from ..services.statistics import Statistics
from .doors import API, Desk, at_both_doors
from .health import BrokerHealth

MAX_BACKUP_BYTES = 16 * 1024 * 1024


class ConsumerQuery(Strict):
    """`after` is the `next` of the page before; Kong's own offsets are no numbers."""

    size: int = Field(100, ge=1, le=1000)
    after: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_=-]{1,1000}$")] | None = None
    tag: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,100}$")] | None = None


class Restore(Attributed):
    """A backup that is kept here, or the `content` of one; without `apply` only the plan is told."""

    backup_id: int | None = Field(None, ge=1, lt=2**63)
    content: Annotated[str, StringConstraints(min_length=1)] | None = None
    apply: bool = False

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Restore:
        if (self.backup_id is None) == (self.content is None):
            raise ValueError("say either backup_id or content")
        return self


@endpoint("GET", f"{API}/health", caller=ANYBODY)
def read_health(health: BrokerHealth) -> dict[str, Any]:
    """Say that the broker serves, whether Kong's Admin API answers it, and what its checks found."""
    return health.read()


@at_both_doors("GET", "/kong/info")
def read_kong_info(caller: Account, request: RawRequest, desk: Desk, kong: KongClient) -> dict[str, Any]:
    """What Kong says of itself, without its configuration."""
    desk.enter(caller, request)
    return {"success": True, "kong": {**kong.node(), "status": kong.status()}}


@at_both_doors("GET", "/kong/consumers", query=ConsumerQuery)
def list_consumers(
    query: ConsumerQuery, caller: Account, request: RawRequest, desk: Desk, kong: KongClient
) -> dict[str, Any]:
    """Everybody whom Kong knows, page by page."""
    desk.enter(caller, request)
    return {"success": True, **kong.consumers(size=query.size, after=query.after, tag=query.tag)}


@at_both_doors("GET", "/statistics")
def read_statistics(caller: Account, request: RawRequest, desk: Desk, statistics: Statistics) -> dict[str, Any]:
    """How many accounts, keys, requests and changes there are, and Kong's own counters."""
    desk.enter(caller, request)
    return {"success": True, "statistics": statistics.read()}


@at_both_doors("GET", "/reconcile")
def find_differences(
    caller: Account, request: RawRequest, desk: Desk, reconciliation: Reconciliation
) -> dict[str, Any]:
    """What of Kong is not as the database has it, and what would be done about it."""
    desk.enter(caller, request)
    return whole_list_answer("differences", [each.shown for each in reconciliation.find()])


@at_both_doors("POST", "/reconcile", body=Attributed | None)
def mend_differences(
    _said: Attributed | None, caller: Account, request: RawRequest, desk: Desk, reconciliation: Reconciliation
) -> dict[str, Any]:
    """Put right whatever differs; `left` is what only a person can, or what Kong did not do."""
    return {"success": True, **reconciliation.mend(desk.enter(caller, request))}


@at_both_doors("POST", "/backup", body=Attributed | None)
def make_backup(
    _said: Attributed | None, caller: Account, request: RawRequest, desk: Desk, backups: Backups
) -> dict[str, Any]:
    """Save all active accounts with their keys, sealed; keep `content` where the database is not."""
    return {"success": True, "backup": backups.make(desk.enter(caller, request))}


@at_both_doors("GET", "/backups", query=Page)
def list_backups(query: Page, caller: Account, request: RawRequest, desk: Desk, backups: Backups) -> dict[str, Any]:
    """The backups that are kept here, newest first, without their content."""
    desk.enter(caller, request)
    return list_answer("backups", backups.read_page(query), query)


@at_both_doors("POST", "/restore", body=Restore, max_body_bytes=MAX_BACKUP_BYTES)
def restore_backup(
    wanted: Restore, caller: Account, request: RawRequest, desk: Desk, backups: Backups
) -> dict[str, Any]:
    """Say what would become of everybody in a backup, and with `apply` do it. What was ended since stays ended."""
    by = desk.enter(caller, request)
    return {"success": True, **backups.restore(wanted.backup_id, wanted.content, by, apply=wanted.apply)}
