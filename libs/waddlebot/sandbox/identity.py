"""As whom modules run: as root's guest who owns nothing, else as whoever runs the fleet, whom the fence has to hold."""

from __future__ import annotations

import os
import pwd
import subprocess

from ..base.errors import ConfigError

SYSTEM_USER = "waddlebot-modules"


def find_identity() -> tuple[int, int] | None:
    """User and group to drop to, made at first; None where that takes root. Raises: ConfigError."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        added = subprocess.run(
            [
                *("/usr/sbin/useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"),
                *("--shell", "/usr/sbin/nologin", SYSTEM_USER),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        try:
            entry = pwd.getpwnam(SYSTEM_USER)  # Another fleet may have added it at the same moment.
        except KeyError as err:
            raise ConfigError(f"Cannot add the system user {SYSTEM_USER}: {added.stderr.strip()[-200:]}") from err
    return entry.pw_uid, entry.pw_gid
