"""What an alert is: which events have one, what it says, and which of several it is. Pure; no database."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from waddlebot.base import variables
from waddlebot.base.contracts import AlertAnimation, AlertLook, AlertPosition
from waddlebot.base.variables import ANYWHERE, OF_A_PERSON, OF_A_STREAM

# What an event's number is called in its data. Tiers of Twitch are 1000, 2000 and 3000.
AMOUNT_IN = {
    "cheer": "bits",
    "donation": "amount",
    "raid": "viewers",
    "host": "viewers",
    "subgift": "total",
    "resub": "months",
    "subscription": "tier",
}
EVENTS = ("follow", "subscription", "resub", "subgift", "cheer", "raid", "host", "donation", "boost", "member_join")
# What only an event knows, beside what any text may say of a person and a stream.
OWN = ("amount", "months", "message")
IN_ALERTS = ANYWHERE | OF_A_STREAM | OF_A_PERSON | {"touser", "count"}
# What the built-in texts count, and what others write in their place.
COUNTED = "(?:raider|viewer|bit|sub|gift|month|subscription)"
ANONYMOUS = "Anonymous"
# For events that somebody tries out without saying how much.
SAMPLES: dict[str, dict[str, Any]] = {
    "cheer": {"bits": 500},
    "donation": {"amount": 5, "currency": "EUR"},
    "raid": {"viewers": 42},
    "host": {"viewers": 42},
    "subgift": {"total": 5},
    "resub": {"months": 7},
    "subscription": {"tier": "1000"},
}
SAMPLE_NAME = "PenguinFan42"
SAMPLE_MESSAGES = {"resub": "Still waddling along!", "donation": "For fish."}


@dataclass(frozen=True, slots=True)
class Alert:
    """What is shown and said when something happens. Amounts are bits, viewers, gifts, months, tiers or money. One with
    `labels` is for people who have any of these, and before those for everybody."""

    event: str
    title: str = "{user}"
    text: str = ""
    chat_message: str = ""
    platforms: Sequence[str] = ()
    labels: Sequence[str] = ()
    min_amount: float | None = None
    max_amount: float | None = None
    weight: float = 1
    image: str = ""
    is_video: bool = False
    sound: str = ""
    volume: int = 50
    accent: str = ""
    animation: AlertAnimation = "zoom"
    position: AlertPosition = ""
    display_s: float = 7
    is_active: bool = True
    # Of a community's own: which it is, and how often it was shown.
    id: int | None = None
    shown_count: int = 0

    @property
    def counts(self) -> bool:
        """Whether it says how often it was shown."""
        return "count" in self._names

    @property
    def looked_up(self) -> frozenset[str]:
        """Its variables that somebody has to look up for it."""
        return self._names & variables.LOOKED_UP

    @property
    def _names(self) -> frozenset[str]:
        return variables.read(f"{self.title} {self.text} {self.chat_message}").names

    def fits(self, happening: Happening) -> bool:
        amount = happening.amount
        return (
            self.is_active
            and self.event == happening.event
            and (not self.platforms or happening.platform in self.platforms)
            and (not self.labels or not happening.labels.isdisjoint(self.labels))
            and (self.min_amount is None or amount >= self.min_amount)
            and (self.max_amount is None or amount <= self.max_amount)
        )


@dataclass(frozen=True, slots=True)
class Happening:
    """An event, as alerts speak of it."""

    event: str
    user: str
    platform: str
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    # What was looked up for the alert's variables.
    known: Mapping[str, str] = field(default_factory=dict)
    # What labels whoever caused it has in the community.
    labels: frozenset[str] = frozenset()

    @property
    def amount(self) -> float:
        """How much it is: 1 where an event has no number, 0 where it should have one."""
        if self.event not in AMOUNT_IN:
            return 1
        amount = _number(self.data.get(AMOUNT_IN[self.event]))
        return _tier(self.data.get("tier")) if self.event == "subscription" else amount

    @property
    def is_part_of_another(self) -> bool:
        """One of the subscriptions that somebody gave: the gift is shown, as one."""
        return self.event == "subscription" and self.data.get("is_gift") in (True, "true")

    @property
    def said(self) -> str:
        """What the person said with it; without the cheermotes, which only say the amount again."""
        if self.event != "cheer":
            return self.message
        return " ".join(word for word in self.message.split() if not re.fullmatch(r"[A-Za-z]+[1-9]\d*", word))

    def words(self) -> dict[str, str]:
        viewers = self.data.get("viewers")
        return {
            **self.known,
            "user": self.user,
            "touser": self.user,
            "amount": f"{_written(self.amount)} {self._currency}".strip(),
            "months": _written(_number(self.data.get("months"))),
            "viewers": self.known.get("viewers", "0") if viewers is None else _written(_number(viewers)),
            "message": self.said,
            "game": str(self.data.get("game") or self.known.get("game") or "")[:100],
        }

    @property
    def _currency(self) -> str:
        return str(self.data.get("currency") or "")[:8] if self.event == "donation" else ""


def choose(alerts: Sequence[Alert], happening: Happening, *, seed: str) -> Alert | None:
    """One of those that fit, by weight; the same one for the same seed, so that a repeated call shows the same."""
    fitting = [each for each in alerts if each.fits(happening)]
    fitting = [each for each in fitting if each.labels] or fitting
    if not fitting:
        return None
    weights = [each.weight for each in fitting]
    return random.Random(seed).choices(fitting, weights if sum(weights) > 0 else None)[0]  # noqa: S311 - variety, no secret


def fill(template: str, happening: Happening, *, platform: str = "") -> str:
    """A template with its variables; what people bring into it is not read again, and no markup on its platform."""
    words = happening.words()
    for name in ("amount", "months", "viewers"):
        if words[name] == "1":
            template = re.sub(rf"(\{{{name}\}} {COUNTED})s\b", r"\1", template)
    filled = variables.read(template).fill(variables.plain(words, platform))
    return " ".join(filled.split())


def remarks(row: Mapping[str, Any]) -> list[str]:
    """What the author of an alert may have overlooked in its texts, a sentence each."""
    texts = (row["title"], row["text"], row["chat_message"])
    return list(dict.fromkeys(said for text in texts for said in variables.remarks_on(text, IN_ALERTS, also=OWN)))


def as_general(alert: Alert, happening: Happening) -> dict[str, Any]:
    """What the general overlay gets to show."""
    says_message = "{message}" in alert.title + alert.text
    look = AlertLook(
        event=alert.event,
        name=happening.user,
        message="" if says_message else happening.said[:500],
        image=alert.image,
        is_video=alert.is_video,
        sound=alert.sound,
        volume=alert.volume,
        accent=alert.accent,
        animation=alert.animation,
        position=alert.position,
    )
    return {
        "kind": "alert",
        "title": fill(alert.title, happening),
        "text": fill(alert.text, happening),
        "alert": look.model_dump(),
        "display_s": alert.display_s,
    }


def as_test(happening: Happening) -> Happening:
    """The same with something to show where it does not say how much: what is tried out has no numbers of its own."""
    field_name = AMOUNT_IN.get(happening.event)
    if field_name is None or field_name in happening.data:
        return happening
    return replace(happening, data={**SAMPLES[happening.event], **happening.data})


def sample_for(alert: Alert) -> Happening:
    """Something that this alert is shown for."""
    data = dict(SAMPLES.get(alert.event, {}))
    if alert.event in AMOUNT_IN:
        name = AMOUNT_IN[alert.event]
        amount = max(_tier(data[name]) if name == "tier" else data[name], alert.min_amount or 0)
        amount = amount if alert.max_amount is None else min(amount, alert.max_amount)
        data[name] = amount * 1000 if name == "tier" else amount
    platform = alert.platforms[0] if alert.platforms else "twitch"
    return Happening(
        alert.event,
        SAMPLE_NAME,
        platform,
        SAMPLE_MESSAGES.get(alert.event, ""),
        data,
        known={"count": str(alert.shown_count + 1)},
        labels=frozenset(alert.labels),
    )


def _number(value: Any) -> float:
    """A number, or the text of one; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return 0
    return number if 0 <= number <= 1e12 else 0


