"""Who somebody on Slack is: their name and whether they own or administer the workspace, asked of Slack once an hour.

A command waits for the answer, because permission depends on it. Plain chat never does: whoever is not known yet is
looked up beside it, and their name is put right when it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import asdict, dataclass
from typing import Any

import redis
from waddlebot.base.bridge import Bridge
from waddlebot.base.errors import UpstreamError, WaddleBotError
from waddlebot.community.consent import Consenter, ensure_user
from waddlebot.data.cache import Bus, Cache
from waddlebot.data.database import Database, fetch

SLACK_USERS = "slack_users"
REDIS_KEY = "waddlebot:slack:user:"
TTL_S = 3600
# In this process; Redis has it longer. What Slack tells us to forget is forgotten in both.
LOCAL_TTL_S = 300
MAX_LOCAL = 20_000
COMMAND_WAITS_S = 2.5
# users.info may be asked some 100 times a minute in each workspace. Commands may use all of it, chat this much.
CHAT_LOOKUPS_PER_MINUTE = 60
UNKNOWN_FOR_S = 60.0
ADMIN, OWNER = "admin", "owner"

# Whoever was seen before their name was known is shown by their id until now.
SHOWN = "UPDATE users SET display_name = %s WHERE id = %s AND display_name = %s"


@dataclass(frozen=True, slots=True)
class Person:
    name: str = ""
    display_name: str = ""
    badges: tuple[str, ...] = ()


NOBODY = Person()


def read_user(user: dict[str, Any]) -> Person:
    """A person from Slack's user object."""
    profile = user.get("profile")
    profile = profile if isinstance(profile, dict) else {}
    shown = profile.get("display_name") or profile.get("real_name") or user.get("real_name") or ""
    is_owner = bool(user.get("is_owner") or user.get("is_primary_owner"))
    badges = (OWNER,) if is_owner else (ADMIN,) if user.get("is_admin") else ()
    return Person(str(user.get("name") or "")[:255], str(shown)[:255], badges)


class People:
    """`ask` asks Slack for a user object, on the bridge's loop; it returns None when it cannot have one now."""

    def __init__(self, db: Database, bus: Bus, bridge: Bridge, ask: Callable[[str, str], Any]) -> None:
        self._db = db
        self._bus = bus
        self._bridge = bridge
        self._ask = ask
        self._local: Cache[str, Person] = bus.cache(SLACK_USERS, ttl_s=LOCAL_TTL_S, max_size=MAX_LOCAL)
        self._lock = threading.Lock()
        # Who is looked up just now, or was in vain, and until when neither Slack nor Redis is asked after them.
        self._unknown: dict[str, float] = {}
        self._minute: dict[tuple[str, int], int] = {}

    def find(self, team: str, user: str, *, wait: bool) -> Person:
        """Who somebody is, or NOBODY while that is not known. With `wait` Slack is asked, which takes a moment."""
        key = f"{team}:{user}"
        known = self._known(key)
        if known is not None:
            return known
        if not wait:
            self._look_up_beside(team, user)
            return NOBODY
        with contextlib.suppress(NotInTime):
            return self._bridge.submit(self._look_up(team, user)).result(COMMAND_WAITS_S) or NOBODY
        return NOBODY

    def get(self, team: str, user: str) -> Person:
        """Who somebody is by now, whatever was known of them. Raises: UpstreamError when Slack does not say."""
        try:
            found = self._bridge.submit(self._look_up(team, user)).result(COMMAND_WAITS_S)
        except NotInTime as err:
            raise UpstreamError("Slack did not say in time who that is.") from err
        if found is None:
            raise UpstreamError("Slack does not say who that is. The app has to be in their workspace.")
        return found

    def forget(self, team: str, user: str) -> None:
        """Somebody has changed."""
        with contextlib.suppress(redis.RedisError):
            self._bus.client.delete(f"{REDIS_KEY}{team}:{user}")
        self._bus.invalidate(SLACK_USERS, f"{team}:{user}")

    def _known(self, key: str) -> Person | None:
        try:
            return self._local.get(key, lambda _fresh: self._from_redis(key))
        except LookupError:
            return None

    def _from_redis(self, key: str) -> Person:
        """Raises: LookupError."""
        if self._unknown.get(key, 0.0) > time.monotonic():
            raise LookupError(key)
        try:
            text = self._bus.client.get(REDIS_KEY + key)
        except redis.RedisError as err:
            raise LookupError(key) from err
        if not text:
            raise LookupError(key)
        kept = json.loads(str(text))
        return Person(**{**kept, "badges": tuple(kept["badges"])})

    def _look_up_beside(self, team: str, user: str) -> None:
        key, now = f"{team}:{user}", time.monotonic()
        minute = team, int(now // 60)
        with self._lock:
            if self._unknown.get(key, 0.0) > now:
                return
            if len(self._unknown) > MAX_LOCAL:
                self._unknown.clear()
            self._unknown[key] = now + UNKNOWN_FOR_S
            if self._minute.get(minute, 0) >= CHAT_LOOKUPS_PER_MINUTE:
                return
            self._minute = {each: count for each, count in self._minute.items() if each[1] == minute[1]}
            self._minute[minute] = self._minute.get(minute, 0) + 1
        self._bridge.start(self._look_up(team, user))

    async def _look_up(self, team: str, user: str) -> Person | None:
        found = await self._ask(team, user)
        if found is None:
            return None
        person = read_user(found)
        await asyncio.to_thread(self._keep, team, user, person)
        return person

    def _keep(self, team: str, user: str, person: Person) -> None:
        key = f"{team}:{user}"
        with contextlib.suppress(redis.RedisError):
            self._bus.client.set(REDIS_KEY + key, json.dumps(asdict(person)), ex=TTL_S)
        self._unknown.pop(key, None)
        self._local.get(key, lambda _fresh: person)
        if person.name:
            with contextlib.suppress(WaddleBotError):  # In an hour they are looked up again.
                self._put_name_right(user, person)

    def _put_name_right(self, user: str, person: Person) -> None:
        """The router notes a name at first sight only, which may be before or after this."""
        shown = person.display_name or person.name
        with self._db.transaction() as db:
            id_ = ensure_user(db, Consenter("slack", user, person.name, shown))
            fetch(db, SHOWN, (shown, id_, user))
