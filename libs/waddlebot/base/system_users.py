"""Users of the system, for what root starts and that needs none of root's rights."""

from __future__ import annotations

import os
import pwd
import subprocess

from .errors import ConfigError


def find_system_user(name: str) -> tuple[int, int] | None:
    """Its user and group, made at first; None where that takes root. Raises: ConfigError."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        added = subprocess.run(
            [
                *("/usr/sbin/useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"),
                *("--shell", "/usr/sbin/nologin", name),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        try:
            entry = pwd.getpwnam(name)  # Another fleet may have added it at the same moment.
        except KeyError as err:
            raise ConfigError(f"Cannot add the system user {name}: {added.stderr.strip()[-200:]}") from err
    return entry.pw_uid, entry.pw_gid
