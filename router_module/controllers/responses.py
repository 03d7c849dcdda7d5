"""Replies that come late, and what was replied."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError
from waddlebot.base.contracts import ModuleName, ModuleReply
from waddlebot.base.wire import invalid
from waddlebot.web.auth import ANY_KEY, COLLECTORS, SERVICES, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.commands.response_service import ResponseService
from ..services.records.explainer import Explainer
from ..services.records.outbox_service import Confirmation, OutboxService


class RecentQuery(Page):
    module_name: ModuleName | None = None
    response_action: str | None = None
    success_only: bool = False
    limit: int = Field(50, ge=1, le=1000)


class OutboxQuery(Page):
    entity_id: str | None = None
    platform: str | None = None
    state: Literal["pending", "sending", "sent", "dropped", "unknown"] = "pending"
    private: bool = False
    limit: int = Field(50, ge=1, le=1000)


@endpoint("POST", "/router/responses", caller=SERVICES, body=ModuleReply, in_call=True)
def submit_response(reply: ModuleReply, caller: Account, responses: ResponseService) -> dict[str, Any]:
    """Record a late reply from a module and hand it to chat or overlay."""
    try:
        return responses.accept(reply, caller)
    except ValidationError as err:
        raise invalid(err) from err


@endpoint("GET", "/router/responses/recent", caller=ANY_KEY, area="bot", query=RecentQuery)
def list_recent(query: RecentQuery, caller: Account, responses: ResponseService) -> dict[str, Any]:
    """List the newest responses of modules."""
    return responses.list_recent(
        caller,
        module_name=query.module_name,
        action=query.response_action,
        success_only=query.success_only,
        page=query,
    )


@endpoint("GET", "/router/responses/<execution_id>", caller=ANY_KEY, area="bot")
def list_responses(execution_id: str, caller: Account, responses: ResponseService) -> dict[str, Any]:
    """List what a module replied to one execution, and what became of it."""
    return responses.list_for(execution_id, caller)


@endpoint("GET", "/router/explain/<session_id>", caller=ANY_KEY, area="bot")
def explain(session_id: str, caller: Account, explainer: Explainer) -> dict[str, Any]:
    """Explain an answer: what decided, how long each hop took, what was said and what was not."""
    return {"success": True, **explainer.explain(session_id, caller)}


@endpoint("GET", "/router/outbox", caller=COLLECTORS, query=OutboxQuery)
def list_outbox(query: OutboxQuery, caller: Account, outbox: OutboxService) -> dict[str, Any]:
    """List replies for the caller's platforms, oldest first."""
    return outbox.list_for(caller, **query.filters(), page=query)


@endpoint("POST", "/router/outbox/<outbox_id:int>", caller=COLLECTORS, body=Confirmation)
def confirm(outbox_id: int, confirmation: Confirmation, caller: Account, outbox: OutboxService) -> dict[str, Any]:
    """Take a reply (`sending`) or say what became of it. 409 when somebody else did."""
    return outbox.confirm(outbox_id, confirmation.state, caller)
