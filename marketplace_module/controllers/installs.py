"""Having modules: install, uninstall, on and off, and what a place has."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import StringConstraints, model_validator
from waddlebot.base.contracts import Attributed, ModuleName
from waddlebot.base.errors import Invalid, NotFound
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.wire import is_number
from waddlebot.community.communities import community_of
from waddlebot.data.database import Database, fetch_one
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import whole_list_answer

from ..services.installing import LATEST, Installing, list_installed
from ..services.router_calls import Where

ShortText = Annotated[str, StringConstraints(max_length=512)]


class PlaceRequest(Attributed):
    """Either a channel, or a whole community; neither is the key's own community."""

    module_id: ModuleName
    entity_id: ShortText | None = None
    community_id: int | ShortText | None = None


class InstallRequest(PlaceRequest):
    version: Annotated[str, StringConstraints(max_length=32)] = LATEST
    # That the core module which this one says to replace steps aside.
    replaced_by: ModuleName | None = None
    # To what a version asks for beyond what was agreed to before.
    consent: bool = False


class ToggleRequest(Attributed):
    module_id: ModuleName
    enabled: bool | None = None
    # Whether its commands answer to `!` as well.
    answers_to_both: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ToggleRequest:
        if self.enabled is None and self.answers_to_both is None:
            raise ValueError("Say enabled or answers_to_both.")
        return self


@endpoint("POST", "/marketplace/install", caller=ADMINS_OR_API_USERS, area="bot", body=InstallRequest)
def install(request: InstallRequest, caller: Account, database: Database, installing: Installing) -> dict[str, Any]:
    """Install a module in a community or a channel, or another version of it."""
    where = _where(database, caller, request.entity_id, request.community_id)
    done = installing.install(
        where,
        request.module_id,
        request.version,
        replaced_by=request.replaced_by,
        consent=request.consent,
        by=caller.name,
    )
    return {
        "success": True,
        "message": f"{request.module_id} {done['version']} is installed.",
        "installation_id": done["id"],
        "module_id": request.module_id,
        "version": done["version"],
        "previous_version": done["before"],
        "asks": done["asks"],
        "asks_in_words": done["asks_in_words"],
    }


@endpoint("POST", "/marketplace/uninstall", caller=ADMINS_OR_API_USERS, area="bot", body=PlaceRequest)
def uninstall(request: PlaceRequest, caller: Account, database: Database, installing: Installing) -> dict[str, Any]:
    """Take a module away, and what it remembers with it."""
    where = _where(database, caller, request.entity_id, request.community_id)
    installing.uninstall(where, request.module_id)
    return {"success": True, "message": f"{request.module_id} is uninstalled.", "module_id": request.module_id}


@endpoint("GET", "/marketplace/entity/<entity_id>/modules", caller=ADMINS_OR_API_USERS, area="bot")
def list_modules(entity_id: str, caller: Account, database: Database) -> dict[str, Any]:
    """List what a channel, or by its number or slug a community, has: community modules and core ones, with `kind`."""
    where = _named(database, caller, entity_id)
    with database.reading() as db:
        return whole_list_answer("modules", list_installed(db, where))


@endpoint("POST", "/marketplace/entity/<entity_id>/toggle", caller=ADMINS_OR_API_USERS, area="bot", body=ToggleRequest)
def toggle(
    entity_id: str, request: ToggleRequest, caller: Account, database: Database, installing: Installing
) -> dict[str, Any]:
    """Turn a module on or off in a channel, or by its number or slug in a community, or have it answer to `!` too."""
    where = _named(database, caller, entity_id)
    said = request.model_dump(include={"enabled", "answers_to_both"}, exclude_none=True)
    if request.enabled is not None:
        installing.toggle(where, request.module_id, enabled=request.enabled)
    if request.answers_to_both is not None:
        installing.answer_to_both(where, request.module_id, both=request.answers_to_both)
    return {"success": True, "module_id": request.module_id, **said}


def _named(database: Database, caller: Account, name: str) -> Where:
    if ":" in name or "+" in name:
        return _where(database, caller, name, None)
    return _where(database, caller, None, int(name) if is_number(name) else name)


def _where(database: Database, caller: Account, entity_id: str | None, community: int | str | None) -> Where:
    """Raises: Invalid; NotFound; NotAllowed."""
    if entity_id is not None and community is not None:
        raise Invalid("Name either entity_id or community_id.", field="entity_id")
    with database.transaction() as db:
        if entity_id is None:
            return Where(community_of(db, caller, community))
        entity = parse_entity_id(entity_id)
        caller.check_platform(entity.platform)
        row = fetch_one(db, "SELECT community_id FROM entities WHERE entity_id = %s AND is_active", (str(entity),))
    if row is None or caller.community_id not in (None, row["community_id"]):
        raise NotFound(f"{entity} is not a channel of this {'fleet' if row is None else 'community'}.")
    return Where(row["community_id"], str(entity))
