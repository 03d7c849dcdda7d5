"""For tests of a handler, without a fleet: `assert ask(handler, "2d6") == "You rolled 7."`"""

from __future__ import annotations

import json
from typing import Any

from .context import Context, State, StateError
from .handlers import Function, as_reply

MAX_KEYS, MAX_BYTES = 100, 8192


class MemoryState(State):
    """State as it is in a fleet, with its limits."""

    def __init__(self) -> None:
        super().__init__(None)
        self.kept: dict[str, str] = {}

    def _ask(self, method: str, key: str, body: Any = None) -> dict[str, Any]:
        if method == "GET":
            return {"value": json.loads(self.kept[key])} if key in self.kept else {}
        if method == "DELETE":
            self.kept.pop(key, None)
            return {}
        text = json.dumps(body["value"], ensure_ascii=False)
        if len(text.encode()) > MAX_BYTES or (key not in self.kept and len(self.kept) >= MAX_KEYS):
            raise StateError(f"At most {MAX_KEYS} keys of {MAX_BYTES} bytes are kept.")
        self.kept[key] = text
        return {}


def call(words: str, *, name: str = "Alice", user_id: int = 1, level: str = "member", **more: Any) -> dict[str, Any]:
    """The event for a command that was followed by these words."""
    return {
        "session_id": "11111111-1111-4111-8111-111111111111",
        "execution_id": "22222222-2222-4222-8222-222222222222",
        "community": {"id": 1, "name": "Demo"},
        "entity": {"entity_id": "console:demo:general", "platform": "console", "server_id": "demo", "channel_id": "g"},
        "user": {
            "id": user_id,
            "platform_user_id": name.lower(),
            "name": name.lower(),
            "display_name": name,
            "level": level,
        },
        "trigger": {"type": "command", "command": "", "prefix": "#", "args": words.split(), "raw": words},
        "settings": {},
        "timeout_ms": 5000,
        **more,
    }


def ask(handler: Function, words: str = "", *, state: MemoryState | None = None, **more: Any) -> str:
    """What a handler says in chat to these words."""
    event = call(words, **more)
    context = Context(event)
    context.state = state or MemoryState()
    reply = as_reply(handler(event, context), event, "test")
    return "\n".join(each["response_data"]["message"] for each in reply.get("responses", []))
