"""Leaves a target alone that has stopped answering, so that nobody waits for it and its threads are free."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .errors import Later, UpstreamError, UpstreamRefused
from .logs import AAALog
from .metrics import Metrics


class CircuitOpen(UpstreamError):
    """It has not answered several times in a row, so it is left alone for a few seconds."""

    code = "circuit_open"
    http_status = 503


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    rests_until: float | None = None
    is_probed: bool = False


class CircuitBreakers:
    """A circuit for each target that is in trouble; for the others there is nothing to remember.

    After `max_failures` calls in a row without an answer a circuit opens: calls fail at once. After `rest_s` one call
    goes through as a probe, and its end closes the circuit or opens it again. Any answer counts as one, a refusal or
    an error of the module's too, so that nobody can shut a module by asking it for what fails.
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
        self._circuits: dict[tuple[str, str], _Circuit] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watching(self, module_name: str, location: str) -> Iterator[None]:
        """Make a call within this: how it ends is what the circuit goes by.

        Raises: CircuitOpen, and the call is not made.
        """
        target = (module_name, location)
        is_probe = self._enter(target)
        try:
            yield
        except (UpstreamRefused, Later):
            self._answered(target)
            raise
        except BaseException:
            self._failed(target, is_probe=is_probe)
            raise
        self._answered(target)

    def is_open(self, module_name: str, location: str) -> bool:
        """Whether a target is left alone, or was and is being tried."""
        circuit = self._circuits.get((module_name, location))
        return circuit is not None and circuit.rests_until is not None

    def close_all(self) -> None:
        """Forget every trouble: whoever was left alone is asked again."""
        with self._lock:
            for module_name, location in list(self._circuits):
                circuit = self._circuits.pop((module_name, location))
                if circuit.rests_until is not None:
                    self._open.labels(module_name).dec()

    def _enter(self, target: tuple[str, str]) -> bool:
        """Whether this call is the probe of an open circuit."""
        if target not in self._circuits:  # Most are not; a dict may be asked without the lock.
            return False
        with self._lock:
            circuit = self._circuits.get(target)
            if circuit is None or circuit.rests_until is None:
                return False
            if circuit.is_probed or self._clock() < circuit.rests_until:
                self._refused.labels(target[0]).inc()
                raise CircuitOpen()
            circuit.is_probed = True
            return True

    def _answered(self, target: tuple[str, str]) -> None:
        if target not in self._circuits:
            return
        with self._lock:
            circuit = self._circuits.pop(target, None)
            was_open = circuit is not None and circuit.rests_until is not None
        if was_open:
            self._open.labels(target[0]).dec()
            self._log.system("circuit_closed", module_name=target[0])

    def _failed(self, target: tuple[str, str], *, is_probe: bool) -> None:
        with self._lock:
            circuit = self._circuits.setdefault(target, _Circuit())
            circuit.failures += 1
            failures = circuit.failures
            begins = circuit.rests_until is None and (is_probe or circuit.failures >= self._max_failures)
            if is_probe:
                circuit.is_probed = False
            if is_probe or begins:
                circuit.rests_until = self._clock() + self._rest_s
        if begins:
            self._open.labels(target[0]).inc()
            self._log.system(
                "circuit_opened",
                result="FAILED",
                level=logging.WARNING,
                module_name=target[0],
                failures=failures,
            )
