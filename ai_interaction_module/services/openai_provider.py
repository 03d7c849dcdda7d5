"""OpenAI, and servers that speak its language, by its own library."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from waddlebot.base.errors import Away, ProviderError, Refused, Unclear
from waddlebot.web.http import HTTPResponse, retry_after_s
from waddlebot.web.provider import failure_of

from .asking import MAX_STREAM_S, Answer, Asked, FinishReason, Piece, Usage, estimate, within
from .capped import AnswerTooLong, capped_transport

if TYPE_CHECKING:
    from openai import OpenAI

# A server of one's own may want no key; the library always does.
NO_KEY = "unused"
CONNECT_TIMEOUT_S = 3.0
# What newer models take instead of `max_tokens`.
RENAMED = {"max_tokens": "max_completion_tokens"}
# Codes of a 400 that say that a model does not know a parameter, or takes one value of it only.
NOT_TAKEN = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
FINISHES: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


class OddAnswer(Unclear):
    """The answer is not of the shape that was agreed."""

    code = "odd_answer"


class OpenAIProvider:
    """`api_key` is the operator's. Loads the library when it is first asked."""

    name = "openai"
    title = "OpenAI"

    def __init__(self, *, base_url: str, api_key: str | None, model: str) -> None:
        self.default_model = model
        self._base_url = base_url
        self._api_key = api_key
        # What each model was found not to take: a name to send instead, or "" to leave it out.
        self._dialects: dict[str, dict[str, str]] = {}

    def answer(self, asked: Asked, *, key: str | None, timeout_s: float) -> Answer:
        completion = self._create(asked, key, timeout_s)
        choice = _first_choice(completion)
        message = getattr(choice, "message", None)
        text = getattr(message, "content", None)
        if not isinstance(text, str) or not text.strip():
            raise _no_text(getattr(message, "refusal", None), getattr(choice, "finish_reason", None))
        model = getattr(completion, "model", None) or asked.model or self.default_model
        usage = _usage(completion) or estimate(asked, text)
        return Answer(text, model, usage, _finish(choice) or "stop")

    def stream(self, asked: Asked, *, key: str | None, timeout_s: float) -> Iterator[Piece]:
        deadline = time.monotonic() + MAX_STREAM_S
        chunks = self._create(asked, key, timeout_s, stream=True, stream_options={"include_usage": True})
        if not hasattr(chunks, "close"):
            raise OddAnswer("not a stream")
        ended = False
        with chunks:
            for chunk in chunks:
                within(deadline, time.monotonic)
                piece = _piece(chunk)
                ended = ended or piece.finish_reason is not None
                yield piece
        if not ended:
            raise Unclear("the stream stopped")

    def list_models(self, *, key: str | None, timeout_s: float) -> Sequence[str]:
        listed = self._client(key, timeout_s).models.list()
        data = getattr(listed, "data", None)
        if not isinstance(data, list):
            raise OddAnswer("no list of models")
        return sorted(each.id for each in data if isinstance(getattr(each, "id", None), str))

    def translate(self, err: Exception) -> ProviderError | None:
        """The library's own texts may have a part of the key in them, so none of them is passed on."""
        openai = self._library
        if isinstance(err, openai.APITimeoutError):
            return Unclear("timed out")
        if isinstance(err, openai.APIConnectionError):
            return _of_connection(err.__cause__)
        if isinstance(err, openai.APIStatusError):
            return _of_status(err)
        if isinstance(err, openai.APIError):
            return Unclear(f"said in its stream that it failed: {err.code or type(err).__name__}")
        # It does not look at what it got: JSON that is cut off, a text instead of an object.
        if isinstance(err, ValueError | TypeError | AttributeError | KeyError):
            return OddAnswer(type(err).__name__)
        return None

    def _create(self, asked: Asked, key: str | None, timeout_s: float, **more: Any) -> Any:
        """Ask, and once more without what the model does not take; that is remembered."""
        deadline = time.monotonic() + timeout_s
        model = asked.model or self.default_model
        while True:
            dialect = self._dialects.get(model, {})
            client = self._client(key, within(deadline, time.monotonic))
            try:
                return client.chat.completions.create(**self._arguments(asked, model, dialect), **more)
            except self._library.BadRequestError as err:
                changed = _learn(dialect, err)
                if changed is None:
                    raise
                self._dialects[model] = changed

    def _arguments(self, asked: Asked, model: str, dialect: dict[str, str]) -> dict[str, Any]:
        wanted: dict[str, Any] = {"max_tokens": asked.max_tokens}
        wanted |= {} if asked.temperature is None else {"temperature": asked.temperature}
        wanted |= {"stop": list(asked.stop)} if asked.stop else {}
        named = {dialect.get(name, name): value for name, value in wanted.items()}
        messages = [{"role": each.role, "content": each.content} for each in asked.messages]
        return {"model": model, "messages": messages, **{name: value for name, value in named.items() if name}}

    def _client(self, key: str | None, timeout_s: float) -> OpenAI:
        timeout = self._httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
        return self._shared.with_options(api_key=key or self._api_key or NO_KEY, timeout=timeout)

    @cached_property
    def _shared(self) -> OpenAI:
        http = self._httpx.Client(transport=capped_transport(self._httpx), follow_redirects=False)
        made: OpenAI = self._library.OpenAI(api_key=NO_KEY, base_url=self._base_url, max_retries=0, http_client=http)
        return made

    @cached_property
    def _library(self) -> Any:
        import openai

        return openai

    @cached_property
    def _httpx(self) -> Any:
        import httpx2

        return httpx2


