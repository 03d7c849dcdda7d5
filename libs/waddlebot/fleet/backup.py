"""`waddlebot backup` and `restore`: a whole fleet as one sealed file, and back again.

The file is a tar, sealed by a passphrase: what it is (manifest.json), the home's secrets, and the database as pg_dump
has it, pictures and sounds of alerts included. The dump and the sums of all tables are of one snapshot, so a backup is
taken while the fleet works, and a restore is looked over by the same sums.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

from ..base.chat import count_of
from ..base.errors import ConfigError
from ..data.migrate import list_migrations
from ..data.replica import reason_of
from ..data.roles import ensure_owner
from .embedded import PostgresServer, postgres_binaries
from .home import Home, Secrets, write_private
from .sealed import Sealing, opened

FORMAT = 1
MANIFEST, SECRETS, DUMP = "manifest.json", "secrets.json", "database.dump"
# Keys that an operator may keep in the environment instead of in the home.
KEYS = ("WADDLEBOT_ENCRYPTION_KEYS", "WADDLEBOT_ACTOR_KEY")
Say = Callable[[str], None]


def backup(home: Home, file: Path, passphrase: str, say: Say) -> None:
    """Write a whole fleet into a file; it may go on working.

    Raises: ConfigError, and then there is no file.
    """
    if file.exists():
        raise ConfigError(f"{file} is there already; give the backup another name.")
    partial = file.with_name(f".{file.name}.partial")
    try:
        with _database_of(home) as url, tempfile.TemporaryDirectory(prefix="waddlebot-") as folder:
            dump = Path(folder) / DUMP
            manifest = _dump(url, dump, say)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                with Sealing(out, passphrase) as sealed, tarfile.open(fileobj=sealed, mode="w|") as archive:
                    _add(archive, MANIFEST, json.dumps(manifest).encode())
                    _add(archive, SECRETS, json.dumps(_secrets_of(home)).encode())
                    archive.add(dump, DUMP)
                out.flush()
                os.fsync(out.fileno())
        partial.replace(file)
    except OSError as err:
        raise ConfigError(f"Cannot write {file}: {err.strerror}.") from err
    finally:
        partial.unlink(missing_ok=True)
    say(f"Wrote {file}, {file.stat().st_size:,} bytes. Only the passphrase opens it; keep that apart from it.")


def restore(home: Home, file: Path, passphrase: str, say: Say, *, force: bool) -> None:
    """Make a home, or the database of DATABASE_URL, what it was. What was there before is replaced only by `force`.

    Raises: ConfigError; nothing is changed before the whole file was read and found to be good.
    """
    home.open()  # Not while a fleet runs in it.
    try:
        _restore(home, file, passphrase, say, force=force)
    finally:
        home.close()


# Requests to forget somebody that the next start makes once more.
OWED = "erasures.json"


def _restore(home: Home, file: Path, passphrase: str, say: Say, *, force: bool) -> None:
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=home.path) as folder:
        manifest, secrets = _unpack(file, passphrase, Path(folder))
        say(f"{file} is of {manifest['made_at']}, {sum(rows for rows, _ in manifest['tables'].values()):,} rows.")
        _check_schema(manifest)
        _check_empty(home, force=force)
        forgotten = _forgotten_since(home)
        made = Secrets(**secrets["home"]) if secrets["home"] else home.load_secrets()[0]
        _set_aside(home, say)
        home.save_secrets(made)
        with _new_database(home, made, force=force) as url:
            _load(url, Path(folder) / DUMP)
            _check_sums(url, manifest)
            say(f"Restored {len(manifest['tables'])} tables; their rows and sums are as they were.")
            owed = _owed(url, forgotten)
    if owed:
        write_private(home.path / OWED, json.dumps(owed))
        say(f"Newer than the backup: {count_of(len(owed), 'request')} to forget somebody. The next start fulfils that.")
    for name, value in secrets["environment"].items():
        if os.environ.get(name) != value:
            # Without it nothing that is sealed in the database can be opened; it is needed once, by whoever restores.
            write_private(home.path / f"{name}.restored", value + "\n")
            say(f"That fleet had {name} in its environment; it is in {home.path / f'{name}.restored'} now. Set it.")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _secrets_of(home: Home) -> dict[str, Any]:
    made, is_new = home.load_secrets()
    return {
        "home": None if is_new else asdict(made),
        "environment": {name: os.environ[name] for name in KEYS if os.environ.get(name)},
    }


@contextlib.contextmanager
def _database_of(home: Home) -> Iterator[str]:
    """The database of a home, which is started for as long as it is needed where no fleet runs."""
    running = home.find_running()
    url = os.environ.get("DATABASE_URL") or (running.environment["DATABASE_URL"] if running else "")
    if url:
        yield url
        return
    if not (home.path / "postgres" / "data" / "PG_VERSION").exists():
        raise ConfigError(f"There is no fleet in {home.path} to be backed up.")
    home.open()
    try:
        with _started(home, home.load_secrets()[0]) as server:
            yield server.owner_url
    finally:
        home.close()


@contextlib.contextmanager
def _started(home: Home, made: Secrets) -> Iterator[PostgresServer]:
    folder = home.path / "postgres"
    server = PostgresServer(folder, made.database_password, owner_password=made.database_owner_password)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _dump(url: str, dump: Path, say: Say) -> dict[str, Any]:
    """pg_dump and the sums of all tables, both of one moment. Returns the manifest."""
    with _connected(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SELECT pg_export_snapshot(), current_setting('server_version')")
        snapshot, version = cursor.fetchone() or ("", "")
        options = ["--format=custom", "--no-owner", "--no-acl", f"--snapshot={snapshot}", f"--file={dump}"]
        _run("pg_dump", url, options)
        tables = _sums(connection)
        cursor.execute("SELECT name, checksum FROM schema_migrations")
        migrations = dict(cursor.fetchall())
    say(f"Read {len(tables)} tables, {sum(rows for rows, _ in tables.values()):,} rows, of one moment.")
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "postgresql": version,
        "migrations": migrations,
        "tables": tables,
        "dump_sha256": _sha256(dump),
    }


def _sums(connection: Connection) -> dict[str, tuple[int, str]]:
    """Of each table how many rows it has, and what they add up to."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL TimeZone = 'UTC'")
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        tables = [name for (name,) in cursor.fetchall()]
        sums = {}
        for name in tables:
            query = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {} AS t"
            cursor.execute(sql.SQL(query).format(sql.Identifier("public", name)))
            rows, total = cursor.fetchone() or (0, "0")
            sums[name] = (rows, total)
    return sums


