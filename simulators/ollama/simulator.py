"""The server. Source: https://github.com/ollama/ollama/blob/main/docs/api.md and the ollama library's own types."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ..models import Fault, Script, answer_badly, count_tokens, words_of
from ..server import AsyncLoopbackServer


class OllamaSimulator(AsyncLoopbackServer):
    """Answers for the models in `models` only, as Ollama does for those that were pulled."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.script = Script()
        self.models = ["llama3.2", "qwen3:4b"]

    def settings(self) -> dict[str, str]:
        return {"AI_HOST": self.url}

    def forget(self) -> None:
        self.script.forget()

    def make_app(self) -> web.Application:
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_post("/api/chat", self._chat)
        app.router.add_get("/api/tags", self._list_tags)
        return app

    async def _list_tags(self, _: web.Request) -> web.StreamResponse:
        tags = [
            {"name": each, "model": each, "size": 2_019_393_189, "details": {"family": "llama"}} for each in self.models
        ]
        return web.json_response({"models": tags})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.script.note(request.headers, asked)
        with self.script:
            fault = self.script.take_fault()
            if fault is not None and (answered := await self._fail(request, fault, asked)):
                return answered
            if asked["model"] not in self.models:
                return web.json_response({"error": f"model '{asked['model']}' not found"}, status=404)
            await asyncio.sleep(self.script.first_s)
            text = self.script.say(asked["messages"])
            with contextlib.suppress(ConnectionResetError):  # Whoever asked may have heard enough.
                stops = fault is not None and fault.kind == "stops"
                return await self._stream(request, asked, text, stops=stops)
            return web.Response()

    async def _fail(self, request: web.Request, fault: Fault, asked: dict[str, Any]) -> web.StreamResponse | None:
        if isinstance(fault.kind, int):
            return web.json_response({"error": f"HTTP {fault.kind}"}, status=fault.kind, headers=fault.headers)
        if fault.kind in ("empty", "no content"):
            # A model that is only being loaded.
            line = {
                **_head(asked),
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "load",
            }
            return web.Response(body=json.dumps(line).encode() + b"\n", content_type="application/x-ndjson")
        return await answer_badly(request, fault)

    async def _stream(
        self, request: web.Request, asked: dict[str, Any], text: str, *, stops: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        words = words_of(text)
        for word in words[: len(words) // 2] if stops else words:
            line = {**_head(asked), "message": {"role": "assistant", "content": word}, "done": False}
            await response.write(json.dumps(line).encode() + b"\n")
            await asyncio.sleep(self.script.word_s)
        if stops:
            assert request.transport is not None
            request.transport.close()
            return response
        figures = {"prompt_eval_count": sum(count_tokens(each["content"]) for each in asked["messages"])}
        figures |= {"eval_count": count_tokens(text), "total_duration": 1_000_000, "eval_duration": 1_000_000}
        line = {**_head(asked), "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
        await response.write(json.dumps({**line, **figures}).encode() + b"\n")
        await response.write_eof()
        return response


def _head(asked: dict[str, Any]) -> dict[str, Any]:
    return {"model": asked["model"], "created_at": datetime.now(UTC).isoformat()}
