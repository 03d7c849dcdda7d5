"""String rules over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import AfterValidator, Field, StringConstraints
from waddlebot.base.contracts import Attributed, LevelName
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.text import fold
from waddlebot.community.communities import community_of
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page

from ..services.rules.escalation_steps import Steps
from ..services.rules.filters import MAX_NUMBER
from ..services.rules.rule_service import RuleService, UnknownRule, remarks

ShortText = Annotated[str, StringConstraints(max_length=255)]
Text = Annotated[str, StringConstraints(max_length=500)]
# Longer ones are refused with the reason, by the matcher.
PatternText = Annotated[str, StringConstraints(max_length=200_000)]
MatchType = Literal[
    "exact",
    "contains",
    "word",
    "regex",
    "*",
    "caps",
    "links",
    "symbols",
    "emotes",
    "length",
    "repeats",
    "mentions",
    "zalgo",
]
Action = Literal["warn", "block", "command", "webhook"]
# Of a filter: at least so many, and at least so many percent of the line.
Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
Share = Annotated[int, Field(ge=0, le=100)]
EntityIds = Annotated[list[ShortText], Field(max_length=1000)]
# As labels are kept: without regard to case.
ExemptLabel = Annotated[str, StringConstraints(min_length=1, max_length=50), AfterValidator(fold)]
ExemptLabels = Annotated[list[ExemptLabel], Field(max_length=50)]
Parameters = Annotated[list[Text], Field(max_length=100)]


class RulesQuery(Page):
    community_id: ShortText | None = None
    entity_id: ShortText | None = None
    is_active: bool | None = True


class NewRule(Attributed):
    """`community_id` may be left out: a program's own community, and for an admin's key the whole fleet."""

    string: PatternText = ""
    action: Action
    match_type: MatchType = "exact"
    number: Number | None = None
    share: Share | None = None
    case_sensitive: bool = False
    look_alikes: bool = False
    exempt_level: LevelName | None = "moderator"
    community_id: int | ShortText | None = None
    enabled_entity_ids: EntityIds = Field(default_factory=list)
    command_to_execute: ShortText = ""
    command_parameters: Parameters = Field(default_factory=list)
    webhook_url: Annotated[str, StringConstraints(max_length=2048)] = ""
    warning_message: Text = ""
    block_message: Text = ""
    priority: int = Field(100, ge=-(2**31), lt=2**31)
    is_active: bool = True
    exempt_labels: ExemptLabels = Field(default_factory=list)
    escalation: Steps = Field(default_factory=list)


class DryRun(NewRule):
    hours: float = Field(168, gt=0, le=168)
    # Texts to try it on beside what was said.
    lines: Annotated[list[Text], Field(max_length=20)] = Field(default_factory=list)


class RuleChange(Attributed):
    string: PatternText | None = None
    action: Action | None = None
    match_type: MatchType | None = None
    number: Number | None = None
    share: Share | None = None
    case_sensitive: bool | None = None
    look_alikes: bool | None = None
    # Null is nobody here, and not the same as leaving it out.
    exempt_level: LevelName | None = None
    enabled_entity_ids: EntityIds | None = None
    command_to_execute: ShortText | None = None
    command_parameters: Parameters | None = None
    webhook_url: Annotated[str, StringConstraints(max_length=2048)] | None = None
    warning_message: Text | None = None
    block_message: Text | None = None
    priority: int | None = Field(None, ge=-(2**31), lt=2**31)
    is_active: bool | None = None
    exempt_labels: ExemptLabels | None = None
    escalation: Steps | None = None


NOT_OF_THE_RULE = {"community_id", "enabled_entity_ids", "hours", "lines"}


@endpoint("GET", "/router/string-rules", caller=ADMINS_OR_API_USERS, area="rules", query=RulesQuery)
def list_rules(query: RulesQuery, caller: Account, database: Database, rules: RuleService) -> dict[str, Any]:
    """List string rules in the order in which they count."""
    with database.reading() as db:
        community_id = _community(db, caller, query.community_id)
    entity_id = str(parse_entity_id(query.entity_id)) if query.entity_id else None
    return rules.list(community_id, entity_id=entity_id, is_active=query.is_active, page=query)


@endpoint("POST", "/router/string-rules", caller=ADMINS_OR_API_USERS, area="rules", body=NewRule)
def create_rule(new: NewRule, caller: Account, database: Database, rules: RuleService) -> dict[str, Any]:
    """Add a string rule; it works when this answers."""
    with database.transaction() as db:
        community_id = _community(db, caller, new.community_id)
    made = rules.create(
        community_id,
        new.model_dump(exclude=NOT_OF_THE_RULE),
        _entities(new.enabled_entity_ids, caller),
        by=caller.name,
    )
    answer = {"success": True, "rule_id": made["id"], "message": "The rule works now.", "rule": made}
    return {**answer, "remarks": remarks(made)}


@endpoint("POST", "/router/string-rules/dry-run", caller=ADMINS_OR_API_USERS, area="rules", body=DryRun, only_asks=True)
def dry_run(trial: DryRun, caller: Account, database: Database, rules: RuleService) -> dict[str, Any]:
    """Show what a rule would have hit in stored messages, before it is switched on."""
    with database.transaction() as db:
        community_id = _community(db, caller, trial.community_id)
    values = trial.model_dump(exclude=NOT_OF_THE_RULE)
    entity_ids = _entities(trial.enabled_entity_ids, caller)
    return rules.dry_run(community_id, values, entity_ids, hours=trial.hours, lines=trial.lines)


@endpoint("GET", "/router/string-rules/<rule_id:int>", caller=ADMINS_OR_API_USERS, area="rules")
def read_rule(rule_id: int, caller: Account, rules: RuleService) -> dict[str, Any]:
    """Show one string rule."""
    return {"success": True, "rule": _access(rule_id, caller, rules)}


@endpoint("PUT", "/router/string-rules/<rule_id:int>", caller=ADMINS_OR_API_USERS, area="rules", body=RuleChange)
def update_rule(rule_id: int, change: RuleChange, caller: Account, rules: RuleService) -> dict[str, Any]:
    """Change what is named of a string rule; it works so when this answers."""
    _access(rule_id, caller, rules)
    changes = change.model_dump(exclude=NOT_OF_THE_RULE, exclude_none=True)
    if "exempt_level" in change.model_fields_set:
        changes["exempt_level"] = change.exempt_level
    entity_ids = None if change.enabled_entity_ids is None else _entities(change.enabled_entity_ids, caller)
    made = rules.update(rule_id, changes, entity_ids)
    answer = {"success": True, "rule_id": rule_id, "message": "The rule works so now.", "rule": made}
    return {**answer, "remarks": remarks(made)}


@endpoint("DELETE", "/router/string-rules/<rule_id:int>", caller=ADMINS_OR_API_USERS, area="rules")
def delete_rule(rule_id: int, caller: Account, rules: RuleService) -> dict[str, Any]:
    """Switch a string rule off; it stays on record for those who ask why."""
    _access(rule_id, caller, rules)
    rules.switch_off(rule_id)
    return {"success": True, "rule_id": rule_id, "message": "The rule is off."}


def _community(db: DAL, caller: Account, reference: int | str | None) -> int | None:
    """Whose rules a request is about; None is the fleet, which only an admin's key may mean."""
    if reference is None and caller.is_admin and caller.community_id is None:
        return None
    return community_of(db, caller, reference)


def _entities(texts: list[str], caller: Account) -> list[str]:
    """Raises: Invalid; NotAllowed for another platform's. The service looks whose they are."""
    entities = [parse_entity_id(text) for text in texts]
    for each in entities:
        caller.check_platform(each.platform)
    return [str(each) for each in entities]


def _access(rule_id: int, caller: Account, rules: RuleService) -> dict[str, Any]:
    """Raises: UnknownRule, also for another community's."""
    rule = rules.get(rule_id)
    if caller.community_id is not None and rule["community_id"] != caller.community_id:
        raise UnknownRule(f"There is no rule {rule_id}.")
    return rule
