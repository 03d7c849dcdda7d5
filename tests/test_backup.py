"""`waddlebot backup` and `restore` with a real fleet: taken while it works, restored elsewhere, looked over by sums."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waddlebot.base.errors import ConfigError
from waddlebot.base.manifest import CHECKOUT, all_manifests
from waddlebot.data.database import Database
from waddlebot.fleet import backup as backups
from waddlebot.fleet.backup import restore
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import FLEET_PORTS
from waddlebot.fleet.home import Home
from waddlebot.fleet.sealed import Sealing, opened
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED
from waddlebot.web.http import HTTPClient

pytestmark = pytest.mark.timeout(400)
PASSPHRASE = "eight or more characters"
CLI = [sys.executable, "-m", "waddlebot.cli.cli"]


def run(command: str, home: Path, *words: str, passphrase: str = PASSPHRASE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, command, "--home", str(home), *words],
        env={**AS_STARTED, "WADDLEBOT_BACKUP_PASSPHRASE": passphrase},
        capture_output=True,
        text=True,
        check=False,
    )


class Up:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = (home.parent / f"{home.name}.log").open("w")
        self.process = subprocess.Popen(
            [*CLI, "up", "--home", str(home), "--port", str(free_port(FLEET_PORTS))],
            env=AS_STARTED,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        ready = lambda: (home / "running.json").exists() or self.process.poll() is not None  # noqa: E731
        try:
            eventually(ready, within_s=150)
            assert self.process.poll() is None, Path(self.log.name).read_text()
        except AssertionError:
            self.stop()
            raise

    def say(self, text: str, *words: str) -> str:
        return run("say", self.home, *words, text).stdout.strip()

    def forget(self, identity: str) -> None:
        """Have somebody forgotten everywhere, as the portal does."""
        running, key = Home(self.home).find_running(), Home(self.home).load_secrets()[0].keys["portal"]
        assert running is not None
        body = json.dumps({"request_id": "leave", "identities": [identity]}).encode()
        for each in sorted(all_manifests(), key=lambda each: each.name == "router"):
            if each.kind != "admin":
                done = HTTPClient().request(
                    "POST",
                    f"{running.modules[each.name]}{each.prefix}/people/erase",
                    body=body,
                    headers={"X-API-Key": key, "Content-Type": "application/json"},
                )
                assert done.status == 200, done.body

    def traces_of(self, text: str) -> int:
        """In how many events and people of the database a text is."""
        running = Home(self.home).find_running()
        assert running is not None
        database = Database(running.environment["DATABASE_URL"])
        sql = (
            "SELECT (SELECT count(*) FROM router_events e WHERE e::text LIKE %(like)s)"
            " + (SELECT count(*) FROM platform_identities i WHERE i::text LIKE %(like)s) AS n"
        )
        (row,) = database.statement(sql, {"like": f"%{text}%"})
        database.close()
        return int(row["n"])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def test_a_fleet_is_backed_up_while_it_works_and_is_the_same_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "fleet.backup"
    up = Up(old)
    try:
        assert "Added" in up.say('!alias add !hi "Hello, {user}."')
        # What moves in by the command line is there, says so the second time, and is in the backup.
        moved = [str(path) for path in sorted((CHECKOUT / "examples" / "imports" / "nightbot").iterdir())]
        planned = run("import", old, "nightbot", *moved, "--dry-run")
        brought, again = run("import", old, "nightbot", *moved), run("import", old, "nightbot", *moved)
        assert brought.returncode == again.returncode == 0, brought.stderr + again.stderr
        assert planned.stdout == brought.stdout
        assert "Nothing was changed" in again.stdout, again.stdout
        assert up.say("!rules") == "Be kind. No spoilers. No begging."
        up.say("I was here once", "--as", "leaver", "--level", "member")
        (tmp_path / "bad.json").write_text('{"commands": [')
        bad = run("import", old, "nightbot", str(tmp_path / "bad.json"))
        assert (bad.returncode, "bad.json: line 1, character" in bad.stderr) == (1, True), bad.stderr
        written = run("backup", old, str(file))
        assert written.returncode == 0, written.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        content = file.read_bytes()
        secrets = Home(old).load_secrets()[0]
        for secret in (secrets.database_password, secrets.keys["portal"], "Hello, {user}"):
            assert secret.encode() not in content
        # It is not written over, nor without a passphrase, nor restored while the fleet runs.
        assert "is there already" in run("backup", old, str(file)).stderr
        assert "passphrase of 8" in run("backup", old, str(tmp_path / "b"), passphrase="short").stderr
        assert not (tmp_path / "b").exists()
        assert "already runs" in run("restore", old, str(file), "--force").stderr
    finally:
        up.stop()
    assert "does not open it" in run("restore", new, str(file), passphrase="something else").stderr
    (tmp_path / "cut").write_bytes(content[:-40])
    assert "backup" in run("restore", new, str(tmp_path / "cut")).stderr
    assert not (new / "secrets.json").exists(), "nothing is changed by what cannot be read"
    restored = run("restore", new, str(file))
    assert f"Start it with: waddlebot up --home {new}" in restored.stdout
    assert restored.returncode == 0, restored.stderr
    assert "their rows and sums are as they were" in restored.stdout
    refused = run("restore", new, str(file))
    assert (refused.returncode, "--force" in refused.stderr) == (1, True)
    # Of a newer WaddleBot: refused before anything is put aside.
    known = backups.list_migrations()
    monkeypatch.setattr(backups, "list_migrations", lambda: known[:-1])
    with pytest.raises(ConfigError, match="newer WaddleBot"):
        restore(Home(new), file, PASSPHRASE, print, force=True)
    monkeypatch.undo()
    assert not list((new / "postgres").glob("data.before-*"))
    up = Up(new)
    try:
        assert up.say("!hi", "--as", "pip") == "Hello, pip."
        assert up.say("!rules") == "Be kind. No spoilers. No begging."
        assert up.traces_of("I was here once") > 0
        up.forget("console:leaver")
        assert up.traces_of("I was here once") == 0
    finally:
        up.stop()
    # With --force what was there is put aside, and the backup is taken of a fleet that does not run.
    again = run("restore", new, str(file), "--force")
    assert again.returncode == 0, again.stderr
    assert list((new / "postgres").glob("data.before-*"))
    assert run("backup", new, str(tmp_path / "second")).returncode == 0
    # Who was forgotten after the backup was made is forgotten once more, by the first start.
    assert "Newer than the backup: 1 request to forget somebody." in again.stdout
    up = Up(new)
    try:
        assert up.say("!hi", "--as", "pip") == "Hello, pip."
        assert (up.traces_of("I was here once"), up.traces_of("leaver")) == (0, 0)
        assert not (new / "erasures.json").exists(), Path(up.log.name).read_text()
    finally:
        up.stop()


def test_a_sealed_file_opens_whole_or_not_at_all(tmp_path):
    path = tmp_path / "sealed"
    text = os.urandom(2_500_000)
    with path.open("wb") as out, Sealing(out, PASSPHRASE) as sealed:
        sealed.write(text)
    whole = path.read_bytes()

    def read(content: bytes, passphrase: str = PASSPHRASE) -> bytes:
        path.write_bytes(content)
        with path.open("rb") as file:
            return b"".join(opened(file, passphrase))

    assert read(whole) == text
    damaged = bytearray(whole)
    damaged[-20] ^= 1
    for content, passphrase in ((whole, "another one"), (bytes(damaged), PASSPHRASE), (whole[:1_200_000], PASSPHRASE)):
        with pytest.raises(ConfigError):
            read(content, passphrase)
    with pytest.raises(ConfigError, match="not a backup"):
        read(b"something else\n" * 10)
