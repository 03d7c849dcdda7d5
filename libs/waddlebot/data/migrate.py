"""The only thing that changes the schema: ordered SQL files, applied once, under an advisory lock.

`migrations/<owner>/NNNN_(pre|post)_name.sql`; `pre` works with the code that runs now, `post` only with the new code.
Each file is one transaction, unless its first line is `-- outside a transaction`: then it is one statement, such as
CREATE INDEX CONCURRENTLY, that may be run again after a crash in its midst. Numbers are unique for each owner.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from ..base.errors import ConfigError
from ..base.logs import redact
from .replica import reason_of

FOLDER = Path(__file__).parent / "migrations"
FILE_NAME = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")
# Any number works as long as nobody else uses it: this is "waddle" on a telephone keypad.
LOCK = 923353
LOOK_EVERY_S = 0.1
LOCK_TIMEOUT = "10s"
OUTSIDE = "-- outside a transaction\n"
# Applied under another name, in homes of long ago.
RENAMED = {
    "core/0002_pre_reputation": "core/0003_pre_reputation",
    "router/0002_pre_retention": "router/0005_pre_retention",
}
# As they were applied in homes of before the library had rooms: a comment named another module.
EARLIER = {
    "slack/0001_pre_slack": "246a7e8b6aea20a365dd3c670f3fb208259e4a6301642327a83e4738eedf5407",
    "twitch/0002_pre_oauth": "c1ef27f1070373be988624c15be687ac4347419912eef9627a3d5ab635e2796c",
}


@dataclass(frozen=True, slots=True)
class Migration:
    owner: str
    name: str
    phase: str
    sql: str

    @property
    def key(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def list_migrations(folder: Path = FOLDER) -> list[Migration]:
    """Every migration in order: the shared tables first, because the modules' refer to them."""
    found = []
    for path in sorted(folder.glob("*/*.sql"), key=lambda p: (p.parent.name != "core", p.parent.name, p.name)):
        match = FILE_NAME.fullmatch(path.name)
        if not match:
            raise ConfigError(f"{path}: a migration is named NNNN_pre_what.sql or NNNN_post_what.sql.")
        found.append(Migration(path.parent.name, path.stem, match[2], path.read_text(encoding="utf-8")))
    numbers = Counter((each.owner, each.name[:4]) for each in found)
    for (owner, number), count in numbers.items():
        if count > 1:
            raise ConfigError(f"Two migrations of {owner} have the number {number}.")
    return found


def _wait_for_lock(connection: psycopg2.extensions.connection) -> None:
    """Wait until no other migrator is at it. Asked again and again: a statement that waits would hold a snapshot, and
    CREATE INDEX CONCURRENTLY waits for those in turn."""
    while True:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
            (is_ours,) = cursor.fetchone() or (False,)
        if is_ours:
            return
        time.sleep(LOOK_EVERY_S)


def migrate(url: str, *, post: bool, folder: Path = FOLDER) -> list[str]:
    """Apply what is missing and return its names. Replicas of the migrator wait for each other.

    Raises: ConfigError when the database does not answer, or an applied file was edited afterwards.
    """
    try:
        connection = psycopg2.connect(re.sub(r"^postgres[23]?:", "postgresql:", url), connect_timeout=5)
    except psycopg2.OperationalError as err:
        raise ConfigError(f"The database at {redact(url)} does not answer: {reason_of(err)}") from err
    try:
        _wait_for_lock(connection)
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations ("
                " name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            for old, new in RENAMED.items():
                cursor.execute("UPDATE schema_migrations SET name = %s WHERE name = %s", (new, old))
            cursor.execute("SELECT name, checksum FROM schema_migrations")
            applied = dict(cursor.fetchall())
        return [each.key for each in list_migrations(folder) if _apply(connection, each, applied, post=post)]
    finally:
        connection.close()


def _apply(connection: psycopg2.extensions.connection, each: Migration, applied: dict[str, str], *, post: bool) -> bool:
    if each.key in applied:
        if applied[each.key] not in (each.checksum, EARLIER.get(each.key)):
            raise ConfigError(f"Migration {each.key} was edited after it was applied. Write a new one instead.")
        return False
    if each.phase == "post" and not post:
        return False
    if each.sql.startswith(OUTSIDE):
        _run_outside(connection, each.sql)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
        if not each.sql.startswith(OUTSIDE):
            cursor.execute(each.sql)
        cursor.execute("INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)", (each.key, each.checksum))
    return True


def _run_outside(connection: psycopg2.extensions.connection, sql: str) -> None:
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
    finally:
        connection.autocommit = False
