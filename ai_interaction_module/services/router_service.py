"""What is asked of the router: whether something may be said, and to keep a community's settings."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from waddlebot.base.errors import UpstreamError, UserError
from waddlebot.community.credentials import COMMANDS
from waddlebot.data.audit import who_acts
from waddlebot.data.cache import Bus
from waddlebot.web.clients import RouterClient

CALLS_AT_ONCE = 4


class AgainstTheRules(UserError):
    """The AI's answer would break the rules of this community, so it is not said."""

    code = "against_the_rules"


class RulesUnread(UserError):
    """Nobody can say just now whether the AI's answer keeps to this community's rules. Try again in a moment."""

    code = "rules_unread"


class RouterService:
    def __init__(self, router: RouterClient, bus: Bus, *, module_name: str) -> None:
        self._router = router
        self._bus = bus
        self._module_name = module_name
        # A request is not made in the thread that serves one: both may be this process's.
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, "ai-router")

    def check_may_say(self, entity_id: str, text: str) -> None:
        """Raises: AgainstTheRules; RulesUnread. Not in a thread that serves a request."""
        try:
            may = self._router.may_say(entity_id, text)
        except UpstreamError as err:
            raise RulesUnread() from err
        if not may:
            raise AgainstTheRules()

    def change_settings(self, community_id: int, changes: Mapping[str, Any]) -> None:
        """Change what is named of a community's settings, in the name of who asks for it. They hold when this returns.

        Raises: Invalid, naming the setting; UpstreamError.
        """
        who = who_acts()
        account = who.account if who else self._module_name
        login_id, own_id = (who.login_id, who.own_id) if who else (None, None)
        self._threads.submit(
            self._router.change_settings, community_id, changes, account=account, login_id=login_id, own_id=own_id
        ).result()
        self._bus.invalidate(COMMANDS, community_id)
