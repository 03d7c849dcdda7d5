"""Which container of a collector looks after which channel: what containers call."""

from __future__ import annotations

from typing import Any, Literal

from waddlebot.base.contracts import (
    ClaimRequest,
    ContainerHeartbeat,
    ContainerRequest,
    ErrorReport,
    OpaqueId,
    PlatformName,
    PopulateRequest,
    ReleaseRequest,
    StatusReport,
    Strict,
)
from waddlebot.web.auth import CLAIM_READERS, CLAIMERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.claims.coordination_service import CoordinationService


class StatsQuery(Strict):
    platform: PlatformName | None = None
    container_id: OpaqueId | None = None


class EntitiesQuery(Page):
    platform: PlatformName | None = None
    status: Literal["available", "claimed", "live", "offline", "error"] | None = None
    claimed_by: OpaqueId | None = None
    is_live: bool | None = None


@endpoint("POST", "/router/coordination/claim", caller=CLAIMERS, body=ClaimRequest)
def claim(request: ClaimRequest, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Claim free entities: live ones first, then by priority and viewers."""
    return coordination.claim(request, caller)


@endpoint("POST", "/router/coordination/release", caller=CLAIMERS, body=ReleaseRequest)
def release(request: ReleaseRequest, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Give up some claims, or all of them."""
    return coordination.release(request, caller)


@endpoint("POST", "/router/coordination/checkin", caller=CLAIMERS, body=ContainerRequest)
def checkin(request: ContainerRequest, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Keep all claims; due every five minutes."""
    return coordination.checkin(request, caller)


@endpoint("POST", "/router/coordination/heartbeat", caller=CLAIMERS, body=ContainerHeartbeat)
def beat(request: ContainerHeartbeat, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Keep all claims and list them. With `alive_for_s` they are freed when that passes without another."""
    return coordination.heartbeat(request, caller)


@endpoint("POST", "/router/coordination/release-offline", caller=CLAIMERS, body=ContainerRequest)
def release_offline(request: ContainerRequest, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Give up what is offline and claim as many others."""
    return coordination.release_offline(request, caller)


@endpoint("POST", "/router/coordination/status", caller=CLAIMERS, body=StatusReport)
def report_status(report: StatusReport, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Report whether an entity is live and who watches. 409 `lost` when another container has it."""
    return coordination.report_status(report, caller)


@endpoint("POST", "/router/coordination/error", caller=CLAIMERS, body=ErrorReport)
def report_error(report: ErrorReport, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Report that an entity could not be served. The third time in a row it is marked and let go."""
    return coordination.report_error(report, caller)


@endpoint("POST", "/router/coordination/populate", caller=CLAIMERS, body=PopulateRequest)
def populate(request: PopulateRequest, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Bring a platform's entities up to date with `servers`."""
    return coordination.populate(request, caller)


@endpoint("GET", "/router/coordination/stats", caller=CLAIM_READERS, query=StatsQuery)
def stats(query: StatsQuery, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """Count entities, claimed and not, and what each container holds."""
    return coordination.stats(caller, **query.model_dump())


@endpoint("GET", "/router/coordination/entities", caller=CLAIM_READERS, query=EntitiesQuery)
def list_claims(query: EntitiesQuery, caller: Account, coordination: CoordinationService) -> dict[str, Any]:
    """List entities and who holds them."""
    return coordination.list_entities(caller, **query.filters(), page=query)
