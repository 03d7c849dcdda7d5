"""A collector's container and what it holds, from its own side."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from waddlebot.base.errors import UpstreamRefused
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.collecting.claims import Claims
from waddlebot.testing.fleet import URL
from waddlebot.testing.plugin import eventually
from waddlebot.web.clients import FleetClient, FleetTransport, RouterClient
from waddlebot.web.http import HTTPClient


@dataclass
class Container:
    """A container that writes down what it was told."""

    claims: Claims
    told: list[str] = field(default_factory=list)

    @property
    def held(self) -> list[str]:
        return sorted(each.channel_id for each in self.claims.held.values())


@pytest.fixture
def platform(fleet):
    name = "p" + new_id().replace("-", "")[-20:]
    fleet.database.statement(
        "INSERT INTO servers (platform, channel, community_id) SELECT %s, c, id FROM communities,"
        " unnest(%s) AS c WHERE is_global",
        (name, ["a", "b", "c"]),
    )
    return name


@pytest.fixture
def container(fleet, platform):
    key = fleet.make_key(platform, "collectors", platforms=[platform])

    def make(name, most, *, alive_for_s=15.0, api_key=key):
        client = FleetClient(FleetTransport(HTTPClient()), api_key)
        router = RouterClient(client, core_url=URL, router_url=f"{URL}/router", timeout_s=5)
        told: list[str] = []
        claims = Claims(
            router,
            fleet.database,
            platform=platform,
            container_id=name,
            max_claims=most,
            alive_for_s=alive_for_s,
            gained=lambda each: told.append(f"+{each.channel_id}"),
            lost=lambda each: told.append(f"-{each.channel_id}"),
            log=AAALog("test", "0"),
        )
        return Container(claims, told)

    return make


def test_a_container_claims_what_it_has_room_for_and_is_told(container):
    one, two = container("one", 2), container("two", 5)

    one.claims.step()
    two.claims.step()

    assert one.told == ["+a", "+b"]
    assert two.told == ["+c"]
    one.claims.step()
    assert one.held == ["a", "b"]
    assert len(one.told) == 2


def test_what_a_container_gives_up_at_its_end_is_for_the_others(container):
    one, two = container("one", 3), container("two", 3)
    one.claims.step()
    two.claims.step()

    one.claims.finish()
    two.claims.step()

    assert one.told == ["+a", "+b", "+c", "-a", "-b", "-c"]
    assert two.held == ["a", "b", "c"]


def test_one_that_was_taken_for_dead_is_told_what_it_lost(container):
    one, two = container("one", 3, alive_for_s=0.2), container("two", 3)
    one.claims.step()

    eventually(lambda: two.claims.step() or two.held)
    one.claims.step()

    assert two.held == ["a", "b", "c"]
    assert one.held == []
    assert one.told[3:] == ["-a", "-b", "-c"]


def test_a_report_about_what_is_lost_says_so(container):
    one, two = container("one", 3, alive_for_s=0.2), container("two", 3)
    one.claims.step()
    entity = next(iter(one.claims.held))
    assert one.claims.report(entity, is_live=True, viewer_count=3)

    eventually(lambda: two.claims.step() or two.held)

    assert not one.claims.report(entity, is_live=False)
    assert one.told[3:] == ["-a"]
    assert two.claims.held[entity].is_live


def test_what_is_held_is_listed_again_only_when_something_of_it_is_gone(container, fleet, platform, monkeypatch):
    one = container("one", 3)
    one.claims.step()
    asked = []
    ask = RouterClient.coordinate
    monkeypatch.setattr(
        RouterClient, "coordinate", lambda self, what, body: asked.append(what) or ask(self, what, body)
    )

    one.claims.step()
    assert asked == ["claim"], "which is a sign of life as well"

    fleet.database.statement("DELETE FROM servers WHERE platform = %s AND channel = 'b'", (platform,))
    container("two", 0).claims.step()
    asked.clear()
    one.claims.step()
    assert one.told[3:] == ["-b"]
    assert asked == ["heartbeat", "claim"]


def test_a_container_that_is_full_says_that_it_lives(container):
    one, two = container("one", 3, alive_for_s=2), container("two", 3)
    one.claims.step()

    def beat():
        one.claims.step()
        two.claims.step()
        return two.held

    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert not beat()
    assert one.held == ["a", "b", "c"]


def test_the_third_error_in_a_row_ends_a_claim(container):
    one = container("one", 3)
    one.claims.step()
    entity = next(iter(one.claims.held))

    assert [one.claims.report_error(entity, "no answer") for _ in range(3)] == [True, True, False]
    assert one.held == ["b", "c"]
    assert not one.claims.report_error(entity, "no answer")


def test_a_container_that_gets_less_room_keeps_what_matters_most(container):
    one = container("one", 3)
    one.claims.step()
    live = next(id_ for id_, each in one.claims.held.items() if each.channel_id == "c")
    one.claims.report(live, is_live=True, viewer_count=3)

    one.claims.max_claims = 1
    one.claims.step()

    assert one.held == ["c"]
    assert one.told[3:] == ["-a", "-b"]


def test_offline_ones_are_swapped(container):
    one = container("one", 1)
    one.claims.step()
    one.claims.report(next(iter(one.claims.held)), is_live=False)

    one.claims.swap_offline()

    assert one.told == ["+a", "-a", "+b"]


def test_a_new_life_under_an_old_name_has_epochs_of_its_own(container):
    before, after = container("one", 3), container("one", 3)
    before.claims.step()
    entity = next(iter(before.claims.held))

    after.claims.step()

    assert after.held == ["a", "b", "c"]
    assert after.claims.held[entity].epoch > before.claims.held[entity].epoch
    assert not before.claims.report(entity, is_live=True)


def test_a_key_that_may_not_claim_is_an_error_not_a_loss(container, fleet):
    stranger = container("one", 3, api_key=fleet.make_key(new_id(), "collectors", platforms=["elsewhere"]))

    with pytest.raises(UpstreamRefused) as caught:
        stranger.claims.step()
    assert caught.value.details["status"] == 403
