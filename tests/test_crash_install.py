"""kill -9 at steps of installing, upgrading and uninstalling a module: each is finished or taken back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crashing_fleet import MAX_STEPS, CrashingFleet, crashing_fleet, event_for
from waddlebot.testing.plugin import eventually

NAME, PLACE = "crashdice", {"module_id": "crashdice", "community_id": "demo"}
# Nobody runs it: that it is called is what counts.
FILES = {"handler.py": "def handler(event, context):\n    return 'hello'\n"}
# What is left is taken up after ten seconds, by a job that looks every five.
FINISHED_WITHIN_S = 40
INSTALL = {"path": "/marketplace/install", "before": None, "after": "1.0.0", "body": {**PLACE, "version": "1.0.0"}}
UPGRADE = {"path": "/marketplace/install", "before": "1.0.0", "after": "1.1.0", "body": {**PLACE, "version": "1.1.0"}}
UNINSTALL = {"path": "/marketplace/uninstall", "before": "1.1.0", "after": None, "body": PLACE}


@pytest.fixture(scope="module")
def crashing(tmp_path_factory) -> Iterator[CrashingFleet]:
    with crashing_fleet(tmp_path_factory.mktemp("crash"), "marketplace") as made:
        for version in ("1.0.0", "1.1.0"):
            manifest = (
                f'name = "{NAME}"\ntitle = "Dice"\nversion = "{version}"\ndescription = "Rolls"\n'
                f'commands = [{{ command = "{NAME}" }}]\n'
            )
            answer = made.request("POST", "/marketplace/modules", {"manifest": manifest, "files": FILES})
            assert answer is not None
            assert answer.status == 200, answer.body
        yield made


def state(crashing: CrashingFleet) -> tuple[str | None, str | None, str]:
    """Which version the marketplace has on record, which one the router has, and what is being done."""
    (row,) = crashing.rows(
        "SELECT (SELECT version FROM module_installations WHERE module_id = %s) AS recorded,"
        " (SELECT version FROM module_switches WHERE module_name = %s AND enabled) AS routed,"
        " coalesce((SELECT state FROM module_installations WHERE module_id = %s), '') AS state",
        *(NAME,) * 3,
    )
    return row["recorded"], row["routed"], row["state"]


def whole(version: str | None) -> tuple[str | None, str | None, str]:
    return version, version, "installed" if version else ""


def put(crashing: CrashingFleet, version: str | None) -> None:
    """Have a version, or none, with nothing dying."""
    if state(crashing) == whole(version):
        return
    path = "/marketplace/install" if version else "/marketplace/uninstall"
    answer = crashing.request("POST", path, {**PLACE, **({"version": version} if version else {})})
    assert answer is not None
    assert answer.status == 200, answer.body


@pytest.mark.timeout(1800)
# Every step takes some seconds; `make soak` has the time for all.
@pytest.mark.parametrize("steps", [(21,), pytest.param(range(1, 2 * MAX_STEPS), marks=pytest.mark.soak)])
@pytest.mark.parametrize("does", [INSTALL, UPGRADE, UNINSTALL], ids=["install", "upgrade", "uninstall"])
def test_nothing_is_left_half_done(crashing, does, steps):
    for step in steps:
        put(crashing, does["before"])
        crashed = crashing.request("POST", does["path"], does["body"], crash_at=step) is None
        if crashed:
            crashing.start()
        ends = {whole(does["before"]), whole(does["after"])} if crashed else {whole(does["after"])}
        eventually(lambda ends=ends: state(crashing) in ends, within_s=FINISHED_WITHIN_S)
        version = state(crashing)[0]
        answer = crashing.submit(event_for(f"#{NAME}"))
        assert answer is not None
        assert bool(answer["executions"]) is bool(version), f"after dying at step {step}"
        left = crashing.rows("SELECT 1 FROM module_state WHERE module_id = %s", NAME)
        assert not left or version
        if not crashed:
            return
    assert len(steps) < MAX_STEPS, "more steps than were expected"
