"""A database of a test's own, whose clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

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


class SimulatedDatabase:
    """An empty database, migrated. Time stands still in it until it is moved."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)

    @classmethod
    @contextmanager
    def on(cls, server_url: str) -> Iterator[SimulatedDatabase]:
        """One on that server, until the end of the block."""
        name = "simulated_" + new_id().replace("-", "")
        url = f"{server_url.rpartition('/')[0]}/{name}"
        _run(server_url, f"CREATE DATABASE {name}", f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
        try:
            _run(url, CLOCK)
            migrate(url, post=True)
            simulated = cls(url)
            yield simulated
            simulated.database.close()
        finally:
            _run(server_url, f"DROP DATABASE {name} WITH (FORCE)")

    def advance(self, **units: float) -> None:
        """Let time pass: `advance(seconds=3)`."""
        self.database.statement("UPDATE clock SET at = at + %s", (timedelta(**units),))


def _run(url: str, *statements: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()
