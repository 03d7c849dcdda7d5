"""Claims as time passes: who is dead and who only could not be heard, and that no crash costs an entity its holder."""

from __future__ import annotations

import importlib
import random
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from waddlebot.base.contracts import (
    ClaimRequest,
    ContainerHeartbeat,
    ContainerRequest,
    ErrorReport,
    PopulateRequest,
    StatusReport,
)
from waddlebot.base.logs import AAALog
from waddlebot.testing.simulated import SimulatedDatabase
from waddlebot.web.auth import Account
from waddlebot.web.lists import Page

COLLECTOR = Account(id=0, name="a collector", groups=frozenset({"collectors"}))
ALIVE_FOR_S = 15
# As often as a router sweeps, or a little less.
STEP_S = 3


@dataclass
class World:
    """Channels of one platform on a clock of their own, and a router that sweeps."""

    simulated: SimulatedDatabase
    service: Any
    lock: threading.Lock = field(default_factory=threading.Lock)
    holders: dict[tuple[str, int], str] = field(default_factory=dict)

    def serve(self, channels: int) -> None:
        self.simulated.database.statement(
            "INSERT INTO servers (platform, channel, community_id)"
            " SELECT 'twitch', n, c.id FROM generate_series(1, %s) AS n, communities c WHERE is_global",
            (channels,),
        )
        self.service.populate(PopulateRequest(platform="twitch"), COLLECTOR)

    def claim(self, container: str, most: int, *, alive_for_s: float | None = ALIVE_FOR_S) -> int:
        request = ClaimRequest(platform="twitch", container_id=container, max_claims=most, alive_for_s=alive_for_s)
        return self._note(container, self.service.claim(request, COLLECTOR)["claimed_entities"])

    def beat(self, container: str, *, alive_for_s: float | None = ALIVE_FOR_S, extend: bool = True) -> int:
        beat = ContainerHeartbeat(container_id=container, alive_for_s=alive_for_s, extend_claims=extend)
        return self._note(container, self.service.heartbeat(beat, COLLECTOR)["entities"])

    def checkin(self, container: str) -> int:
        return self.service.checkin(ContainerRequest(container_id=container), COLLECTOR)["claimed_count"]

    def entities(self, **filters: Any) -> list[dict[str, Any]]:
        asked = {"platform": None, "status": None, "claimed_by": None, "is_live": None, **filters}
        return self.service.list_entities(COLLECTOR, **asked, page=Page(limit=1000))["entities"]

    def figures(self) -> dict[str, Any]:
        return self.service.stats(COLLECTOR, platform=None, container_id=None)

    def sweep(self, *, seconds: float, beating: Iterable[str] = ()) -> None:
        """Let time pass while a router sweeps and these containers are heard."""
        passed = 0.0
        while passed < seconds:
            step = min(STEP_S, seconds - passed)
            passed += step
            self.simulated.advance(seconds=step)
            for container in beating:
                self.beat(container)
            self.service.sweep()

    def pause(self, *, seconds: float) -> None:
        """Let time pass while the database answers nobody."""
        self.simulated.advance(seconds=seconds)

    def _note(self, container: str, entities: list[Any]) -> int:
        """Remember who held what in which epoch; nobody else ever may."""
        with self.lock:
            for each in entities:
                assert self.holders.setdefault((each["entity_id"], each["epoch"]), container) == container
        return len(entities)


@pytest.fixture
def world(fleet, simulated):
    # As py4web loaded it: importing it by another name would start the service again.
    module = importlib.import_module("apps.router_module.services.claims.coordination_service")
    world = World(simulated, module.CoordinationService(simulated.database, AAALog("test", "0"), max_claims=5))
    world.service.sweep()
    return world


def test_a_container_that_said_how_long_it_lives_loses_everything_when_that_passes(world):
    world.serve(3)
    world.claim("one", 3)

    world.sweep(seconds=ALIVE_FOR_S - 1)
    assert world.claim("two", 3) == 0
    world.sweep(seconds=1)
    assert world.claim("two", 3) == 3
    assert world.beat("one") == 0


def test_a_heartbeat_keeps_it_alive_however_long(world):
    world.serve(3)
    world.claim("one", 3)

    world.sweep(seconds=5 * 60, beating=["one"])

    assert world.beat("one") == 3
    assert world.claim("two", 3) == 0


def test_a_claim_finds_the_dead_without_waiting_for_a_sweep(world):
    world.serve(3)
    world.claim("one", 3, alive_for_s=2)

    world.simulated.advance(seconds=2)

    assert world.claim("two", 2) == 2


def test_one_that_is_late_and_was_not_missed_keeps_everything(world):
    world.serve(3)
    world.claim("one", 3)
    world.service.sweep()

    world.simulated.advance(seconds=ALIVE_FOR_S + 1)

    assert world.beat("one") == 3
    world.service.sweep()
    assert world.beat("one") == 3


def test_one_that_never_said_how_long_it_lives_has_six_minutes(world):
    world.serve(3)
    world.claim("one", 3, alive_for_s=None)

    world.sweep(seconds=359)
    assert world.claim("two", 3) == 0
    world.sweep(seconds=1)
    assert world.claim("two", 3) == 3