def _tier(value: Any) -> float:
    return max(1, min(3, _number(value) // 1000))


def _written(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:.2f}"


def _defaults() -> tuple[Alert, ...]:
    thanks = "Thanks for the"
    return (
        Alert("follow", text="just followed", chat_message=f"{thanks} follow, {{user}}!", display_s=6),
        Alert("subscription", text="just subscribed", chat_message=f"{thanks} sub, {{user}}!", animation="bounce"),
        Alert(
            "resub",
            text="subscribed again",
            chat_message=f"{thanks} sub, {{user}}!",
            animation="bounce",
            max_amount=1,
        ),
        Alert(
            "resub",
            text="has been here for {months} months",
            chat_message="{months} months! Thanks for the sub, {user}!",
            animation="bounce",
            min_amount=2,
            display_s=8,
        ),
        Alert("subgift", text="gave a sub away", chat_message=f"{thanks} gift, {{user}}!", max_amount=1),
        Alert(
            "subgift",
            text="gave {amount} subs away",
            chat_message="{amount} subs! Thanks for the gifts, {user}!",
            animation="bounce",
            min_amount=2,
            display_s=9,
        ),
        Alert("cheer", text="cheered a bit", chat_message=f"{thanks} bit, {{user}}!", max_amount=1, display_s=6),
        Alert("cheer", text="cheered {amount} bits", chat_message=f"{thanks} {{amount}} bits, {{user}}!", min_amount=2),
        Alert(
            "raid",
            text="is raiding with {viewers} viewers",
            chat_message="Welcome, {viewers} raiders! Thanks for the raid, {user}!",
            accent="#ff4f7b",
            animation="drop",
            min_amount=2,
            display_s=9,
        ),
        Alert(
            "raid",
            text="is raiding",
            chat_message=f"{thanks} raid, {{user}}!",
            accent="#ff4f7b",
            animation="drop",
            max_amount=1,
        ),
        Alert("host", text="is hosting the stream", chat_message=f"{thanks} host, {{user}}!"),
        Alert(
            "donation",
            text="tipped {amount}",
            chat_message=f"{thanks} tip, {{user}}!",
            accent="#2fbf71",
            animation="bounce",
            display_s=8,
        ),
        Alert("boost", text="boosted the server", chat_message=f"{thanks} boost, {{user}}!", accent="#ff73fa"),
        # On a busy server somebody joins every minute: off until somebody wants it.
        Alert("member_join", text="just joined", chat_message="Welcome, {user}!", is_active=False),
    )


DEFAULTS = _defaults()


def default_for(event: str) -> Alert:
    """The built-in alert that a new one of that event begins as: the last, which is for more than one of it."""
    found = [each for each in DEFAULTS if each.event == event]
    return replace(max(found, key=lambda each: each.min_amount or 0), min_amount=None, max_amount=None, is_active=True)
