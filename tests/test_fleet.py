"""`waddlebot up` as a person runs it: a real fleet in processes of its own, in a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import all_manifests
from waddlebot.fleet.embedded import STOP_TIMEOUT_S, _clear_stale_lock, free_port
from waddlebot.fleet.fleet import BASE_PORT, FLEET_PORTS, Fleet, Options
from waddlebot.fleet.home import Home
from waddlebot.module.package import pack_folder
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED
from waddlebot.web.http import HTTPClient

pytestmark = pytest.mark.timeout(180)
CLI = [sys.executable, "-m", "waddlebot.cli.cli"]
EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "community_modules"


class Up:
    """One `waddlebot up`."""

    def __init__(self, home: Path, *options: str, port: int | None = None, **environment: str) -> None:
        self.home = home
        self.port = port or free_port(FLEET_PORTS)
        self.output: list[str] = []
        self.process = subprocess.Popen(
            [*CLI, "up", "--home", str(home), "--port", str(self.port), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**AS_STARTED, **environment},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout:
            self.output.extend(self.process.stdout)

    @property
    def is_ready(self) -> bool:
        return any(line.startswith("WaddleBot is ready: http://127.0.0.1:") for line in self.output)

    def wait_until_ready(self, *, within_s: float = 100) -> Up:
        """Raises: AssertionError when it takes longer; it is stopped then, so that nobody's fleet is left behind."""
        try:
            eventually(lambda: self.is_ready or self.process.poll() is not None, within_s=within_s)
            assert self.is_ready, "".join(self.output)
        except AssertionError:
            self.stop()
            raise
        return self

    def say(self, text: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self.cli("say", *options, text)

    def cli(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, command, "--home", str(self.home), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=AS_STARTED,
        )

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def find(self, is_it: Callable[[psutil.Process], bool]) -> psutil.Process | None:
        for each in self.tree():
            with contextlib.suppress(psutil.Error):  # It may just have ended.
                if is_it(each):
                    return each
        return None

    def module_host(self) -> psutil.Process | None:
        return self.find(lambda each: "waddlebot.sandbox.host" in each.cmdline())

    def publish(self, example: str) -> None:
        """Have one of the examples in the marketplace, where nobody has installed it."""
        body = json.dumps({"package": b64encode(pack_folder(EXAMPLES / example)).decode()}).encode()
        headers = {"X-API-Key": Home(self.home).console_key() or "", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}/marketplace/modules"
        answer = HTTPClient().request("POST", url, body=body, headers=headers)
        assert answer.status == 200, answer.body

    def refused_by_valkey(self) -> list[str]:
        """What a process of it may not do at Valkey, and has tried since that was started."""
        running = Home(self.home).find_running()
        assert running is not None
        port, password = running.environment["REDIS_PORT"], running.environment["REDIS_PASSWORD"]
        with redis.Redis(port=int(port), password=password, decode_responses=True) as operator:
            return [f"{each['username']}: {each['reason']} {each['object']}" for each in operator.acl_log()]

    def stop(self) -> int:
        """SIGTERM, and wait. Returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait for it to end by itself. Returns the exit status."""
        status = self.process.wait(40)
        self._reader.join(10)
        return status

    def kill_everything(self) -> None:
        tree = self.tree()
        for each in tree:
            with contextlib.suppress(psutil.NoSuchProcess):  # It may have gone with its parent.
                each.kill()
        self.process.wait(10)
        psutil.wait_procs(tree, timeout=10)
        self._reader.join(10)


@pytest.fixture(scope="module")
def fleet_home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("up") / "home"


@pytest.fixture(scope="module")
def running(fleet_home) -> Iterator[Up]:
    up = Up(fleet_home).wait_until_ready()
    yield up
    try:
        assert up.refused_by_valkey() == []
    finally:
        up.stop()
    told = "".join(file.read_text() for file in (fleet_home / "logs").glob("router.log*"))
    assert " SYSTEM " in told
    assert "action=started" in told
    assert "action=stopped" in told


def test_the_block_of_the_readme_works_line_by_line(running):
    says = [
        (
            ("--as", "alice", "--level", "moderator"),
            '!inventory add "Blue Sword" "A shiny sword" weapons,rare',
            "Added “Blue Sword” (weapons, rare).",
        ),
        ((), "!inventory list", "1 item: Blue Sword"),
        (("--as", "bob", "--level", "moderator"), '!alias add !hi "!inventory status {arg1}"', "!hi"),
        ((), '!hi "Blue Sword"', "“Blue Sword” is available"),
        (("--as", "bob", "--level", "moderator"), '!alias add !rules "Be kind, {user}."', "!rules"),
        (("--as", "zoe"), "!rules", "Be kind, zoe."),
        ((), "!help", "!inventory"),
        ((), "!help inventory", "!inventory checkout <item_name> <username>"),
    ]
    for options, text, answer in says:
        said = running.say(text, *options)
        assert said.returncode == 0, (text, said)
        assert answer in said.stdout, (text, said)

    mistyped = running.say("!invntory list")
    assert (mistyped.returncode, "Did you mean !inventory?" in mistyped.stdout) == (1, True)
    why = running.say("!why")
    assert why.returncode == 0
    assert "!invntory list" in why.stdout


def test_say_exits_as_scripts_need(running, tmp_path):
    assert running.say("just chatting").returncode == 0
    assert running.say('!inventory delete "x"', "--level", "member").returncode == 1
    nobody = subprocess.run([*CLI, "say", "--home", str(tmp_path), "hi"], capture_output=True, text=True, check=False)
    assert nobody.returncode == 2
    assert f"No fleet is running in {tmp_path}." in nobody.stderr
    assert str(running.home) in nobody.stderr, "which one does"


def test_the_doctor_says_what_is_well_and_what_to_do(running, tmp_path):
    seen = running.cli("doctor")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert "✓ router: healthy" in seen.stdout
    assert "– twitch: has no credentials" in seen.stdout
    assert "attacks of its self-test were refused" in seen.stdout
    assert "twitch_module/README.md" in seen.stdout
    findings = json.loads(running.cli("doctor", "--json").stdout)
    assert {each["verdict"] for each in findings} == {"ok", "note"}
    nobody = subprocess.run([*CLI, "doctor", "--home", str(tmp_path)], capture_output=True, text=True, check=False)
    assert nobody.returncode == 2
    assert "No fleet is running" in nobody.stderr


def test_a_fleet_that_is_not_ready_in_time_is_not_left_behind(tmp_path):
    up = Up(tmp_path / "home")
    with pytest.raises(AssertionError):
        up.wait_until_ready(within_s=0.1)
    assert up.process.poll() is not None


def test_a_platform_of_somebody_elses_collector_is_served_once_that_has_a_key(running):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*CLI, *words, "--home", str(running.home)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=AS_STARTED)

    place = ["servers", "add", "--platform", "peer", "--server", "s1", "--channel", "c1"]
    refused = run(*place)
    assert refused.returncode != 0
    told = re.search(r"waddlebot (keys create --name NAME --group collectors --platform peer)", refused.stderr)[1]

    assert run(*told.replace("NAME", "peer").split()).returncode == 0
    assert "peer:s1:c1 is served in community demo." in run(*place).stdout


