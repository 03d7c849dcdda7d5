"""How often something may be done: a sliding window that all replicas share, in one round trip to Redis for a batch.

Each limit's key holds a log of the reservations that count against it, by id: exact, unlike counters of whole minutes.
Redis keeps the logs, and its clock is everybody's. Each process also remembers what it reserved itself. It decides by
that while Redis is away, and it tells it to a Redis that came back, or came back empty. So what one process reserved
always counts; what another one did, not while Redis is away.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Lock

import redis
from redis.exceptions import NoScriptError

from .aaa import AAALog
from .ids import new_id
from .metrics import Metrics

# One hash tag for all keys: a batch, whatever it is about, is one call to one node of a cluster.
PREFIX = "waddlebot:{limits}:"
# How long a process does without Redis before one of its callers tries it again.
RETRY_S = 1.0
# Reservations and refunds that a process remembers for itself, a few MB; it hardly gets to so many in a minute.
MAX_REMEMBERED = 20_000


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
    limits hold for each process. Once a second one caller tries Redis, which takes as long as the client gives it; no
    other caller waits. The first whom Redis answers tells it what happened meanwhile.
    """

    def __init__(self, client: redis.Redis, log: AAALog, metrics: Metrics, *, window_s: float = 60) -> None:
        self._shared = _SharedLog(client, window_s)
        self._own = _OwnLog(window_s)
        self._lock = Lock()  # Of all below and _own. Held while Redis is told, but not while it is only tried.
        self._tellings = 0
        self._away = False
        self._try_at = 0.0
        self._log = log
        self._unshared = metrics.counter(
            "rate_limits_unshared", "Requests whose limits this process decided about alone, Redis being away."
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
                self._own.note_refunds(_with(requests, decisions, allowed=False))
            return decisions
        with self._lock:
            self._own.note_charges(_with(requests, decisions, allowed=True))
        return decisions

    def refund(self, requests: Sequence[Request]) -> None:
        """Take back what was reserved for requests that were not carried out. Twice is the same as once."""
        if not any(request.limits for request in requests):
            return
        with self._lock:
            self._own.note_refunds(requests)
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

    def note_charges(self, requests: Iterable[Request]) -> None:
        self._note(requests, is_charge=True)

    def note_refunds(self, requests: Iterable[Request]) -> None:
        """Refunds are remembered for a Redis that has the charge and could not be asked."""
        self._note(requests, is_charge=False)

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
        self.note_charges([request])
        return ALLOWED

    def _note(self, requests: Iterable[Request], *, is_charge: bool) -> None:
        now = time.monotonic()
        self._forget_old(now)
        for request in requests:
            self._charges_and_refunds.append((now, request, is_charge))
            if self._index is not None:
                self._index.add(now, request, is_charge=is_charge)

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
        for id_ in [id_ for id_, at in charges.items() if at <= since]:
            del charges[id_]
        return charges


class _SharedLog:
    """The logs in Redis: for each key a sorted set of ids by the microsecond, which goes with the last of them.

    A Redis that does not know the script has not been told, or has forgotten: it is new, was restarted or failed over.
    So the script is our own, with a name in it that no other process has. (SCRIPT FLUSH only causes another telling.)
    """

    def __init__(self, client: redis.Redis, window_s: float) -> None:
        self._client = client
        clock = CLOCK.format(window_us=int(window_s * 1e6), expire_ms=int(window_s * 1e3) + 2)
        self._script = f"-- {new_id()}\n{clock}{RESERVE}"
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._refund = client.register_script(REFUND)
        self._tell = client.register_script(clock + TELL)

    def ping(self) -> None:
        self._client.ping()

    def reserve(self, requests: Sequence[Request]) -> list[Decision]:
        """Raises: NoScriptError."""
        keys, args = _charges(requests)
        return _decisions(requests, self._client.evalsha(self._sha, len(keys), *keys, *args))

    def reserve_anew(self, requests: Sequence[Request]) -> list[Decision]:
        """Reserve in a Redis that has been told; from now on it knows the script."""
        # EVAL and not SCRIPT LOAD, because the server then forgets scripts of processes that are gone.
        keys, args = _charges(requests)
        return _decisions(requests, self._client.eval(self._script, len(keys), *keys, *args))

    def refund(self, requests: Sequence[Request]) -> None:
        charges = [(PREFIX + limit.key, request.id) for request in requests for limit in request.limits]
        self._refund([key for key, _ in charges], [id_ for _, id_ in charges])

    def tell(self, own: _Index) -> None:
        now = time.monotonic()
        changes = [(PREFIX + key, id_, "") for key, id_ in own.refunds]
        for key, charges in own.charges.items():
            changes += [(PREFIX + key, id_, str(int((now - at) * 1e6))) for id_, at in charges.items()]
        self._tell([key for key, _, _ in changes], [part for _, *id_and_age in changes for part in id_and_age])


def _charges(requests: Sequence[Request]) -> tuple[list[str], list[str]]:
    """RESERVE's keys and arguments."""
    keys, args = [], []
    for request in requests:
        keys += [PREFIX + limit.key for limit in request.limits]
        args += [request.id, " ".join([str(limit.per_minute) for limit in request.limits])]
    return keys, args


def _decisions(requests: Sequence[Request], refused: list[tuple[int, int, int]]) -> list[Decision]:
    decisions = [ALLOWED] * len(requests)
    for n, limit_n, wait_us in refused:
        decisions[n] = Decision(False, requests[n].limits[limit_n], wait_us / 1e6)
    return decisions


CLOCK = """
local window, expire_ms = {window_us}, '{expire_ms}'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

# KEYS: those of each request's limits. ARGV: for each request its id and its limits' numbers.
# Answers for each refusal which request it is, which of its limits, and for how many microseconds.
# A key is rid of old reservations only when it looks full, so what is far from its limit costs three commands.
RESERVE = """
local now_text = string.format('%.0f', now)

local function forget_old(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
end

local function wait(key, id, limit)
  if redis.call('ZCARD', key) < limit then return 0 end
  forget_old(key)
  local too_many = redis.call('ZCARD', key) - limit
  if too_many < 0 or redis.call('ZSCORE', key, id) then return 0 end
  return redis.call('ZRANGE', key, too_many, too_many, 'WITHSCORES')[2] + window - now
end

local function charge(key, id)
  if redis.call('ZADD', key, 'NX', now_text, id) == 0 then
    forget_old(key)
    redis.call('ZADD', key, 'NX', now_text, id)
  end
  redis.call('PEXPIRE', key, expire_ms)
end

local refused, first = {}, 1
for arg = 1, #ARGV, 2 do
  local id, key, longest, which = ARGV[arg], first, 0, 0
  for limit in string.gmatch(ARGV[arg + 1], '%d+') do
    local waits = wait(KEYS[key], id, tonumber(limit))
    if waits > longest then longest, which = waits, key - first end
    key = key + 1
  end
  if longest > 0 then
    refused[#refused + 1] = {(arg - 1) / 2, which, longest}
  else
    for n = first, key - 1 do charge(KEYS[n], id) end
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
    redis.call('ZREM', KEYS[n], id)
  else
    redis.call('ZADD', KEYS[n], 'NX', now - age, id)
    redis.call('PEXPIRE', KEYS[n], expire_ms)
  end
end
"""
