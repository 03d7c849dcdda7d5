"""!overlay: moderators run the overlays from chat."""

from __future__ import annotations

from waddlebot.base.errors import UsageError
from waddlebot.base.text import fold
from waddlebot.module.interaction import Call
from waddlebot.web.lists import Page

from ..services.audience_service import AudienceService
from ..services.browser_source_service import BrowserSourceService, Control, NothingToReplay
from ..services.frames import QUEUES, SOURCE_TYPES, Source


class OverlayChat:
    def __init__(self, overlays: BrowserSourceService, audience: AudienceService) -> None:
        self._overlays = overlays
        self._audience = audience

    def skip(self, call: Call, which: str = "") -> str:
        skipped = [each for each in self._sources(call, which) if self._control(call, each, "skip") is not None]
        return f"Skipped on {_names(skipped)}." if skipped else "Nothing is being shown."

    def pause(self, call: Call, which: str = "") -> str:
        sources = self._sources(call, which)
        for source in sources:
            self._control(call, source, "pause")
        return f"Paused: {_names(sources)}. What comes now waits for !overlay resume."

    def resume(self, call: Call, which: str = "") -> str:
        sources = self._sources(call, which)
        for source in sources:
            self._control(call, source, "resume")
        return f"Running again: {_names(sources)}."

    def clear(self, call: Call, which: str = "") -> str:
        sources = self._sources(call, which)
        for source in sources:
            self._control(call, source, "clear")
        return f"Cleared: {_names(sources)}."

    def replay(self, call: Call, which: str = "general") -> str:
        (source,) = self._sources(call, which)
        try:
            self._overlays.replay(call.db, source, item_id=None, by=call.user_name)
        except NothingToReplay:
            return f"Nothing was shown on {source.source_type} yet."
        call.invalidate(QUEUES, source)
        return f"The last {source.source_type} comes again."

    def status(self, call: Call) -> str:
        return " · ".join(self._status(call, source) for source in self._sources(call, ""))

    def _status(self, call: Call, source: Source) -> str:
        count = self._overlays.list_history(call.db, source, Page(limit=1), state="queued").total
        connections, hidden = self._audience.connections(source)
        seen = "open in OBS" if connections > hidden else "hidden in OBS" if connections else "not open anywhere"
        paused = ", paused" if self._overlays.is_paused(call.db, source) else ""
        return f"{source.source_type}: {seen}{paused}" + (f", {count} waiting" if count else "")

    def _control(self, call: Call, source: Source, action: Control) -> int | None:
        call.invalidate(QUEUES, source)
        return self._overlays.control(call.db, source, action, by=call.user_name)

    @staticmethod
    def _sources(call: Call, which: str) -> list[Source]:
        chosen = fold(which)
        if chosen and chosen not in SOURCE_TYPES:
            raise UsageError(f"There are three overlays: {', '.join(SOURCE_TYPES)}.")
        return [Source(call.community_id, kind) for kind in SOURCE_TYPES if chosen in ("", kind)]


def _names(sources: list[Source]) -> str:
    return ", ".join(source.source_type for source in sources)
