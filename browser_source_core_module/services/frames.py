"""What goes over a socket, and how the HTTP side tells the hubs of it (contracts §8)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

SOURCE_TYPES = ("ticker", "media", "general")
# A page with all three, and the token that opens each of them.
ALL = "all"
# Items go out by this channel, `<community>:<source type>` at its end; the message is `<seq> <frame>`.
ITEMS = "waddlebot:overlay:item:"
NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
# What makes hubs look into the database: names of caches that nobody keeps, on the fleet's own invalidation channel.
QUEUES = "overlay_queues"
TOKENS = "overlay_tokens"
# What a hub rings when the router is to be told what became of a track.
PLAYBACK = "overlay_playback"


@dataclass(frozen=True, slots=True)
class Source:
    """One overlay of one community: what has a queue, and a room at each hub."""

    community_id: int
    source_type: str

    def __str__(self) -> str:
        return f"{self.community_id}:{self.source_type}"

    @classmethod
    def parse(cls, text: str) -> Source:
        """Raises: ValueError."""
        community_id, _, source_type = text.partition(":")
        if source_type not in SOURCE_TYPES or not NUMBER.fullmatch(community_id):
            raise ValueError("not a source")
        return cls(int(community_id), source_type)


def read_item(message: str) -> tuple[int, str]:
    """An item's number and its frame, as the HTTP side tells of it. Raises: ValueError."""
    number, _, frame = message.partition(" ")
    if not NUMBER.fullmatch(number) or not frame.startswith("{"):
        raise ValueError("not a number and a frame")
    return int(number), frame


def item_frame(
    seq: int,
    item_id: str,
    content: dict[str, Any],
    *,
    display_s: float,
    is_test: bool,
    expires_in_s: float,
) -> str:
    return as_text(
        {
            "type": "item",
            "seq": seq,
            "item_id": item_id,
            "action": content["action"],
            "data": content["data"],
            "display_s": display_s,
            "test": is_test,
            "expires_in_s": round(expires_in_s, 1),
        }
    )


def control_frame(number: int, action: str, *, seq: int | None = None, note: str = "") -> str:
    frame: dict[str, Any] = {"type": "control", "number": number, "action": action}
    if seq is not None:
        frame["seq"] = seq
    return as_text({**frame, "note": note} if note else frame)


def as_text(frame: dict[str, Any]) -> str:
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False)
