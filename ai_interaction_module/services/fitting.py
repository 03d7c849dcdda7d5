"""What a model wrote, as it can be said on a platform: its length, its markup, and none of what is not for people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from waddlebot.base.wire import for_chat

Markup = Literal["none", "discord", "slack"]
# Shorter than a platform's own limits, so that one answer is one message, whatever the router puts around it.
LIMITS = {"twitch": 450, "discord": 1_900, "slack": 2_900}
OTHER_LIMIT = 1_000
MARKUPS: dict[str, Markup] = {"discord": "discord", "slack": "slack"}
DESCRIBED = {
    "none": "plain text without markup on one line",
    "discord": "Discord's markdown",
    "slack": "Slack's mrkdwn",
}
# What reasoning models think aloud.
THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
QUOTED = re.compile(r"</?(?:chat|event)\b[^>]*>", re.IGNORECASE)
FENCE = re.compile(r"^[ \t]*```[^\n`]*\n?", re.MULTILINE)
LINK = re.compile(r"!?\[([^\]\n]*)\]\((https?://[^)\s]+)\)")
HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE)
BULLET = re.compile(r"^[ \t]*[-*+][ \t]+", re.MULTILINE)
BOLD = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", re.DOTALL)
EMPHASIS = re.compile(r"(?<![\w*])([*_])(?=\S)([^*_\n]+?)(?<=\S)\1(?![\w*])")
STRUCK = re.compile(r"~~(?=\S)(.+?)(?<=\S)~~", re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*(?=\s|$)|\n")
# Shorter than half of what there is room for, a cut at a sentence would lose more than it spares.
LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a platform takes."""

    limit: int
    markup: Markup

    @classmethod
    def on(cls, platform: str) -> Fitted:
        return cls(LIMITS.get(platform, OTHER_LIMIT), MARKUPS.get(platform, "none"))

    @property
    def described(self) -> str:
        return DESCRIBED[self.markup]

    def fit(self, text: str, *, prefix: str = "") -> str:
        """A model's text with what stands before it; empty when nothing is left to say."""
        text = QUOTED.sub("", THOUGHTS.sub("", text))
        text = for_chat(_plain(text) if self.markup == "none" else _for_slack(text) if self.markup == "slack" else text)
        text = " ".join(text.split()) if self.markup == "none" else re.sub(r"\n{3,}", "\n\n", text).strip()
        return prefix + cut(text, self.limit - len(prefix)) if text else ""


def cut(text: str, limit: int) -> str:
    """The whole sentences of a text that fit, or else its words or characters and a sign that there was more."""
    if len(text) <= limit:
        return text
    ends = [each.end() for each in SENTENCE_END.finditer(text, 0, limit)]
    if ends and ends[-1] >= limit * LEAST_SHARE:
        return text[: ends[-1]].rstrip()
    head = text[: limit - 1]
    space = head.rfind(" ")
    return (head[:space] if space >= limit * LEAST_SHARE else head).rstrip() + "…"


def _plain(text: str) -> str:
    text = LINK.sub(lambda found: f"{found[1]} {found[2]}".strip(), FENCE.sub("", text))
    text = BULLET.sub("• ", HEADING.sub("", text))
    text = STRUCK.sub(r"\1", EMPHASIS.sub(r"\2", BOLD.sub(r"\2", text)))
    return CODE.sub(r"\1", text)


def _for_slack(text: str) -> str:
    """Slack's bold is one star, its links are written otherwise, and it has no headings."""
    text = LINK.sub(lambda found: f"{found[1]} {found[2]}".strip(), text)
    text = BULLET.sub("• ", HEADING.sub("", text))
    return STRUCK.sub(r"~\1~", BOLD.sub(r"*\2*", text))
