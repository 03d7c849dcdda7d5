"""The token that comes with each call of a community module: it opens what that one call may still do, for a while.

Only processes with WADDLEBOT_ENCRYPTION_KEYS make and read it; to all others it is noise.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from ..base.encryption import CannotOpen, Keyring
from ..base.errors import NotAllowed, NotAuthenticated

PREFIX = "wbcall_"
PURPOSE = "call"
AFTER_DEADLINE = timedelta(minutes=5)
ALL = "*"


@dataclass(frozen=True, slots=True)
class CallToken:
    """One execution of one module: what its token stands for."""

    execution_id: str
    session_id: str
    community_id: int
    module_name: str
    # Empty for a module that registered itself.
    version: str
    permissions: tuple[str, ...]
    # Seconds since 1970.
    expires_at: int

    def check_may(self, permission: str) -> None:
        """Raises: NotAllowed."""
        if ALL not in self.permissions and permission not in self.permissions:
            raise NotAllowed(f"{self.module_name} does not have the permission {permission}.", needs=permission)


class CallTokens:
    """Makes and reads these tokens."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @property
    def can_issue(self) -> bool:
        return self._keyring.can_seal

    def issue(self, token: CallToken) -> str:
        sealed = self._keyring.seal(json.dumps(list(asdict(token).values())), purpose=PURPOSE)
        return PREFIX + base64.urlsafe_b64encode(sealed.encode()).decode().rstrip("=")

    def read(self, text: str) -> CallToken:
        """Raises: NotAuthenticated, with the same words whether it is forged, of somebody else, or over."""
        try:
            encoded = text.removeprefix(PREFIX).encode("ascii")
            sealed = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)).decode("ascii")
            execution, session, community, module, version, permissions, expires_at = json.loads(
                self._keyring.open(sealed, purpose=PURPOSE)
            )
        except (CannotOpen, binascii.Error, ValueError) as err:
            raise NotAuthenticated(REFUSAL) from err
        if expires_at <= datetime.now(UTC).timestamp():
            raise NotAuthenticated(REFUSAL)
        return CallToken(execution, session, community, module, version, tuple(permissions), expires_at)


REFUSAL = "Send the token of a call that is not over, as Authorization: Bearer <token>."
