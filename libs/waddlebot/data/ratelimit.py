"""How often something may be done: a sliding window that all replicas share, in one round trip to Redis for a batch.

Each limit's key holds a log of the reservations that count against it, by id: exact, unlike counters of whole minutes.
Redis keeps the logs, and its clock is everybody's. Each process also remembers what it reserved itself. It decides by
that while Redis is away, and it tells it to a Redis that came back, or came back empty. So what one process reserved
always counts; what another one did, not while Redis is away.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from threading import Lock
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from ..base.ids import new_id
from ..base.logs import AAALog
from ..base.metrics import Metrics

# One hash tag for all keys: a batch, whatever it is about, is one call to one node of a cluster.
PREFIX = "waddlebot:{limits}:"
# How long a process does without Redis before one of its callers tries it again.
RETRY_S = 1.0
# Reservations and refunds that a process remembers for itself, a few MB; it hardly gets to so many in a minute.
MAX_REMEMBERED = 20_000
# Changes in one call when Redis is told: a few milliseconds, well within a client's timeout on any machine.
TOLD_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Limit:
    """So many in a minute. 0 is no limit. `what` says in chat whom it holds for: "you", "everybody here"."""

    key: str
    per_minute: int
    what: str


@dataclass(frozen=True, slots=True)
class Request:
    """Something to do under all of these limits. Its id (an execution's) is what is reserved, once.

    Limits of 0 are dropped.
    """

    id: str
    limits: Sequence[Limit]

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", tuple([limit for limit in self.limits if limit.per_minute > 0]))


@dataclass(frozen=True, slots=True)
class Decision:
    """When refused: the limit that will refuse longest, and how long that is."""

    allowed: bool
    limit: Limit | None = None
    retry_after_s: float = 0.0


ALLOWED = Decision(True)


class RateLimiter:
    """Reserves before something is done and takes back what was not done. For all threads.

    While Redis is away a process decides by its own reservations in the window, at least the newest MAX_REMEMBERED: the
    limits hold for each process. Once a second one caller tries Redis and waits for one of the client's timeouts at
    most; no other caller waits. The first whom Redis answers tells it what happened meanwhile.
    """

    def __init__(
        self,
        client: redis.Redis,
        log: AAALog,
        metrics: Metrics,
        *,
        window_s: float = 60,
        name: str = "rate_limits_unshared",
    ) -> None:
        self._shared = _SharedLog(client, window_s)
        self._own = _OwnLog(window_s)
        self._lock = Lock()  # Of all below and _own. Held while Redis is told, but not while it is only tried.
        self._tellings = 0
        self._away = False
        self._try_at = 0.0
        self._log = log
        self._unshared = metrics.counter(
            name, "Requests whose limits this process decided about alone, Redis being away."
        )

    def reserve(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide about each request, in order; each counts for those after it. Without Redis too.

        All limits of a request are charged or none is. An id that is reserved already is allowed and not charged again.
        """
        if not any(request.limits for request in requests):
            return [ALLOWED] * len(requests)
        if self._away:
            with self._lock:
                if self._does_without_redis():
                    return self._decide_alone(requests)
        try:
            decisions = self._ask(requests)
        except redis.RedisError as err:
            with self._lock:
                self._leave(err)
                decisions = self._decide_alone(requests)
                # Redis may have charged for what we refuse, and only its answer was lost.
                self._own.note(_with(requests, decisions, allowed=False), is_charge=False)
            return decisions
        with self._lock:
            self._own.note(_with(requests, decisions, allowed=True), is_charge=True)
        return decisions

    def refund(self, requests: Sequence[Request]) -> None:
        """Take back what was reserved for requests that were not carried out. Twice is the same as once."""
        if not any(request.limits for request in requests):
            return
        with self._lock:
            self._own.note(requests, is_charge=False)
            if self._away:
                return  # Redis will be told.
        try:
            self._shared.refund(requests)
        except redis.RedisError as err:
            with self._lock:
                self._leave(err)

    def _does_without_redis(self) -> bool:
        now = time.monotonic()
        if not self._away or now < self._try_at:
            return self._away
        self._try_at = now + RETRY_S  # This caller tries, the others do not.
        return False

    def _decide_alone(self, requests: Sequence[Request]) -> list[Decision]:
        self._unshared.inc(len(requests))
        return self._own.reserve(requests)

    def _ask(self, requests: Sequence[Request]) -> list[Decision]:
        tellings = self._tellings
        if self._away:
            self._shared.ping()
            self._tell(tellings)
        try:
            return self._shared.reserve(requests)
        except NoScriptError:
            self._tell(tellings)
            return self._shared.reserve_anew(requests)

    def _tell(self, tellings: int) -> None:
        """Tell Redis what this process remembers, unless another thread did since there were so many tellings."""
        with self._lock:
            if self._tellings != tellings:
                return
            self._shared.tell(self._own.index())
            self._tellings += 1
            if self._away:
                self._away = False
                self._log.system("rate_limits_shared")

    def _leave(self, err: redis.RedisError) -> None:
        if not self._away:
            self._log.system("rate_limits_unshared", result="FAILED", reason=str(err))
        self._away = True
        self._try_at = time.monotonic() + RETRY_S


def _with(requests: Sequence[Request], decisions: list[Decision], *, allowed: bool) -> list[Request]:
    return [each for each, decision in zip(requests, decisions, strict=True) if decision.allowed is allowed]


class _OwnLog:
    """What this process reserved and refunded in the window. Not for several threads at a time.

    With Redis there, nobody reads it, so it is only a list; the index is made of it when it is needed.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._charges_and_refunds: deque[tuple[float, Request, bool]] = deque()
        self._index: _Index | None = None

    def note(self, requests: Iterable[Request], *, is_charge: bool) -> None:
        """Remember charges, or refunds: those for a Redis that has the charge and could not be asked."""
        now = time.monotonic()
        self._forget_old(now)
        for request in requests:
            self._charges_and_refunds.append((now, request, is_charge))
            if self._index is not None:
                self._index.add(now, request, is_charge=is_charge)

    def reserve(self, requests: Iterable[Request]) -> list[Decision]:
        """Decide as Redis would if it knew only this."""
        return [self._reserve(each) for each in requests]

    def index(self) -> _Index:
        """A new one, without what has left the window."""
        self._forget_old(time.monotonic())
        self._index = None
        index = _Index(self._window_s)
        for at, request, is_charge in self._charges_and_refunds:
            index.add(at, request, is_charge=is_charge)
        return index

    def _reserve(self, request: Request) -> Decision:
        if self._index is None or self._index.size > 2 * MAX_REMEMBERED:
            self._index = self.index()
        now = time.monotonic()
        waits = [self._index.wait_s(limit, request.id, now) for limit in request.limits]
        longest = max(waits, default=0)
        if longest > 0:
            return Decision(False, request.limits[waits.index(longest)], longest)
        self.note([request], is_charge=True)
        return ALLOWED

    def _forget_old(self, now: float) -> None:
        known, since = self._charges_and_refunds, now - self._window_s
        while known and (known[0][0] <= since or len(known) > MAX_REMEMBERED):
            known.popleft()


class _Index:
    """Charges by key and id, and when; and the refunds."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self.size = 0
        self.charges: dict[str, dict[str, float]] = {}  # The oldest first.
        self.refunds: set[tuple[str, str]] = set()

    def add(self, at: float, request: Request, *, is_charge: bool) -> None:
        self.size += 1
        for limit in request.limits:
            charges = self._current(limit.key, at)
            if is_charge:
                charges.setdefault(request.id, at)
                self.refunds.discard((limit.key, request.id))
            else:
                charges.pop(request.id, None)
                self.refunds.add((limit.key, request.id))

    def wait_s(self, limit: Limit, id_: str, now: float) -> float:
        """How long until there is room for this id; 0 when there is, or when it is in."""
        charges = self._current(limit.key, now)
        too_many = len(charges) - limit.per_minute
        if too_many < 0 or id_ in charges:
            return 0
        return next(islice(charges.values(), too_many, None)) + self._window_s - now

    def _current(self, key: str, now: float) -> dict[str, float]:
        charges = self.charges.setdefault(key, {})
        since = now - self._window_s
        for id_ in list(takewhile(lambda each: charges[each] <= since, charges)):
            del charges[id_]
        return charges


class _SharedLog:
    """The logs in Redis: for each key a sorted set of ids by the microsecond, which goes with the last of them.

    A Redis that does not know the script has not been told, or has forgotten: it is new, was restarted or failed over.
    So the script is our own, with a name in it that no other process has. (SCRIPT FLUSH only causes another telling.)
    """

    def __init__(self, client: redis.Redis, window_s: float) -> None:
        # Connections of its own. The client's second try would keep a caller waiting for two timeouts, and what it does
        # around a command takes longer than the script does.
        pool = client.connection_pool
        single_try = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
        self._connect: Callable[[], redis.Connection] = partial(pool.connection_class, **single_try)
        self._idle: list[redis.Connection] = []  # As many as there were callers at once.
        self._clock = CLOCK.format(window_us=int(window_s * 1e6), expire_ms=int(window_s * 1e3) + 2)
        self._script = f"-- {new_id()}\n{self._clock}{RESERVE}"
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    def ping(self) -> None:
        self._run("PING")

    def reserve(self, requests: Sequence[Request]) -> list[Decision]:
        """Raises: NoScriptError."""
        return _decisions(requests, self._run("EVALSHA", self._sha, *_charges(requests)))

    def reserve_anew(self, requests: Sequence[Request]) -> list[Decision]:
        """Reserve in a Redis that has been told; from now on it knows the script."""
        # EVAL and not SCRIPT LOAD, because the server then forgets scripts of processes that are gone.
        return _decisions(requests, self._run("EVAL", self._script, *_charges(requests)))

    def refund(self, requests: Sequence[Request]) -> None:
        charges = [(PREFIX + limit.key, request.id) for request in requests for limit in request.limits]
        self._run("EVAL", REFUND, len(charges), *(key for key, _ in charges), *(id_ for _, id_ in charges))

    def tell(self, own: _Index) -> None:
        """Add what this process remembers; what Redis knows already stays as it is."""
        now = time.monotonic()
        changes = [(PREFIX + key, id_, "") for key, id_ in own.refunds]
        for key, charges in own.charges.items():
            changes += [(PREFIX + key, id_, str(int((now - at) * 1e6))) for id_, at in charges.items()]
        for start in range(0, len(changes), TOLD_AT_ONCE):
            piece = changes[start : start + TOLD_AT_ONCE]
            ids_and_ages = (each for _, *pair in piece for each in pair)
            self._run("EVAL", self._clock + TELL, len(piece), *(key for key, _, _ in piece), *ids_and_ages)

    def _run(self, *command: str | int) -> Any:
        connection = self._take_connection()
        # After an error it is not put back, for nobody knows what else it would still hear.
        connection.send_command(*command)  # type: ignore[no-untyped-call]
        answer = connection.read_response()
        self._idle.append(connection)
        return answer

    def _take_connection(self) -> redis.Connection:
        while self._idle:
            with contextlib.suppress(redis.RedisError, IndexError):
                connection = self._idle.pop()
                if not connection.can_read():  # Nobody has asked, so it could only be the end.
                    return connection
        return self._connect()


def _charges(requests: Sequence[Request]) -> list[str | int]:
    """RESERVE's keys and arguments."""
    keys: list[str] = []
    args: list[str] = []
    for request in requests:
        keys += [PREFIX + limit.key for limit in request.limits]
        args += [request.id, " ".join([str(limit.per_minute) for limit in request.limits])]
    return [len(keys), *keys, *args]


def _decisions(requests: Sequence[Request], refused: list[tuple[int, int, int]]) -> list[Decision]:
    decisions = [ALLOWED] * len(requests)
    for n, limit_n, wait_us in refused:
        decisions[n] = Decision(False, requests[n].limits[limit_n], wait_us / 1e6)
    return decisions


CLOCK = """
local window, expire_ms = {window_us}, '{expire_ms}'
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
"""

# KEYS: those of each request's limits. ARGV: for each request its id and its limits' numbers.
# Answers for each refusal which request it is, which of its limits, and for how many microseconds.
# A key is rid of old reservations only when it looks full, so what is far from its limit costs three commands.
RESERVE = """
local now_text = string.format('%.0f', now)

local function forget_old(key)
  call('ZREMRANGEBYSCORE', key, '-inf', now - window)
end

local function wait(key, id, limit)
  forget_old(key)
  local too_many = call('ZCARD', key) - limit
  if too_many < 0 or call('ZSCORE', key, id) then return 0 end
  return call('ZRANGE', key, too_many, too_many, 'WITHSCORES')[2] + window - now
end

local refused, first = {}, 1
for arg = 1, #ARGV, 2 do
  local id, key, longest, which = ARGV[arg], first, 0, 0
  for limit in string.gmatch(ARGV[arg + 1], '%d+') do
    limit = tonumber(limit)
    if call('ZCARD', KEYS[key]) >= limit then
      local waits = wait(KEYS[key], id, limit)
      if waits > longest then longest, which = waits, key - first end
    end
    key = key + 1
  end
  if longest > 0 then
    refused[#refused + 1] = {(arg - 1) / 2, which, longest}
  else
    for n = first, key - 1 do
      if call('ZADD', KEYS[n], 'NX', now_text, id) == 0 then
        forget_old(KEYS[n])
        call('ZADD', KEYS[n], 'NX', now_text, id)
      end
      call('PEXPIRE', KEYS[n], expire_ms)
    end
  end
  first = key
end
return refused
"""

# KEYS and ARGV: the key and the id of each charge.
REFUND = """
for n = 1, #KEYS do redis.call('ZREM', KEYS[n], ARGV[n]) end
"""

# KEYS: the key of each change. ARGV: for each change its id and its age in microseconds, or nothing for a refund.
TELL = """
for n = 1, #KEYS do
  local id, age = ARGV[2 * n - 1], ARGV[2 * n]
  if age == '' then
    call('ZREM', KEYS[n], id)
  else
    call('ZADD', KEYS[n], 'NX', now - age, id)
    call('PEXPIRE', KEYS[n], expire_ms)
  end
end
"""
