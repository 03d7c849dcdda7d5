"""A server that speaks the Model Context Protocol, by the official SDK: one tool of it is called, which the operator
names.

Servers cannot ask for a model's words any more, so an answer is what the tool returns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cached_property
from typing import Any

from waddlebot.base.bridge import shared_bridge
from waddlebot.base.errors import Away, ProviderError, Refused, Unclear
from waddlebot.web.http import HTTPResponse, retry_after_s
from waddlebot.web.provider import failure_of

from .asking import Answer, Asked, Piece, estimate
from .capped import AnswerTooLong, capped_async_transport

CONNECT_TIMEOUT_S = 3.0
TOOL_KNOWN_FOR_S = 300.0
# What tools call the text that they are to answer; the first of these that the tool takes.
MESSAGE_NAMES = ("message", "prompt", "query", "question", "text", "input")


class HTTPFailed(Exception):
    """The server answered with a status that says that it failed."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after_s = retry_after


class MCPProvider:
    """Calls the tool, and no other. Loads the SDK when it is first asked."""

    name = "mcp"
    title = "The MCP server"

    def __init__(self, *, url: str, tool: str, bearer: str | None, timeout_s: float) -> None:
        self.default_model = f"mcp:{tool}"
        self._url = url
        self._tool = tool
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        # What the tool takes, and until when that is believed.
        self._takes: tuple[str, ...] = ()
        self._known_until = 0.0

    def answer(self, asked: Asked, *, key: str | None, timeout_s: float) -> Answer:  # noqa: ARG002
        text = self._run(self._call(asked, timeout_s), timeout_s)
        if not text.strip():
            raise Unclear("no text")
        return Answer(text, self.default_model, estimate(asked, text))

    def stream(self, asked: Asked, *, key: str | None, timeout_s: float) -> Iterator[Piece]:
        """A tool answers as a whole."""
        answer = self.answer(asked, key=key, timeout_s=timeout_s)
        yield Piece(answer.text, answer.model)
        yield Piece(usage=answer.usage, finish_reason=answer.finish_reason)

    def list_models(self, *, key: str | None, timeout_s: float) -> Sequence[str]:  # noqa: ARG002
        self._run(self._find_tool(timeout_s), timeout_s)
        return [self.default_model]

    def translate(self, err: Exception) -> ProviderError | None:
        causes = list(_causes(err))
        for cause in causes:
            if isinstance(cause, ProviderError):
                return cause
            if isinstance(cause, HTTPFailed):
                words = {401: "the key is not taken", 403: "the key may not do that"}.get(cause.status, "no")
                return failure_of(cause.status, words=words, retry_after=cause.retry_after_s)
        names = {type(cause).__name__ for cause in causes}
        if names & {"ConnectError", "ConnectTimeout"}:
            return Away("ConnectError")
        return Unclear(", ".join(sorted(names)))

    def _run(self, call: Any, timeout_s: float) -> Any:
        future = shared_bridge().submit(call)
        try:
            return future.result(min(timeout_s, self._timeout_s))
        except FutureTimeout as err:
            future.cancel()
            raise Unclear("timed out") from err
        except BaseExceptionGroup as err:
            # Not every one of these is an Exception to those who catch one.
            raise Unclear(type(err).__name__) if not isinstance(err, Exception) else err from None

    async def _call(self, asked: Asked, timeout_s: float) -> str:
        async with self._client(timeout_s) as client:
            arguments = _arguments(asked, await self._known_tool(client))
            result = await client.call_tool(self._tool, arguments)
        if result.is_error:
            raise Refused("the tool failed", words="its tool failed")
        return "\n".join(each.text for each in result.content if getattr(each, "type", "") == "text")

    async def _find_tool(self, timeout_s: float) -> None:
        async with self._client(timeout_s) as client:
            self._known_until = 0.0
            await self._known_tool(client)

    async def _known_tool(self, client: Any) -> Sequence[str]:
        """What the tool takes. Raises: Refused when there is no such tool."""
        if time.monotonic() < self._known_until:
            return self._takes
        tools = (await client.list_tools()).tools
        tool = next((each for each in tools if each.name == self._tool), None)
        if tool is None:
            raise Refused("no such tool", words=f"it has no tool {self._tool}")
        self._takes = tuple((tool.input_schema or {}).get("properties", {}))
        self._known_until = time.monotonic() + TOOL_KNOWN_FOR_S
        return self._takes

    @contextlib.asynccontextmanager
    async def _client(self, timeout_s: float) -> AsyncIterator[Any]:
        """A client for one call, on connections that are kept. Raises: HTTPFailed before what the SDK makes of it."""
        failed: list[HTTPFailed] = []
        timeout = self._httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))

        async def note(response: Any) -> None:
            if response.status_code >= 400:
                answer = HTTPResponse(response.status_code, b"", dict(response.headers))
                failed.append(HTTPFailed(response.status_code, retry_after_s(answer) or 1.0))

        http = self._httpx.AsyncClient(
            transport=self._shared, headers=self._headers, timeout=timeout, event_hooks={"response": [note]}
        )
        read_timeout_s = min(timeout_s, self._timeout_s)
        try:
            transport = self._sdk[1](self._url, http_client=http)
            async with self._sdk[0](transport, read_timeout_seconds=read_timeout_s) as client:
                yield client
        except (ProviderError, AnswerTooLong):
            raise
        except Exception as err:
            # The SDK turns a status into an error of its own protocol, or into one that only says that it timed out.
            worst = next((each for each in failed if each.status in (401, 403, 429) or each.status >= 500), None)
            if worst is not None:
                raise worst from err
            raise

    @cached_property
    def _shared(self) -> Any:
        transport = capped_async_transport(self._httpx)
        shared = self._httpx.AsyncBaseTransport()
        shared.handle_async_request = transport.handle_async_request
        return shared

    @cached_property
    def _sdk(self) -> tuple[Any, Any]:
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        return Client, streamable_http_client

    @cached_property
    def _httpx(self) -> Any:
        import httpx2

        return httpx2


def _arguments(asked: Asked, takes: Sequence[str]) -> Mapping[str, str]:
    """What of a question a tool is told: all that it takes of it."""
    *before, last = [each for each in asked.messages if each.role != "system"]
    told = {
        "user": asked.user_name,
        "history": "\n".join(f"{each.role}: {each.content}" for each in before),
        "system": "\n".join(each.content for each in asked.messages if each.role == "system"),
    }
    name = next((each for each in MESSAGE_NAMES if each in takes), MESSAGE_NAMES[0])
    return {name: last.content} | {each: text for each, text in told.items() if each in takes}


def _causes(err: BaseException) -> Iterator[BaseException]:
    """An error, what a group of them holds, and what each came from."""
    yield err
    if isinstance(err, BaseExceptionGroup):
        for each in err.exceptions:
            yield from _causes(each)
    cause = err.__cause__
    if cause is not None and cause is not err:
        yield from _causes(cause)
