"""One policy for everybody whom a module asks for something, around the calls of their own libraries.

A call has a deadline. What certainly was not done is tried again, what may have been done only if it is a look-up. A
provider that asks to wait is left alone by all replicas, one that does not answer by this process, for some seconds.
The library's own retries are switched off, because they know neither the deadline nor what was done.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import redis

from ..base.chat import count_of
from ..base.circuit_breaker import CircuitBreakers, CircuitOpen
from ..base.errors import (
    Away,
    Later,
    ProviderError,
    Refused,
    Unclear,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from ..base.logs import AAALog
from ..base.metrics import Metrics
from ..base.transactions import check_no_transaction
from .http import HTTPResponse, retry_after_s

# From here on a wait is said in minutes, and those in hours.
LONG_S, LONG_MINUTES = 90, 90
T = TypeVar("T")
Translate = Callable[[Exception], ProviderError | None]

LEAST_S = 0.05
FIRST_WAIT_S = 0.1
MOST_WAIT_S = 2.0
# A provider may ask for more, but whoever waits for its quota of tomorrow asks once an hour.
LONGEST_PAUSE_S = 3600.0
# So long Redis is not asked again after it did not answer.
REDIS_RESTS_S = 5.0
PREFIX = "waddlebot:pause:"
# Statuses of somebody who did nothing yet and will in a moment.
ASKS_TO_WAIT = frozenset({429, 503})


class Pauses:
    """Until when a provider wants to be left alone, for all replicas; for this process alone while Redis is away."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._own: dict[str, float] = {}
        self._redis_rests_until = 0.0

    def left_s(self, key: str) -> float:
        """How long it is still to be left alone."""
        own_s = self._own.get(key, 0.0) - time.monotonic()
        shared_ms = self._ask(lambda: self._client.pttl(PREFIX + key))
        return max(0.0, own_s, (shared_ms or 0) / 1000)

    def pause(self, key: str, pause_s: float) -> None:
        pause_s = min(pause_s, LONGEST_PAUSE_S)
        self._own[key] = time.monotonic() + pause_s
        # Never shortened by somebody who was told earlier.
        self._ask(lambda: self._client.set(PREFIX + key, "1", px=max(1, int(pause_s * 1000)), nx=True))
        self._ask(lambda: self._client.pexpire(PREFIX + key, max(1, int(pause_s * 1000)), gt=True))

    def _ask(self, ask: Callable[[], T]) -> T | None:
        if time.monotonic() < self._redis_rests_until:
            return None
        try:
            return ask()
        except redis.RedisError:
            self._redis_rests_until = time.monotonic() + REDIS_RESTS_S
            return None


@dataclass(slots=True)
class Call:
    """One call of a provider, with all its tries."""

    until: float
    account: str
    is_look_up: bool
    renew: Callable[[], None] | None
    tries_left: int
    wait_s: float = FIRST_WAIT_S

    @property
    def left_s(self) -> float:
        return self.until - time.monotonic()


@dataclass(frozen=True, slots=True)
class ProviderState:
    """How it is with a provider, as this process sees it. `last_error` is a code of ours and has no words of theirs."""

    is_left_alone: bool
    paused_s: float
    last_error: str
    last_error_at: datetime | None
    last_answer_at: datetime | None