def test_an_announcement_appears_in_an_open_chat(running):
    """It waited in the outbox, where nobody on the console looked, and was dropped."""
    key = Home(running.home).load_secrets()[0].keys["inventory"]
    body = {"announcement_id": new_id(), "community_id": "demo"}
    said = {"response_action": "chat", "response_data": {"message": "We are live!"}}
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    announced = HTTPClient().request(
        "POST",
        f"http://127.0.0.1:{running.port}/router/announcements",
        body=json.dumps({**body, "responses": [said]}).encode(),
        headers=headers,
    )
    assert announced.status == 200, announced.body
    chat = subprocess.Popen(
        [*CLI, "chat", "--home", str(running.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=AS_STARTED,
    )
    assert chat.stdin
    assert chat.stdout
    killer = threading.Timer(60, chat.kill)
    killer.start()
    try:
        assert any("We are live!" in line for line in chat.stdout)
    finally:
        killer.cancel()
        chat.kill()
        chat.communicate()


def test_say_json_is_the_answer(running):
    answer = json.loads(running.say("!inventory stats", "--json").stdout)

    assert answer["success"]
    assert not answer["duplicate"]
    assert [each["status"] for each in answer["executions"]] == ["success"]


@pytest.mark.parametrize("event", ["subscription", "sub", "gift", "bits", "tip"])
def test_events_are_simulated_by_their_short_names_too(running, event):
    simulated = running.cli("simulate", event)

    assert (simulated.returncode, simulated.stderr) == (0, "(simulated: nothing was changed)\n")
    assert "Thanks for the" in simulated.stdout


def test_an_event_that_is_none_is_refused_with_those_that_are(running):
    refused = running.cli("simulate", "subs")

    assert refused.returncode == 1
    assert refused.stderr.startswith("There is no event “subs” to simulate. There are ticker, ")


def test_what_was_said_is_recorded_as_sent(running):
    session = json.loads(running.say("!help", "--json").stdout)["session_id"]
    key = Home(running.home).console_key()
    assert key

    from waddlebot.web.http import HTTPClient

    url = f"http://127.0.0.1:{running.port}/router/explain/{session}"
    found = HTTPClient().request("GET", url, headers={"X-API-Key": key}).json()
    assert [each["state"] for each in found["responses"]] == ["sent"]


def test_secrets_are_readable_by_their_owner_only(running):
    for name in ("secrets.json", "console.key", "running.json"):
        assert (running.home / name).stat().st_mode & 0o077 == 0, name
    assert running.home.parent.stat().st_mode & 0o777 == 0o700


def test_provider_sdks_are_not_loaded_before_they_are_used(running):
    for process in running.tree():
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        for sdk in ("aiohttp", "multidict", "botocore", "grpc"):
            assert sdk not in maps, f"{process.pid} has loaded {sdk}"


def test_keys_work_until_they_are_revoked(running):
    made = subprocess.run(
        [*CLI, "keys", "create", "--home", str(running.home), "--name", "dash", "--group", "admins", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=AS_STARTED,
    )
    key = json.loads(made.stdout)

    def status() -> int:
        url = f"http://127.0.0.1:{running.port}/router/commands"
        return HTTPClient().request("GET", url, headers={"X-API-Key": key["api_key"]}).status

    assert set(key) == {"id", "name", "group", "api_key", "expires_at"}
    assert len(key["api_key"]) == 64
    assert status() == 200
    revoke = [*CLI, "keys", "revoke", "--home", str(running.home), key["id"]]
    subprocess.run(revoke, capture_output=True, check=True, env=AS_STARTED)
    eventually(lambda: status() == 401, within_s=5)
    # What the command line changes is in the fleet's log, too.
    lines = (running.home / "logs" / "command-line.audit.log").read_text().splitlines()
    assert len(lines) >= 2
    assert all("AUDIT" in line and 'actor="command line"' in line for line in lines)
    assert key["api_key"] not in "".join(lines)


@pytest.mark.parametrize("is_file", [True, False], ids=["into a log", "to whoever reads it"])
def test_secrets_are_shown_and_not_written_into_a_log(tmp_path, monkeypatch, is_file):
    overlays = {"ticker": "http://127.0.0.1/browser/source/the-token/ticker"}
    monkeypatch.setattr(Fleet, "_demo_overlays", lambda _: overlays)
    fleet = Fleet(Options(tmp_path), Home(tmp_path), admin_key="wbot_the_key")
    reading, writing = os.pipe()
    with open(tmp_path / "log", "w") as log, os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", log if is_file else pipe)
        fleet._greet(1.0)
        monkeypatch.undo()
    with os.fdopen(reading) as pipe:
        said = (tmp_path / "log").read_text() + pipe.read()

    assert "WaddleBot is ready" in said
    assert [secret in said for secret in ("wbot_the_key", "the-token")] == [not is_file] * 2
    assert ("keys create" in said) is is_file


def test_ports_that_the_environment_names_are_used(tmp_path, monkeypatch):
    monkeypatch.setenv("INVENTORY_MODULE_PORT", "9123")
    monkeypatch.setenv("WEBSOCKET_PORT", "9124")
    manifests = {each.name: each for each in all_manifests()}
    overlays = manifests["browser_source_core"]
    fleet = Fleet(Options(tmp_path, port=9000, per_module=True), Home(tmp_path))

    inventory, alias = (fleet._module_process(manifests[name], {}) for name in ("inventory", "alias"))
    assert inventory.environment["WADDLEBOT_PORT"] == "9123"
    assert inventory.ready_urls == ["http://127.0.0.1:9123/inventory/ready"]
    assert alias.environment["WADDLEBOT_PORT"] == str(9000 + manifests["alias"].port - BASE_PORT)
    assert fleet._overlay_urls([overlays])["WEBSOCKET_PORT"] == "9124"
    assert Fleet(Options(tmp_path, ws_port=9125), Home(tmp_path))._overlay_urls([overlays])["WEBSOCKET_PORT"] == "9125"


def test_the_supervisor_keeps_no_database_driver_and_nothing_else_that_others_work_with_in_memory(running):
    mapped = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "libpython" in mapped or "/python" in mapped
    assert [name for name in ("psycopg2", "_asyncio") if name in mapped] == []


def test_a_channel_can_wait_for_its_activation_key(running):
    place = ["--home", str(running.home), "--platform", "console", "--server", "demo", "--channel", "waiting"]

    def servers(*arguments: str) -> str:
        return subprocess.run(
            [*CLI, "servers", *arguments], capture_output=True, text=True, check=True, env=AS_STARTED
        ).stdout

    told, key = servers("add", *place, "--activation").splitlines()

    assert told == "console:demo:waiting waits for its activation key, which is shown only now:"
    assert running.say("!help", "--channel", "waiting").returncode == 1
    assert "(waits for its activation key)" in servers("list", "--home", str(running.home))
    headers = {"X-API-Key": Home(running.home).console_key(), "Content-Type": "application/json"}
    body = json.dumps({"activation_key": key}).encode()
    url = f"http://127.0.0.1:{running.port}/api/gateway/activate"
    assert HTTPClient().request("POST", url, body=body, headers=headers).status == 200
    assert running.say("!help", "--channel", "waiting").returncode == 0
    assert "(waits" not in servers("list", "--home", str(running.home))
    servers("remove", *place)


def test_a_second_fleet_in_the_same_home_or_port_is_refused(running, tmp_path):
    same_home = Up(running.home)
    assert same_home.wait() == 1
    assert same_home.output == [f"waddlebot: A fleet already runs in {running.home}. Give this one another --home.\n"]

    same_port = Up(tmp_path / "other", port=running.port)
    assert same_port.wait() == 1
    assert len(same_port.output) == 1
    assert f"Port {running.port} is in use" in same_port.output[0]


def test_processes_that_die_come_back(running):
    def web() -> psutil.Process | None:
        return running.find(lambda each: each.ppid() == running.process.pid and "web" in each.cmdline())

    before = eventually(web)
    before.kill()

    said = running.say("!inventory list")
    assert "Blue Sword" in said.stdout
    assert web() not in (None, before)


def test_the_host_of_community_modules_is_there_before_anybody_installs_one_and_comes_back(running):
    if asked_before := running.module_host():  # Another test's doctor, say, has started it.
        asked_before.kill()
    eventually(lambda: running.module_host() is None)
    running.publish("game")
    first = eventually(running.module_host)  # Nobody has installed it, let alone called it.
    url = f"http://127.0.0.1:{running.port + 30}/health"
    assert HTTPClient().request("GET", url).json()["is_fenced"] is True
    first.kill()

    assert HTTPClient().request("GET", url).json()["is_fenced"] is True
    assert running.module_host() != first


def test_a_database_that_is_killed_while_it_starts_is_started_again(running):
    def database(but: psutil.Process | None = None) -> psutil.Process | None:
        return running.find(lambda each: each != but and "bin/postgres" in " ".join(each.cmdline()))

    first = eventually(database)
    first.kill()
    eventually(lambda: database(first)).kill()

    assert "Blue Sword" in running.say("!inventory list").stdout
    assert running.process.poll() is None


@pytest.mark.timeout(400)
def test_a_home_outlives_sigterm_and_kill_9_and_says_in_one_line_that_its_database_is_broken(tmp_path):
    """One home through three starts: each costs ten seconds of a processor."""
    home, started = tmp_path / "home", time.monotonic()
    first = Up(home).wait_until_ready()
    first_took_s = time.monotonic() - started
    first.say('!inventory add "Lamp" "bright"', "--level", "owner")
    first.publish("game")
    assert any("shown only this once" in line for line in first.output)
    tree = first.tree()

    assert first.stop() == 0
    assert not [each for each in tree if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]

    started = time.monotonic()
    second = Up(home).wait_until_ready()
    took_s = time.monotonic() - started
    try:
        assert second.say("!inventory list").stdout == "1 item: Lamp\n"
        assert eventually(second.module_host), "whoever installs it now is answered at once"
        assert not any("shown only this once" in line for line in second.output)
        assert any("portal login" in line for line in second.output), "its own Redis has forgotten who was signed in"
        assert took_s < max(40, 2 * first_took_s)
        answered = kill_under_load(second)
    finally:
        second.stop()

    third = Up(home).wait_until_ready()
    try:
        for name in answered:
            assert third.say(f'!inventory status "{name}"').returncode == 0, name
    finally:
        third.stop()

    (home / "postgres/data/global/pg_control").write_bytes(b"rubbish")
    broken = Up(home)
    assert broken.wait() == 1
    said = [line for line in broken.output if not line.startswith("  ✓")]
    assert len(said) == 1
    assert said[0].startswith(f"waddlebot: The database in {home}/postgres/data does not start: ")


def test_a_database_that_ended_and_that_nobody_has_fetched_is_not_waited_for(tmp_path):
    """As in a container whose first process is no init."""
    (tmp_path / "postgres").symlink_to("/bin/true")
    ended = subprocess.Popen([tmp_path / "postgres"])
    eventually(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE)
    lock = tmp_path / "postmaster.pid"
    lock.write_text(f"{ended.pid}\n")
    started = time.monotonic()

    _clear_stale_lock(tmp_path)

    assert time.monotonic() - started < STOP_TIMEOUT_S / 2
    assert not lock.exists()
    ended.wait()


def kill_under_load(up: Up) -> list[str]:
    """Kill -9 everything while three people add items. Returns what they were told is there."""
    answered: list[str] = []
    going = threading.Event()
    going.set()

    def load(worker: int) -> None:
        n = 0
        while going.is_set():
            name = f"item {worker} {n}"
            said = up.say(f'!inventory add "{name}" x', "--level", "owner")
            if said.stdout == f"Added “{name}”.\n":
                answered.append(name)
            n += 1

    workers = [threading.Thread(target=load, args=(n,), daemon=True) for n in range(3)]
    for worker in workers:
        worker.start()
    eventually(lambda: len(answered) >= 5, within_s=60)
    up.kill_everything()
    going.clear()
    for worker in workers:
        worker.join()
    return answered


def test_a_home_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    up = Up(tmp_path / "file" / "home")

    assert up.wait() == 1
    assert up.output == [
        f"waddlebot: Cannot write to the home {tmp_path}/file/home: {tmp_path}/file is a file, not a folder.\n"
    ]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LOG_LEVEL": "TRACE"}, "Bad settings: LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ({"DATABASE_URL": "mysql://x/y"}, "Bad settings: DATABASE_URL: must be a postgresql:// URL"),
        (
            {"DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/x"},
            "127.0.0.1:1/x does not answer: connection to server",
        ),
    ],
    ids=["level", "mysql", "nowhere"],
)
def test_a_setting_that_cannot_be_is_one_line_before_anything_is_made(tmp_path, environment, said):
    up = Up(tmp_path / "home", **environment)
    assert up.wait() == 1
    (line,) = [line for line in up.output if not line.startswith("  ✓")]
    assert said in line
    assert "s3cret" not in line


def test_what_several_processes_refuse_is_said_once(tmp_path):
    up = Up(tmp_path / "home", TWITCH_APP_ID="some-app")
    assert up.wait() == 1
    said = [line for line in up.output if "TWITCH_APP_SECRET" in line]
    assert said == [
        "waddlebot: twitch_module: Only some of twitch's credentials are set; TWITCH_APP_SECRET,"
        " TWITCH_WEBHOOK_SECRET, TWITCH_BOT_USER_ID missing.\n"
    ]


def test_a_redis_that_is_nowhere_is_one_warning_that_names_the_settings(tmp_path):
    port = free_port()
    up = Up(tmp_path / "home", REDIS_HOST="127.0.0.1", REDIS_PORT=str(port))
    try:
        up.wait_until_ready()
        warnings = [line for line in up.output if "!" in line and "REDIS_HOST" in line]
        assert warnings == [
            f"  ! REDIS_HOST, REDIS_PORT: cannot reach 127.0.0.1:{port} (Connection refused)."
            " Each process counts limits by itself.\n"
        ]
        assert "Errno" not in "".join(up.output)
        assert up.say("!help").returncode == 0
    finally:
        up.stop()


def test_a_syslog_that_is_nowhere_is_one_warning_that_names_the_setting(tmp_path):
    up = Up(tmp_path / "home", ENABLE_SYSLOG="true", SYSLOG_HOST="nowhere.invalid")
    try:
        up.wait_until_ready()
        (warning,) = [line for line in up.output if "SYSLOG" in line]
        assert warning.startswith("  ! SYSLOG_HOST: cannot find nowhere.invalid (")
        assert up.say("!help").returncode == 0
    finally:
        up.stop()


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """A disk of its own with so many MB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size_mb: int) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", folder], check=False)
        if done.returncode:
            pytest.skip("no file system can be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", folder], check=False, capture_output=True)


@pytest.mark.parametrize("size_mb", [1, 60])
def test_a_full_disk_is_one_line(full_disk, size_mb):
    home = full_disk(size_mb) / "home"
    up = Up(home)

    assert up.wait() == 1
    (line,) = [line for line in up.output if not line.startswith("  ✓")]
    assert line.startswith(f"waddlebot: No room for the home {home}: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a process its disk")
@pytest.mark.parametrize("role", ["web", "collectors", "hub"])
def test_a_container_with_nothing_to_write_to_is_one_line(role):
    take = "mount -t tmpfs -o ro none /tmp && mount -t tmpfs -o ro none /var/tmp && cd /proc"
    command = f"{take} && exec {sys.executable} -m waddlebot.fleet.serve {role}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"waddlebot: Nothing can be written anywhere; .+\n", done.stderr)


def test_a_port_that_somebody_else_has_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        up = Up(tmp_path / "home", port=port)
        assert up.wait() == 1

    assert len(up.output) == 1
    assert str(port) in up.output[0]
