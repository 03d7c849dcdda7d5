"""Where Discord posts slash commands, for an application with an Interactions Endpoint URL."""

from __future__ import annotations

from typing import Any

from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import RawRequest, endpoint

from ..services.interaction_service import InteractionService

MAX_BODY_BYTES = 256 * 1024


@endpoint("POST", "/discord/interactions", caller=ANYBODY, max_body_bytes=MAX_BODY_BYTES)
def receive_interaction(request: RawRequest, interactions: InteractionService) -> dict[str, Any]:
    """Take a signed interaction: answered at once, 401 for a bad signature."""
    return interactions.receive(request.headers, request.body)
