"""`waddlebot replay`, into a fleet in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waddlebot.base.errors import Invalid
from waddlebot.base.manifest import CHECKOUT, load_part
from waddlebot.fleet.embedded import free_port
from waddlebot.fleet.fleet import FLEET_PORTS
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED

replay = load_part("twitch_module", "replay")
pytestmark = pytest.mark.timeout(180)
CLI = [sys.executable, "-m", "waddlebot.cli.cli"]
EVENING = CHECKOUT / "examples" / "twitch_evening.jsonl"
# Every other is the test fleet's own.


@dataclass
class RealFleet:
    home: Path
    twitch: Any

    def run(self, command: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, command, "--home", str(self.home), *options],
            capture_output=True,
            text=True,
            check=False,
            env={**AS_STARTED, **environment},
        )


@pytest.fixture(scope="module")
def real_fleet(tmp_path_factory) -> Iterator[RealFleet]:
    """A fleet that is pointed at a Twitch of its own and serves channel 12826."""
    simulators = pytest.importorskip("simulators.twitch")
    home = tmp_path_factory.mktemp("replay") / "home"
    with simulators.TwitchSimulator() as twitch:
        up = subprocess.Popen(
            [*CLI, "up", "--home", str(home), "--port", str(free_port(FLEET_PORTS))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**AS_STARTED, **twitch.settings()},
        )
        assert up.stdout
        with up.stdout:
            assert any(line.startswith("WaddleBot is ready") for line in up.stdout)
            fleet = RealFleet(home, twitch)
            served = subprocess.run(
                [*CLI, "servers", "add", "--home", str(home), "--platform", "twitch", "--channel", "12826"],
                env=AS_STARTED,
                check=False,
            )
            assert served.returncode == 0
            yield fleet
            up.terminate()
            up.communicate(timeout=40)


def answers(fleet):
    """What was said as a reply: not the thanks for follows and cheers."""
    return [said for said in fleet.twitch.messages if said.reply_parent_message_id]


def test_the_example_is_taken_and_answered(real_fleet):
    done = real_fleet.run("replay", str(EVENING))
    assert (done.returncode, done.stdout) == (0, "12 taken, 0 refused, 0 not understood.\n"), done.stderr
    eventually(lambda: len(answers(real_fleet)) == 1, within_s=10)
    assert "!help" in EVENING.read_text()

    assert real_fleet.run("replay", str(EVENING)).returncode == 0
    assert real_fleet.run("replay", "--fresh", str(EVENING)).returncode == 0
    # The second was known already, the third was fresh.
    eventually(lambda: len(answers(real_fleet)) == 2, within_s=10)


def test_bad_lines_are_named_and_the_others_are_taken(real_fleet, tmp_path):
    good = EVENING.read_text().splitlines()[1]
    file = tmp_path / "bad.jsonl"
    file.write_bytes(b"\n".join([b"{nonsense", b"[]", b'{"event":{}}', b"\xff", b"", good.encode()]))
    done = real_fleet.run("replay", str(file))
    assert (done.returncode, done.stdout) == (1, "1 taken, 0 refused, 4 not understood.\n")
    said = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in said] == [[str(file), f"line {n}"] for n in (1, 2, 3, 4)]


def test_a_wrong_secret_is_refused(real_fleet):
    done = real_fleet.run("replay", str(EVENING), TWITCH_WEBHOOK_SECRET="not the fleet's")
    assert (done.returncode, done.stdout) == (1, "0 taken, 12 refused, 0 not understood.\n")
    assert "refused with HTTP 403" in done.stderr


def test_without_a_fleet_it_says_so(tmp_path):
    done = subprocess.run([*CLI, "replay", "--home", str(tmp_path), str(EVENING)], capture_output=True, check=False)
    assert (done.returncode, b"No fleet is running" in done.stderr) == (2, True)


def test_a_whole_body_is_sent_as_it_is():
    body = {"subscription": {"type": "stream.online", "version": "1", "id": "x"}, "event": {"id": "1"}}
    recorded = replay.parse(1, json.dumps({**body, "id": "delivery", "at": "2026-11-22T20:00:00Z"}).encode())
    assert (recorded.delivery_id, recorded.type, json.loads(recorded.body)) == ("delivery", "stream.online", body)
    again = replay.parse(1, json.dumps({**body, "id": "delivery"}).encode(), fresh=True)
    assert again.delivery_id != "delivery"


@pytest.mark.parametrize("at", ["yesterday", True, [1]])
def test_a_time_has_to_be_one(at):
    with pytest.raises(Invalid, match='"at"'):
        replay.parse(1, json.dumps({"type": "x", "event": {}, "at": at}).encode())


def test_the_pace_is_kept_and_quickened():
    pace = replay.Pace(20.0)
    began = time.monotonic()
    for at in (100.0, 100.0, 102.0, None):
        pace.wait_for(at)
    assert time.monotonic() - began >= 0.1
