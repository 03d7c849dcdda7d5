"""The server. Source: https://platform.openai.com/docs/api-reference/chat and the openai library's own types."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

from aiohttp import web

from ..models import Fault, Script, answer_badly, count_tokens, words_of
from ..server import AsyncLoopbackServer

KEY = "sk-simulated-0123456789abcdefghijklmnopqrstuvwxyz"
MODELS = ("gpt-5.6-terra", "gpt-5.6-mini", "gpt-4o-mini", "o4-mini")
# What OpenAI says for each status; `type` and `code` are what clients go by.
ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "Invalid request."),
    401: (
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided: {key}.",
    ),
    403: (
        "invalid_request_error",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    404: (
        "invalid_request_error",
        "model_not_found",
        "The model `{model}` does not exist.",
    ),
    429: (
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for {model} on requests per min (RPM): Limit 3, Used 3.",
    ),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable", None, "The engine is currently overloaded, please try again later."),
}


class OpenAISimulator(AsyncLoopbackServer):
    """`keys` are those that it takes; `refuses` are parameters that models of a newer kind do not know any more."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.script = Script()
        self.keys = {KEY}
        self.models = list(MODELS)
        # By model: parameter → (code, message), as reasoning models answer 400 to some.
        self.refuses: dict[str, dict[str, str]] = {
            "o4-mini": {"max_tokens": "unsupported_parameter", "temperature": "unsupported_value"}
        }

    def settings(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": KEY}

    def forget(self) -> None:
        self.script.forget()
        self.keys = {KEY}

    def make_app(self) -> web.Application:
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._list_models)
        return app

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        if key_error := self._find_key_error(request):
            return key_error
        listed = [
            {"id": each, "object": "model", "created": 1_700_000_000, "owned_by": "openai"} for each in self.models
        ]
        return web.json_response({"object": "list", "data": listed})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.script.note(request.headers, asked)
        with self.script:
            if key_error := self._find_key_error(request):
                return key_error
            fault = self.script.take_fault()
            if fault is not None and (answered := await self._fail(request, fault, asked)):
                return answered
            if refused := self._find_refused(asked):
                return refused
            await asyncio.sleep(self.script.first_s)
            text = self.script.say(asked["messages"])
            if asked.get("stream"):
                stops = fault is not None and fault.kind == "stops"
                with contextlib.suppress(ConnectionResetError):  # Whoever asked may have heard enough.
                    return await self._stream(request, asked, text, stops=stops)
                return web.Response()
            return web.json_response(self._whole(asked, text))

    def _find_key_error(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return None if key in self.keys else _error(401, key=key)

    def _find_refused(self, asked: dict[str, Any]) -> web.Response | None:
        if asked["model"] not in self.models:
            return _error(404, model=asked["model"])
        for name, code in self.refuses.get(asked["model"], {}).items():
            if name in asked:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                error = {"message": message, "type": "invalid_request_error", "param": name, "code": code}
                return web.json_response({"error": error}, status=400)
        return None

    async def _fail(self, request: web.Request, fault: Fault, asked: dict[str, Any]) -> web.StreamResponse | None:
        if isinstance(fault.kind, int):
            return _error(fault.kind, headers=fault.headers, model=asked["model"], key="sk-sim***")
        if fault.kind == "no credit":
            error = {"type": "insufficient_quota", "code": "insufficient_quota", "param": None}
            message = "You exceeded your current quota, please check your plan and billing details."
            return web.json_response({"error": {"message": message, **error}}, status=429)
        if fault.kind == "empty":
            return web.json_response({**self._whole(asked, ""), "choices": []})
        if fault.kind == "odd shape":
            return web.json_response({"hello": ["world"]})
        if fault.kind in ("no content", "refusal"):
            whole = self._whole(asked, "")
            message = {"role": "assistant", "content": None}
            message |= {"refusal": "I can't help with that."} if fault.kind == "refusal" else {}
            whole["choices"][0] |= {"message": message, "finish_reason": "content_filter"}
            return web.json_response(whole)
        return await answer_badly(request, fault)

    def _whole(self, asked: dict[str, Any], text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**_head(asked, "chat.completion"), "choices": [choice], "usage": _usage(asked, text)}

    async def _stream(
        self, request: web.Request, asked: dict[str, Any], text: str, *, stops: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        words = words_of(text)
        await self._send(response, asked, {"role": "assistant", "content": ""})
        for word in words[: len(words) // 2] if stops else words:
            await self._send(response, asked, {"content": word})
            await asyncio.sleep(self.script.word_s)
        if stops:
            assert request.transport is not None
            request.transport.close()
            return response
        await self._send(response, asked, {}, finish_reason="stop")
        if (asked.get("stream_options") or {}).get("include_usage"):
            chunk = {**_head(asked, "chat.completion.chunk"), "choices": [], "usage": _usage(asked, text)}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _send(self, response: Any, asked: dict[str, Any], delta: Any, finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**_head(asked, "chat.completion.chunk"), "choices": [choice]}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())


def _head(asked: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-sim", "object": kind, "created": int(time.time()), "model": f"{asked['model']}-2026-01-01"}


def _usage(asked: dict[str, Any], text: str) -> dict[str, int]:
    prompt = sum(count_tokens(str(each["content"])) + 4 for each in asked["messages"])
    completion = count_tokens(text)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _error(status: int, *, headers: dict[str, str] | None = None, model: str = "", key: str = "") -> web.Response:
    kind, code, message = ERRORS.get(status, ("server_error", None, f"HTTP {status}"))
    error = {"message": message.format(model=model, key=key), "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)