def _unpack(file: Path, passphrase: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the secrets; the dump goes into the folder. Raises: ConfigError."""
    plain = folder / "backup.tar"
    try:
        with file.open("rb") as sealed, os.fdopen(os.open(plain, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
            for piece in opened(sealed, passphrase):
                out.write(piece)
        with tarfile.open(plain) as archive:
            archive.extractall(folder, members=[archive.getmember(n) for n in (MANIFEST, SECRETS, DUMP)], filter="data")
    except OSError as err:
        raise ConfigError(f"Cannot read {file}: {err.strerror}.") from err
    except (tarfile.TarError, KeyError) as err:
        raise ConfigError(f"{file} is not a whole backup.") from err
    finally:
        plain.unlink(missing_ok=True)
    manifest = json.loads((folder / MANIFEST).read_text())
    secrets = json.loads((folder / SECRETS).read_text())
    (folder / SECRETS).unlink()
    if manifest["format"] != FORMAT:
        raise ConfigError(
            f"{file} is of form {manifest['format']}; this WaddleBot reads {FORMAT}. Bring it up to date."
        )
    if _sha256(folder / DUMP) != manifest["dump_sha256"]:
        raise ConfigError(f"{file} is damaged: its database has another checksum.")
    return manifest, secrets


def _check_schema(manifest: Mapping[str, Any]) -> None:
    """Raises: ConfigError for a backup of a newer WaddleBot."""
    known = {each.key for each in list_migrations()}
    newer = sorted(set(manifest["migrations"]) - known)
    if newer:
        raise ConfigError(
            f"That backup is of a newer WaddleBot: {newer[0]} and {len(newer) - 1} more changes of the schema are not"
            " known here. Bring this one up to date first. Nothing was changed."
        )


def _check_empty(home: Home, *, force: bool) -> None:
    """Raises: ConfigError where something would be lost."""
    if force:
        return
    if url := os.environ.get("DATABASE_URL"):
        with _connected(url) as connection:
            if _sums(connection):
                raise ConfigError("The database of DATABASE_URL is not empty. --force replaces what is in it.")
    elif (home.path / "postgres" / "data").exists() or home.secrets_path.exists():
        raise ConfigError(f"There is a fleet in {home.path} already. --force puts it aside and this in its place.")


def _set_aside(home: Home, say: Say) -> None:
    data = home.path / "postgres" / "data"
    mark = f"before-{datetime.now(UTC):%Y%m%d%H%M%S}"
    if home.secrets_path.exists():
        shutil.copy2(home.secrets_path, home.secrets_path.with_name(f"secrets.{mark}.json"))
    if data.exists() and not os.environ.get("DATABASE_URL"):
        data.rename(data.with_name(f"data.{mark}"))
        say(f"What was there is {data.with_name(f'data.{mark}')} now; delete it when you are sure.")


@contextlib.contextmanager
def _new_database(home: Home, made: Secrets, *, force: bool) -> Iterator[str]:
    if url := os.environ.get("DATABASE_URL"):
        if force:
            with _connected(url) as connection, connection.cursor() as cursor:
                cursor.execute("DROP SCHEMA public CASCADE")
                cursor.execute("CREATE SCHEMA public")
        yield url
        return
    with _started(home, made) as server:
        ensure_owner(server.url, server.owner_url)
        yield server.owner_url


def _load(url: str, dump: Path) -> None:
    _run("pg_restore", url, ["--no-owner", "--no-acl", "--exit-on-error", "--single-transaction", str(dump)])


def _check_sums(url: str, manifest: Mapping[str, Any]) -> None:
    """Raises: ConfigError, naming the tables that are not as they were."""
    with _connected(url) as connection:
        now = _sums(connection)
    wrong = sorted(name for name, was in manifest["tables"].items() if now.get(name) != tuple(was))
    if wrong:
        raise ConfigError(f"These tables are not as they were: {', '.join(wrong)}. Do not use this database.")


def _forgotten_since(home: Home) -> list[dict[str, Any]]:
    """What the database that is to be replaced was asked to forget, so that no backup brings it back."""
    if not os.environ.get("DATABASE_URL") and not (home.path / "postgres" / "data" / "PG_VERSION").exists():
        return []
    with _database_of_old(home) as url, _connected(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('public.erase_requests') IS NOT NULL")
        if cursor.fetchone() != (True,):
            return []
        cursor.execute("SELECT DISTINCT request_id, id_hashes, community_id FROM erase_requests")
        return [{"request_id": row[0], "id_hashes": row[1], "community_id": row[2]} for row in cursor.fetchall()]


@contextlib.contextmanager
def _database_of_old(home: Home) -> Iterator[str]:
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    with _started(home, home.load_secrets()[0]) as server:
        yield server.owner_url


def _owed(url: str, forgotten: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The requests that the restored database does not know, with the people of them that it has."""
    if not forgotten:
        return []
    with _connected(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT request_id FROM erase_requests")
        known = {row[0] for row in cursor.fetchall()}
        cursor.execute(
            "SELECT encode(sha256(convert_to(platform || ':' || platform_user_id, 'UTF8')), 'hex'),"
            " platform || ':' || platform_user_id FROM platform_identities"
        )
        people = dict(cursor.fetchall())
    owed = []
    for each in forgotten:
        identities = [people[mark] for mark in each["id_hashes"] if mark in people]
        if each["request_id"] not in known and identities:
            request = {"request_id": each["request_id"], "identities": identities}
            owed.append({**request, "community_id": each["community_id"]})
    return owed


def _run(program: str, url: str, options: Sequence[str]) -> None:
    """A program of PostgreSQL's; the password is in nobody's list of processes. Raises: ConfigError."""
    parts = urlsplit(url)
    environment = {
        **os.environ,
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
    }
    target = [f"--dbname={environment['PGDATABASE']}"]
    done = subprocess.run(
        [postgres_binaries() / program, *target, *options], env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise ConfigError(f"{program} failed: {lines[0]}")


@contextlib.contextmanager
def _connected(url: str) -> Iterator[Connection]:
    try:
        connection = psycopg2.connect(url, connect_timeout=5)
    except psycopg2.OperationalError as err:
        raise ConfigError(f"The database does not answer: {reason_of(err)}") from err
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
