"""What people said, put into a text for a platform whose texts have markup: it is shown there as it was written.

Sources: https://support.discord.com/hc/en-us/articles/210298617, https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .chat import ZERO_WIDTH_SPACE

# A link that Discord finds stays as it is: a backslash would become a part of it. What stands in brackets before one
# is escaped, so that no other words can stand for it.
LINK = r"https?://[^\s<]+[^<.,:;\"'\])\s]"
# An underscore within a word is none; neither is what only counts at the start of a line anywhere else.
DISCORD = re.compile(
    rf"(?P<link>{LINK})|[\\*`]|(?<![^\W_])_|_(?![^\W_])|~~|\|\||\[(?=[^\]]*\]\s*\()|\](?=\s*\()|<(?=[@#:/]|[at]:|id:)"
    r"|^[ \t]*(?:[#>-]|\d+(?=\.))",
    re.MULTILINE,
)
SLACK = re.compile(r"(?<![^\W_])[*_~`]|[*_~`](?![^\W_])|^[ \t]*>", re.MULTILINE)
# Without one of these a text has no markup.
SIGNS = re.compile(r"[\\*`_~|\[\]<>#]|^[ \t]*(?:-|\d+\.)", re.MULTILINE)


def as_written(text: str, platform: str) -> str:
    """A text as its platform has to be given it, so that people read what stands here and nothing of it is markup."""
    if platform not in ("discord", "slack") or not SIGNS.search(text):
        return text
    return DISCORD.sub(_escape, text) if platform == "discord" else SLACK.sub(_part, text)


def chat_data(data: Mapping[str, Any], platform: str, *, said: Iterable[str] = ()) -> dict[str, Any]:
    """What of a chat response goes to its platform (contracts §5).

    `markup: false` has none of its own. Where nothing was said about it what it has stays, but for the words of `said`,
    which are people's names and what they typed. `markup: true` has seen to that itself.
    """
    message, markup = data["message"], data.get("markup")
    if markup is False:
        message = as_written(message, platform)
    elif markup is None:
        message = _with_words_as_written(message, platform, [*said, *data.get("said", ())])
    return {name: value for name, value in data.items() if name not in ("markup", "said")} | {"message": message}


def _with_words_as_written(text: str, platform: str, words: Iterable[str]) -> str:
    escaped = {word: as_written(word, platform) for word in words if any(each.isalnum() for each in word)}
    changed = sorted((word for word in escaped if escaped[word] != word), key=len, reverse=True)
    if not changed:
        return text
    found = re.compile(r"(?<!\\)(?:" + "|".join(map(re.escape, changed)) + ")")
    return found.sub(lambda each: escaped[each[0]], text)


def _escape(found: re.Match[str]) -> str:
    if found["link"]:
        return found[0]
    head = found[0].rstrip("#>-*0123456789") if found[0][:1].isspace() else ""
    sign = found[0][len(head) :]
    if sign.isdigit():
        return f"{head}{sign}\\"  # `1\.` is no list.
    return head + "".join("\\" + each for each in sign)


def _part(found: re.Match[str]) -> str:
    """Slack has no way to escape markup; it counts only where it touches what it marks."""
    return "".join(f"{ZERO_WIDTH_SPACE}{each}{ZERO_WIDTH_SPACE}" for each in found[0])
