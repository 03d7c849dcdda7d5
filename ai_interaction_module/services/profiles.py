"""What holds for an answer: a channel's and a community's settings, over the fleet's own, over the environment.

A community's settings are the router's, as every module's; the fleet's are a row of this module's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from waddlebot.base.errors import Invalid
from waddlebot.base.module_settings import SettingSpec, check_config, fitting
from waddlebot.community.credentials import COMMANDS
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, fetch, fetch_one

from ..config import AISettings
from .ledger import Budget

FLEET_CONFIG = "ai_fleet_config"
TTL_S = 60.0
# What an operator gives a community a day unless they say otherwise: some hundreds of answers.
DAILY_TOKENS, DAILY_TOKENS_PERSON = 200_000, 20_000
CONFIG_PATH = "/api/ai/v1/config"


@dataclass(frozen=True, slots=True)
class Profile:
    """What holds, by the names of the settings."""

    provider: str
    failover: Sequence[str]
    model: str
    temperature: float
    max_tokens: int
    system_prompt: str
    response_prefix: str
    answer_questions: bool
    question_triggers: Sequence[str]
    event_responses: bool
    event_types: Sequence[str]
    context_enabled: bool
    context_limit: int
    daily_tokens: int
    daily_tokens_person: int
    ignored_people: Sequence[str]

    @property
    def order(self) -> tuple[str, ...]:
        """Whom to ask, first to last, each once."""
        return tuple(dict.fromkeys([*([self.provider] if self.provider else []), *self.failover]))

    @property
    def budget(self) -> Budget:
        return Budget(self.daily_tokens, self.daily_tokens_person)


@dataclass(frozen=True, slots=True)
class Found:
    """What was set where."""

    profile: Profile
    own: Mapping[str, Any]
    decided_by: Mapping[str, str]


class Profiles:
    def __init__(
        self, db: Database, bus: Bus, settings: AISettings, *, module_name: str, specs: Sequence[SettingSpec]
    ) -> None:
        self._db = db
        self._module_name = module_name
        self._bus = bus
        self._specs = specs
        order = settings.order
        self._environment: dict[str, Any] = {
            "provider": order[0] if order else "",
            "failover": order[1:],
            "model": "",
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "system_prompt": settings.system_prompt,
            "response_prefix": settings.response_prefix,
            "answer_questions": False,
            "question_triggers": settings.question_triggers,
            "event_responses": settings.respond_to_events,
            "event_types": settings.event_types,
            "context_enabled": settings.context_enabled,
            "context_limit": settings.context_limit,
            "daily_tokens": DAILY_TOKENS,
            "daily_tokens_person": DAILY_TOKENS_PERSON,
            "ignored_people": [],
        }
        assert set(self._environment) == {each.name for each in fields(Profile)} == {spec.name for spec in specs}
        self._fleet: Cache[str, dict[str, Any]] = bus.cache(FLEET_CONFIG, ttl_s=TTL_S)
        # Emptied by the router when a community's settings change.
        self._communities: Cache[int, dict[str, Any]] = bus.cache(COMMANDS, ttl_s=TTL_S)

    def of(self, settings: Mapping[str, Any], *, has_own_key: bool) -> Profile:
        """What holds where these settings do, as a call brings them."""
        return self._found(settings, has_own_key=has_own_key).profile

    def of_community(self, community_id: int | None, *, has_own_key: bool) -> Found:
        """What holds in a community as a whole, or without one in the fleet."""
        own = self.own_of(community_id) if community_id is not None else {}
        return self._found(own, has_own_key=has_own_key)

    def own_of(self, community_id: int) -> Mapping[str, Any]:
        """What a community has set."""
        return self._communities.get(community_id, lambda _: self._read_community(community_id))

    @property
    def fleet(self) -> Mapping[str, Any]:
        """What the fleet's operator has set over HTTP."""
        return self._fleet.get("fleet", lambda _: self._read_fleet())

    @property
    def names(self) -> Sequence[str]:
        return [spec.name for spec in self._specs]

    def check(self, changes: Mapping[str, Any]) -> None:
        """Raises: Invalid, naming the settings that are unknown or do not fit."""
        check_config(self._specs, changes)

    def change_fleet(self, changes: Mapping[str, Any]) -> None:
        """Set what is named for all communities, null for what the environment says. Raises: Invalid."""
        self.check(changes)
        self._check_fleet(changes)
        with self._db.transaction() as db:
            fetch(db, "INSERT INTO ai_fleet_config (name, config) VALUES ('fleet', '{}') ON CONFLICT DO NOTHING")
            row = fetch_one(db, "SELECT config FROM ai_fleet_config WHERE name = 'fleet' FOR UPDATE")
            assert row is not None
            before = row["config"]
            after = {name: value for name, value in {**before, **changes}.items() if value is not None}
            fetch(db, "UPDATE ai_fleet_config SET config = %s, updated_at = now()", (json.dumps(after),))
            undo = {name: before.get(name) for name in changes}
            audit.record(
                db,
                self._module_name,
                "config_changed",
                "config",
                community_id=None,
                before=before,
                after=after,
                undo=Undo("PUT", CONFIG_PATH, undo),
            )
        self._bus.invalidate(FLEET_CONFIG, "fleet")

    def _check_fleet(self, changes: Mapping[str, Any]) -> None:
        """Raises: Invalid for what is each community's own, or the environment's: the router tells us of no more lines
        and events than these say."""
        if changes.get("answer_questions") or changes.get("question_triggers"):
            raise Invalid("Questions are answered where a community switches that on; name one.", field="community_id")
        more = set(changes.get("event_types") or ()) - set(self._environment["event_types"])
        if more or (changes.get("event_responses") and not self._environment["event_responses"]):
            raise Invalid(
                "RESPOND_TO_EVENTS and EVENT_RESPONSE_TYPES say no to that; a community may say yes for itself.",
                field="event_types" if more else "event_responses",
            )

    def _found(self, settings: Mapping[str, Any], *, has_own_key: bool) -> Found:
        fleet = self.fleet
        own = {name: value for name, value in settings.items() if name in self._environment and value is not None}
        values = {**self._environment, **fleet, **own}
        if not has_own_key:
            # Who pays says how much.
            for name in ("daily_tokens", "daily_tokens_person"):
                values[name] = min(values[name], fleet.get(name, self._environment[name]))
        if "provider" in own and "failover" not in own:
            everybody = [values["provider"], fleet.get("provider"), self._environment["provider"], *values["failover"]]
            values["failover"] = [name for name in dict.fromkeys(everybody[1:]) if name and name != values["provider"]]
        if "model" not in own and "provider" in own and own["provider"] != fleet.get("provider"):
            values["model"] = ""  # The fleet's is of another provider.
        by = {name: "community" if name in own else "fleet" if name in fleet else "environment" for name in values}
        return Found(Profile(**values), own, by)

    def _read_community(self, community_id: int) -> dict[str, Any]:
        rows = self._db.statement(
            "SELECT config FROM module_switches WHERE community_id = %s AND entity_id IS NULL AND module_name = %s",
            (community_id, self._module_name),
        )
        return fitting(self._specs, rows[0]["config"]) if rows else {}

    def _read_fleet(self) -> dict[str, Any]:
        rows = self._db.statement("SELECT config FROM ai_fleet_config WHERE name = 'fleet'", ())
        return fitting(self._specs, rows[0]["config"]) if rows else {}
