"""Modules and their commands: who registered, what they answer to, and whether they are alive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from psycopg2.extras import execute_values
from pydal import DAL
from pydantic import BaseModel
from waddlebot.base.contracts import CommandSpec, Heartbeat, ModuleRegistration
from waddlebot.base.errors import NotAllowed, NotFound, UpstreamError
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.logs import AAALog
from waddlebot.base.manifest import find_manifest
from waddlebot.base.text import fold
from waddlebot.community.places import check_place
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.module.service import HEARTBEAT_EVERY_S
from waddlebot.web.auth import Account
from waddlebot.web.lists import Page, fetch_page, list_answer

from ..catalogue.cache_manager import COMMANDS, CacheManager, UnknownEntity
from ..engines.execution_engine import RemoteEngine
from ..engines.webhook_secrets import WebhookSecrets
from ..rules.listeners import check_listeners
from ..rules.rule_book import RuleBook
from .addresses import ModuleAddresses

# Three heartbeats, and a little.
STALE_AFTER = timedelta(seconds=3 * HEARTBEAT_EVERY_S + 5)
FORGOTTEN_AFTER = timedelta(days=1)


class UnknownModule(NotFound):
    """That module is not registered. Register it first."""

    code = "unknown_module"


class Registry:
    def __init__(
        self,
        db: Database,
        bus: Bus,
        addresses: ModuleAddresses,
        *,
        engines: Mapping[str, RemoteEngine],
        secrets: WebhookSecrets,
        book: RuleBook,
        lookups: CacheManager,
        log: AAALog,
    ) -> None:
        self._log = log
        self._lookups = lookups
        self._book = book
        self._engines = engines
        self._secrets = secrets
        self._db = db
        self._bus = bus
        self._addresses = addresses

    def register(self, registration: ModuleRegistration, caller: Account) -> dict[str, Any]:
        """Take a module's commands as they are now; commands that it no longer has are switched off.

        Whoever has webhooks is told what their calls are signed with, once, when it is made.

        Raises: NotAllowed for another module's name or an address outside the fleet; Invalid for a command that could
        never run here.
        """
        self._check_owner(registration.module_name, caller)
        if registration.platform:
            caller.check_platform(registration.platform)
        self._check_address(registration)
        for spec in registration.commands:
            self._engines[spec.type].check(spec)
        check_listeners(registration.commands)
        has_webhooks = any(spec.type == "webhook" for spec in registration.commands)
        secret = None
        with self._db.transaction() as db:
            fetch(
                db,
                "INSERT INTO collector_modules (module_name, module_version, platform, endpoint_url, health_check_url,"
                " settings, credentials, reads) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (module_name) DO UPDATE SET"
                " module_version = excluded.module_version, platform = excluded.platform,"
                " endpoint_url = excluded.endpoint_url, health_check_url = excluded.health_check_url,"
                " settings = excluded.settings, credentials = excluded.credentials, reads = excluded.reads,"
                " active_in = '{}',"
                " status = 'registered', last_heartbeat = now(), updated_at = now()",
                (
                    registration.module_name,
                    registration.module_version,
                    registration.platform,
                    registration.endpoint_url,
                    registration.health_check_url,
                    _as_json(registration.settings),
                    _as_json(registration.credentials),
                    registration.reads,
                ),
            )
            before = _listeners(db, registration.module_name)
            self.save_commands(db, registration)
            has_other_listeners = _listeners(db, registration.module_name) != before
            if has_webhooks:
                secret = self._secrets.issue(db, registration.module_name, rotate=registration.rotate_webhook_secret)
        self._bus.invalidate(COMMANDS)
        if has_other_listeners:
            self._book.forget_all()
        answer = {"success": True, "module_name": registration.module_name, "commands": len(registration.commands)}
        if secret is None:
            return answer
        self._secrets.forget(registration.module_name)
        return {**answer, "webhook_secret": secret}

    def heartbeat(self, beat: Heartbeat, caller: Account) -> dict[str, Any]:
        """Raises: UnknownModule, after which the module registers anew."""
        self._check_owner(beat.module_name, caller)
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "UPDATE collector_modules m SET status = %s, last_heartbeat = now(),"
                " active_in = coalesce(%s::bigint[], before.active_in)"
                " FROM (SELECT id, status, active_in FROM collector_modules WHERE module_name = %s FOR UPDATE) before"
                " WHERE m.id = before.id RETURNING before.active_in AS before, m.active_in AS now,"
                " (before.status = 'unconfigured') <> (m.status = 'unconfigured') AS is_other",
                (beat.status, beat.active_in, beat.module_name),
            )
        if row is None:
            raise UnknownModule()
        if row["is_other"]:
            self._bus.invalidate(COMMANDS)
        elif changed := set(row["before"]) ^ set(row["now"]):
            self._bus.invalidate(COMMANDS, *changed)
        return {"success": True, "module_name": beat.module_name}

    def save_commands(self, db: DAL, registration: ModuleRegistration) -> None:
        if registration.commands:
            execute_values(
                db._adapter.cursor,
                "INSERT INTO commands (command, prefix, description, usage, level, scope, location_url, location, type,"
                " method, timeout, headers, rate_limit, module_type, module_name, version, trigger_type, event_types,"
                " priority, execution_mode, subcommands, shared, listen, events, secret) VALUES %s"
                " ON CONFLICT (module_name, for_version, prefix, command) DO UPDATE SET"
                " description = excluded.description, usage = excluded.usage, level = excluded.level,"
                " scope = excluded.scope, location_url = excluded.location_url, location = excluded.location,"
                " type = excluded.type, method = excluded.method, timeout = excluded.timeout,"
                " headers = excluded.headers, rate_limit = excluded.rate_limit, version = excluded.version,"
                " trigger_type = excluded.trigger_type, event_types = excluded.event_types,"
                " priority = excluded.priority, execution_mode = excluded.execution_mode,"
                " subcommands = excluded.subcommands, shared = excluded.shared,"
                " listen = excluded.listen, events = excluded.events, secret = excluded.secret,"
                " is_active = true, updated_at = now()",
                [_command_row(spec, registration) for spec in registration.commands],
            )
        fetch(
            db,
            "UPDATE commands SET is_active = false, updated_at = now()"
            " WHERE module_name = %s AND is_active AND prefix || command <> ALL(%s)",
            (registration.module_name, [spec.prefix + fold(spec.command) for spec in registration.commands]),
        )

    def note_stale(self) -> None:
        """Mark the modules that have missed three heartbeats; the next one that comes says otherwise."""
        rows = self._db.statement(
            "UPDATE collector_modules SET status = 'stale' WHERE status NOT IN ('stale', 'published', 'registered')"
            " AND last_heartbeat < now() - %s RETURNING module_name",
            (STALE_AFTER,),
        )
        for row in rows:
            self._log.system("module_stale", result="FAILED", stale=row["module_name"])

    def check_stale(self) -> str:
        """Say that all modules are heard. Raises: UpstreamError, naming who is not, for a day."""
        rows = self._db.statement(
            "SELECT module_name FROM collector_modules WHERE status = 'stale'"
            " AND last_heartbeat > now() - %s ORDER BY 1",
            (FORGOTTEN_AFTER,),
        )
        if rows:
            raise UpstreamError(f"{len(rows)} without a heartbeat", names=", ".join(row["module_name"] for row in rows))
        return "all modules are heard"

    def list_commands(
        self,
        caller: Account,
        *,
        prefix: str | None,
        module_name: str | None,
        platform: str | None,
        type: str | None,
        location: str | None,
        trigger_type: str | None,
        entity_id: str | None,
        page: Page,
    ) -> dict[str, Any]:
        """The commands that the caller may see, by name; whether they can be used at an entity, if one is named.

        Raises: UnknownEntity; NotAllowed.
        """
        usable = self._usable_at(caller, entity_id) if entity_id else None
        own = caller.only_module
        with self._db.lookup() as db:
            listed = fetch_page(
                partial(fetch, db),
                "SELECT prefix || command AS command, prefix, description, usage, level, scope, location, type,"
                " module_name, module_type, version, trigger_type, event_types, priority, execution_mode, rate_limit,"
                " subcommands, shared, listen, events, count(*) OVER () AS total FROM commands WHERE is_active"
                " AND (%(prefix)s::text IS NULL OR prefix = %(prefix)s)"
                " AND (%(module)s::text IS NULL OR module_name = %(module)s)"
                " AND (%(own)s::text IS NULL OR module_name = %(own)s)"
                " AND (%(type)s::text IS NULL OR type = %(type)s)"
                " AND (%(location)s::text IS NULL OR location = %(location)s)"
                " AND (%(trigger)s::text IS NULL OR trigger_type IN (%(trigger)s, 'both'))"
                " AND (%(platform)s::text IS NULL OR NOT EXISTS (SELECT FROM collector_modules m"
                "  WHERE m.module_name = commands.module_name AND m.platform <> %(platform)s))"
                " ORDER BY prefix, command, priority, id LIMIT %(limit)s OFFSET %(offset)s",
                {
                    "prefix": prefix,
                    "module": module_name,
                    "own": own,
                    "type": type,
                    "location": location,
                    "trigger": trigger_type,
                    "platform": platform,
                },
                page,
            )
        if usable is not None:
            for row in listed.rows:
                row["enabled"] = (row["module_name"], row["command"]) in usable
        return list_answer("commands", listed, page)

    def _usable_at(self, caller: Account, entity_id: str) -> set[tuple[str, str]]:
        check_place(self._db, caller, parse_entity_id(entity_id))
        rows = self._db.statement("SELECT community_id FROM entities WHERE entity_id = %s AND is_active", (entity_id,))
        if not rows:
            raise UnknownEntity(f"Nobody talks to the bot at {entity_id}.")
        catalogue = self._lookups.catalogue(rows[0]["community_id"])
        return {
            (each.module_name, each.name)
            for each in catalogue.usable(entity_id)
            if catalogue.is_enabled(each, entity_id)
        }

    def list_entities(self, caller: Account, *, platform: str | None, page: Page) -> dict[str, Any]:
        """The entities of the caller's platforms and community."""
        with self._db.lookup() as db:
            listed = fetch_page(
                partial(fetch, db),
                "SELECT entity_id, platform, server_id, channel_id, community_id, owner, is_active, created_at,"
                " count(*) OVER () AS total FROM entities WHERE is_active"
                " AND (%(platform)s::text IS NULL OR platform = %(platform)s)"
                " AND (%(platforms)s::text[] = '{}' OR platform = ANY(%(platforms)s))"
                " AND (%(community)s::bigint IS NULL OR community_id = %(community)s)"
                " ORDER BY entity_id LIMIT %(limit)s OFFSET %(offset)s",
                {
                    "platform": platform,
                    "platforms": sorted(caller.platforms),
                    "community": caller.community_id,
                },
                page,
            )
        return list_answer("entities", listed, page)

    @staticmethod
    def _check_owner(module_name: str, caller: Account) -> None:
        if caller.module_name != module_name:
            raise NotAllowed(f"Account {caller.name} is not of module {module_name}.")

    def _check_address(self, registration: ModuleRegistration) -> None:
        """The router shows its key to the address, so it must be the manifest's or one of MODULE_URLS."""
        containers = [spec for spec in registration.commands if spec.type == "container"]
        urls = {spec.location_url or registration.endpoint_url for spec in containers}
        if registration.endpoint_url:  # Who only has functions and webhooks has none.
            urls.add(registration.endpoint_url)
        name = registration.module_name
        for url in sorted(urls):
            if not self._addresses.are_of(name, url):
                raise NotAllowed(
                    f"{url[:200]} is not an address of module {name} in this fleet. Register its commands as webhooks,"
                    f" or have the operator add {name}=<its URL> to MODULE_URLS."
                )


