"""What a live notice consists of, wherever it comes from: chat, the API or another fleet."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints
from waddlebot.base.contracts import Attributed, EntityIdText
from waddlebot.base.wire import shaped

MESSAGE = "{channel} is live: {title} ({game}) {url}"
END_MESSAGE = "{channel} is off again, after {uptime}."
NoticeText = Annotated[str, shaped(r"\S", "a text", min_length=1, max_length=500)]
EndText = Annotated[str, StringConstraints(max_length=500)]


class LiveNoticeFields(Attributed):
    """`entity_id` is where it is told; `stream_entity_id` of which stream, without it of any of the community's."""

    entity_id: EntityIdText
    stream_entity_id: EntityIdText | None = None
    message: NoticeText = MESSAGE
    # Empty: nothing is told of its end.
    end_message: EndText = END_MESSAGE
    is_active: bool = True
