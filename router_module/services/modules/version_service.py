"""Versions of community modules: their commands, kept for good, for the communities that choose one (contracts §6)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2.extras import Json, execute_values
from pydal import DAL
from waddlebot.base.contracts import CommandSpec, VersionRegistration
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.base.manifest import find_manifest
from waddlebot.base.text import fold
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.module.package import ANYBODYS, Version

from ..engines.execution_engine import RemoteEngine
from ..engines.webhook_secrets import WebhookSecrets
from ..rules.listeners import check_listeners


class VersionTaken(Conflict):
    """That version has other commands already, and a version is for good. Publish a new one."""

    code = "version_immutable"


class NameTaken(Conflict):
    """A module that is no community module has that name."""

    code = "name_taken"


class UnknownVersion(NotFound):
    """That version of the module is not registered."""

    code = "unknown_version"


class CommandTaken(Conflict):
    """Another module that is on there has a command of that name."""

    code = "command_taken"


class VersionService:
    def __init__(self, db: Database, bus: Bus, *, engines: Mapping[str, RemoteEngine], secrets: WebhookSecrets) -> None:
        self._db = db
        self._bus = bus
        self._engines = engines
        self._secrets = secrets
        # Set when code was registered that this fleet runs itself.
        self.wake_host = threading.Event()

    def register(self, module_name: str, version: str, wanted: VersionRegistration) -> dict[str, Any]:
        """Keep a version's commands. The same again changes nothing; who has webhooks is told their secret once.

        Raises: VersionTaken; NameTaken; Invalid for a command that could never run here.
        """
        for spec in wanted.commands:
            if spec.type != "local":  # Its host looks at the package itself.
                self._engines[spec.type].check(spec)
        check_listeners(wanted.commands)
        said = wanted.model_dump_json(exclude={"rotate_webhook_secret"})
        digest = hashlib.sha256(said.encode()).hexdigest()
        secret = None
        with self._db.transaction() as db:
            _check_name(db, module_name)
            is_new = _keep(db, module_name, version, digest, wanted)
            if any(spec.type == "webhook" for spec in wanted.commands):
                fetch(
                    db,
                    "INSERT INTO collector_modules (module_name, module_version, endpoint_url, status)"
                    " VALUES (%s, %s, '', 'published') ON CONFLICT (module_name) DO NOTHING",
                    (module_name, version),
                )
                secret = self._secrets.issue(db, module_name, rotate=wanted.rotate_webhook_secret)
        if secret is not None:
            self._secrets.forget(module_name)
        if any(spec.type == "local" for spec in wanted.commands):
            self.wake_host.set()
        answer = {"success": True, "module_name": module_name, "version": version, "duplicate": not is_new}
        return answer | ({"webhook_secret": secret} if secret else {})

    def needs_host(self) -> bool:
        """Whether there is code that this fleet runs itself, installed or not: somebody may install it at any moment,
        and tries it at once."""
        return bool(self._db.statement("SELECT 1 AS found FROM commands WHERE type = 'local' LIMIT 1"))


def _check_name(db: DAL, module_name: str) -> None:
    taken = fetch(db, "SELECT FROM commands WHERE module_name = %s AND for_version = '' LIMIT 1", (module_name,))
    if taken or find_manifest(module_name) is not None:
        raise NameTaken(f"{module_name} is the name of a module of this fleet.")


def _keep(db: DAL, module_name: str, version: str, digest: str, wanted: VersionRegistration) -> bool:
    """True when it was not there. Raises: VersionTaken."""
    made = fetch_one(
        db,
        "INSERT INTO registered_versions (module_name, version, digest, permissions, settings)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (module_name, version) DO NOTHING RETURNING id",
        (module_name, version, digest, wanted.permissions, Json([each.model_dump() for each in wanted.settings])),
    )
    if made is None:
        known = fetch_one(
            db,
            "SELECT digest FROM registered_versions WHERE module_name = %s AND version = %s",
            (module_name, version),
        )
        if known is None or known["digest"] != digest:
            raise VersionTaken(f"{module_name} {version} has other commands already. Publish a new version.")
        return False
    if wanted.commands:
        execute_values(
            db._adapter.cursor,
            "INSERT INTO commands (command, prefix, description, usage, level, scope, location_url, location, type,"
            " method, timeout, headers, rate_limit, is_active, module_type, module_name, version, for_version,"
            " trigger_type, event_types, priority, execution_mode, subcommands, shared, listen, secret) VALUES %s",
            [_row(spec, module_name, version) for spec in wanted.commands],
        )
    return True


def _row(spec: CommandSpec, module_name: str, version: str) -> tuple[Any, ...]:
    return (
        fold(spec.command),
        spec.prefix,
        spec.description,
        spec.usage,
        spec.level,
        spec.scope,
        spec.location_url,
        "community",
        spec.type,
        spec.method,
        spec.timeout,
        Json(spec.headers),
        spec.rate_limit,
        False,  # For nobody but those who choose this version.
        "community",
        module_name,
        version,
        version,
        spec.trigger_type,
        Json([each.value for each in spec.event_types]),
        spec.priority,
        spec.execution_mode,
        Json([each.model_dump() for each in spec.subcommands]),
        spec.shared,
        Json([each.model_dump() for each in spec.listen]),
        spec.secret,
    )


# What has a command of a version's names and is on where that is to be, but for what steps aside for it anyway, and for
# words that are anybody's and have the other prefix.
IN_THE_WAY = """
WITH wanted AS (
    SELECT command, prefix FROM commands
    WHERE module_name = %(module)s AND for_version = %(version)s AND trigger_type <> 'event'
)
SELECT DISTINCT c.module_name, c.prefix || c.command AS command FROM commands c JOIN wanted w USING (command)
    LEFT JOIN module_switches here ON here.community_id = %(community)s AND here.module_name = c.module_name
        AND here.entity_id = %(entity)s
    LEFT JOIN module_switches everywhere ON everywhere.community_id = %(community)s
        AND everywhere.module_name = c.module_name AND everywhere.entity_id IS NULL
