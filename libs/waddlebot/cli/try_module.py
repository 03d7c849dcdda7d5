"""`waddlebot module test`: a module's commands behind the very fence in which communities run them, without a fleet."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from ..base.contracts import ModuleReply
from ..base.errors import UserError
from ..base.ids import new_id
from ..module.package import ModuleCommand, ModuleManifest, pack_folder, read_package
from ..sandbox import fence
from ..sandbox.broker import Traffic
from ..sandbox.identity import find_identity
from ..sandbox.packages import Function, Packages
from ..sandbox.worker import Call, Outcome, Template, Worker
from ..web.http import EgressGuard

MAX_KEYS, MAX_VALUE_BYTES = 100, 8 * 1024


class BadLine(UserError):
    """This line calls none of the module's commands."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one line: what was said in chat, or what went wrong; what was printed; where it was not let to."""

    line: str
    said: list[str]
    trouble: str
    output: str
    refused_hosts: list[str]


class Notes:
    """State for as long as the lines are tried, with the limits that it has in a fleet."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    async def ask(self, _call: Call, request: dict[str, Any]) -> dict[str, Any]:
        op, key, value = request.get("op"), str(request.get("key")), request.get("value")
        if op == "get":
            return {"value": self._kept.get(key)}
        if op == "delete":
            self._kept.pop(key, None)
        elif len(to_json(value)) > MAX_VALUE_BYTES:
            return {"error": f"A value has at most {MAX_VALUE_BYTES // 1024} KB of JSON."}
        elif key not in self._kept and len(self._kept) >= MAX_KEYS:
            return {"error": f"A module has at most {MAX_KEYS} keys in a community."}
        else:
            self._kept[key] = value
        return {"value": None}


def try_lines(folder: Path, lines: Sequence[str]) -> tuple[ModuleManifest, str, list[Tried]]:
    """Try these lines, or the examples of module.toml, one after the other in one community.

    Returns the manifest, the fence in force, and what came of each line. Raises: BadManifest, BadPackage, TooLarge;
    BadLine; CannotFence.
    """
    package = read_package(pack_folder(folder))
    manifest = package.manifest
    if manifest.runtime.type != "local":
        raise UserError(f"This module is run by {manifest.runtime.type}; only local ones are tried here.")
    wanted = list(lines) or [example for each in manifest.commands for example in each.examples]
    if not wanted:
        raise UserError("There is nothing to try: name a line such as '#dice 2d6', or give the commands examples.")
    events = [_event(manifest, line) for line in wanted]
    return manifest, fence.check_kernel(), asyncio.run(_try_all(package.content, manifest, wanted, events))


async def _try_all(
    content: bytes, manifest: ModuleManifest, lines: Sequence[str], events: Sequence[dict[str, Any]]
) -> list[Tried]:
    notes, tried = Notes(), []
    with _folder() as folder:
        name = f"{manifest.name}:{manifest.version}:{sha256(content).hexdigest()}"
        function = Packages(folder, "", "").unpack(name, content)
        async with _template() as template:
            for line, event in zip(lines, events, strict=True):
                tried.append(await _try(function, template, notes, line, event))
    return tried


async def _try(function: Function, template: Template, notes: Notes, line: str, event: dict[str, Any]) -> Tried:
    traffic = Traffic()
    worker = Worker(function, EgressGuard(), notes.ask, traffic)
    await worker.start(template)
    limits = function.manifest.limits
    watching = asyncio.create_task(_watch(worker))  # not watched: it is cancelled in a moment
    try:
        outcome = await worker.call(Call(event, to_json(event), limits.timeout_s, function.module_name))
    finally:
        watching.cancel()
        worker.close()
    said, trouble = _read(outcome)
    output = worker.output.decode("utf-8", "replace")
    return Tried(line, said, trouble, output, sorted(traffic.refused))


async def _watch(worker: Worker) -> None:
    while True:
        await asyncio.sleep(0.05)
        worker.check()


def _read(outcome: Outcome) -> tuple[list[str], str]:
    """What is said in chat, and what is wrong."""
    if outcome.failed:
        error = from_json(outcome.body)
        trace = "".join(error.get("stackTrace", ()))
        return [], f"{error.get('errorType')}: {error.get('errorMessage')}\n{trace}".strip()
    try:
        reply = ModuleReply.model_validate_json(outcome.body)
        responses = reply.all_responses()
    except ValidationError as err:
        problem = err.errors(include_url=False)[0]
        return [], f"This is no reply: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    said = [
        str(each.response_data["message"]) if each.response_action == "chat" else _shown(each.response_data)
        for each in responses
    ]
    return said, "" if reply.success else reply.error_message or "It failed."


def _shown(data: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in data.items() if value}, ensure_ascii=False)


def _event(manifest: ModuleManifest, line: str) -> dict[str, Any]:
    """The call that a line of chat makes. Raises: BadLine."""
    try:
        first, *words = shlex.split(line) or [""]
    except ValueError:
        first, *words = line.split()
    command = next((each for each in manifest.commands if first.casefold() == f"#{each.command}"), None)
    if command is None:
        names = ", ".join(f"#{each.command}" for each in manifest.commands)
        raise BadLine(f"{line[:100]!r} calls none of this module's commands: {names}.")
    name, timeout_s = getpass.getuser(), manifest.limits.timeout_s
    return {
        "session_id": new_id(),
        "execution_id": new_id(),
        "community": {"id": 1, "name": "Test"},
        "entity": {"entity_id": "console:test:general", "platform": "console", "server_id": "test", "channel_id": "g"},
        "user": {
            "id": 1,
            "own_id": 1,
            "ids": [1],
            "platform_user_id": name,
            "name": name,
            "display_name": name,
            "level": "owner",
            "roles": ["owner"],
            "labels": [],
        },
        "trigger": _trigger(command, words, line),
        "mode": "live",
        "settings": {each.name: each.default for each in manifest.settings if each.type != "secret"},
        "deadline": (datetime.now(UTC) + timedelta(seconds=timeout_s)).isoformat(),
        "timeout_ms": int(timeout_s * 1000),
        "traceparent": "",
    }


def _trigger(command: ModuleCommand, words: list[str], line: str) -> dict[str, Any]:
    return {
        "type": "command",
        "command": command.command,
        "prefix": "#",
        "args": words,
        "raw": line,
        "message_type": "chatMessage",
        "data": {},
    }


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="waddlebot-module-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def _template() -> AsyncIterator[Template]:
    template = Template(run_as=find_identity(), is_required=True)
    await template.start()
    try:
        yield template
    finally:
        template.stop()