def _learn(dialect: dict[str, str], err: Any) -> dict[str, str] | None:
    """How to speak to a model that refused a parameter; None when it refused something else."""
    name = getattr(err, "param", None)
    if getattr(err, "code", None) not in NOT_TAKEN or not isinstance(name, str):
        return None
    asked_as = next((ours for ours, theirs in dialect.items() if theirs == name), name)
    if asked_as not in ("max_tokens", "temperature", "stop"):
        return None
    # Renamed first, and if that is not taken either, left out.
    return {**dialect, asked_as: RENAMED.get(asked_as, "") if asked_as == name else ""}


def _of_connection(cause: BaseException | None) -> ProviderError:
    if isinstance(cause, AnswerTooLong):
        return cause
    if type(cause).__name__ in ("ConnectError", "ConnectTimeout"):
        return Away(type(cause).__name__)
    return Unclear(type(cause).__name__)


def _of_status(err: Any) -> ProviderError | None:
    status, code = int(err.status_code), err.code
    detail = f"HTTP {status} {code or ''}".rstrip()
    if code == "insufficient_quota":
        # The same status as for too many requests, but waiting does not help.
        return Refused(detail, status=status, words="the account has no credit left")
    if code == "model_not_found" or status == 404:
        return Refused(detail, status=404, words="it has no such model")
    words = {400: "it cannot do that", 401: "the key is not taken", 403: "the key may not do that"}.get(status, "no")
    after = retry_after_s(HTTPResponse(status, b"", dict(err.response.headers))) or 1.0
    return failure_of(status, words=words, retry_after=after, detail=detail)


def _first_choice(completion: Any) -> Any:
    """Raises: OddAnswer. A page instead of JSON comes as a text, and `choices` may be missing, null or empty."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise OddAnswer("no choices")
    return choices[0]


def _no_text(refusal: object, finish_reason: object) -> ProviderError:
    if refusal or finish_reason == "content_filter":
        return Refused("content filter", words="it does not want to answer that")
    return OddAnswer("no text")


def _piece(chunk: Any) -> Piece:
    choices = getattr(chunk, "choices", None)
    model, usage = getattr(chunk, "model", None) or "", _usage(chunk)
    if not isinstance(choices, list):
        raise OddAnswer("no choices in a chunk")
    if not choices:
        return Piece(model=model, usage=usage)
    text = getattr(getattr(choices[0], "delta", None), "content", None)
    return Piece(text if isinstance(text, str) else "", model, usage, _finish(choices[0]))


def _finish(choice: Any) -> FinishReason | None:
    reason = getattr(choice, "finish_reason", None)
    return FINISHES.get(reason, "stop") if isinstance(reason, str) else None


def _usage(answer: Any) -> Usage | None:
    usage = getattr(answer, "usage", None)
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (each if isinstance(each, int) and each >= 0 else None for each in counts)
    return None if prompt is None or completion is None else Usage(prompt, completion)
