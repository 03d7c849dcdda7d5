"""Check a running stack of containers, for scripts/containers.sh: `check MODULE…`, when it is up.

`modules`, `folder MODULE` and `services MODULE` say what there is to build and start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from waddlebot.base.ids import new_id
from waddlebot.base.manifest import Manifest, all_manifests, find_manifest

ROUTER, OVERLAYS = "http://127.0.0.1:9413", "http://127.0.0.1:9414"
WITHIN_S = 60


def main(arguments: Sequence[str]) -> int:
    what, *names = arguments
    if what == "modules":
        print(" ".join(each.name for each in all_manifests()))
        return 0
    manifests = [manifest for name in names if (manifest := find_manifest(name))]
    if what == "folder":
        print(manifests[0].package)
    elif what == "services":
        print(*services_of(manifests[0]), sep="\n")
    else:
        check(manifests)
    return 0


def services_of(manifest: Manifest) -> list[str]:
    return [manifest.host, *([f"{manifest.host}-hub"] if manifest.hub_port else [])]


def check(manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:
        for service in services_of(manifest):
            check_fenced(service)
        eventually(f"{manifest.host} is ready", lambda m=manifest: probe(m.host, f"{m.prefix}/ready"))
    key = secret("CONSOLE_WADDLEBOT_API_KEY")
    check_chat(key)
    if any(manifest.hub_port for manifest in manifests):
        check_overlay()
    eventually("the replica streams", streams)
    check_survives_database(key)
    check_stops()


def check_fenced(service: str) -> None:
    """Who it runs as and what it may, by what the engine says and by what happens inside."""
    (found,) = json.loads(run("docker", "inspect", container(service)))
    host = found["HostConfig"]
    assert found["Config"]["User"] == "10001:10001", service
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"], service
    assert host["Memory"] > 0, service
    tried = compose("exec", "-T", service, "sh", "-c", "id -u; touch /app/x 2>&1 || true; command -v gcc pip || true")
    assert "10001" in tried and "Read-only file system" in tried, tried
    assert "gcc" not in tried.replace("command", "") and "/pip" not in tried, tried
    say(f"{service}: 10001, read-only, no rights, {found['State']['Health']['Status']}")


def check_chat(key: str) -> None:
    heard = say_line("!help", key)
    assert any(each["response_action"] == "chat" for each in heard["responses"]), heard
    say(f"!help is answered: {heard['responses'][0]['response_data']['message'][:60]!r}")


def check_overlay() -> None:
    """A line on an overlay, by the address that a streaming program has, and over its socket."""
    from websockets.sync.client import connect

    made = post(f"{OVERLAYS}/browser/source/admin/tokens", {"community_id": "demo"}, secret("ADMIN_WADDLEBOT_API_KEY"))
    token = made["tokens"]["ticker"]["token"]
    page = urllib.request.urlopen(f"{OVERLAYS}/browser/source/{token}/ticker", timeout=10).read().decode()
    assert "<html" in page
    with connect(f"ws://127.0.0.1:9415/ws/{token}/ticker", open_timeout=10) as socket:
        body = {"community_id": "demo", "action": "ticker"}
        post(f"{OVERLAYS}/browser/source/admin/test", body, secret("ADMIN_WADDLEBOT_API_KEY"))
        until = time.monotonic() + WITHIN_S
        while "ticker" not in (frame := str(socket.recv(timeout=max(0.1, until - time.monotonic())))):
            pass
    say(f"an overlay shows it: {frame[:80]}")


def streams() -> bool:
    return "streaming" in compose(
        "exec", "-T", "postgres", "psql", "-h", "127.0.0.1", "-U", "waddlebot", "-tAc",
        "SELECT state FROM pg_stat_replication", environment={"PGPASSWORD": secret("POSTGRES_PASSWORD")},
    )  # fmt: skip


def check_survives_database(key: str) -> None:
    compose("kill", "postgres")
    eventually("the router says that it is not ready", lambda: not probe("router-service", "/router/ready"))
    compose("start", "postgres")
    eventually("the router is ready again", lambda: probe("router-service", "/router/ready"))
    assert say_line("!help", key)["responses"]
    say("the database's death is survived")


def check_stops() -> None:
    began = time.monotonic()
    compose("stop", "-t", "12", "router-service")
    (found,) = json.loads(run("docker", "inspect", container("router-service", all_=True)))
    assert found["State"]["ExitCode"] == 0, found["State"]
    say(f"the router stops by itself in {time.monotonic() - began:.1f} s")


def say_line(text: str, key: str) -> dict[str, Any]:
    person = {"platform_user_id": "ci", "name": "ci", "display_name": "CI", "badges": ["owner"]}
    event = {"event_id": new_id(), "message_type": "chatMessage", "platform": "console", "server_id": "demo"}
    return post(f"{ROUTER}/router/events", {**event, "channel_id": "general", "user": person, "message": text}, key)


def post(url: str, body: Any, key: str) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "X-API-Key": key}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as err:
        raise SystemExit(f"{url}: {err.code} {err.read(500)!r}") from err


def probe(service: str, path: str) -> bool:
    command = ["exec", "-T", service, "python3", "-m", "waddlebot.fleet.probe", path]
    return subprocess.run(_compose(*command), check=False, capture_output=True).returncode == 0


def container(service: str, *, all_: bool = False) -> str:
    return compose("ps", "-q", *(["-a"] if all_ else []), service).strip()


def eventually(what: str, check: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN_S
    while not check():
        if time.monotonic() > until:
            raise SystemExit(f"not within {WITHIN_S} s: {what}")
        time.sleep(0.5)


def secret(name: str) -> str:
    lines = Path(os.environ["ENV_FILE"]).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)[name]


def _compose(*command: str) -> list[str]:
    files = [part for each in os.environ["COMPOSE_FILES"].split(":") for part in ("-f", each)]
    return ["docker", "compose", "--env-file", os.environ["ENV_FILE"], *files, *command]


def compose(*command: str, environment: dict[str, str] | None = None) -> str:
    if environment:
        first, *rest = command
        given = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        command = (first, *given, *rest)
    return run(*_compose(*command))


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:12])}: {done.stderr[-500:]}{done.stdout[-300:]}")
    return done.stdout


def say(text: str) -> None:
    print(f"        {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
