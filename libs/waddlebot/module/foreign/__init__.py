"""What other bots give away of a channel, as items of our modules' imports; no database, no network.

What cannot be carried is listed with its reason, as is what works otherwise here (docs/adr/0056).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from . import nightbot, sheets, streamelements
from .reading import BadFile, File, Remark, Translation

SOURCES: Mapping[str, Callable[[Sequence[File]], Translation]] = {
    nightbot.SOURCE: nightbot.translate,
    streamelements.SOURCE: streamelements.translate,
    sheets.SOURCE: sheets.translate,
}

__all__ = ["SOURCES", "BadFile", "File", "Remark", "Translation"]
