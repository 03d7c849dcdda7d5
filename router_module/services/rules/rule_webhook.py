"""What a webhook rule sends: the message, signed, to the address that the rule names.

The call is an execution like any other: on record before it is made, made again by whoever finishes the event after a
crash, with the same Idempotency-Key. What the other side answers is not read beyond its status.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import CommandSpec, ErrorInfo, ExecutionStatus
from waddlebot.base.errors import UpstreamError, UpstreamTimeout, WaddleBotError

from ..catalogue.catalogue import Command
from ..engines.execution_engine import Result, Task
from ..engines.webhook_client import WebhookClient
from ..records.work import Job, Work
from .rule_book import StringRule
from .rule_service import RuleService

# What the executions of webhook rules are on record as.
RULES_MODULE = "stringmatch"
NAME = "rule-"
TIMEOUT_S = 10.0


def webhook_command(rule_id: int, url: str) -> Command:
    spec = CommandSpec(command=f"{NAME}{rule_id}", prefix="#", type="webhook", location_url=url, timeout=TIMEOUT_S)
    return Command(None, RULES_MODULE, True, spec)


def webhook_body(work: Work, rule: StringRule, job: Job) -> str:
    """The JSON of a hit: the rule, the message, who said it and where."""
    event, place = work.event, work.place
    occurred_at = event.occurred_at or datetime.now(UTC)
    return json.dumps(
        {
            "type": "string_match",
            "session_id": work.session_id,
            "execution_id": job.execution_id,
            "rule_id": rule.id,
            "pattern": rule.pattern.text,
            "match_type": rule.pattern.match_type,
            "message_content": event.message,
            "user": {"id": event.user.platform_user_id, "name": event.user.shown_name},
            "community": {"id": place.community_id, "name": place.community_name},
            "context": {
                "platform": place.platform,
                "server_id": place.server_id,
                "channel_id": place.channel_id,
                "entity_id": place.entity_id,
                "message_id": event.event_id,
                "timestamp": occurred_at.isoformat(),
            },
            "mode": event.mode,
        },
        ensure_ascii=False,
    )


class RuleWebhook:
    """An engine: sends one hit and says how that went."""

    def __init__(self, client: WebhookClient, rules: RuleService, circuits: CircuitBreakers) -> None:
        self._client = client
        self._rules = rules
        self._circuits = circuits

    def execute(self, task: Task) -> Result:
        started = time.monotonic()
        if task.call.mode == "simulate":
            # Nothing leaves the fleet; the trace shows that it would have.
            return Result(ExecutionStatus.SUCCESS, [])
        status, error, http_status = ExecutionStatus.SUCCESS, None, None
        try:
            with self._circuits.watching(RULES_MODULE, task.command.spec.command):
                response = self._client.post(
                    task.command.spec.location_url,
                    task.payload.encode(),
                    secret=self._rules.webhook_secret(int(task.command.spec.command.removeprefix(NAME))),
                    idempotency_key=task.call.execution_id,
                    until=started + task.call.timeout_ms / 1000,
                )
            http_status = response.status
            if not 200 <= response.status < 300:
                status = ExecutionStatus.FAILED
                error = ErrorInfo(code="upstream_refused", message=f"The webhook answered HTTP {response.status}.")
        except UpstreamTimeout as err:
            status, error = ExecutionStatus.TIMEOUT, ErrorInfo(code=err.code, message=err.message)
        except (UpstreamError, WaddleBotError) as err:
            status, error = ExecutionStatus.FAILED, ErrorInfo(code=err.code, message=err.message)
        took_ms = round((time.monotonic() - started) * 1e3, 2)
        return Result(status, [], error, http_status, took_ms)
