"""What is claimed where: a Slack team, a Discord shard. In a database without the collectors of these platforms."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import pytest
from waddlebot.base.contracts import ClaimRequest, ContainerHeartbeat, PopulateRequest
from waddlebot.base.logs import AAALog
from waddlebot.testing.simulated import SimulatedDatabase
from waddlebot.web.auth import Account

COLLECTOR = Account(id=0, name="a collector", groups=frozenset({"collectors"}))


@dataclass
class Coordination:
    simulated: SimulatedDatabase
    service: Any

    def serve(self, platform: str, server_id: str, *channels: str) -> None:
        self.simulated.database.statement(
            "INSERT INTO servers (platform, server_id, channel, community_id)"
            " SELECT %s, %s, channel, c.id FROM unnest(%s) AS channel, communities c WHERE is_global",
            (platform, server_id, list(channels)),
        )

    def populate(self, platform: str, **options: Any) -> int:
        request = PopulateRequest(platform=platform, **options)
        added: int = self.service.populate(request, COLLECTOR)["entities_added"]
        return added

    def claim(self, platform: str) -> list[dict[str, Any]]:
        request = ClaimRequest(platform=platform, container_id="one", max_claims=9)
        claimed = self.service.claim(request, COLLECTOR)["claimed_entities"]
        return sorted(claimed, key=lambda each: each["entity_id"])

    def held(self, platform: str) -> dict[str, int]:
        beat = ContainerHeartbeat(container_id="one", platform=platform)
        return {each["entity_id"]: each["epoch"] for each in self.service.heartbeat(beat, COLLECTOR)["entities"]}


@pytest.fixture
def coordination(fleet, simulated):
    # As py4web loaded it: importing it by another name would start the service again.
    module = importlib.import_module("apps.router_module.services.claims.coordination_service")
    made = Coordination(simulated, module.CoordinationService(simulated.database, AAALog("test", "0"), max_claims=5))
    made.service.sweep()
    return made


def test_on_slack_teams_are_claimed(coordination):
    coordination.serve("slack", "T1", "C1", "C2")
    coordination.serve("slack", "T2", "C9")

    assert coordination.populate("slack") == 2
    assert [each["entity_id"] for each in coordination.claim("slack")] == ["slack:T1:", "slack:T2:"]


def test_on_discord_shards_are_claimed_as_many_as_the_request_says(coordination):
    coordination.serve("discord", "81384", "C1", "C2")

    assert coordination.populate("discord", shard_count=2) == 2
    found = [(each["entity_id"], each["config"]) for each in coordination.claim("discord")]
    assert found == [(f"discord:shard:{n}", {"shard_count": 2}) for n in range(2)]
    assert coordination.populate("discord") == 0
    assert len(coordination.held("discord")) == 2


def test_another_number_of_shards_ends_the_claims_of_the_old_ones(coordination):
    coordination.populate("discord", shard_count=3)
    coordination.claim("discord")
    before = coordination.held("discord")

    coordination.populate("discord", shard_count=4)

    assert coordination.held("discord") == {}
    coordination.claim("discord")
    after = coordination.held("discord")
    assert len(after) == 4
    assert min(after.values()) > max(before.values())
