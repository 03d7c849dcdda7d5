"""Ollama, by LangChain's library for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from functools import cached_property
from typing import Any

from waddlebot.base.errors import Away, Later, ProviderError, Refused, Unclear
from waddlebot.web.http import HTTPResponse, retry_after_s
from waddlebot.web.provider import ASKS_TO_WAIT, failure_of

from .asking import MAX_STREAM_S, Answer, Asked, FinishReason, Gathered, Message, Piece, Usage, within
from .capped import capped_async_transport, capped_transport

CONNECT_TIMEOUT_S = 3.0


class OllamaProvider:
    """`bearer` is for an Ollama behind a proxy that asks for one. Loads the library when it is first asked."""

    name = "ollama"
    title = "Ollama"

    def __init__(self, *, base_url: str, bearer: str | None, model: str) -> None:
        self.default_model = model
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}

    def answer(self, asked: Asked, *, key: str | None, timeout_s: float) -> Answer:
        gathered, deadline = Gathered(asked), time.monotonic() + timeout_s
        with contextlib.closing(self.stream(asked, key=key, timeout_s=timeout_s)) as pieces:
            for piece in pieces:
                # The library's timeout is for each read, and a model may write for ever.
                within(deadline, time.monotonic)
                gathered.add(piece)
        answer = gathered.answer()
        if not answer.text.strip():
            raise Unclear("no text")
        return answer

    def stream(self, asked: Asked, *, key: str | None, timeout_s: float) -> Generator[Piece, None, None]:  # noqa: ARG002
        deadline = time.monotonic() + MAX_STREAM_S
        model = asked.model or self.default_model
        chat = self._chat(asked, model, timeout_s)
        ended = False
        for chunk in chat.stream([self._message(each) for each in asked.messages]):
            within(deadline, time.monotonic)
            piece = _piece(chunk, model)
            ended = ended or piece.finish_reason is not None
            yield piece
        if not ended:
            raise Unclear("the stream stopped")

    def list_models(self, *, key: str | None, timeout_s: float) -> Sequence[str]:  # noqa: ARG002
        with self._httpx.Client(
            transport=self._shared(self._transport), headers=self._headers, timeout=self._timeout(timeout_s)
        ) as client:
            response = client.get(f"{self._base_url}/api/tags")
        response.raise_for_status()
        return sorted(str(each["name"]) for each in response.json()["models"])

    def translate(self, err: Exception) -> ProviderError | None:
        httpx, ollama = self._httpx, self._ollama
        if isinstance(err, ProviderError):
            return err
        if isinstance(err, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError):
            # The library makes a ConnectionError of its own of one that was refused.
            return Away(type(err).__name__)
        if isinstance(err, httpx.HTTPStatusError):
            return failure_of(err.response.status_code, words="no")
        if isinstance(err, ollama.ResponseError):
            return _of_status(err.status_code)
        if isinstance(err, httpx.HTTPError | ValueError | TypeError | KeyError):
            return Unclear(type(err).__name__)
        return None

    def _chat(self, asked: Asked, model: str, timeout_s: float) -> Any:
        # Made anew for each question, because its timeout is its own; the connections are shared.
        return self._chat_ollama(
            model=model,
            base_url=self._base_url,
            temperature=asked.temperature,
            num_predict=asked.max_tokens,
            stop=list(asked.stop) or None,
            client_kwargs={"headers": self._headers, "timeout": self._timeout(timeout_s), "follow_redirects": False},
            sync_client_kwargs={"transport": self._shared(self._transport)},
            async_client_kwargs={"transport": self._async_transport},
        )

    def _message(self, message: Message) -> Any:
        kinds = {"system": "SystemMessage", "user": "HumanMessage", "assistant": "AIMessage"}
        return getattr(self._messages, kinds[message.role])(message.content)

    def _timeout(self, timeout_s: float) -> Any:
        return self._httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))

    def _shared(self, transport: Any) -> Any:
        """A transport that whoever uses it does not close. Raises: Later, because the library drops Retry-After."""

        def handle_request(request: Any) -> Any:
            response = transport.handle_request(request)
            if response.status_code in ASKS_TO_WAIT:
                after = retry_after_s(HTTPResponse(response.status_code, b"", dict(response.headers)))
                response.close()
                raise Later(f"HTTP {response.status_code}", status=response.status_code, retry_after_s=after or 1.0)
            return response

        shared = self._httpx.BaseTransport()
        shared.handle_request = handle_request
        return shared

    @cached_property
    def _transport(self) -> Any:
        return capped_transport(self._httpx)

    @cached_property
    def _async_transport(self) -> Any:
        """Nobody uses it; the library would make one of its own, which takes longer than all else."""
        return capped_async_transport(self._httpx)

    @cached_property
    def _chat_ollama(self) -> Any:
        from langchain_ollama import ChatOllama

        return ChatOllama

    @cached_property
    def _messages(self) -> Any:
        from langchain_core import messages

        return messages

    @cached_property
    def _ollama(self) -> Any:
        import ollama

        return ollama

    @cached_property
    def _httpx(self) -> Any:
        import httpx

        return httpx


def _of_status(status: int) -> ProviderError:
    if status == 404:
        return Refused("HTTP 404", status=404, words="it has no such model")
    words = {401: "the key is not taken", 403: "the key may not do that"}.get(status, "no")
    # An error in the middle of a stream has no status of its own.
    return failure_of(status, words=words) or Unclear(f"HTTP {status}")


def _piece(chunk: Any, model: str) -> Piece:
    text = chunk.content if isinstance(chunk.content, str) else ""
    reason = (chunk.response_metadata or {}).get("done_reason")
    usage = chunk.usage_metadata
    counted = Usage(int(usage["input_tokens"]), int(usage["output_tokens"])) if usage else None
    finish: FinishReason | None = None if not reason else "length" if reason == "length" else "stop"
    return Piece(text, model, counted, finish)
