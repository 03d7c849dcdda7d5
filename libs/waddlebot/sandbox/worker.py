"""One process behind the fence, for one version of a module in one community, and what the host says with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from ..web.http import EgressGuard
from . import frames
from .broker import Broker, Traffic
from .packages import Function

TEMPLATE_STARTS_WITHIN_S = 20.0
INIT_TIMEOUT_S = 10.0
# What a process says in a call: so much is kept, and with so much it is ended.
KEPT_OUTPUT_BYTES, MAX_OUTPUT_BYTES = 64 * 1024, 4 * 1024 * 1024
OUTPUT_CHUNK = 64 * 1024
TICKS = os.sysconf("SC_CLK_TCK")
# As long as the token of a call is good for after its deadline.
MAX_LATER_S = 300.0
# How often one call may ask for state.
MAX_STATE_CALLS = 100

StateAsker = Callable[["Call", dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: JSON, and whether it is an error in Lambda's words. `is_harm` had to be ended by force."""

    body: bytes
    failed: bool = False
    is_harm: bool = False

    @classmethod
    def error(cls, kind: str, message: str, *, is_harm: bool = False) -> Outcome:
        return cls(to_json({"errorType": kind, "errorMessage": message}), failed=True, is_harm=is_harm)


@dataclass(slots=True)
class Call:
    """One event for a function. `postponed` has for how many seconds, once the module says that it takes longer."""

    event: dict[str, Any]
    body: bytes
    timeout_s: float
    module_name: str
    id: bytes = field(default_factory=lambda: os.urandom(16))
    postponed: asyncio.Future[float] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def frame(self, function: Function) -> bytes:
        about = {
            "module_name": self.module_name,
            "execution_id": self.event.get("execution_id", ""),
            "function": function.name,
            "deadline_ms": int((time.time() + self.timeout_s) * 1000),
        }
        return frames.pack(frames.CALL, self.id, to_json(about) + b"\n" + self.body)


class _Broken(Exception):
    """The process did not keep to what it may say."""


class Template:
    """The clean process that others are forked from."""

    def __init__(self, *, run_as: tuple[int, int] | None, is_required: bool) -> None:
        self._run_as = run_as
        self._is_required = is_required
        self._lock = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None

    async def start(self) -> None:
        """Raises: OSError, TimeoutError."""
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-W", "ignore", "-m", "waddlebot.sandbox.template", str(theirs.fileno())],
                env={},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        ours.setblocking(False)
        self._orders = ours
        async with asyncio.timeout(TEMPLATE_STARTS_WITHIN_S):
            if await asyncio.get_running_loop().sock_recv(ours, 100) != b"ready":
                raise OSError("The template does not start.")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._orders is not None:
            self._orders.close()

    async def fork(self, function: Function, descriptors: Sequence[int]) -> tuple[int, int]:
        """A new process of a function: its id and a descriptor of it. Raises: OSError, also TimeoutError."""
        order: dict[str, Any] = {
            "folder": str(function.folder),
            "entry": function.manifest.runtime.entry,
            "memory_mb": function.manifest.limits.memory_mb,
            "is_required": self._is_required,
        }
        if self._run_as:
            order["uid"], order["gid"] = self._run_as
        async with self._lock:
            if self._process is None or self._process.poll() is not None:
                await self.start()
            assert self._orders is not None
            socket.send_fds(self._orders, [to_json(order)], list(descriptors))
            return await self._forked(self._orders)

    async def _forked(self, orders: socket.socket) -> tuple[int, int]:
        answered = asyncio.Event()
        asyncio.get_running_loop().add_reader(orders, answered.set)
        try:
            async with asyncio.timeout(INIT_TIMEOUT_S):
                await answered.wait()
        finally:
            asyncio.get_running_loop().remove_reader(orders)
        told, found, _flags, _address = socket.recv_fds(orders, 100, 1)
        if not found:
            raise OSError("The process ended before it began.")
        return int(told), found[0]


