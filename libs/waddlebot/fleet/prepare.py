"""Check the settings, then migrate and bootstrap a fleet's database: `python -m waddlebot.fleet.prepare HOME MODULE,…`.

It says a line once the settings are good, and is then told the database's URL and the superuser's, if there is one, who
makes the first one's role the owner. What takes time to load is loaded while the servers start.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..base.errors import ConfigError
from ..base.settings import check_what_is_set


def main(home: str, names: str) -> int:
    try:
        check_what_is_set()
        print(flush=True)  # noqa: T201 - the supervisor waits for it
        prepare(Path(home), names.split(","))
    except ConfigError as err:
        print(f"waddlebot: {err.message}", file=sys.stderr)  # noqa: T201 - the supervisor reads it
        return 1
    return 0


def prepare(home: Path, names: list[str]) -> None:
    from ..base.manifest import find_manifest
    from ..data.database import Database
    from ..data.migrate import migrate
    from ..data.roles import ensure_owner
    from .bootstrap import bootstrap
    from .home import Home

    url, superuser_url = (sys.stdin.readline().strip() for _ in range(2))
    if not url:  # There is nobody any more who wants it.
        return
    if superuser_url:
        ensure_owner(superuser_url, url)
    migrate(url, post=True)
    database = Database(url)
    with database.transaction() as db:
        bootstrap(db, Home(home).load_secrets()[0], [each for name in names if (each := find_manifest(name))])
    database.close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
