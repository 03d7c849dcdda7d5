"""What a call of a community module brings along, so that it can answer late and remember things."""

from __future__ import annotations

from waddlebot.base.contracts import Callback, ModuleCall
from waddlebot.web.callback import AFTER_DEADLINE, ALL, CallToken, CallTokens

from ..catalogue.catalogue import Command


class Callbacks:
    def __init__(self, tokens: CallTokens, *, responses_url: str, state_url: str) -> None:
        self._tokens = tokens
        self._responses_url = responses_url
        self._state_url = state_url

    def make(self, call: ModuleCall, command: Command) -> Callback | None:
        """None where nothing can be sealed, and for what is only tried: that must leave nothing behind."""
        if not self._tokens.can_issue or call.mode == "simulate":
            return None
        token = CallToken(
            execution_id=call.execution_id,
            session_id=call.session_id,
            community_id=call.community.id,
            module_name=command.module_name,
            version=command.version,
            permissions=(ALL,) if command.permissions is None else tuple(sorted(command.permissions)),
            expires_at=int((call.deadline + AFTER_DEADLINE).timestamp()),
        )
        return Callback(token=self._tokens.issue(token), responses_url=self._responses_url, state_url=self._state_url)
