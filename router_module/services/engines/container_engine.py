"""Commands of modules that are services of this fleet, or beside it."""

from __future__ import annotations

from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.web.clients import ModuleClient
from waddlebot.web.http import HTTPResponse

from .execution_engine import RemoteEngine, Task, Tries


class ContainerEngine(RemoteEngine):
    """POSTs the call to the module and repeats it while the module is down, because it answers a repeat the same."""

    def __init__(self, circuits: CircuitBreakers, client: ModuleClient) -> None:
        super().__init__(circuits)
        self._client = client

    def call(self, task: Task, tries: Tries) -> HTTPResponse:
        url, body = task.command.spec.location_url, task.payload.encode()
        return tries.repeat(
            lambda: self._client.execute(url, body, task.call.traceparent, timeout_s=tries.left_s),
        )
