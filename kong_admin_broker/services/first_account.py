"""The first super-admin, who makes all others: by BROKER_API_KEY, when there is nobody yet."""

from __future__ import annotations

from dataclasses import dataclass

from waddlebot.base.errors import Conflict
from waddlebot.base.logs import AAALog
from waddlebot.base.settings import Secret

from .audit_log import ITSELF
from .user_manager import UserManager

NAME = "broker-root"


@dataclass(frozen=True, slots=True)
class FirstAccount:
    """Whoever was made and ended again is not made anew: the key may be the very reason for which they were ended."""

    users: UserManager
    key: Secret | None
    log: AAALog

    def make(self) -> None:
        """Raises: KongUnavailable, and then it is tried again."""
        if self.key is None or self.users.is_known(NAME) or self.users.count_active():
            return
        try:
            self.users.create(NAME, ITSELF, tier="super-admin", api_key=self.key.get_secret_value())
        except Conflict as err:
            self.log.system("first_account_not_made", result="FAILED", code=err.code, message=err.message)
            return
        self.log.audit("first_account_made", username=NAME)
