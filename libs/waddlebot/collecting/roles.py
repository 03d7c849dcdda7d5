"""Roles at platforms: why one is not given or taken, and telling the labels' module of what is seen of them."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import redis

from ..base.errors import Conflict, NotFound, UpstreamError, WaddleBotError
from ..base.logs import AAALog
from ..data.database import Database
from ..web.clients import FleetClient

LABELS_MODULE = "labels_core"
# So long a platform may take to tell of what we did.
REMEMBERED_S = 120
MAX_WAITING = 10_000
FIND_LABELS = "SELECT endpoint_url FROM collector_modules WHERE module_name = %s"
# What is on record of somebody's roles in a server: only what differs is worth telling.
KNOWN = """
SELECT DISTINCT role_id, has_it FROM label_roles
WHERE platform = %(platform)s AND server_id = %(server_id)s AND platform_user_id = %(user)s
"""
# Roles that labels bring, and who is believed to have each; so many at a time, in turn.
BELIEVED = """
SELECT server_id, role_id, jsonb_object_agg(platform_user_id, has_it) AS people FROM label_roles
WHERE platform = %(platform)s AND (server_id, role_id) > (%(server)s, %(role)s) AND NOT is_asked
GROUP BY 1, 2 ORDER BY 1, 2 LIMIT %(most)s
"""
LOOK_EVERY_S = 60.0
LOOKED_AT = 20


class Hierarchy(Conflict):
    """The platform does not let the bot touch that role, or that person. Put the bot's own role above it."""

    code = "hierarchy"


class MissingScope(Conflict):
    """The bot lacks the right to give and take roles here."""

    code = "missing_scope"


class Full(Conflict):
    """There is no place left for that role."""

    code = "full"


class NotThere(NotFound):
    """That person, role or place is not there."""

    code = "not_there"


class PaidOnly(Conflict):
    """The platform has that for paying customers only."""

    code = "paid_only"


@dataclass(frozen=True, slots=True)
class RoleSeen:
    """Somebody has a role now, or has it no more; `cause_id` when somebody asked us for that."""

    platform: str
    server_id: str
    platform_user_id: str
    role_id: str
    has: bool
    cause_id: str | None = None


@dataclass(frozen=True, slots=True)
class Has:
    """Roles that somebody has in a server now: all of them, or of those in `of` these."""

    server_id: str
    user_id: str
    role_ids: frozenset[str]
    of: frozenset[str] | None = None


class RoleNews:
    """Tells the labels' module which roles people have, beside requests. What is lost is found out by its own look."""

    def __init__(self, platform: str, db: Database, client: FleetClient, store: redis.Redis, log: AAALog) -> None:
        self._platform = platform
        self._db = db
        self._client = client
        self._store = store
        self._log = log
        self._waiting: queue.Queue[RoleSeen | Has] = queue.Queue(MAX_WAITING)
        self.wake = threading.Event()

    @contextlib.contextmanager
    def causing(self, seen: RoleSeen) -> Iterator[None]:
        """What is done in the block is known by its cause when the platform tells of it; then it is told."""
        if seen.cause_id is not None:
            with contextlib.suppress(redis.RedisError):
                self._store.set(self._key(seen), seen.cause_id, ex=REMEMBERED_S)
        yield
        self._add(seen)

    def saw(self, server_id: str, user_id: str, role_ids: frozenset[str]) -> None:
        """All roles that somebody has in a server now."""
        self._add(Has(server_id, user_id, role_ids))

    def saw_one(self, server_id: str, user_id: str, role_id: str, *, has: bool) -> None:
        """That somebody has a role in a server now, or has it no more."""
        of = frozenset({role_id})
        self._add(Has(server_id, user_id, of if has else frozenset(), of))

    def step(self) -> None:
        """Tell what waits."""
        url = ""
        while not self._waiting.empty():
            each = self._waiting.get()
            for seen in [each] if isinstance(each, RoleSeen) else self._differing(each):
                url = url or self._find_url()
                if url:
                    self._tell(url, seen)

    def _add(self, news: RoleSeen | Has) -> None:
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(news)
        self.wake.set()

    def _differing(self, now: Has) -> list[RoleSeen]:
        asked = {"platform": self._platform, "server_id": now.server_id, "user": now.user_id}
        rows = [each for each in self._db.statement(KNOWN, asked) if now.of is None or each["role_id"] in now.of]
        differing = [row["role_id"] for row in rows if row["has_it"] != (row["role_id"] in now.role_ids)]
        return [self._with_cause(now.server_id, now.user_id, each, has=each in now.role_ids) for each in differing]

    def _with_cause(self, server_id: str, user_id: str, role_id: str, *, has: bool) -> RoleSeen:
        seen = RoleSeen(self._platform, server_id, user_id, role_id, has)
        cause = None
        with contextlib.suppress(redis.RedisError):
            cause = self._store.get(self._key(seen))
        return RoleSeen(self._platform, server_id, user_id, role_id, has, str(cause) if cause else None)

    def _key(self, seen: RoleSeen) -> str:
        what = "has" if seen.has else "lacks"
        return f"waddlebot:role-cause:{self._platform}:{seen.server_id}:{seen.platform_user_id}:{seen.role_id}:{what}"

    def _find_url(self) -> str:
        rows = self._db.statement(FIND_LABELS, (LABELS_MODULE,))
        return str(rows[0]["endpoint_url"]).removesuffix("/execute") if rows else ""

    def _tell(self, url: str, seen: RoleSeen) -> None:
        try:
            answer = self._client.post(f"{url}/role-changed", json.dumps(asdict(seen)).encode(), timeout_s=10)
        except UpstreamError as err:
            self._log.system("role_not_told", result="FAILED", error=err.code)
            return
        if answer.status != 200:
            self._log.system("role_not_told", result="FAILED", status=answer.status)


class RoleLook:
    """Looks after who has the roles that labels bring, where the platform does not tell: LOOKED_AT roles every
    LOOK_EVERY_S, in turn, so that a fleet with many asks no more of the platform than one with few.

    `list_people` says who of some people has a role. It may raise what a platform answers.
    """

    def __init__(
        self,
        platform: str,
        db: Database,
        news: RoleNews,
        log: AAALog,
        list_people: Callable[[str, str, Sequence[str]], Collection[str]],
    ) -> None:
        self._platform = platform
        self._db = db
        self._news = news
        self._log = log
        self._list_people = list_people
        self._last = ("", "")

    def step(self) -> None:
        server, role = self._last
        asked = {"platform": self._platform, "server": server, "role": role, "most": LOOKED_AT}
        rows = self._db.statement(BELIEVED, asked)
        for row in rows:
            self._look(row["server_id"], row["role_id"], row["people"])
        self._last = (rows[-1]["server_id"], rows[-1]["role_id"]) if len(rows) == LOOKED_AT else ("", "")

    def _look(self, server_id: str, role_id: str, people: Mapping[str, bool]) -> None:
        try:
            have = self._list_people(server_id, role_id, sorted(people))
        except WaddleBotError as err:
            self._log.system("roles_not_seen", result="FAILED", server=server_id, role=role_id, error=err.code)
            return
        for person, believed in people.items():
            if (person in have) is not believed:
                self._news.saw_one(server_id, person, role_id, has=person in have)
