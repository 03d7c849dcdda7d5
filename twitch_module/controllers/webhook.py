"""Where Twitch delivers what happened."""

from __future__ import annotations

from collections.abc import Sequence

from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.webhook_service import Outcome, WebhookService

# The largest chat message is 500 characters; with its fragments, badges and emotes that is far below this.
MAX_BODY_BYTES = 256 * 1024


@endpoint("POST", "/twitch/webhook", caller=ANYBODY, max_body_bytes=MAX_BODY_BYTES)
def receive_deliveries(requests: Sequence[RawRequest], receiver: WebhookService) -> list[Raw | Exception]:
    """Take signed EventSub deliveries: 2xx for each once it is stored, 403 for a bad signature."""
    return [_answer(outcome) for outcome in receiver.receive(requests)]


def _answer(outcome: Outcome) -> Raw | Exception:
    if isinstance(outcome, Exception):
        return outcome
    return Raw(outcome, "text/plain") if outcome is not None else Raw("", "text/plain", status=204)
