"""What a platform is asked to do about a person or a message."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from ..base.contracts import OutboxState
from ..base.ids import new_id
from ..data.outbox import NOT_PRIVATE_HERE, PRIVATE, Outgoing
from .sender import Outcome, Send

# How moderation is marked in the outbox, where it waits in front of everything that is said.
MODERATE = "moderate"

Action = Literal["delete", "warn", "timeout", "ban", "unban"]


@dataclass(frozen=True, slots=True)
class ModerationAction:
    """Something to be done, once. `message_id` is the event's id; a timeout has a duration."""

    entity_id: str
    action: Action
    platform_user_id: str
    message_id: str = ""
    duration_s: int | None = None
    reason: str = ""
    # Names it for a platform that tells repeats apart by that.
    once: str = field(default_factory=new_id)


Act = Callable[[ModerationAction], Coroutine[Any, Any, Outcome]]


def say_or_act(send: Send, act: Act | None, whisper: Send | None) -> Send:
    """What does with anything in the outbox what it is for. Without a `whisper` nothing private is said at all."""

    async def send_or_act(outgoing: Outgoing) -> Outcome:
        if outgoing.response_action == PRIVATE:
            return await whisper(outgoing) if whisper else Outcome(OutboxState.DROPPED, NOT_PRIVATE_HERE)
        if outgoing.response_action != MODERATE or act is None:
            return await send(outgoing)
        return await act(ModerationAction(**{**outgoing.response_data, "once": str(outgoing.id)}))

    return send_or_act
