"""A web process that is killed at every database step of a command: one answer, one item, always."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from waddlebot.base.errors import UpstreamError
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import Manifest, all_manifests
from waddlebot.data.database import Database, fetch
from waddlebot.fleet.bootstrap import ensure_demo
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.home import make_encryption_key
from waddlebot.testing.fleet import Stack
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED
from waddlebot.web.auth import create_account
from waddlebot.web.http import HTTPClient, HTTPResponse

SCRIPT = Path(__file__).with_name("crashing_web.py")
MAX_STEPS = 80
# What the crashes go through, and what stands beside it; each further module would only make each of the starts longer.
NAMES = ("router", "alias", "inventory", "labels_core", "browser_source_core")


class CrashingFleet:
    def __init__(
        self, process: subprocess.Popen[str], database: Database, key: str, served: Sequence[Manifest], logs: Path
    ) -> None:
        self.process = process
        self.served = served
        self.database = database
        self.key = key
        self.logs = logs
        self.port = free_port()
        self.http = HTTPClient()

    def start(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{self.port}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"
        eventually(lambda: all(self._get(f"{each.prefix}/ready") == 200 for each in self.served))

    def submit(self, event: dict, *, crash_at: int | None = None) -> dict | None:
        """The answer, or None when the process died before it could give one: at a step, if one is named."""
        response = self.request("POST", "/router/events", event, crash_at=crash_at)
        assert response is None or response.status == 200, self._why(response)
        return response and response.json()

    def crash(self, event: dict, *, at: int, cold: bool = False) -> bool:
        """Hand an event over, to a process that knows nothing yet if it is cold, die at that step of it, and serve
        again. False when there are fewer steps."""
        if cold:
            self.start()
        if self.submit(event, crash_at=at) is not None:
            return False
        self.start()
        return True

    def submit_until_done(self, event: dict) -> dict:
        """What a collector does after a crash: hand the same event over again, and wait for what is pending."""
        answers: list[dict] = []

        def is_done() -> bool:
            answer = self.submit(event)
            assert answer is not None, "the process that should not crash did"
            answers.append(answer)
            return all(each["status"] != "pending" for each in answer["executions"]) and bool(answer["executions"])

        eventually(is_done, within_s=20)
        return answers[-1]

    def request(
        self, method: str, path: str, body: dict, *, crash_at: int | None = None, later: bool = False
    ) -> HTTPResponse | None:
        """The answer, or None when the process died before it could give one: at a step, if one is named, of this
        request or `later` of what follows it."""
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        if crash_at is not None:
            headers["X-Crash-At"] = str(crash_at)
        if later:
            headers["X-Crash-Later"] = "1"
        try:
            return self.http.request(
                method,
                f"http://127.0.0.1:{self.port}{path}",
                body=json.dumps(body).encode(),
                headers=headers,
                timeout_s=10,
            )
        except UpstreamError:
            return None

    @property
    def is_alive(self) -> bool:
        return self._get("/router/health") != 0

    def rows(self, sql: str, *parameters: object) -> list[dict]:
        with self.database.transaction() as db:
            return fetch(db, sql, parameters)

    def _why(self, response: HTTPResponse) -> str:
        """The answer with the errors of the log, which is written a moment later by a process that is about to die."""
        time.sleep(2)
        lines = [line for file in sorted(self.logs.glob("*.log")) for line in file.read_text("utf-8").splitlines()]
        return "\n".join([repr(response.body), *(line for line in lines if "[ERROR]" in line or "Error" in line)][-20:])

    def _get(self, path: str) -> int:
        try:
            return self.http.request("GET", f"http://127.0.0.1:{self.port}{path}", timeout_s=2).status
        except UpstreamError:
            return 0


@contextmanager
def crashing_fleet(
    tmp_path: Path, *more: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[CrashingFleet]:
    """A fleet of these modules, and of more by name, with these settings."""
    served = [manifest for manifest in all_manifests() if manifest.name in (*NAMES, *more)]
    with Stack.running(tmp_path / "stack") as stack:
        database = Database(stack.postgres.owner_url)
        environment = {
            **AS_STARTED,
            **environment,
            **stack.environment(),
            "LOG_DIR": str(tmp_path / "logs"),
            "ROUTER_LEASE": "0.3",
            "WADDLEBOT_ENCRYPTION_KEYS": make_encryption_key("test"),
        }
        environment["CRASHING_MODULES"] = ",".join(each.package for each in served)
        with database.transaction() as db:
            ensure_demo(db)
            key = create_account(db, name="console", groups=["collectors", "admins"], platforms=["console"]).api_key
            for manifest in all_manifests():
                made = create_account(db, name=manifest.name, groups=["services"], module_name=manifest.name)
                environment[f"{manifest.settings_prefix}_WADDLEBOT_API_KEY"] = made.api_key
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path / "run")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin and process.stdout
        crashing = CrashingFleet(process, database, key, served, tmp_path / "logs")
        try:
            crashing.start()
            yield crashing
        finally:
            process.stdin.close()
            process.wait(10)
            process.stdout.close()
            database.close()


def event_for(text: str) -> dict:
    return {
        "event_id": new_id(),
        "message_type": "chatMessage",
        "platform": "console",
        "server_id": "demo",
        "channel_id": "general",
        "user": {"platform_user_id": "alice", "name": "alice", "badges": ["moderator"]},
        "message": text,
    }


def crash_at_every_step(crashing: CrashingFleet, text: str, *, cold: bool) -> int:
    """Add an item once for each step, dying at that step; returns how many steps there were.

    A cold process reads more before it writes the same, and takes a start more for each step.
    """
    for step in range(1, MAX_STEPS):
        name = f"item {step} {new_id()}"
        event = event_for(text.format(name))
        crashed = crashing.crash(event, at=step, cold=cold)
        answer = crashing.submit_until_done(event)

        where = f"after dying at step {step}"
        assert {each["status"] for each in answer["executions"]} == {"success"}, where
        said = crashing.rows("SELECT * FROM outbox WHERE event_id = %s", event["event_id"])
        assert [row["response_data"]["message"] for row in said] == [f"Added “{name}”."], where
        assert len(crashing.rows("SELECT * FROM inventory_items WHERE item_name = %s", name)) == 1, where
        assert len(crashing.rows("SELECT * FROM inventory_activity WHERE details->>'item_name' = %s", name)) == 1, where
        sessions = crashing.rows("SELECT session_id FROM router_events WHERE event_id = %s", event["event_id"])
        assert len(sessions) == 1, where
        points = crashing.rows("SELECT 1 FROM reputation_events WHERE source_id = %s", sessions[0]["session_id"])
        assert len(points) == 1, where
        assert crashing.rows("SELECT 1 FROM router_work") == [], where
        if not crashed:
            return step
    raise AssertionError(f"more than {MAX_STEPS} steps")


def at_every_step(crashing: CrashingFleet, prepare: Callable[[], str | dict], check: Callable[[str], None]) -> int:
    """Say what `prepare` returns once for each step, dying at that step; returns how many steps there were."""
    for step in range(1, MAX_STEPS):
        prepared = prepare()
        event = event_for(prepared) if isinstance(prepared, str) else prepared
        crashed = crashing.crash(event, at=step)
        answer = crashing.submit_until_done(event)
        assert {each["status"] for each in answer["executions"]} == {"success"}, f"after dying at step {step}"
        said = crashing.rows("SELECT response_data FROM outbox WHERE event_id = %s", event["event_id"])
        assert len(said) == 1, f"after dying at step {step}"
        check(said[0]["response_data"]["message"])
        assert crashing.rows("SELECT 1 FROM router_work") == [], f"after dying at step {step}"
        if not crashed:
            return step
    raise AssertionError(f"more than {MAX_STEPS} steps")
