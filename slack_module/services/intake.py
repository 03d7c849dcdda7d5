"""What becomes of what Slack tells us, whichever way it comes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol

from pydantic import Field
from waddlebot.base.contracts import IdPart, Wire
from waddlebot.base.errors import BadRequest, BadSignature
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import parse_json, validate
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Delivery, Intake, StoredEvent

from .installations import Installations, team_entity
from .people import People
from .requests import check_signature
from .translation import EventCallback, Translator, read_deliveries

# Slack counts by the minute.
LIMITED_FOR = timedelta(minutes=1)


class Challenge(Wire):
    challenge: Annotated[str, Field(max_length=1024)]


class RateLimited(Wire):
    team_id: IdPart
    minute_rate_limited: int = Field(0, ge=0, lt=2**40)


class RevokedTokens(Wire):
    oauth: list[str] = Field(default_factory=list)
    bot: list[str] = Field(default_factory=list)


class GroupChanged(Wire):
    """Source: https://docs.slack.dev/reference/events/subteam_members_changed"""

    subteam_id: IdPart
    added_users: list[IdPart] = Field(default_factory=list)
    removed_users: list[IdPart] = Field(default_factory=list)


class SawRole(Protocol):
    def __call__(self, server_id: str, user_id: str, role_id: str, *, has: bool) -> None: ...


class EventIntake:
    """Decides about events and has the collector keep them."""

    def __init__(
        self,
        collector: Collector,
        installations: Installations,
        people: People,
        *,
        secret: str,
        log: AAALog,
    ) -> None:
        self._collector = collector
        self._installations = installations
        self._people = people
        self._secret = secret
        self._log = log
        self._check = Translator()
        # Who is told that somebody is in a user group now, or no more.
        self.saw_role: SawRole | None = None

    def receive(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Take a request. Returns what to answer to a challenge, None for everything else, once it is stored.

        How often Slack has tried does not matter: an earlier try may have failed.
        Raises: BadSlackSignature; BadRequest and Invalid for a signed body that is not as documented.
        """
        try:
            check_signature(self._secret, headers, body)
        except BadSignature:
            self._collector.count("unknown", "bad_signature")
            raise
        payload = parse_json(body)
        if isinstance(payload, dict) and payload.get("type") == "url_verification":
            self._collector.count("url_verification", "answered")
            challenge: str = validate(Challenge.model_validate, payload).challenge
            return challenge
        self.take(payload)
        return None

    def take(self, payload: Any) -> list[Intake]:
        """Keep what an envelope brings. Raises: Invalid; BadRequest; DatabaseUnavailable."""
        kind = payload.get("type") if isinstance(payload, dict) else None
        if kind == "app_rate_limited":
            self._note_rate_limit(validate(RateLimited.model_validate, payload))
            return []
        if kind != "event_callback":
            self._collector.count("unknown", "ignored")
            return []
        envelope: EventCallback = validate(EventCallback.model_validate, payload)
        _check_storable(payload)
        self._act_on(envelope)
        deliveries = validate(lambda it: list(read_deliveries(envelope, it)), payload)
        decided = [self._decide(envelope, each) for each in deliveries]
        for each in decided:
            if not each.ignored:
                # What cannot be translated is refused now, while Slack still listens.
                validate(
                    lambda it: self._check(StoredEvent(0, it.event_id, it.type, it.channel_id, it.data, None)), each
                )
        return [self._collector.take(each) for each in decided]

    def _decide(self, envelope: EventCallback, delivery: Delivery) -> Delivery:
        why = delivery.ignored
        if self._collector.served.serves(delivery.channel_id, envelope.team):
            self._collector.liveness.heard(team_entity(envelope.team))
        elif not why:
            why = "channel not served"
        return replace(delivery, ignored=why)

    def _act_on(self, envelope: EventCallback) -> None:
        """What an event says about the app itself, or about somebody whom we think we know. Twice is once."""
        team, kind = envelope.team, envelope.type
        if kind == "app_uninstalled":
            if self._installations.uninstall(team, at=envelope.at):
                self._collector.liveness.forget([team_entity(team)])
        elif kind == "tokens_revoked":
            revoked: RevokedTokens = validate(RevokedTokens.model_validate, envelope.event.get("tokens") or {})
            if revoked.bot:
                self._installations.revoke(team, "its token was revoked in Slack", at=envelope.at)
            if revoked.oauth:
                self._installations.revoke_admin(team)
        elif kind in ("user_change", "user_profile_changed"):
            user = envelope.event.get("user")
            if isinstance(user, dict) and isinstance(user.get("id"), str):
                self._people.forget(team, user["id"])
        elif kind == "subteam_members_changed" and self.saw_role:
            changed: GroupChanged = validate(GroupChanged.model_validate, envelope.event)
            for has, people in ((True, changed.added_users), (False, changed.removed_users)):
                for person in people:
                    self.saw_role(team, person, changed.subteam_id, has=has)

    def _note_rate_limit(self, limited: RateLimited) -> None:
        """Slack has kept events from us: there were more than 30 000 in an hour. It does not send them again."""
        self._collector.count("app_rate_limited", "told")
        since = datetime.fromtimestamp(limited.minute_rate_limited, UTC)
        why = "Slack held events back: more than 30 000 in an hour (app_rate_limited)."
        entity = team_entity(limited.team_id)
        self._collector.liveness.note_gap(entity, since=since, until=since + LIMITED_FOR, why=why)
        self._log.system("rate_limited_by_slack", result="FAILED", team=limited.team_id, since=since)


def _check_storable(payload: Any) -> None:
    """Raises: BadRequest for what PostgreSQL's jsonb cannot hold."""
    try:
        json.dumps(payload, allow_nan=False)
    except (ValueError, RecursionError) as err:
        raise BadRequest("A number is out of range, or the body is nested too deeply.") from err
