"""Where Slack delivers slash commands."""

from __future__ import annotations

from waddlebot.base.wire import to_json
from waddlebot.web.auth import ANYBODY
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.slash_service import SlashService

MAX_BODY_BYTES = 256 * 1024


@endpoint("POST", "/slack/slash", caller=ANYBODY, max_body_bytes=MAX_BODY_BYTES)
def receive_command(request: RawRequest, commands: SlashService) -> Raw:
    """Take a signed slash command: 200 at once, the answer follows; 401 for a bad signature."""
    answer = commands.receive(request.headers, request.body)
    return Raw("") if answer is None else Raw(to_json(answer), "application/json")


@endpoint("POST", "/slack/commands", caller=ANYBODY, max_body_bytes=MAX_BODY_BYTES)
def receive_command_too(request: RawRequest, commands: SlashService) -> Raw:
    """The same as /slack/slash, under the name that many apps use."""
    return receive_command(request, commands)
