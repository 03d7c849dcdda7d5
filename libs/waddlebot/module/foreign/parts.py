"""What both bots have: commands, timers and filters, on their way to our items."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ...base.chat import is_prefixed
from .reading import Translation, one_name
from .variables import Dialect, NotCarried, translate

A_DAY_S, MAX_TIMEOUT_S = 86_400, 1_209_600
MAX_TIMER_CHARS = 400
MAX_TIMER_NAME = 50
MAX_ADDRESSES_CHARS = 2_000
REGULAR = "regular"
ROLES = ("member", "subscriber", "vip", "moderator", "admin")
SAID_PLAINLY = re.compile(r"^/me\s+", re.IGNORECASE)
PLATFORMS = ("twitch", "discord", "slack")


@dataclass(frozen=True, slots=True)
class Level:
    """Who may do something: everybody from this level on; `regulars` where the other bot has those below VIPs."""

    name: str
    regulars: bool = False

    @property
    def shut_out(self) -> tuple[str, ...]:
        return ROLES[: (*ROLES, "owner").index(self.name)]


EVERYBODY = Level("member")
REGULARS = Level("vip", regulars=True)


@dataclass(slots=True)
class Commands:
    """Commands of the other bot become aliases, and who may use them permissions."""

    made: Translation
    dialect: Dialect
    names: set[str] = field(default_factory=set)

    def add(
        self,
        name: str,
        text: str,
        level: Level,
        *,
        cooldown_s: int = 0,
        person_s: int = 0,
        target: str = "",
        only_live: bool = False,
        used_before: int = 0,
    ) -> bool:
        """Returns whether it is carried. What aliases have no field for, the import leaves out and says so."""
        alias = self._alias(name, text, target)
        if alias is None:
            return False
        more = {
            "cooldown_s": cooldown_s,
            "cooldown_person_s": person_s,
            "level": level.name if level.shut_out and not level.regulars else "",
            "label": REGULAR if level.regulars else "",
            "only_live": only_live,
            "used_before": used_before,
        }
        self.made.add("alias", "alias", alias=name, command=alias, **{k: v for k, v in more.items() if v})
        if level.shut_out:
            # Where aliases themselves do not say who may use them.
            self.made.add("router", "permission", command=name, deny=sorted(f"role:{each}" for each in level.shut_out))
        return True

    def _alias(self, name: str, text: str, target: str) -> str | None:
        if not is_prefixed(name):
            self.made.leave(name, "Commands begin with ! or # here; a string rule can listen for a word.")
            return None
        if name.casefold() in self.names:
            self.made.leave(name, "It is in there twice; the first one counts.")
            return None
        self.names.add(name.casefold())
        try:
            said = translate(text.strip(), self.dialect)
        except NotCarried as err:
            self.made.leave(name, str(err))
            return None
        if target:
            return f"{target} {said}".strip()
        if SAID_PLAINLY.match(said):
            said = SAID_PLAINLY.sub("", said)
            self.made.differ(name, "It is said plainly, not as /me.")
        if is_prefixed(said):
            self.made.leave(name, "Its text begins like a command, and would run one here.")
            return None
        return " ".join(said.split())


@dataclass(slots=True)
class Timers:
    made: Translation
    dialect: Dialect
    names: set[str] = field(default_factory=set)

    def add(self, name: str, text: str, *, minutes: int, lines: int, only_live: bool, is_on: bool) -> None:
        try:
            said = " ".join(SAID_PLAINLY.sub("", translate(text.strip(), self.dialect)).split())
        except NotCarried as err:
            self.made.leave(f"timer {name}", str(err))
            return
        if len(said) > MAX_TIMER_CHARS:
            self.made.leave(f"timer {name}", f"It has {len(said)} characters; a timer can say {MAX_TIMER_CHARS}.")
            return
        ours = one_name(name, self.names, most=MAX_TIMER_NAME)
        if ours != name:
            self.made.differ(f"timer {name}", f"It is called {ours} here.")
        self.made.add(
            "router",
            "timer",
            name=ours.casefold(),
            message=said,
            minutes=min(max(minutes, 1), 1440),
            min_lines=min(lines, 1000),
            only_live=only_live,
            is_active=is_on,
        )


@dataclass(slots=True)
class Filters:
    """Filters become string rules that take a line away."""

    made: Translation

    def add(
        self,
        name: str,
        match_type: str,
        exempt: Level,
        *,
        string: str,
        message: str = "",
        number: int | None = None,
        share: int | None = None,
        timeout_s: int = 0,
        timeout_after: int = 1,
    ) -> None:
        """`timeout_after`: from which time within a day on somebody is timed out."""
        if exempt == EVERYBODY:
            self.made.leave(name, "It exempts everybody, so it would do nothing.")
            return
        more: dict[str, Any] = {"exempt_labels": [REGULAR]} if exempt.regulars else {}
        if timeout_s:
            step = {"after": timeout_after, "within_s": A_DAY_S, "action": "timeout"}
            more["escalation"] = [{**step, "duration_s": min(timeout_s, MAX_TIMEOUT_S)}]
        self.made.add(
            "router",
            "string_rule",
            string=string,
            match_type=match_type,
            number=number,
            share=share,
            action="block",
            block_message=message[:500],
            exempt_level=exempt.name,
            **more,
        )

    def phrase(self, name: str, phrase: str, exempt: Level, **more: Any) -> None:
        """A word or phrase, with * for the rest of a word, or ~/a pattern/."""
        pattern = re.fullmatch(r"~/(.*)/([a-z]*)", phrase, re.DOTALL)
        if pattern:
            flags = "(?i)" if "i" in pattern[2] else ""
            self.add(name, "regex", exempt, string=flags + pattern[1], **more)
        elif "*" in phrase:
            parts = [re.escape(each) for each in phrase.split("*")]
            string = r"(?i)(?:^|\W)" + r"\S*".join(parts) + r"(?:\W|$)"
            self.add(name, "regex", exempt, string=string, **more)
        else:
            self.add(name, "word", exempt, string=phrase, **more)

    def addresses(self, name: str, allowed: str) -> str:
        """An allow list as ours is written: hosts, each with all below it, or hosts with the beginning of a path."""
        kept: list[str] = []
        dropped: list[str] = []
        for line in filter(None, map(str.strip, allowed.splitlines())):
            plain = re.sub(r"^(?:https?://)?(?:\*\.|www\.)?|/?\*$", "", line)
            (dropped if line.startswith("~/") or "*" in plain else kept).append(plain or line)
        if dropped:
            self.made.differ(name, f"Not allowed here, since they are patterns: {', '.join(dropped[:3])}.")
        return " ".join(kept)[:MAX_ADDRESSES_CHARS]
