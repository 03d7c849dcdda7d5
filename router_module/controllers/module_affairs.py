"""What modules of the fleet ask for themselves."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints
from waddlebot.base.contracts import EntityIdText, MessageText, Strict
from waddlebot.base.errors import NotAllowed
from waddlebot.base.ids import parse_entity_id
from waddlebot.community.communities import Reference, get_community
from waddlebot.data.audit import Acting
from waddlebot.data.database import Database
from waddlebot.web.auth import ANNOUNCERS, Account
from waddlebot.web.endpoint import endpoint

from ..services.modules.module_affairs import ModuleAffairs
from ..services.modules.switch_service import SwitchService


class TextCheck(Strict):
    entity_id: EntityIdText
    text: MessageText


class ActingFor(Strict):
    """Who asked the module, as the module's own door has let them in."""

    account: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    login_id: int | None = None
    own_id: int | None = None


class SettingsChange(Strict):
    community_id: Reference
    config: dict[str, Any] = Field(max_length=100)
    acting: ActingFor


@endpoint("POST", "/router/string-rules/check", caller=ANNOUNCERS, body=TextCheck)
def check_text(check: TextCheck, caller: Account, switches: SwitchService, affairs: ModuleAffairs) -> dict[str, Any]:
    """Say whether a module may say a text in a channel, by the rules that hold there for everybody."""
    module_name = _module_of(caller)
    caller.check_platform(parse_entity_id(check.entity_id).platform)
    scope = switches.scope_of_entity(check.entity_id)
    caller.check_community(scope.community_id)
    rule = affairs.find_objection(module_name, scope, check.text)
    return {
        "success": True,
        "allowed": rule is None,
        "action": rule.action if rule else None,
        "rule_id": rule.id if rule else None,
    }


@endpoint("POST", "/router/module-settings", caller=ANNOUNCERS, body=SettingsChange)
def change_settings(
    change: SettingsChange, caller: Account, database: Database, affairs: ModuleAffairs
) -> dict[str, Any]:
    """Change what is named of a community's settings for the caller's own module, and leave the rest."""
    module_name = _module_of(caller)
    community_id = get_community(database, caller, change.community_id)
    made = affairs.change_settings(
        module_name,
        community_id,
        change.config,
        acting=Acting(change.acting.account, login_id=change.acting.login_id, own_id=change.acting.own_id),
    )
    return {"success": True, "module": made}


def _module_of(caller: Account) -> str:
    if caller.module_name is None:
        raise NotAllowed("Only a module asks this, for itself.")
    return caller.module_name
