"""Commands of modules that are a URL somewhere in the world."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.contracts import CommandSpec
from waddlebot.base.errors import EgressDenied, Invalid
from waddlebot.web.http import EgressGuard, HTTPResponse

from .execution_engine import RemoteEngine, Task, Tries
from .webhook_client import REPEATABLE, WebhookClient, check_webhook_url
from .webhook_secrets import WebhookSecrets

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1000}")
# What says who calls and how the body is to be read is ours to say.
OUR_HEADERS = re.compile(
    r"host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|idempotency-key|traceparent|x-waddlebot-.*",
    re.IGNORECASE,
)
MAX_HEADERS = 20


class WebhookEngine(RemoteEngine):
    """Posts the call, signed; whoever receives it knows a repeat by its Idempotency-Key, the execution's id."""

    def __init__(
        self, circuits: CircuitBreakers, client: WebhookClient, guard: EgressGuard, secrets: WebhookSecrets
    ) -> None:
        super().__init__(circuits, missing=secrets.missing)
        self._client = client
        self._guard = guard
        self._secrets = secrets

    def check(self, spec: CommandSpec) -> None:
        super().check(spec)
        check_webhook_url(spec.location_url, self._guard, field="commands.location_url")
        if urlsplit(spec.location_url).scheme != "https" and not self._guard.names(spec.location_url):
            raise Invalid(
                "commands.location_url: It must begin with https://, or EGRESS_ALLOW must name its host:port.",
                field="commands.location_url",
            )
        check_headers(spec.headers)

    def call(self, task: Task, tries: Tries) -> HTTPResponse:
        spec, body = task.command.spec, task.payload.encode()
        secret = self._secrets.get(task.command.module_name)

        def send() -> HTTPResponse:
            return self._client.post_once(
                spec.location_url,
                body,
                secret=secret,
                idempotency_key=task.call.execution_id,
                timeout_s=tries.left_s,
                headers={**spec.headers, "traceparent": task.call.traceparent},
            )

        try:
            return tries.repeat(send, statuses=REPEATABLE)
        except EgressDenied as err:
            # Where a name leads inside is nothing to tell: what an execution ended with can be read in chat.
            raise EgressDenied() from err


def check_headers(headers: dict[str, str]) -> None:
    """Refuse headers that would say something in our place, or are none. Raises: Invalid."""
    if len(headers) > MAX_HEADERS:
        raise Invalid(f"commands.headers: At most {MAX_HEADERS} are taken.", field="commands.headers")
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise Invalid(f"commands.headers: {name[:100]!r} is not a header in plain ASCII.", field="commands.headers")
        if OUR_HEADERS.fullmatch(name):
            raise Invalid(f"commands.headers: {name} is not yours to set.", field="commands.headers")