def _command_row(spec: CommandSpec, registration: ModuleRegistration) -> tuple[Any, ...]:
    is_internal = spec.prefix == "!"
    return (
        fold(spec.command),
        spec.prefix,
        spec.description,
        spec.usage,
        spec.level,
        spec.scope,
        spec.location_url or registration.endpoint_url,
        "internal" if is_internal else "community",
        spec.type,
        spec.method,
        spec.timeout,
        json.dumps(spec.headers),
        spec.rate_limit,
        "core" if find_manifest(registration.module_name) else "community",
        registration.module_name,
        registration.module_version,
        spec.trigger_type,
        json.dumps([each.value for each in spec.event_types]),
        spec.priority,
        spec.execution_mode,
        json.dumps([each.model_dump() for each in spec.subcommands], ensure_ascii=False),
        spec.shared,
        json.dumps([each.model_dump() for each in spec.listen], ensure_ascii=False),
        spec.events.model_dump_json() if spec.events else None,
        spec.secret,
    )


def _listeners(db: DAL, module_name: str) -> list[dict[str, Any]]:
    """What a module listens for, and what decides whether and when it is told."""
    return fetch(
        db,
        "SELECT id, priority, module_type, listen FROM commands"
        " WHERE module_name = %s AND is_active AND listen <> '[]' ORDER BY id",
        (module_name,),
    )


def _as_json(specs: Sequence[BaseModel] | None) -> str | None:
    return None if specs is None else json.dumps([each.model_dump(mode="json") for each in specs], ensure_ascii=False)
