"""A module of somebody else's, as small as a real one can be: a die, a song and a line on the stream.

It knows the fleet by its contracts only. It registers with a key of its own, the router posts its calls here, signed,
and what it answers is said in chat and shown on the overlays. A call that comes twice, which a crash can cause, is
answered the same.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

NAME = "extras"
PATH = "/extras"
OLDEST_S = 300
DEFAULT_SIDES, MAX_SIDES = 6, 1000
TICKER_S, SONG_S = 9, 20

Call = Mapping[str, Any]
Responses = list[dict[str, Any]]


def registration(url: str) -> dict[str, Any]:
    """What is posted to /api/modules/register. The answer has the secret that calls are signed with."""
    own = {"type": "webhook", "location_url": url, "prefix": "#", "timeout": 5}
    return {
        "module_name": NAME,
        "module_version": "1.0",
        "endpoint_url": "",
        "rotate_webhook_secret": True,
        "commands": [
            {**own, "command": "roll", "usage": "[sides]", "description": "Roll a die"},
            {**own, "command": "song", "usage": "<title>", "description": "Show a song on the stream"},
            {
                **own,
                "command": "shout",
                "usage": "<text>",
                "description": "Run a line along the bottom of the stream",
                "level": "moderator",
            },
        ],
    }


def is_authentic(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the router signed this, and lately."""
    timestamp = headers.get("X-WaddleBot-Timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > OLDEST_S:
        return False
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={digest}".encode(), headers.get("X-WaddleBot-Signature", "").encode())


def reply(call: Call) -> dict[str, Any]:
    """The answer to a call."""
    handle = COMMANDS.get(call["trigger"]["command"])
    return {
        "session_id": call["session_id"],
        "execution_id": call["execution_id"],
        "module_name": NAME,
        "success": True,
        "responses": handle(call) if handle else [],
    }


def chat(message: str, *, threaded: bool = False) -> dict[str, Any]:
    return {"response_action": "chat", "response_data": {"message": message, "reply": threaded}}


def ticker(text: str, style: str = "success") -> dict[str, Any]:
    return {"response_action": "ticker", "response_data": {"text": text, "style": style, "display_s": TICKER_S}}


def _name(call: Call) -> str:
    user = call["user"]
    return str(user.get("display_name") or user.get("name") or "Somebody")


def _roll(call: Call) -> Responses:
    """A die that falls the same way when the same call comes again."""
    first = (call["trigger"]["args"] or [""])[0]
    sides = min(int(first), MAX_SIDES) if first.isdecimal() and int(first) > 1 else DEFAULT_SIDES
    rolled = random.Random(call["execution_id"]).randint(1, sides)
    return [chat(f"{_name(call)} rolls a {rolled} of {sides}.", threaded=True)]


def _song(call: Call) -> Responses:
    title = " ".join(call["trigger"]["args"])[:80] or "Waddle On"
    song = {
        "media_type": "music",
        "title": title,
        "artist": "The Emperors",
        "album": "Songs from the Ice",
        "duration_ms": SONG_S * 1000,
        "requested_by": _name(call),
        "display_s": SONG_S,
    }
    return [{"response_action": "media", "response_data": song}, chat(f"Now playing: {title}", threaded=True)]


def _shout(call: Call) -> Responses:
    text = " ".join(call["trigger"]["args"])[:180]
    return [ticker(text, "info")] if text else [chat("What shall I shout? #shout <text>", threaded=True)]


COMMANDS: dict[str, Callable[[Call], Responses]] = {"roll": _roll, "song": _song, "shout": _shout}
