"""Commands of modules that are services of this fleet, or beside it."""

from __future__ import annotations

from waddlebot.base.circuit_breaker import CircuitBreakers
from waddlebot.base.errors import EgressDenied
from waddlebot.web.clients import ModuleClient
from waddlebot.web.http import HTTPResponse

from ..modules.addresses import ModuleAddresses
from .execution_engine import RemoteEngine, Task, Tries


class ContainerEngine(RemoteEngine):
    """POSTs the call to the module and repeats it while the module is down, because it answers a repeat the same."""

    def __init__(self, circuits: CircuitBreakers, client: ModuleClient, addresses: ModuleAddresses) -> None:
        super().__init__(circuits)
        self._client = client
        self._addresses = addresses

    def call(self, task: Task, tries: Tries) -> HTTPResponse:
        url, body = task.command.spec.location_url, task.payload.encode()
        # Looked at again: what was registered may be from before MODULE_URLS said less.
        if not self._addresses.are_of(task.command.module_name, url):
            raise EgressDenied(f"{task.command.module_name} is not where this fleet's key is shown. See MODULE_URLS.")
        return tries.repeat(
            lambda: self._client.execute(url, body, task.call.traceparent, timeout_s=tries.left_s),
        )