class Provider:
    """Calls one provider. `translate` says what its library's errors mean; None for what is a bug of ours.

    `look_up` and `effect` give the function the seconds that it may take, and return what it returns. `account` names
    whose limit it is, where keys have limits of their own; `renew` gets a new token after a 401, once.
    Raises: Refused; Away; Later; Unclear, each with words for the person who asked.
    """

    def __init__(
        self,
        name: str,
        *,
        title: str = "",
        translate: Translate,
        timeout_s: float,
        tries: int,
        pauses: Pauses,
        circuits: CircuitBreakers,
        measures: Measures,
        log: AAALog,
    ) -> None:
        self.name = name
        self.title = title or name.title()
        self._translate = translate
        self._timeout_s = timeout_s
        self._tries = tries
        self._pauses = pauses
        self._circuits = circuits
        self._measures = measures
        self._log = log
        self._last_error = ""
        self._last_error_at: datetime | None = None
        self._last_answer_at: datetime | None = None

    def state(self, account: str = "") -> ProviderState:
        """How it is, without asking it."""
        return ProviderState(
            self._circuits.is_open(self.name, "", account),
            round(self._pauses.left_s(f"{self.name}:{account}"), 1),
            self._last_error,
            self._last_error_at,
            self._last_answer_at,
        )

    def look_up(
        self,
        ask: Callable[[float], T],
        *,
        within_s: float | None = None,
        account: str = "",
        renew: Callable[[], None] | None = None,
    ) -> T:
        """Ask for something that may be asked twice."""
        return self._call(ask, self._begin(within_s, account, renew, is_look_up=True))

    def effect(
        self,
        do: Callable[[float], T],
        *,
        within_s: float | None = None,
        account: str = "",
        renew: Callable[[], None] | None = None,
    ) -> T:
        """Have something done. Tried again only when it certainly was not done."""
        return self._call(do, self._begin(within_s, account, renew, is_look_up=False))

    def failed(self, err: Exception) -> ProviderError:
        """What an error means that came after `look_up` had returned, of an answer that goes on; counted and logged.

        Raises: the error, if it is a bug of ours.
        """
        failure = self._translate(err) or translate(err)
        if failure is None:
            raise err
        self._measures.count(self.name, failure.code, None)
        self._note_failure(failure)
        return self._in_words(failure)

    def _begin(
        self, within_s: float | None, account: str, renew: Callable[[], None] | None, *, is_look_up: bool
    ) -> Call:
        check_no_transaction()
        timeout_s = self._timeout_s if within_s is None else min(within_s, self._timeout_s)
        return Call(time.monotonic() + timeout_s, account, is_look_up, renew, self._tries)

    def _call(self, ask: Callable[[float], T], call: Call) -> T:
        while True:
            try:
                return self._try(ask, call)
            except Refused as err:
                if call.renew is None or not err.is_about_token:
                    raise self._in_words(err) from err
                renew, call.renew = call.renew, None
                renew()
            except ProviderError as err:
                pause_s = self._pause_before_next(err, call)
                if pause_s is None:
                    raise self._in_words(err) from err
                time.sleep(pause_s)

    def _pause_before_next(self, err: ProviderError, call: Call) -> float | None:
        """How long to wait until the next try; None when there is none."""
        call.tries_left -= 1
        if call.tries_left <= 0 or (isinstance(err, Unclear) and not call.is_look_up):
            return None
        asked_s = err.retry_after_s if isinstance(err, Later) else 0.0
        pause_s = max(asked_s, call.wait_s) * random.uniform(1.0, 1.3)  # noqa: S311 - jitter, not a secret
        call.wait_s = min(call.wait_s * 2, MOST_WAIT_S)
        return pause_s if pause_s + LEAST_S < call.left_s else None

    def _try(self, ask: Callable[[float], T], call: Call) -> T:
        key = f"{self.name}:{call.account}"
        paused_s = self._pauses.left_s(key)
        if paused_s > 0:
            raise Later("asked to wait before", retry_after_s=paused_s)
        began = time.monotonic()
        try:
            with self._circuits.watching(self.name, "", call.account):
                result = self._ask(ask, call)
        except CircuitOpen as err:
            self._measures.count(self.name, "left_alone", None)
            raise Away(err.message) from err
        except ProviderError as err:
            self._measures.count(self.name, err.code, began)
            self._log.debug(
                "provider_called",
                provider=self.name,
                outcome=err.code,
                status=err.status,
                detail=err.message,
                execution_time_ms=_ms_since(began),
            )
            self._note_failure(err)
            if isinstance(err, Later):
                self._pauses.pause(key, err.retry_after_s)
            raise
        self._measures.count(self.name, "ok", began)
        self._log.debug("provider_called", provider=self.name, execution_time_ms=_ms_since(began))
        self._last_answer_at = datetime.now(UTC)
        return result

    def _note_failure(self, err: ProviderError) -> None:
        self._last_error = f"{err.code} {err.status}" if err.status else err.code
        self._last_error_at = datetime.now(UTC)

    def _ask(self, ask: Callable[[float], T], call: Call) -> T:
        try:
            return ask(max(LEAST_S, call.left_s))
        except Exception as err:  # Libraries raise what they like; what nobody knows is raised again.
            failure = self._translate(err) or translate(err)
            if failure is None:
                raise
            raise failure from err

    def _in_words(self, err: ProviderError) -> ProviderError:
        """The same for the person who asked; what happened exactly is in the log."""
        detail = err.message
        self._log.system(
            "provider_failed",
            result="FAILED",
            level=logging.WARNING,
            provider=self.name,
            outcome=err.code,
            detail=detail,
        )
        if isinstance(err, Refused):
            return Refused(
                f"{self.title} refuses: {err.words or 'no reason given'}.", status=err.status, words=err.words
            )
        if isinstance(err, Later):
            return Later(f"{self.title} {_too_much(err.retry_after_s)}", retry_after_s=err.retry_after_s)
        if isinstance(err, Away):
            return Away(f"{self.title} cannot be reached. Try again in a moment.", detail=detail)
        return Unclear(f"{self.title} does not answer. Try again in a moment.", detail=detail)


