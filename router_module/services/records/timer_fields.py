"""What a timer consists of, wherever it comes from: chat, the API or another fleet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Attributed
from waddlebot.base.wire import shaped

Name = Annotated[str, shaped(r'^[^\s"]+$', "one word, without quotation marks", min_length=1, max_length=50)]
Message = Annotated[str, shaped(r"\S", "a text", min_length=1, max_length=400)]
Minutes = Annotated[int, Field(ge=1, le=1440)]
MinLines = Annotated[int, Field(ge=0, le=1000)]
EntityText = Annotated[str, StringConstraints(max_length=255)]


class TimerFields(Attributed):
    name: Name
    message: Message
    minutes: Minutes
    min_lines: MinLines = 5
    only_live: bool = True
    entity_id: EntityText | None = None
    is_active: bool = True
