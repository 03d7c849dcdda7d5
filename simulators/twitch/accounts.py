"""Who is on the simulated Twitch: their channels, their moderators, and what they let the app do."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

FIRST_ID = 100_000_001


@dataclass(slots=True)
class Stream:
    id: str
    title: str
    game: str
    viewers: int
    started_at: str


@dataclass(slots=True)
class Ban:
    """Why and until when somebody may not write; `until` is None for ever."""

    reason: str
    moderator_id: str
    until: float | None

    @property
    def is_over(self) -> bool:
        return self.until is not None and self.until <= time.time()


@dataclass(slots=True)
class Account:
    """A person, and the channel that everybody has.

    One that nobody made (`is_made` is false) has consented to everything and lets the bot moderate, so that a test
    of something else need not say so.
    """

    id: str
    login: str
    name: str
    is_made: bool = True
    consents: set[str] = field(default_factory=set)
    moderators: set[str] = field(default_factory=set)
    vips: set[str] = field(default_factory=set)
    vip_slots: int = 100
    followers: dict[str, str] = field(default_factory=dict)
    subscribers: dict[str, str] = field(default_factory=dict)
    bans: dict[str, Ban] = field(default_factory=dict)
    title: str = ""
    game: str = ""
    picture: str = ""
    stream: Stream | None = None

    def has_consented(self, *any_of: str) -> bool:
        return not self.is_made or not any_of or any(scope in self.consents for scope in any_of)

    def is_moderated_by(self, user_id: str) -> bool:
        """Whether somebody may moderate here, the broadcaster included."""
        return not self.is_made or user_id == self.id or user_id in self.moderators

    def ban_of(self, user_id: str) -> Ban | None:
        ban = self.bans.get(user_id)
        if ban is not None and ban.is_over:
            del self.bans[user_id]
            return None
        return ban


class Accounts:
    """Everybody, by id and by login. Unless `strict`, whoever is asked for is there."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self._by_id: dict[str, Account] = {}
        self._by_login: dict[str, Account] = {}
        self._numbers = itertools.count(FIRST_ID)

    def __iter__(self) -> Iterator[Account]:
        return iter(list(self._by_id.values()))

    def make(self, login: str, *, id: str | None = None, name: str = "", moderators: Iterable[str] = ()) -> Account:
        """Make somebody, or make somebody known explicit: from now on only what they consented to counts."""
        login = login.lower()
        account = self._by_id.get(id) if id else self._by_login.get(login)
        if account is None:
            account = self._add(Account(id or str(next(self._numbers)), login, name or login.title()))
        if account.login != login:
            self._by_login.pop(account.login, None)
            self._by_login[login] = account
            account.login, account.name = login, name or login.title()
        account.is_made = True
        account.moderators.update(self.get(each).id for each in moderators)
        return account

    def see(self, user_id: str, name: str) -> Account:
        """Note what somebody who writes in a chat is called."""
        account = self._by_id.get(user_id)
        if account is None:
            login = name.lower()
            account = self._add(Account(user_id, login, name, is_made=self.strict))
        return account

    def get(self, who: str | Account) -> Account:
        """Somebody by id or login; made up if need be, even where `strict`, since the caller is the test."""
        if isinstance(who, Account):
            return who
        found = self._by_id.get(who) or self._by_login.get(who.lower())
        return found or (self._imagine(who) if who.isdecimal() else self._imagine(_id_of(who), who.lower()))

    def find(self, user_id: str) -> Account | None:
        """As Helix sees it: None is nobody."""
        return self._by_id.get(user_id) or (None if self.strict or not user_id else self._imagine(user_id))

    def find_login(self, login: str) -> Account | None:
        login = login.lower()
        if known := self._by_login.get(login):
            return known
        return None if self.strict or not login else self._imagine(_id_of(login), login)

    def named(self, login: str) -> Account | None:
        """Somebody whom a chat knows by that name; nobody is made up."""
        return self._by_login.get(login.lower())

    def remove(self, account: Account) -> None:
        self._by_id.pop(account.id, None)
        self._by_login.pop(account.login, None)

    def clear(self) -> None:
        self._by_id.clear()
        self._by_login.clear()

    def _imagine(self, user_id: str, login: str = "") -> Account:
        login = login or f"channel{user_id}"
        return self._add(Account(user_id, login, login.title(), is_made=self.strict))

    def _add(self, account: Account) -> Account:
        self._by_id[account.id] = account
        self._by_login.setdefault(account.login, account)
        return account


def _id_of(login: str) -> str:
    """The same in every process. `channel12` is what 12 is called when nobody made it."""
    number = login.removeprefix("channel")
    return number if number.isdecimal() else str(zlib.crc32(login.encode()))
