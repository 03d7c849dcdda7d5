"""What owners set: modules on, off or replaced, and who may use a command how often."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter
from waddlebot.base.contracts import Attributed, LevelName, ModuleName, Strict
from waddlebot.base.errors import NotAllowed, NotFound
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.terms import Cooldown, EventLabels, Label
from waddlebot.base.wire import validate
from waddlebot.community.communities import get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, SWITCHERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import whole_list_answer

from ..services.modules.switch_service import MAX_SUBJECTS, ModuleState, Scope, SwitchService

ShortText = Annotated[str, StringConstraints(max_length=255)]
Subjects = Annotated[list[ShortText], Field(max_length=MAX_SUBJECTS)]
NAME = TypeAdapter(ModuleName)


class ModuleSwitch(Attributed):
    """What is left out stays as it is, but for an empty body, which switches the module on."""

    enabled: bool | None = None
    replaced_by: ModuleName | None = None
    config: dict[str, Any] | None = None
    # Of a community module; chosen by the marketplace, which knows who may have it.
    version: ShortText | None = None
    # The modules whose commands it takes the place of there.
    replaces: list[ModuleName] = Field(default_factory=list, max_length=30)

    @property
    def state(self) -> ModuleState | None:
        if self.enabled is None and self.replaced_by is None and self.version is None and self.config is not None:
            return None
        return ModuleState(self.enabled is not False, self.replaced_by, self.version, self.replaces)

    def check_may(self, caller: Account) -> None:
        """Raises: NotAllowed."""
        may_choose = caller.is_service("marketplace") or (caller.is_admin and caller.actor is None)
        if (self.version or self.replaces) and not may_choose:
            raise NotAllowed("Versions are chosen by way of /marketplace/install.")


class PermissionConfig(Strict):
    """Uses a minute: `rate_limit` of everybody together, `user_rate_limit` of each person; 0 is no limit. The rest is
    who may use it when, how long it rests then, and by which labels' bearers an event has to come to be told to it."""

    rate_limit: int | None = Field(None, ge=0, le=100_000)
    user_rate_limit: int | None = Field(None, ge=0, le=100_000)
    cooldown_s: Cooldown | None = None
    cooldown_person_s: Cooldown | None = None
    cooldown_exempt: LevelName | Literal["nobody"] | None = None
    level: LevelName | None = None
    label: Label | None = None
    only_live: bool | None = None
    event_labels: EventLabels | None = None


class SubjectLists(Strict):
    """`role:<level>`, `user:<number>` or `<platform>:<user id>`. Denied counts before allowed."""

    allow: Subjects = Field(default_factory=list)
    deny: Subjects = Field(default_factory=list)


class CommandPermission(Attributed):
    """`command` is one such as !inventory, or * for all; `is_enabled` null leaves that to the community."""

    command: ShortText
    is_enabled: bool | None = None
    permissions: SubjectLists = Field(default_factory=SubjectLists)
    config: PermissionConfig = Field(default_factory=PermissionConfig)


class CommandQuery(Strict):
    command: ShortText


class ModulesQuery(Strict):
    """All of them, or one; `brief` leaves out what is set, and what may be."""

    module: ShortText | None = None
    brief: bool = False


@endpoint("GET", "/router/communities/<community>/modules", caller=ADMINS_OR_API_USERS, area="bot", query=ModulesQuery)
def list_community_modules(
    community: str, query: ModulesQuery, caller: Account, database: Database, switches: SwitchService
) -> dict[str, Any]:
    """List the modules and whether they are on in a community."""
    return _modules(switches.list_modules(_community(community, caller, database), query.module, brief=query.brief))


@endpoint("PUT", "/router/communities/<community>/modules/<name>", caller=SWITCHERS, area="bot", body=ModuleSwitch)
def set_community_module(
    community: str,
    name: str,
    switch: ModuleSwitch,
    caller: Account,
    database: Database,
    switches: SwitchService,
) -> dict[str, Any]:
    """Turn a module on or off in a community, or put another in its place."""
    return _set_module(_community(community, caller, database), name, switch, caller, switches)


@endpoint("DELETE", "/router/communities/<community>/modules/<name>", caller=SWITCHERS, area="bot")
def unset_community_module(
    community: str, name: str, caller: Account, database: Database, switches: SwitchService
) -> dict[str, Any]:
    """Let the default hold again for a module in a community."""
    return _unset_module(_community(community, caller, database), name, switches)


@endpoint("GET", "/router/entities/<entity_id>/modules", caller=ADMINS_OR_API_USERS, area="bot", query=ModulesQuery)
def list_entity_modules(
    entity_id: str, query: ModulesQuery, caller: Account, switches: SwitchService
) -> dict[str, Any]:
    """List the modules and whether they are on at an entity."""
    return _modules(switches.list_modules(_entity(entity_id, caller, switches), query.module, brief=query.brief))


