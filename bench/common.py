"""What the benchmarks share: a load of requests, a fleet of their own, and a table."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import FLEET_PORTS
from waddlebot.fleet.home import Home
from waddlebot.web.http import HTTPClient

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Load:
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float


def run_load(
    url: str,
    make_body: Callable[[int], bytes],
    *,
    requests: int,
    in_flight: int,
    headers: dict[str, str],
    check: Callable[[dict], bool],
    process: psutil.Process,
    per_s: float | None = None,
) -> Load:
    """Send requests with so many in flight; every answer is checked. CPU is that of the process and its children.

    With `per_s` they are sent at that pace, and their times are counted from when each was due.
    """
    numbers = itertools.count()
    times: list[float] = []
    failures: list[bytes] = []

    def work() -> None:
        http = HTTPClient()
        while (number := next(numbers)) < requests:
            body = make_body(number)
            due = begun + number / per_s if per_s else time.perf_counter()
            time.sleep(max(0.0, due - time.perf_counter()))
            response = http.request("POST", url, body=body, headers=headers)
            times.append(time.perf_counter() - due)
            if response.status != 200 or not check(response.json()):
                failures.append(response.body)

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    cpu, begun = cpu_seconds(process), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    if failures:
        raise SystemExit(f"{len(failures)} of {requests} answers were wrong, such as {failures[0][:300]!r}")
    times.sort()
    return Load(
        requests / took,
        times[len(times) // 2] * 1e3,
        times[int(len(times) * 0.99)] * 1e3,
        (cpu_seconds(process) - cpu) / requests * 1000,
    )


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process tree, those that ended in it included."""
    return sum(cpu_by_process(process).values())


def cpu_by_process(process: psutil.Process) -> Counter[str]:
    """The same, by what the processes are: `web`, `collectors`, `postgres` and so on."""
    found: Counter[str] = Counter()
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            command, used = each.cmdline(), each.cpu_times()
            is_ours = "waddlebot.fleet.serve" in command
            name = command[-1] if is_ours else each.name()
            found[name] += used.user + used.system + used.children_user + used.children_system
    return found


def pss_mb(process: psutil.Process) -> float:
    """Memory of a process tree, pages shared between processes counted once."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            lines = Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines()
            total += int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024
    return total


@dataclass(slots=True)
class RunningFleet:
    home: Path
    process: subprocess.Popen[str]
    port: int
    ready_s: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tree(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    @property
    def environment(self) -> dict[str, str]:
        running = Home(self.home).find_running()
        assert running is not None
        return running.environment

    def headers(self) -> dict[str, str]:
        return {"X-API-Key": Home(self.home).console_key() or "", "Content-Type": "application/json"}

    def say(self, text: str) -> None:
        self.cli("say", text)

    def cli(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "waddlebot.cli.cli", *arguments, "--home", str(self.home)]
        subprocess.run(command, check=True, capture_output=True)


def victims(running: RunningFleet) -> list[tuple[str, int]]:
    """The supervisor's children and their workers, by what they are."""
    found = []
    for process in running.tree.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            if "waddlebot.fleet.serve" in command:
                modules = process.environ()["WADDLEBOT_MODULES"].split(",")
                found.append((modules[0].split("_")[0] if len(modules) == 1 else command.split()[-1], process.pid))
            elif "bin/postgres" in command:
                found.append(("postgres", process.pid))
            elif "valkey-server" in command:
                found.append(("valkey", process.pid))
    return found


def kill_one_after_another(find: Callable[[], list[tuple[str, int]]], seconds: float, every_s: float) -> Counter[str]:
    """kill -9 for so long, those that were killed least first. Returns how often each was."""
    killed: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(every_s)
        found = find()
        random.shuffle(found)
        name, pid = min(found, key=lambda victim: killed[victim[0]])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed[name] += 1
    return killed


@contextlib.contextmanager
def fleet(
    *options: str, home: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[RunningFleet]:
    """A fleet of its own, in a home of its own unless one is given."""
    with contextlib.ExitStack() as stack:
        folder = home or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "home"
        port = free_port(FLEET_PORTS)
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "waddlebot.cli.cli", "up", "--home", str(folder), "--port", str(port), *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("WaddleBot is ready:"):
                    break
            else:
                raise SystemExit("the fleet did not start")
            yield RunningFleet(folder, process, port, time.monotonic() - started)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


@contextlib.contextmanager
def server(target: str, port: int, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A WSGI app under the fleet's own server, one worker."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench.bare", target, str(port)),
        ],
        env={**os.environ, **environment},
        cwd=ROOT,
    )
    try:
        http = HTTPClient()
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(Exception):
                if http.request("POST", f"http://127.0.0.1:{port}/", body=b"{}", timeout_s=1).status < 500:
                    break
            if time.monotonic() > until:
                raise SystemExit(f"{target} did not start")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def event(text: str, event_id: str, name: str = "alice") -> bytes:
    return json.dumps(
        {
            "event_id": event_id,
            "message_type": "chatMessage",
            "platform": "console",
            "server_id": "demo",
            "channel_id": "general",
            "user": {"platform_user_id": name, "name": name, "display_name": name, "badges": ["owner"]},
            "message": text,
        }
    ).encode()


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    print(f"\n{title}")
    for i, row in enumerate(cells):
        first, *rest = zip(row, widths, strict=True)
        print("  " + "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]))
        if i == 0:
            print("  " + "  ".join("-" * width for width in widths))