def _too_much(wait_s: float) -> str:
    if wait_s < LONG_S:
        return f"has too much to do. Try again {f'in {wait_s:.0f} s' if wait_s >= 1 else 'in a moment'}."
    minutes = math.ceil(wait_s / 60)
    wait = count_of(minutes, "minute") if minutes < LONG_MINUTES else count_of(math.ceil(minutes / 60), "hour")
    return f"has had enough of this bot for now. Try again in about {wait}."


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1e3, 2)


class Measures:
    """Calls by provider and outcome, and how long they took."""

    def __init__(self, metrics: Metrics) -> None:
        self._calls = metrics.counter("provider_calls", "Calls of providers, each try.", ["provider", "outcome"])
        self._seconds = metrics.histogram("provider_seconds", "How long a try took.", ["provider"])

    def count(self, provider: str, outcome: str, began: float | None) -> None:
        self._calls.labels(provider, outcome).inc()
        if began is not None:
            self._seconds.labels(provider).observe(time.monotonic() - began)


class Providers:
    """The providers of one module."""

    def __init__(
        self, client: redis.Redis, log: AAALog, metrics: Metrics, *, max_failures: int = 5, rest_s: float = 10.0
    ) -> None:
        self._pauses = Pauses(client)
        self._circuits = CircuitBreakers(log, metrics, max_failures=max_failures, rest_s=rest_s)
        self._measures = Measures(metrics)
        self.log = log

    def add(
        self, name: str, *, title: str = "", translate: Translate | None = None, timeout_s: float = 10.0, tries: int = 3
    ) -> Provider:
        """A provider that a call gives up on after so long and so many tries; `title` is what people call it."""
        return Provider(
            name,
            title=title,
            translate=translate or (lambda _: None),
            timeout_s=timeout_s,
            tries=tries,
            pauses=self._pauses,
            circuits=self._circuits,
            measures=self._measures,
            log=self.log,
        )


def failure_of(status: int, *, words: str = "", retry_after: float = 1.0, detail: str = "") -> ProviderError | None:
    """What an HTTP status means; None for success. `words` may be shown to people, `detail` is for the log."""
    text = detail or f"HTTP {status}: {words}".rstrip(": ")
    if status < 400:
        return None
    kind = Later if status in ASKS_TO_WAIT else Unclear if status >= 500 else Refused
    return kind(text, status=status, words=words, retry_after_s=retry_after)


def check_response(response: HTTPResponse) -> HTTPResponse:
    """The answer of our own HTTP client, asked for with `keep_headers=True`. Raises: what its status means."""
    failure = failure_of(response.status, retry_after=retry_after_s(response) or 1.0)
    if failure is not None:
        raise failure
    return response


def translate(err: Exception) -> ProviderError | None:
    """What an error means that many libraries raise: ours, the standard library's, and those of requests and urllib3.

    Their texts may hold a URL with a key in it, so only their names are told.
    """
    if isinstance(err, ProviderError):
        return err
    if isinstance(err, UpstreamUnreachable):
        return Away(err.message)
    if isinstance(err, UpstreamTimeout):
        return Unclear(err.message)
    if isinstance(err, UpstreamRefused):
        return Refused(err.message)
    if isinstance(err, UpstreamError):
        return Unclear(err.message)
    return _of_requests(err) or _of_urllib3(err) or _of_python(err)


def _of_requests(err: Exception) -> ProviderError | None:
    requests = sys.modules.get("requests")  # It loads slowly, and nobody raises its errors who has not.
    if requests is None or not isinstance(err, requests.RequestException):
        return None
    if isinstance(err, requests.HTTPError) and err.response is not None:
        after = retry_after_s(HTTPResponse(err.response.status_code, b"", err.response.headers)) or 1.0
        return failure_of(err.response.status_code, retry_after=after)
    if isinstance(err, requests.ConnectTimeout):
        return Away(type(err).__name__)
    if isinstance(err, requests.ConnectionError):
        cause = getattr(err.args[0], "reason", None) if err.args else None
        return (_of_urllib3(cause) if isinstance(cause, Exception) else None) or Unclear(type(err).__name__)
    return Unclear(type(err).__name__)


def _of_urllib3(err: Exception) -> ProviderError | None:
    urllib3 = sys.modules.get("urllib3")
    if urllib3 is None or not isinstance(err, urllib3.exceptions.HTTPError):
        return None
    if isinstance(err, urllib3.exceptions.MaxRetryError) and isinstance(err.reason, Exception):
        return _of_urllib3(err.reason)
    not_connected = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    return Away(type(err).__name__) if isinstance(err, not_connected) else Unclear(type(err).__name__)


def _of_python(err: Exception) -> ProviderError | None:
    if isinstance(err, ConnectionRefusedError):
        return Away(type(err).__name__)
    return Unclear(type(err).__name__) if isinstance(err, OSError) else None  # TimeoutError is one.


__all__ = ["Pauses", "Provider", "ProviderState", "Providers", "check_response", "failure_of", "translate"]