class Worker:
    """A process, asked one thing at a time, and stopped in between."""

    def __init__(self, function: Function, guard: EgressGuard, ask_state: StateAsker, traffic: Traffic) -> None:
        self.function = function
        self.calls = 0
        self.idle_since = time.monotonic()
        self.output = b""
        self.is_alive = False
        self._guard = guard
        self._ask_state = ask_state
        self._traffic = traffic
        self._said = 0
        self._cpu_at_first = 0.0
        self._killed = ""
        self._pid = 0
        self._process = -1
        self._output_fd = -1
        self._serving: asyncio.Task[None] | None = None

    async def start(self, template: Template) -> None:
        """Raises: OSError."""
        ours, calls = socket.socketpair()
        broker, network = socket.socketpair()
        self._output_fd, output = os.pipe2(os.O_CLOEXEC)
        try:
            with calls, network:
                self._pid, self._process = await template.fork(
                    self.function, [calls.fileno(), network.fileno(), output]
                )
        except BaseException:
            ours.close()
            broker.close()
            os.close(self._output_fd)
            raise
        finally:
            os.close(output)
        os.set_blocking(self._output_fd, False)
        asyncio.get_running_loop().add_reader(self._output_fd, self._hear)
        self._broker = Broker(broker, self.function.manifest.hosts, self._guard, self._traffic)
        self._serving = asyncio.create_task(self._broker.serve())  # not watched: it ends with the process
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self.is_alive = True

    @property
    def is_well(self) -> bool:
        return self.is_alive and not self._killed and not self._reader.at_eof()

    async def call(self, call: Call) -> Outcome:
        """Ask it once. After an outcome that is harm it is gone."""
        if not self.calls:
            outcome = await self._begin()
            if outcome:
                return outcome
        self.calls += 1
        self._said, self.output, self._cpu_at_first = 0, b"", self.cpu_s()
        self._broker.begin()
        try:
            self._signal(signal.SIGCONT)
            async with asyncio.timeout(call.timeout_s) as limit:
                self._writer.write(call.frame(self.function))
                return await self._answers(call, limit)
        except TimeoutError:
            return self._ended("Sandbox.Timedout", f"Task timed out after {call.timeout_s:.2f} seconds")
        except (asyncio.IncompleteReadError, OSError):
            return self._ended("Runtime.ExitError", "The process ended.")
        except _Broken as err:
            return self._ended("Runtime.Broken", str(err))
        finally:
            self._broker.end()
            self.idle_since = time.monotonic()
            if self.is_alive:
                self._signal(signal.SIGSTOP)

    async def _begin(self) -> Outcome | None:
        """Wait until its code is loaded; what came of it instead."""
        try:
            async with asyncio.timeout(INIT_TIMEOUT_S):
                kind, _call_id, body = await self._read()
        except TimeoutError:
            return self._ended("Sandbox.Timedout", f"Init timed out after {INIT_TIMEOUT_S:.2f} seconds")
        except (asyncio.IncompleteReadError, OSError):
            return self._ended("Runtime.ExitError", "The process ended before it was ready.")
        except _Broken as err:
            return self._ended("Runtime.Broken", str(err))
        if kind == frames.READY:
            return None
        self.kill("it cannot be loaded")
        return Outcome(body, failed=True, is_harm=True)

    async def _answers(self, call: Call, limit: asyncio.Timeout) -> Outcome:
        asked = 0
        while True:
            kind, call_id, body = await self._read()
            if call_id != call.id:
                raise _Broken("It answered what it was not asked.")
            if kind in (frames.RESULT, frames.ERROR):
                return Outcome(body, failed=kind == frames.ERROR)
            if kind == frames.STATE and asked < MAX_STATE_CALLS:
                asked += 1
                answer = await self._answer_state(call, _parsed(body, dict))
                self._writer.write(frames.pack(frames.STATE_ANSWER, call_id, to_json(answer)))
            elif kind == frames.LATER and not call.postponed.done():
                self._postpone(call, min(float(_parsed(body, (int, float))), MAX_LATER_S), limit)
            else:
                raise _Broken("It said what nobody asks.")

    async def _answer_state(self, call: Call, request: dict[str, Any]) -> dict[str, Any]:
        if "state" not in self.function.manifest.permissions:
            return {"error": "module.toml does not ask for the permission state."}
        return await self._ask_state(call, request)

    def _postpone(self, call: Call, seconds: float, limit: asyncio.Timeout) -> None:
        if not seconds > 0 or "reply_later" not in self.function.manifest.permissions:
            raise _Broken("It has no permission to reply later." if seconds > 0 else "It is late by no time.")
        limit.reschedule(asyncio.get_running_loop().time() + seconds)
        call.postponed.set_result(seconds)

    async def _read(self) -> tuple[bytes, bytes, bytes]:
        kind, call_id, size = frames.HEAD.unpack(await self._reader.readexactly(frames.HEAD.size))
        if size > frames.MAX_BODY_BYTES:
            raise _Broken(f"An answer has at most {frames.MAX_BODY_BYTES} bytes.")
        return kind, call_id, await self._reader.readexactly(size)

    def check(self) -> None:
        """End it when a call takes more than it may. Called again and again while one runs."""
        limits = self.function.manifest.limits
        if not self.is_alive:
            return
        if self.cpu_s() - self._cpu_at_first > limits.cpu_s:
            self.kill(f"more than {limits.cpu_s:g} s of CPU in one call")
        elif self._broker.is_too_much:
            self.kill("more network traffic in one call than a module may have")

    def cpu_s(self) -> float:
        try:
            fields = Path(f"/proc/{self._pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / TICKS

    def kill(self, why: str) -> None:
        self._killed = self._killed or why
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """End it, if it is not over yet, and let go of all that is its."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._signal(signal.SIGKILL)
        if self._serving:
            self._serving.cancel()
        asyncio.get_running_loop().remove_reader(self._output_fd)
        self._hear()
        for each in (self._output_fd, self._process):
            with contextlib.suppress(OSError):
                os.close(each)
        self._broker.close()
        self._writer.close()

    def _ended(self, kind: str, message: str) -> Outcome:
        if self._killed:
            kind, message = "Sandbox.LimitExceeded", f"It was ended: {self._killed}."
        self.kill(message)
        return Outcome.error(kind, message, is_harm=True)

    def _hear(self) -> None:
        try:
            said = os.read(self._output_fd, OUTPUT_CHUNK)
        except OSError:
            return
        if not said and self.is_alive:
            asyncio.get_running_loop().remove_reader(self._output_fd)
        self._said += len(said)
        self.output += said[: max(0, KEPT_OUTPUT_BYTES - len(self.output))]
        if self._said > MAX_OUTPUT_BYTES:
            self.kill("more output in one call than a module may have")

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._process, number)


def _parsed(body: bytes, kind: type | tuple[type, ...]) -> Any:
    try:
        value = from_json(body)
    except ValueError as err:
        raise _Broken("It did not say JSON.") from err
    if not isinstance(value, kind):
        raise _Broken("It said something else than it was asked.")
    return value
