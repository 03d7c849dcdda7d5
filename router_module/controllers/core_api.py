"""The core API: what collectors, and modules for themselves, ask and report beside chat."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import StringConstraints
from waddlebot.base.contracts import Answer, Event, MessageType, OpaqueId, PlatformName, Strict, Wire
from waddlebot.base.errors import Invalid, NotAllowed
from waddlebot.web.auth import COLLECTORS_OR_SERVICES, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.claims.directory_service import DirectoryService
from ..services.commands.command_processor import CommandProcessor
from . import events

MAX_ID_CHARS = 255


class ServersQuery(Page):
    platform: PlatformName | None = None
    active: bool | None = None


class ContextQuestion(Wire):
    """Who somebody is: `platform:platform_user_id`, or a name with its platform."""

    identity_name: OpaqueId
    platform: PlatformName | None = None
    entity_id: OpaqueId | None = None


class Activation(Strict):
    activation_key: Annotated[str, StringConstraints(min_length=1, max_length=255)]


@endpoint("GET", "/api/servers", caller=COLLECTORS_OR_SERVICES, query=ServersQuery)
def list_servers(query: ServersQuery, caller: Account, directory: DirectoryService) -> dict[str, Any]:
    """List the servers and channels that the fleet serves, as far as they are the caller's."""
    return directory.list_servers(caller, **query.filters(), page=query)


@endpoint("POST", "/api/context", caller=COLLECTORS_OR_SERVICES, body=ContextQuestion)
def read_context(question: ContextQuestion, caller: Account, directory: DirectoryService) -> dict[str, Any]:
    """Say who somebody is, by our number, and in which community."""
    return {"success": True, "data": asdict(directory.context(caller, **question.model_dump()))}


@endpoint("POST", "/api/events", caller=COLLECTORS_OR_SERVICES, body=Event)
def forward_event(event: Event, caller: Account, processor: CommandProcessor) -> Answer:
    """Process an event: for collectors as /router/events does, for modules only what is no chat.

    A module's event carries no badges, so that no module speaks with anybody's rights.
    """
    if "collectors" not in caller.groups:
        event = _as_modules_event(event, caller)
    return events.answer_one(event, caller, processor)


@endpoint("POST", "/api/gateway/activate", caller=COLLECTORS_OR_SERVICES, body=Activation)
def activate_gateway(activation: Activation, caller: Account, directory: DirectoryService) -> dict[str, Any]:
    """Begin to serve the channel whose activation key this is. Twice is once."""
    return directory.activate(caller, activation.activation_key)


def _as_modules_event(event: Event, caller: Account) -> Event:
    if event.message_type is MessageType.CHAT_MESSAGE:
        raise NotAllowed("Only collectors report what people say.", message_type=event.message_type)
    # Apart from the platform's ids and other modules', so that nobody's event hides another's.
    event_id = f"{caller.module_name or caller.name}:{event.event_id}"
    if len(event_id) > MAX_ID_CHARS:
        raise Invalid(f"event_id: at most {MAX_ID_CHARS} characters with the module's name.", field="event_id")
    user = event.user.model_copy(update={"badges": []})
    return event.model_copy(update={"event_id": event_id, "user": user})
