"""As whom modules run: as root's guest who owns nothing, else as whoever runs the fleet, whom the fence has to hold."""

from __future__ import annotations

from ..base.system_users import find_system_user

SYSTEM_USER = "waddlebot-modules"


def find_identity() -> tuple[int, int] | None:
    """User and group to drop to; None leaves it who it is. Raises: ConfigError."""
    return find_system_user(SYSTEM_USER)
