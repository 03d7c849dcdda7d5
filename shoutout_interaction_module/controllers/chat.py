"""!so: words in, a line of chat and a picture on the stream out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import cast

from pydal import DAL
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import MessageType
from waddlebot.base.errors import UsageError
from waddlebot.base.text import fold
from waddlebot.module.call import Said
from waddlebot.module.interaction import OutsideCall
from waddlebot.web.lists import Page

from ..services.history_service import Cause
from ..services.naming import Named, parse_named
from ..services.people_service import AUTOS, BadSetting, Identity, Known, PersonSettings, check_auto
from ..services.platform_shoutouts import PlatformShoutouts
from ..services.shoutout_service import Found, NeedsTwitch, Occasion, ShoutoutService

SHOWN = 5
MAX_WORDS_OF_NAME = 4
SETTING = {"raid": "auto_raid", "follow": "auto_follow", "subscription": "auto_subscribe"}
USAGE = (
    "Usage: !so <user> | set <user> <message> | set <user> link <url> | set <user> always|never|default"
    " | clear <user> | info <user> | history [user] | stats"
)
CAUSES = {"command": "asked for", "api": "by a program", "raid": "raid", "follow": "follow", "subscription": "sub"}


class ShoutoutChat:
    def __init__(self, shoutouts: ShoutoutService, platform: PlatformShoutouts) -> None:
        self._shoutouts = shoutouts
        self._people = shoutouts.people
        self._history = shoutouts.history
        self._platform = platform
        self._forms: dict[str, Callable[..., Said]] = {
            "set": self._set,
            "clear": self._clear,
            "info": self._info,
            "history": self._show_history,
            "stats": self._show_stats,
        }

    def so(self, call: OutsideCall, *words: str) -> Said:
        if call.payload.trigger.type == "event":
            return self._by_itself(call)
        if not words:
            raise UsageError(USAGE)
        form = self._forms.get(fold(words[0]))
        return form(call, *words[1:]) if form else self._shout(call, *words)

    def _shout(self, call: OutsideCall, *words: str) -> Said:
        named, known = self._whom(call, words)
        found = self._look_at(call, named, known)
        self._on_platform(call, found)
        with call.writing() as db:
            return self._shoutouts.write_down(db, found, self._occasion(call, "command")).responses

    # By itself

    def _by_itself(self, call: OutsideCall) -> Said:
        """Shout out whoever raided, followed or subscribed, where that is wanted and was not done lately."""
        cause = call.payload.trigger.message_type.value
        with call.reading() as db:
            known = self._people.of(db, call.payload.user.own_id)
            if known is None or not self._is_wanted(call, db, known) or self._is_resting(call, db, known):
                return None
        identity = known.on(call.payload.entity.platform)
        try:
            found = self._look_at(call, Named(name=identity.name), known)
        except NeedsTwitch:
            return None
        if found.twitch_id == call.payload.entity.channel_id:
            return None
        self._on_platform(call, found)
        with call.writing() as db:
            self._history.lock(db, call.community_id, known.ids)
            if self._is_resting(call, db, known):  # Another replica was faster.
                return None
            return self._shoutouts.write_down(db, found, self._occasion(call, cast("Cause", cause))).responses

    def _is_wanted(self, call: OutsideCall, db: DAL, known: Known) -> bool:
        trigger, settings = call.payload.trigger, call.settings
        if not known.twitch_id or trigger.data.get("is_gift"):  # There is no channel to send viewers to; or no choice.
            return False
        auto = self._people.settings_of(db, call.community_id, known.ids).auto
        if auto != "default":
            return auto == "always"
        labels = set(map(fold, settings["labels"] or ()))
        if labels and labels.isdisjoint(call.payload.user.labels):
            return False
        if trigger.message_type == MessageType.RAID:
            viewers = trigger.data.get("viewers")
            if not isinstance(viewers, int) or viewers < settings["raid_viewers"]:
                return False
        return bool(settings[SETTING[trigger.message_type.value]])

    def _is_resting(self, call: OutsideCall, db: DAL, known: Known) -> bool:
        cooldown = timedelta(minutes=call.settings["cooldown_minutes"])
        return self._history.is_resting(db, call.community_id, known.ids, cooldown=cooldown)

    # What is set for somebody

    def _set(self, call: OutsideCall, user: str = "", *words: str) -> str:
        if not user or not words:
            raise UsageError(
                "Usage: !so set <user> <message> | set <user> link <url> | set <user> always|never|default"
            )
        known = self._get_known(call, user)
        with call.writing() as db:
            known = self._people.meet(db, known) if isinstance(known, Identity) else known
            before = self._people.settings_of(db, call.community_id, known.ids)
            after = self._people.set(db, call.community_id, known, **_changes(before, words))
        return f"{_name(call, known)}: {_described(after)}."

    def _clear(self, call: OutsideCall, user: str = "") -> str:
        known = self._get_known(call, _one(user, "clear"))
        with call.writing() as db:
            gone = isinstance(known, Known) and self._people.clear(db, call.community_id, known)
        return f"Nothing is set for {_name(call, known)}" + (" any more." if gone else ".")

    def _info(self, call: OutsideCall, user: str = "") -> str:
        known = self._get_known(call, _one(user, "info"))
        if isinstance(known, Identity):
            return f"{known.shown_name}: nothing is set, and never shouted out here."
        with call.reading() as db:
            person = self._people.settings_of(db, call.community_id, known.ids)
            past = self._history.list_past(db, call.community_id, Page(limit=1), ids=known.ids)
        last = (
            f"; shouted out {_times(past.total)}, last on {past.rows[0]['created_at']:%d %b %Y}" if past.total else ""
        )
        return f"{_name(call, known)}: {_described(person)}{last}."

    def _show_history(self, call: OutsideCall, user: str = "") -> str:
        known = self._get_known(call, user) if user else None
        if isinstance(known, Identity):
            return f"{known.shown_name} was never shouted out here."
        with call.reading() as db:
            ids = known.ids if known else None
            past = self._history.list_past(db, call.community_id, Page(limit=SHOWN), ids=ids)
        if not past.rows:
            return (
                "Nobody was shouted out yet." if known is None else f"{_name(call, known)} was never shouted out here."
            )
        each = (f"{row['username']} ({row['created_at']:%d %b %H:%M}, {_cause(row)})" for row in past.rows)
        more = f" … and {past.total - len(past.rows)} more" if past.total > len(past.rows) else ""
        return f"{_shoutouts(past.total)}: {', '.join(each)}{more}"

    def _show_stats(self, call: OutsideCall) -> str:
        with call.reading() as db:
            stats = self._history.stats(db, call.community_id)
        if not stats["total"]:
            return "Nobody was shouted out yet."
        top = ", ".join(f"{each['username']} ({each['shoutouts']})" for each in stats["top"])
        causes = ", ".join(f"{CAUSES[cause]} {n}" for cause, n in sorted(stats["causes"].items()))
        people = "1 person" if stats["people"] == 1 else f"{stats['people']} people"
        return f"{_shoutouts(stats['total'])} of {people}, {stats['clips']} with a clip ({causes}). Most: {top}."

    # Whom

    def _whom(self, call: OutsideCall, words: tuple[str, ...]) -> tuple[Named, Known | None]:
        """Some names have spaces in them, and some people write on after a name."""
        here = call.payload.entity.platform
        longest = min(len(words), MAX_WORDS_OF_NAME)
        with call.reading() as db:
            for count in range(longest, 0, -1):
                named = parse_named(" ".join(words[:count]), here=here)
                known = self._people.find(db, call.community_id, named, here=here)
                if known is not None:
                    break
        return named, known

    def _look_at(self, call: OutsideCall, named: Named, known: Known | None) -> Found:
        return self._shoutouts.look_at(
            named,
            known,
            here=call.payload.entity.platform,
            look_up=call.look_up,
            wants_clips=call.settings["clips"],
        )

    def _get_known(self, call: OutsideCall, user: str) -> Known | Identity:
        """Somebody whom we know, or an account at Twitch that nobody here has seen yet."""
        named, known = self._whom(call, (user,))
        if known is not None:
            return known
        found = self._shoutouts.look_at(
            named, None, here=call.payload.entity.platform, look_up=call.look_up, wants_clips=False
        )
        with call.reading() as db:
            return self._people.of_identity(db, "twitch", found.twitch_id) or found.identity

    def _on_platform(self, call: OutsideCall, found: Found) -> None:
        entity = call.payload.entity
        is_possible = entity.platform == "twitch" and found.twitch_id and found.twitch_id != entity.channel_id
        if call.settings["platform_shoutout"] and is_possible:
            call.look_up(
                "send Twitch's own shoutout",
                lambda left_s: self._platform.send(entity.channel_id, found.twitch_id, within_s=left_s),
            )

    @staticmethod
    def _occasion(call: OutsideCall, cause: Cause) -> Occasion:
        by_id = call.payload.user.own_id if cause == "command" else None
        by_name = call.user_name if cause == "command" else ""
        return Occasion(call.community_id, cause, call.settings, call.entity_id, by_id, by_name)


def _changes(before: PersonSettings, words: tuple[str, ...]) -> dict[str, object]:
    """`always`, `auto always`, `link https://…`, `message Hello there`, or the message by itself."""
    first, rest = fold(words[0]), words[1:]
    if first in AUTOS and not rest:
        return {"auto": first}
    if first == "auto" and len(rest) == 1:
        return {"auto": check_auto(fold(rest[0]))}
    if first in ("link", "links"):
        if not rest:
            raise BadSetting("Which link? !so set <user> link https://…")
        return {"links": (*before.links, *rest)}
    return {"message": " ".join(rest if first == "message" and rest else words)}


def _described(person: PersonSettings) -> str:
    parts = [f"“{shorten(person.message, 200)}”" if person.message else "the usual words", *person.links]
    auto = {"always": ", always shouted out by itself", "never": ", never shouted out by itself", "default": ""}
    return " ".join(parts) + auto[person.auto]


def _name(call: OutsideCall, known: Known | Identity) -> str:
    return (known if isinstance(known, Identity) else known.on(call.payload.entity.platform)).shown_name


def _one(user: str, form: str) -> str:
    if not user:
        raise UsageError(f"Usage: !so {form} <user>")
    return user


def _cause(row: dict[str, str]) -> str:
    return f"by {row['by_name']}" if row["by_name"] else CAUSES[row["cause"]]


def _shoutouts(count: int) -> str:
    return "1 shoutout" if count == 1 else f"{count} shoutouts"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
