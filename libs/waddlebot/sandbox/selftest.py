"""The host's self-test: every attack, behind the fence that strangers get, on things that must stay untouched."""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from ..module.package import pack
from . import attacks
from .fence import CLONE3, find_machine
from .packages import Function, Packages
from .pool import Pool
from .worker import Call, Outcome

FOLDER_PREFIX = "waddlebot-modules-"
NAME, NOBODY = "self_test", 0
# Most of what has to be ended waits for that, so several at once take little longer than one.
AT_ONCE = 4
METADATA = ("169.254.169.254", 80)
# What should be refused is given time, also where everything is slow; what never ends is not.
TIMEOUT_S, ENDLESS_S = 10.0, 0.2
MANIFEST = """
name = "self_test"
title = "Self-test"
version = "1.0.0"
description = "Attacks the fence"
hosts = []
[runtime]
entry = "handler.handler"
[limits]
memory_mb = 64
cpu_s = 5
timeout_s = 10
[[commands]]
command = "selftest"
"""


@dataclass(frozen=True, slots=True)
class Attack:
    name: str
    is_held: bool
    how: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The fence in force, and why nothing is run, if so."""

    fence: str
    trouble: str = ""
    attacks: list[Attack] = field(default_factory=list)


@dataclass(slots=True)
class Decoys:
    """What attacks go for, and whether any of them got there."""

    targets: dict[str, Any]
    touched: list[str] = field(default_factory=list)


async def try_attacks(pool: Pool, packages: Packages, fence: str) -> Checked:
    """Make all attacks. Raises: OSError when they cannot be made."""
    function, turns = make_function(packages), asyncio.Semaphore(min(AT_ONCE, pool.most_of_one))

    async def attack(number: int, name: str, set_up: Decoys) -> Attack:
        async with turns:
            # What a process survives leaves it as it was, so the next may have it: each new one costs the start time.
            own = -number if name in attacks.ENDS else NOBODY
            return await try_attack(pool, function, name, set_up, community_id=own)

    async with decoys() as set_up:
        # What has to be waited for comes first, so that the others are made meanwhile.
        names = (*attacks.ENDS, *attacks.ATTACKS)
        tried = list(await asyncio.gather(*(attack(number, name, set_up) for number, name in enumerate(names, 1))))
    for place in [each for each in pool.records if each[0] == function.name]:
        del pool.records[place]
    through = [each for each in tried if not each.is_held]
    if not through:
        return Checked(fence, attacks=tried)
    words = "; ".join(f"{each.name}: {each.how[:200]}" for each in through[:3])
    return Checked(fence, f"{len(through)} of {len(tried)} attacks on the fence came through: {words}", tried)


def make_function(packages: Packages) -> Function:
    content = pack({"module.toml": MANIFEST.encode(), "handler.py": Path(attacks.__file__).read_bytes()})
    function = packages.unpack(f"{NAME}:1.0.0:{sha256(content).hexdigest()}", content)
    compileall.compile_dir(function.folder, quiet=2)  # Once, and not in each of the processes.
    return function


async def try_attack(
    pool: Pool, function: Function, name: str, set_up: Decoys, *, community_id: int = NOBODY
) -> Attack:
    """Make one attack, in a process that serves this community only, and see that the host answers properly afterwards.

    What is touched is put down to every attack that is being made at that moment.
    """
    before = len(set_up.touched)
    outcome = await ask(pool, function, name, set_up.targets, community_id)
    held, how = _judge(outcome, must_end=name in attacks.ENDS)
    after = await ask(pool, function, "survive", set_up.targets, community_id)
    if after.failed and name in attacks.ENDS:  # What it left behind was seen, and it was ended.
        after = await ask(pool, function, "survive", set_up.targets, community_id)
    if _told(after).get("how") != "alive":
        held, how = False, f"what was asked next was answered {after.body[:100]!r}"
    if len(set_up.touched) > before:
        held, how = False, ", ".join(set_up.touched[before:])
    return Attack(name, held, how)


async def ask(pool: Pool, function: Function, name: str, targets: dict[str, Any], community_id: int) -> Outcome:
    pool.records.pop((function.name, community_id), None)  # It fails on purpose, so it is never left alone.
    event = {"attack": name, "targets": targets}
    timeout_s = ENDLESS_S if name in attacks.ENDS else TIMEOUT_S
    return await pool.run(function, community_id, Call(event, to_json(event), timeout_s, function.module_name))


def _judge(outcome: Outcome, *, must_end: bool) -> tuple[bool, str]:
    told = _told(outcome)
    if outcome.failed:
        how = f"{told.get('errorType')}: {told.get('errorMessage')}"
        return must_end or told.get("errorType") in ("MemoryError", "PermissionError"), how
    return told.get("held") is True, str(told.get("how"))


def _told(outcome: Outcome) -> dict[str, Any]:
    told = from_json(outcome.body)
    return told if isinstance(told, dict) else {"how": told}


@contextlib.asynccontextmanager
async def decoys() -> AsyncIterator[Decoys]:
    """A file, a TCP port and Unix sockets that nothing else uses."""
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-decoys-"))
    set_up, machine = Decoys({}), find_machine()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o777)
        (folder / "secret").write_text("secret", encoding="ascii")
        closed = folder / "closed"
        closed.mkdir(0o700)
        (closed / "secret").touch()
        abstract = f"\0waddlebot-{os.urandom(8).hex()}"
        for address in (str(folder / "socket"), abstract):
            stack.enter_context(_watched_socket(address, set_up.touched))
        (folder / "socket").chmod(0o777)
        server = await asyncio.start_server(lambda *_: set_up.touched.append("a TCP port"), "127.0.0.1", 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        set_up.targets = {
            "file": str(folder / "secret"),
            "closed": str(closed / "secret"),
            "home": str(Path.home()),
            "is_dropped": os.geteuid() == 0,
            "tcp": [("127.0.0.1", port), METADATA],
            "unix": str(folder / "socket"),
            "abstract": abstract,
            "name": platform.node() or "localhost",
            "allowed": sorted({*machine.calls.values(), *machine.forms.values(), CLONE3}),
        }
        yield set_up


@contextlib.contextmanager
def _watched_socket(address: str, touched: list[str]) -> Any:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address)
        end.setblocking(False)

        def hear() -> None:
            end.recv(100)
            touched.append("a Unix socket")

        loop.add_reader(end, hear)
        try:
            yield
        finally:
            loop.remove_reader(end)