@endpoint("PUT", "/router/entities/<entity_id>/modules/<name>", caller=SWITCHERS, area="bot", body=ModuleSwitch)
def set_entity_module(
    entity_id: str, name: str, switch: ModuleSwitch, caller: Account, switches: SwitchService
) -> dict[str, Any]:
    """Turn a module on or off at one entity, or put another in its place there."""
    return _set_module(_entity(entity_id, caller, switches), name, switch, caller, switches)


@endpoint("DELETE", "/router/entities/<entity_id>/modules/<name>", caller=SWITCHERS, area="bot")
def unset_entity_module(entity_id: str, name: str, caller: Account, switches: SwitchService) -> dict[str, Any]:
    """Let what is set in the community hold again for a module at an entity."""
    return _unset_module(_entity(entity_id, caller, switches), name, switches)


@endpoint("GET", "/router/communities/<community>/permissions", caller=ADMINS_OR_API_USERS, area="bot")
def list_community_permissions(
    community: str, caller: Account, database: Database, switches: SwitchService
) -> dict[str, Any]:
    """List what is set for commands in a community and its entities."""
    return _permissions(switches.list_permissions(_community(community, caller, database)))


@endpoint(
    "PUT", "/router/communities/<community>/permissions", caller=ADMINS_OR_API_USERS, area="bot", body=CommandPermission
)
def set_community_permission(
    community: str,
    wanted: CommandPermission,
    caller: Account,
    database: Database,
    switches: SwitchService,
) -> dict[str, Any]:
    """Say who may use a command in a community, and how often."""
    return _set_permission(_community(community, caller, database), wanted, caller, switches)


@endpoint(
    "DELETE", "/router/communities/<community>/permissions", caller=ADMINS_OR_API_USERS, area="bot", query=CommandQuery
)
def unset_community_permission(
    community: str,
    query: CommandQuery,
    caller: Account,
    database: Database,
    switches: SwitchService,
) -> dict[str, Any]:
    """Forget what was said about a command in a community."""
    return _unset_permission(_community(community, caller, database), query.command, switches)


@endpoint("GET", "/router/entities/<entity_id>/permissions", caller=ADMINS_OR_API_USERS, area="bot")
def list_entity_permissions(entity_id: str, caller: Account, switches: SwitchService) -> dict[str, Any]:
    """List what is set for commands at one entity."""
    return _permissions(switches.list_permissions(_entity(entity_id, caller, switches)))


@endpoint(
    "PUT", "/router/entities/<entity_id>/permissions", caller=ADMINS_OR_API_USERS, area="bot", body=CommandPermission
)
def set_entity_permission(
    entity_id: str, wanted: CommandPermission, caller: Account, switches: SwitchService
) -> dict[str, Any]:
    """Say who may use a command at one entity, and how often."""
    return _set_permission(_entity(entity_id, caller, switches), wanted, caller, switches)


@endpoint(
    "DELETE", "/router/entities/<entity_id>/permissions", caller=ADMINS_OR_API_USERS, area="bot", query=CommandQuery
)
def unset_entity_permission(
    entity_id: str, query: CommandQuery, caller: Account, switches: SwitchService
) -> dict[str, Any]:
    """Forget what was said about a command at one entity."""
    return _unset_permission(_entity(entity_id, caller, switches), query.command, switches)


def _community(reference: str, caller: Account, database: Database) -> Scope:
    return Scope(get_community(database, caller, reference))


def _entity(entity_id: str, caller: Account, switches: SwitchService) -> Scope:
    caller.check_platform(parse_entity_id(entity_id).platform)
    scope = switches.scope_of_entity(entity_id)
    if caller.community_id not in (None, scope.community_id):
        raise NotFound(f"{scope.entity_id} is not a channel of this community.")
    return scope


def _modules(modules: list[dict[str, Any]]) -> dict[str, Any]:
    return whole_list_answer("modules", modules)


def _permissions(found: list[dict[str, Any]]) -> dict[str, Any]:
    return whole_list_answer("permissions", found)


def _set_module(
    scope: Scope, name: str, switch: ModuleSwitch, caller: Account, switches: SwitchService
) -> dict[str, Any]:
    switch.check_may(caller)
    module_name = validate(NAME.validate_python, name)
    made = switches.set_module(scope, module_name, switch=switch.state, config=switch.config, by=caller.name)
    return {"success": True, "module": made}


def _unset_module(scope: Scope, name: str, switches: SwitchService) -> dict[str, Any]:
    switches.unset_module(scope, name)
    return {"success": True, "message": f"The default holds again for {name}."}


def _set_permission(
    scope: Scope, wanted: CommandPermission, caller: Account, switches: SwitchService
) -> dict[str, Any]:
    made = switches.set_permission(
        scope,
        wanted.command,
        is_enabled=wanted.is_enabled,
        allow=wanted.permissions.allow,
        deny=wanted.permissions.deny,
        config=wanted.config.model_dump(exclude_none=True),
        by=caller.name,
    )
    return {"success": True, "permission": made}


def _unset_permission(scope: Scope, command: str, switches: SwitchService) -> dict[str, Any]:
    switches.unset_permission(scope, command)
    return {"success": True, "message": f"Nothing particular holds for {command} any more."}
