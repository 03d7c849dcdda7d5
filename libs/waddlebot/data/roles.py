"""Whose the database is: a role that owns all there is in it and can do nothing outside of it (docs/adr/0032)."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class
from psycopg2.extensions import encrypt_password

from ..base.errors import ConfigError

# Superusers read and write files and run programs as PostgreSQL's user: COPY … FROM PROGRAM. Owners do not.
RIGHTS = sql.SQL("LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS")
# What is somebody else's, as the statement that hands it over. What a table or an extension brings along follows it.
OTHERS = """
SELECT format('ALTER TABLE %%s OWNER TO %%I', c.oid::regclass, %(role)s) FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
    AND c.relowner <> %(role)s::regrole
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
        AND d.deptype IN ('a', 'i', 'e') AND d.refclassid IN ('pg_class'::regclass, 'pg_extension'::regclass))
UNION ALL
SELECT format('ALTER ROUTINE %%s OWNER TO %%I', p.oid::regprocedure, %(role)s) FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND p.proowner <> %(role)s::regrole
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
        AND d.deptype = 'e')
UNION ALL
SELECT format('ALTER TYPE %%s OWNER TO %%I', t.oid::regtype, %(role)s) FROM pg_type t
WHERE t.typnamespace = 'public'::regnamespace AND t.typowner <> %(role)s::regrole AND t.typtype IN ('e', 'd')
UNION ALL
SELECT format('ALTER SCHEMA public OWNER TO %%I', %(role)s) FROM pg_namespace
WHERE nspname = 'public' AND nspowner <> %(role)s::regrole
UNION ALL
SELECT format('ALTER DATABASE %%I OWNER TO %%I', datname, %(role)s) FROM pg_database
WHERE datname = current_database() AND datdba <> %(role)s::regrole
"""


def ensure_owner(superuser_url: str, owner_url: str) -> int:
    """Have the role of `owner_url` own the database and all that is in it, as its password says. All or nothing.

    Returns how many things changed hands: none at the second start. Raises: ConfigError when the database does not
    answer.
    """
    parts = urlsplit(owner_url)
    role, password = unquote(parts.username or ""), unquote(parts.password or "")
    try:
        connection = psycopg2.connect(superuser_url, connect_timeout=5)
    except psycopg2.OperationalError as err:
        raise ConfigError(f"The database does not answer: {str(err).strip().splitlines()[-1]}") from err
    try:
        with connection, connection.cursor() as cursor:
            _ensure_role(cursor, role, password)
            cursor.execute(OTHERS, {"role": role})
            statements = [row[0] for row in cursor.fetchall()]
            for statement in statements:
                cursor.execute(statement)
            return len(statements)
    finally:
        connection.close()


def _ensure_role(cursor: Cursor, role: str, password: str) -> None:
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
    do = sql.SQL("ALTER ROLE") if cursor.fetchone() else sql.SQL("CREATE ROLE")
    # Hashed here, so that the password is in no log of the server's.
    hashed = encrypt_password(password, role, cursor.connection, "scram-sha-256")
    cursor.execute(sql.SQL("{} {} {} PASSWORD {}").format(do, sql.Identifier(role), RIGHTS, sql.Literal(hashed)))