@pytest.mark.parametrize("sign_of_life", ["checkin", "heartbeat"])
def test_who_checks_in_every_five_minutes_keeps_everything(world, sign_of_life):
    world.serve(3)
    world.claim("one", 3, alive_for_s=None)
    for _ in range(7):
        world.sweep(seconds=300)
        assert (world.checkin("one") if sign_of_life == "checkin" else world.beat("one", alive_for_s=None)) == 3

    assert world.claim("two", 3) == 0


def test_a_heartbeat_may_leave_the_claims_as_they_are(world):
    world.serve(3)
    world.claim("one", 3, alive_for_s=None)
    world.sweep(seconds=300)
    assert world.beat("one", alive_for_s=None, extend=False) == 3

    world.sweep(seconds=60)

    assert world.beat("one", alive_for_s=None) == 0


def test_a_status_is_a_check_in_for_its_entity_only(world):
    world.serve(2)
    world.claim("one", 2, alive_for_s=None)
    world.sweep(seconds=300)
    world.service.report_status(StatusReport(container_id="one", entity_id="twitch::1", is_live=True), COLLECTOR)

    world.sweep(seconds=60)

    assert [each["entity_id"] for each in world.entities(claimed_by="one")] == ["twitch::1"]


def test_an_entity_that_failed_is_tried_again_after_a_rest(world):
    world.serve(1)
    world.claim("one", 1)
    report = ErrorReport(container_id="one", entity_id="twitch::1", error_message="no answer")
    for _ in range(3):
        world.service.report_error(report, COLLECTOR)

    world.sweep(seconds=299, beating=["one"])
    assert world.claim("one", 1) == 0
    world.sweep(seconds=1, beating=["one"])
    assert world.claim("one", 1) == 1
    # On probation: the first error marks it again, the first status ends the row.
    assert world.service.report_error(report, COLLECTOR)["status"] == "error"


@pytest.mark.parametrize("seconds", [20, 600, 7200])
def test_after_a_pause_of_the_database_everybody_keeps_what_they_had(world, seconds):
    world.serve(100)
    names = [f"c{n}" for n in range(4)]
    for name in names:
        world.claim(name, 25)
    before = dict(world.holders)
    world.sweep(seconds=30, beating=names)

    world.pause(seconds=seconds)
    # Whoever is first, the sweeper or somebody with room, finds nothing to take.
    assert world.claim("hungry", 100) == 0
    world.service.sweep()
    world.sweep(seconds=12)
    assert [world.beat(name) for name in names[:3]] == [25, 25, 25]
    assert world.holders == before

    # One did not come back, and had its time once more.
    world.sweep(seconds=3, beating=names[:3])
    assert world.claim("hungry", 100) == 25
    assert [world.beat(name) for name in names] == [25, 25, 25, 0]


def test_two_pauses_soon_after_each_other_are_one(world):
    world.serve(3)
    world.claim("one", 3)
    world.sweep(seconds=3)

    world.pause(seconds=60)
    world.sweep(seconds=6)
    world.pause(seconds=60)
    world.sweep(seconds=12)

    assert world.beat("one") == 3


def test_who_was_dead_before_the_pause_has_no_grace(world):
    world.serve(3)
    world.claim("one", 3, alive_for_s=1)
    world.simulated.advance(seconds=2)
    world.beat("two", alive_for_s=1)
    world.pause(seconds=1)
    world.service.sweep()

    assert world.claim("two", 3) == 3


def test_a_pause_is_also_one_for_those_who_check_in(world):
    world.serve(3)
    world.claim("one", 3, alive_for_s=None)
    world.sweep(seconds=30)

    world.pause(seconds=3600)
    world.sweep(seconds=300)

    assert world.checkin("one") == 3


def test_fifty_containers_that_die_at_random_leave_nothing_twice_and_nothing_alone(world):
    def beat_and_claim(name):
        world.beat(name)
        world.claim(name, 250)

    dice = random.Random(7)  # Reproducible; the threads are not.
    world.serve(10_000)
    living = [f"c{n}" for n in range(50)]
    born = len(living)
    for _ in range(8):
        at_once(living, beat_and_claim)
        # Whatever was freed while others had asked already is for those who ask now.
        at_once(living, lambda name: world.claim(name, 250))
        figures = world.figures()
        full = all(figures["containers"].get(name, 0) == 250 for name in living)
        assert figures["available_entities"] == 0 or full
        for name in dice.sample(living, dice.randint(0, 12)):
            living.remove(name)
            living.append(f"c{born}")
            born += 1
        world.sweep(seconds=dice.choice([2, 5, 12]))

    # From now on nobody dies, and all is held by those who live.
    for _ in range(6):
        world.sweep(seconds=STEP_S)
        at_once(living, beat_and_claim)
    figures = world.figures()
    assert figures["claimed_entities"] == 10_000
    assert set(figures["containers"]) <= set(living)
    assert len(world.holders) > 10_000


def at_once(names, run):
    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(run, names))
