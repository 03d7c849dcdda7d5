"""Migrate and bootstrap a fleet's database: `python -m waddlebot.fleet.prepare HOME MODULE,…` with DATABASE_URL set.

With SUPERUSER_URL set the role of DATABASE_URL is made the owner first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..base.errors import ConfigError
from ..base.manifest import find_manifest
from ..data.database import Database
from ..data.migrate import migrate
from ..data.roles import ensure_owner
from .bootstrap import bootstrap
from .home import Home


def main(home: str, names: str) -> int:
    manifests = [manifest for name in names.split(",") if (manifest := find_manifest(name))]
    url = os.environ["DATABASE_URL"]
    try:
        if superuser_url := os.environ.get("SUPERUSER_URL"):
            ensure_owner(superuser_url, url)
        migrate(url, post=True)
        database = Database(url)
        with database.transaction() as db:
            bootstrap(db, Home(Path(home)).load_secrets()[0], manifests)
        database.close()
    except ConfigError as err:
        print(f"waddlebot: {err.message}", file=sys.stderr)  # noqa: T201 - the supervisor reads it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
