"""Where Twitch delivers what happened."""

from __future__ import annotations

from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.webhook_service import WebhookService

# The largest chat message is 500 characters; with its fragments, badges and emotes that is far below this.
MAX_BODY_BYTES = 256 * 1024


@endpoint("POST", "/twitch/webhook", caller=ANYBODY, max_body_bytes=MAX_BODY_BYTES)
def receive_delivery(request: RawRequest, receiver: WebhookService) -> Raw:
    """Take a signed EventSub delivery: 2xx once it is stored, 403 for a bad signature."""
    challenge = receiver.receive(request.headers, request.body)
    return Raw(challenge, "text/plain") if challenge is not None else Raw("", "text/plain", status=204)
