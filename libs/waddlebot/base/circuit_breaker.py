"""Leaves a target alone that has stopped answering, so that nobody waits for it and its threads are free."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .errors import Later, UpstreamError, UpstreamRefused, UpstreamUnreachable
from .logs import AAALog
from .metrics import Metrics


class CircuitOpen(UpstreamError):
    """It has not answered several times in a row, so it is left alone for a few seconds."""

    code = "circuit_open"
    http_status = 503


# Of those in trouble so many are remembered.
MAX_CIRCUITS = 10_000

Target = tuple[str, str, str]


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    rests_until: float | None = None
    is_probed: bool = False
    # For whom it failed.
    places: set[str] = field(default_factory=set)


class CircuitBreakers:
    """A circuit for each target that is in trouble, and for each place for which it is; for the others there is nothing
    to remember.

    After `max_failures` calls in a row without an answer a circuit opens: calls fail at once. After `rest_s` one call
    goes through as a probe, and its end closes the circuit or opens it again. Any answer counts as one, a refusal or
    an error of the module's too, so that nobody can shut a module by asking it for what fails. What fails for one place
    only, such as a community or the owner of a token, is left alone for that one: the target's own circuit opens when
    it fails for two, or cannot be reached at all.
    """

    def __init__(
        self,
        log: AAALog,
        metrics: Metrics,
        *,
        max_failures: int,
        rest_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._open = metrics.gauge(
            "circuits_open", "Targets that are left alone because they do not answer.", ["module"]
        )
        self._refused = metrics.counter("circuit_refusals", "Calls not made because a circuit was open.", ["module"])
        self._max_failures = max_failures
        self._rest_s = rest_s
        self._clock = clock
        self._circuits: dict[Target, _Circuit] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watching(self, module_name: str, location: str, place: object = "") -> Iterator[None]:
        """Make a call within this: how it ends is what the circuit goes by. `place` is for whom it is made.

        Raises: CircuitOpen, and the call is not made.
        """
        targets = _targets(module_name, location, place)
        probes = self._enter(targets)
        try:
            yield
        except (UpstreamRefused, Later):
            self._answered(targets)
            raise
        except BaseException as err:
            self._failed(targets, probes, str(place), is_away=isinstance(err, UpstreamUnreachable))
            raise
        self._answered(targets)

    def is_open(self, module_name: str, location: str, place: object = "") -> bool:
        """Whether a target is left alone, or was and is being tried."""
        circuits = [self._circuits.get(each) for each in _targets(module_name, location, place)]
        return any(each is not None and each.rests_until is not None for each in circuits)

    def close_all(self) -> None:
        """Forget every trouble: whoever was left alone is asked again."""
        with self._lock:
            for target in list(self._circuits):
                circuit = self._circuits.pop(target)
                if circuit.rests_until is not None:
                    self._open.labels(target[0]).dec()

    def _enter(self, targets: Sequence[Target]) -> set[Target]:
        """The open circuits of which this call is the probe."""
        if not any(each in self._circuits for each in targets):  # A dict may be asked without the lock.
            return set()
        with self._lock:
            resting = {
                each: circuit
                for each in targets
                if (circuit := self._circuits.get(each)) is not None and circuit.rests_until is not None
            }
            if any(each.is_probed or self._clock() < (each.rests_until or 0) for each in resting.values()):
                self._refused.labels(targets[0][0]).inc()
                raise CircuitOpen()
            for each in resting.values():
                each.is_probed = True
            return set(resting)

    def _answered(self, targets: Sequence[Target]) -> None:
        if not any(each in self._circuits for each in targets):
            return
        with self._lock:
            gone = [self._circuits.pop(each, None) for each in targets]
        for each in gone:
            if each is not None and each.rests_until is not None:
                self._open.labels(targets[0][0]).dec()
                self._log.system("circuit_closed", module_name=targets[0][0])

    def _failed(self, targets: Sequence[Target], probes: set[Target], place: str, *, is_away: bool) -> None:
        for target in targets:
            is_shared = not target[2]
            with self._lock:
                circuit = self._circuits.setdefault(target, _Circuit())
                circuit.failures += 1
                circuit.places.add(place)
                failures, is_probe = circuit.failures, target in probes
                is_everybodys = not is_shared or is_away or not place or len(circuit.places) > 1
                is_enough = is_everybodys and failures >= self._max_failures
                begins = circuit.rests_until is None and (is_probe or is_enough)
                if is_probe:
                    circuit.is_probed = False
                if is_probe or begins:
                    circuit.rests_until = self._clock() + self._rest_s
                self._forget_oldest()
            if begins:
                self._tell_open(target, failures)
            if circuit.rests_until is not None:
                return  # What is left alone for everybody is left alone for each.

    def _forget_oldest(self) -> None:
        if len(self._circuits) <= MAX_CIRCUITS:
            return
        oldest = next(iter(self._circuits))
        if self._circuits.pop(oldest).rests_until is not None:
            self._open.labels(oldest[0]).dec()

    def _tell_open(self, target: Target, failures: int) -> None:
        self._open.labels(target[0]).inc()
        self._log.system(
            "circuit_opened",
            result="FAILED",
            level=logging.WARNING,
            module_name=target[0],
            failures=failures,
        )


def _targets(module_name: str, location: str, place: object) -> list[Target]:
    """The target's own circuit, and that of it for a place."""
    shared = (module_name, location, "")
    return [shared, (module_name, location, str(place))] if place else [shared]
