"""A database of a test's own, whose clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import psycopg2

from ..base.ids import new_id
from ..data.database import Database
from ..data.migrate import migrate

# PostgreSQL looks into pg_catalog first, unless the path says otherwise: so whatever asks for now() gets this one.
CLOCK = """
CREATE TABLE clock (at timestamptz NOT NULL);
INSERT INTO clock VALUES (pg_catalog.now());
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM public.clock';
"""
_SEARCH_PATH = "ALTER DATABASE {} SET search_path = public, pg_catalog"


class SimulatedDatabase:
    """An empty database, migrated. Time stands still in it until it is moved."""

    def __init__(self, server_url: str, name: str) -> None:
        self.server_url = server_url
        self.name = name
        self.url = _url_of(server_url, name)
        self.database = Database(self.url)

    @classmethod
    @contextmanager
    def on(cls, server_url: str) -> Iterator[SimulatedDatabase]:
        """One on that server, until the end of the block."""
        template, name = _template(server_url), "simulated_" + new_id().replace("-", "")
        _run(server_url, f"CREATE DATABASE {name} TEMPLATE {template}", _SEARCH_PATH.format(name))
        try:
            simulated = cls(server_url, name)
            simulated.database.statement("UPDATE clock SET at = pg_catalog.now()")
            yield simulated
            simulated.database.close()
        finally:
            _run(server_url, f"DROP DATABASE {name} WITH (FORCE)")

    def lose(self) -> None:
        """End all connections to it, and let it take no new ones until it is restored."""
        _run(
            self.server_url,
            f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'",
        )

    def restore(self) -> None:
        _run(self.server_url, f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")
        self.database.close()  # What is left of the connections from before is of no use.

    def advance(self, **units: float) -> None:
        """Let time pass: `advance(seconds=3)`."""
        self.database.statement("UPDATE clock SET at = at + %s", (timedelta(**units),))


@cache
def _template(server_url: str) -> str:
    """What the databases of that server are copied from: to migrate each of them would cost twenty times as much."""
    name = "simulated"
    _run(server_url, f"CREATE DATABASE {name}", _SEARCH_PATH.format(name))
    url = _url_of(server_url, name)
    _run(url, CLOCK)
    migrate(url, post=True)
    return name


def _url_of(server_url: str, name: str) -> str:
    return f"{server_url.rpartition('/')[0]}/{name}"


def _run(url: str, *statements: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()
