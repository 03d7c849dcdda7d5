"""What the tests of all modules ask of this one (waddlebot.testing.owed)."""

from __future__ import annotations

from typing import Any

PREFIX = "/ai"


def asking(**body: Any) -> Any:
    return lambda world: {"body": body, "query": {"community_id": world.mine.slug}}


def at(world: Any) -> dict[str, Any]:
    return {"query": {"community_id": world.mine.slug}}


SAMPLES = {
    f"{method} {door}/{path}": sample
    for door in ("/ai", "/api/ai/v1")
    for method, path, sample in [
        ("POST", "chat/completions", asking(messages=[{"role": "user", "content": "hello"}])),
        ("POST", "generate", lambda world: {"body": {"prompt": "hello", "community_id": world.mine.slug}}),
        ("GET", "models", at),
        ("GET", "providers", at),
        ("GET", "usage", at),
        ("GET", "config", at),
        ("PUT", "config", lambda world: {"body": {"temperature": 0.5, "community_id": world.mine.slug}}),
    ]
}
