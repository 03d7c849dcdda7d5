"""Where Slack delivers what happened."""

from __future__ import annotations

from waddlebot.base.wire import to_json
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.intake import EventIntake

# The longest message has 40 000 characters, and Slack sends its blocks and files beside it.
MAX_BODY_BYTES = 1024 * 1024


@endpoint("POST", "/slack/events", caller=ANYBODY, max_body_bytes=MAX_BODY_BYTES)
def receive_event(request: RawRequest, intake: EventIntake) -> Raw:
    """Take a signed request of the Events API: 200 once it is stored, 401 for a bad signature."""
    challenge = intake.receive(request.headers, request.body)
    if challenge is None:
        return Raw("")
    return Raw(to_json({"challenge": challenge}), "application/json")