WHERE c.module_name <> %(module)s AND c.is_active AND c.trigger_type <> 'event'
    AND (c.prefix = w.prefix OR c.command <> ALL(%(anybodys)s))
    AND coalesce(here.enabled, everywhere.enabled, c.module_type = 'core')
UNION
SELECT DISTINCT c.module_name, c.prefix || c.command FROM commands c JOIN wanted USING (command)
    JOIN module_switches s ON s.community_id = %(community)s AND s.module_name = c.module_name
        AND s.version = c.for_version AND s.enabled AND (%(entity)s::text IS NULL OR s.entity_id IS NULL
            OR s.entity_id = %(entity)s)
WHERE c.module_name <> %(module)s AND c.for_version <> '' AND c.trigger_type <> 'event'
ORDER BY 1
"""


def check_version(
    db: DAL, community_id: int, entity_id: str | None, module_name: str, version: str, replaces: Sequence[str]
) -> None:
    """Whether a version can be chosen somewhere. Whoever chooses another one in this community waits for the end of
    this transaction.

    Raises: UnknownVersion; CommandTaken, naming `by` and the command.
    """
    fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('modules of ' || %s, 0))", (str(community_id),))
    where = {"community": community_id, "entity": entity_id, "module": module_name, "version": version}
    known = fetch(
        db,
        "SELECT FROM registered_versions WHERE module_name = %(module)s AND version = %(version)s",
        where,
    )
    if not known:
        raise UnknownVersion(f"There is no version {version[:40]} of {module_name}.")
    for row in fetch(db, IN_THE_WAY, {**where, "anybodys": list(ANYBODYS)}):
        if row["module_name"] not in replaces:
            raise CommandTaken(
                f"{row['command']} is a command of {row['module_name']} there.",
                by=row["module_name"],
                command=row["command"],
            )


def version_of(text: str) -> str:
    """Raises: ValueError."""
    return str(Version.parse(text))
