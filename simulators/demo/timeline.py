"""What is to be seen in the three chats, one line after the other."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..twitch.feed import Feed

# chat is a person's line, bot the bot's, notice something that happened, problem what went wrong in the demo itself.
Kind = Literal["chat", "bot", "notice", "problem"]
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Line:
    """`reply_to` is the id of the line that is answered; a private line is seen by one person only."""

    platform: str
    kind: Kind
    text: str
    name: str = ""
    level: str = ""
    reply_to: str = ""
    is_private: bool = False
    id: str = field(default_factory=lambda: f"line-{next(_numbers)}")


Show = Callable[[Line], None]


class Timeline(Feed):
    """The last lines of all chats. `show` may be called from any thread."""

    def __init__(self) -> None:
        super().__init__()
        # Numbers begin again with each process; a page that knows another one's begins again too.
        self.started = str(int(time.time() * 1000))

    def show(self, line: Line) -> None:
        self.add("line", asdict(line))

    def after(self, last_id: str) -> list[dict[str, Any]]:
        """What came after an id that `id_of` gave; everything for one of another process."""
        started, _, number = last_id.partition("-")
        return self.since(int(number) if started == self.started and number.isdecimal() else 0)

    def id_of(self, number: int) -> str:
        return f"{self.started}-{number}"
