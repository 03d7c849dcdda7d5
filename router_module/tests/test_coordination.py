"""Who looks after which channel, over HTTP: contracts §7."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from waddlebot.base.ids import new_id
from waddlebot.testing.fleet import Fleet
from waddlebot.testing.plugin import eventually


@dataclass
class Platform:
    """A platform that nobody else uses, and a collector's key for it."""

    fleet: Fleet
    name: str
    key: str

    def post(self, action: str, *, status: int = 200, key: str | None = None, **body: Any) -> dict[str, Any]:
        answer = self.fleet.request("POST", f"/router/coordination/{action}", body, key=key or self.key)
        assert answer.status == status, answer.body
        return answer.json()

    def claim(self, container: str, **body: Any) -> list[str]:
        answer = self.post("claim", platform=self.name, container_id=container, **body)
        assert answer["claimed_count"] == len(answer["claimed_entities"])
        return [each["entity_id"] for each in answer["claimed_entities"]]

    def held(self, container: str) -> dict[str, int]:
        """What a container holds, with the epochs."""
        return {each["entity_id"]: each["epoch"] for each in self.post("heartbeat", container_id=container)["entities"]}

    def get(self, what: str, *, key: str | None = None, **query: Any) -> dict[str, Any]:
        answer = self.fleet.request("GET", f"/router/coordination/{what}", key=key or self.key, query=query)
        assert answer.status == 200, answer.body
        return answer.json()

    def entity(self, entity_id: str) -> dict[str, Any]:
        return next(each for each in self.get("entities")["entities"] if each["entity_id"] == entity_id)

    def serve(self, *channels: str, server_id: str = "", config: str = "{}") -> None:
        self.fleet.database.statement(
            "INSERT INTO servers (platform, server_id, channel, config, community_id) SELECT %s, %s, c, %s, id"
            " FROM communities, unnest(%s) AS c WHERE is_global",
            (self.name, server_id, config, list(channels)),
        )

    def populate(self, **body: Any) -> dict[str, Any]:
        return self.post("populate", platform=self.name, **body)


@pytest.fixture
def platform(fleet):
    name = "p" + new_id().replace("-", "")[-20:]
    return Platform(fleet, name, fleet.make_key(name, "collectors", platforms=[name]))


@pytest.fixture
def channels(platform):
    """Three entities, in the order of their names."""
    platform.serve("a", "b", "c")
    platform.populate()
    return [f"{platform.name}::{name}" for name in "abc"]


def test_a_container_gets_what_is_free_and_nobody_gets_it_again(platform, channels):
    assert platform.claim("one", max_claims=2) == channels[:2]
    assert platform.claim("two", max_claims=2) == channels[2:]
    assert platform.claim("three") == []
    assert list(platform.held("one")) == channels[:2]


def test_an_answer_to_a_claim_says_all_that_a_container_needs(platform, channels):
    answer = platform.post("claim", platform=platform.name, container_id="one", max_claims=1)

    entity = answer.pop("claimed_entities")[0]
    assert answer == {
        "success": True,
        "claimed_count": 1,
        "container_id": "one",
        "platform": platform.name,
        "error_message": None,
    }
    assert (entity["entity_id"], entity["channel_id"], entity["status"]) == (channels[0], "a", "claimed")
    assert entity["epoch"] > 0


def test_the_limit_is_the_requests_or_else_five_and_counts_what_is_held(platform):
    platform.serve(*"abcdefgh")
    platform.populate()

    assert len(platform.claim("one")) == 5
    assert platform.claim("one") == []
    assert len(platform.claim("one", max_claims=7)) == 2
    assert platform.claim("one", max_claims=3) == []
    assert len(platform.held("one")) == 7


def test_live_ones_go_first_then_by_priority_and_viewers(platform):
    platform.serve("plain", "quiet-live", "busy-live")
    platform.serve("important", config='{"priority": 1}')
    platform.populate()
    platform.claim("one", max_claims=10)
    for channel, viewers in (("quiet-live", 3), ("busy-live", 900)):
        entity = f"{platform.name}::{channel}"
        platform.post("status", container_id="one", entity_id=entity, is_live=True, viewer_count=viewers)
    platform.post("release", container_id="one")

    claimed = [platform.claim(f"next-{n}", max_claims=1)[0].rpartition(":")[2] for n in range(4)]

    assert claimed == ["busy-live", "quiet-live", "important", "plain"]


def test_release_gives_up_what_is_named_or_everything(platform, channels):
    platform.claim("one")

    some = platform.post("release", container_id="one", entity_ids=[channels[1], f"{platform.name}::nobody"])
    assert some["released_entities"] == [channels[1]]
    assert platform.entity(channels[1])["status"] == "available"
    everything = platform.post("release", container_id="one")
    assert sorted(everything["released_entities"]) == [channels[0], channels[2]]
    assert platform.held("one") == {}


def test_nobody_releases_what_another_container_holds(platform, channels):
    platform.claim("one")
    platform.claim("two")

    assert platform.post("release", container_id="two", entity_ids=channels)["released_entities"] == []
    assert list(platform.held("one")) == channels


def test_every_new_holder_has_a_higher_epoch_and_the_former_one_is_told(platform, channels):
    platform.claim("one", max_claims=1)
    first = platform.held("one")[channels[0]]
    platform.post("release", container_id="one")
    platform.claim("two", max_claims=1)
    second = platform.held("two")[channels[0]]

    assert second > first
    refused = platform.post("status", status=409, container_id="one", entity_id=channels[0], is_live=True)
    assert refused["error"]["code"] == "lost"
    assert platform.post("error", status=409, container_id="one", entity_id=channels[0])["error"]["code"] == "lost"
    assert not platform.entity(channels[0])["is_live"]


def test_a_holder_is_told_of_an_epoch_that_is_over(platform, channels):
    platform.claim("one", max_claims=1)
    old = platform.held("one")[channels[0]]
    platform.post("release", container_id="one")
    platform.claim("one", max_claims=1)
    new = platform.held("one")[channels[0]]

    platform.post("status", status=409, container_id="one", entity_id=channels[0], epoch=old, is_live=True)
    assert platform.post("status", container_id="one", entity_id=channels[0], epoch=new)["epoch"] == new


def test_a_status_says_since_when_something_is_live(platform, channels):
    platform.claim("one")
    report = {"container_id": "one", "entity_id": channels[0]}

    assert platform.post("status", **report, is_live=True, viewer_count=12, metadata={"game": "Celeste"})["success"]
    live = platform.entity(channels[0])
    assert (live["status"], live["is_live"], live["viewer_count"]) == ("live", True, 12)
    assert live["metadata"] == {"game": "Celeste"}
    platform.post("status", **report, is_live=True, has_activity=True)
    still = platform.entity(channels[0])
    assert still["live_since"] == live["live_since"]
    assert live["last_activity"] is None
    assert still["last_activity"] is not None
    platform.post("status", **report, is_live=False)
    offline = platform.entity(channels[0])
    assert (offline["status"], offline["live_since"], offline["viewer_count"]) == ("offline", None, 0)


def test_offline_ones_are_given_up_for_others(platform, channels):
    platform.claim("one", max_claims=2)
    for entity in channels[:2]:
        platform.post("status", container_id="one", entity_id=entity, is_live=False)

    answer = platform.post("release-offline", container_id="one")

    assert sorted(answer["released_entities"]) == channels[:2]
    assert answer["released_count"] == 2
    assert [each["entity_id"] for each in answer["claimed_entities"]] == channels[2:]
    assert list(platform.held("one")) == channels[2:]
    assert platform.claim("one", max_claims=2) == channels[:1]


def test_three_errors_in_a_row_mark_an_entity_and_let_it_go(platform, channels):
    platform.claim("one", max_claims=1)
    report = {"container_id": "one", "entity_id": channels[0]}
    for _ in range(2):
        assert platform.post("error", **report, error_message="no answer")["status"] == "claimed"
    platform.post("status", **report, is_live=True)
    for _ in range(2):
        assert platform.post("error", **report, error_message="no answer")["status"] == "live"

    third = platform.post("error", **report, error_message="banned")

    assert (third["status"], third["error_count"]) == ("error", 3)
    marked = platform.get("entities", status="error")["entities"]
    assert [each["entity_id"] for each in marked] == channels[:1]
    assert marked[0]["metadata"]["last_error"] == "banned"
    assert platform.held("one") == {}
    assert platform.claim("two") == channels[1:]


def test_populating_follows_the_servers(platform, channels):
    platform.claim("one")
    platform.fleet.database.statement(
        "UPDATE servers SET is_active = false WHERE platform = %s AND channel = 'b'", (platform.name,)
    )
    platform.serve("d")

    answer = platform.populate()

    assert (answer["entities_added"], answer["entities_removed"]) == (1, 1)
    assert list(platform.held("one")) == [channels[0], channels[2]]
    platform.post("status", status=404, container_id="one", entity_id=channels[1], is_live=True)
    assert platform.populate() == {**answer, "entities_added": 0, "entities_removed": 0}


def test_a_removed_entity_that_comes_back_has_an_epoch_of_its_own(platform, channels):
    platform.claim("one", max_claims=1)
    before = platform.held("one")[channels[0]]
    active = "UPDATE servers SET is_active = %s WHERE platform = %s AND channel = 'a'"
    platform.fleet.database.statement(active, (False, platform.name))
    platform.populate()
    platform.fleet.database.statement(active, (True, platform.name))
    platform.populate()
    platform.claim("two")

    assert platform.held("two")[channels[0]] > before


def test_a_collector_claims_for_its_platforms_only(platform, channels, fleet):
    platform.claim("one")
    other = fleet.make_key(new_id(), "collectors", platforms=["elsewhere"])

    platform.post("claim", status=403, key=other, platform=platform.name, container_id="x")
    platform.post("populate", status=403, key=other, platform=platform.name)
    platform.post("status", status=403, key=other, container_id="one", entity_id=channels[0], is_live=True)
    platform.post("error", status=403, key=other, container_id="one", entity_id=channels[0])
    for action in ("release", "checkin", "heartbeat", "release-offline"):
        platform.post(action, status=403, key=other, container_id="one")
    assert list(platform.held("one")) == channels


def test_the_same_containers_name_on_another_platform_is_another_container(platform, channels, fleet):
    platform.claim("one")
    other = fleet.make_key(new_id(), "collectors", platforms=["elsewhere"])
    platform.post("claim", key=other, platform="elsewhere", container_id="one")

    assert platform.post("release", key=other, container_id="one")["released_entities"] == []
    assert list(platform.held("one")) == channels


def test_a_key_of_one_community_does_not_share_in_everybodys_channels(platform, channels, bot, fleet):
    theirs = fleet.make_key(new_id(), "collectors", platforms=[platform.name], community_id=bot.community_id)
    platform.claim("one")

    platform.post("claim", status=403, key=theirs, platform=platform.name, container_id="x")
    platform.post("release", status=403, key=theirs, container_id="one")
    assert fleet.request("GET", "/router/coordination/stats", key=theirs).status == 403


def test_only_collectors_write_and_only_collectors_and_admins_read(platform, fleet):
    claim = {"platform": platform.name, "container_id": "one"}
    admin = fleet.make_key(new_id(), "admins")

    assert fleet.request("POST", "/router/coordination/claim", claim, key=admin).status == 403
    assert fleet.request("POST", "/router/coordination/claim", claim, key="inventory").status == 403
    assert fleet.request("POST", "/router/coordination/claim", claim, key=None).status == 401
    assert fleet.request("GET", "/router/coordination/stats", key="inventory").status == 403
    assert fleet.request("GET", "/router/coordination/entities", key=admin).status == 200


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("claim", {"container_id": "one"}),
        ("claim", {"platform": "twitch", "container_id": ""}),
        ("claim", {"platform": "twitch", "container_id": "one", "max_claims": -1}),
        ("claim", {"platform": "twitch", "container_id": "one\x00"}),
        ("heartbeat", {"container_id": "one", "alive_for_s": 0}),
        ("heartbeat", {}),
        ("status", {"container_id": "one", "entity_id": "nonsense", "is_live": True}),
        ("status", {"container_id": "one", "entity_id": "twitch::1", "viewer_count": -1}),
        ("status", {"container_id": "one", "entity_id": "twitch::1", "metadata": {"x": "y" * 20_000}}),
        ("populate", {"platform": "twitch", "shard_count": 0}),
    ],
)
def test_bad_requests_are_refused_by_field(fleet, action, body):
    answer = fleet.request("POST", f"/router/coordination/{action}", body, key="twitch")

    assert answer.status == 422
    assert answer.json()["error"]["message"]


def test_the_figures_are_those_of_the_callers_platforms(platform, channels, fleet):
    platform.claim("one", max_claims=2)
    platform.post("status", container_id="one", entity_id=channels[0], is_live=True)

    figures = platform.get("stats", container_id="one")

    assert figures == {
        "success": True,
        "total_entities": 3,
        "claimed_entities": 2,
        "available_entities": 1,
        "live_entities": 1,
        "error_entities": 0,
        "containers": {"one": 2},
        "this_container": {"container_id": "one", "held": 2},
    }
    assert platform.get("stats", key="admin", platform=platform.name)["claimed_entities"] == 2
    assert platform.get("stats", key="admin")["total_entities"] >= 3
    elsewhere = fleet.request("GET", "/router/coordination/stats", query={"platform": platform.name}, key="console")
    assert elsewhere.status == 403, "an admin's key that is for another platform"


def test_entities_are_listed_by_what_is_asked_for(platform, channels):
    platform.claim("one", max_claims=2)
    platform.post("status", container_id="one", entity_id=channels[0], is_live=True)

    def listed(**query):
        return [each["entity_id"] for each in platform.get("entities", **query)["entities"]]

    assert listed() == channels
    assert listed(claimed_by="one") == channels[:2]
    assert listed(is_live="true") == listed(status="live") == channels[:1]
    assert listed(status="available") == channels[2:]
    assert listed(limit=1, offset=1) == channels[1:2]
    page = platform.get("entities", limit=1)
    assert (page["total"], page["limit"], page["offset"]) == (3, 1, 0)
    assert page["entities"][0]["claimed_by"] == "one"


def test_a_container_that_nobody_knows_holds_nothing(platform):
    answer = platform.post("heartbeat", container_id="stranger", alive_for_s=15)

    assert answer["entities"] == []
    assert platform.post("checkin", container_id="stranger")["claimed_count"] == 0
    assert platform.post("release-offline", container_id="stranger")["released_count"] == 0


def test_a_container_that_is_not_heard_of_in_time_loses_everything(platform, channels):
    platform.claim("one", alive_for_s=0.2)
    platform.claim("two")
    taken = []

    eventually(lambda: taken.extend(platform.claim("two")) or taken)

    assert taken == channels
    platform.post("status", status=409, container_id="one", entity_id=channels[0], is_live=True)
    assert platform.held("one") == {}


def test_many_at_once_under_one_name_do_not_get_more_than_one_may_have(platform):
    platform.serve(*(str(n) for n in range(100)))
    platform.populate()

    at_once(20, lambda _: platform.claim("one", max_claims=7))

    assert len(platform.held("one")) == 7


def test_many_at_once_never_get_the_same(platform):
    platform.serve(*(str(n) for n in range(300)))
    platform.populate()
    taken: list[str] = []

    at_once(12, lambda n: [taken.extend(platform.claim(f"c{n}", max_claims=10 * k)) for k in range(1, 4)])

    assert max(Counter(taken).values()) == 1
    assert len(taken) == 300


def at_once(threads, run):
    started = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


@pytest.fixture
def twitch(fleet):
    """Twitch, whose shards of a conduit are claimed beside its channels."""
    made = Platform(fleet, "twitch", fleet.make_key(new_id(), "collectors", platforms=["twitch"]))
    yield made
    fleet.database.statement("DELETE FROM coordination WHERE platform = 'twitch' AND server_id = 'shard'")


def test_shards_of_a_conduit_are_claimed_beside_channels_and_counted_by_themselves(twitch):
    channel = f"twitch::{new_id()}"
    twitch.serve(channel.removeprefix("twitch::"))
    twitch.populate(shard_count=3)
    shards = [f"twitch:shard:{n}" for n in range(3)]
    container = new_id()
    channels = twitch.claim(container, max_claims=100_000)
    assert channel in channels
    assert not set(shards) & set(channels)
    assert twitch.claim(container, max_claims=2, kind="shard") == shards[:2]
    assert twitch.claim(container, max_claims=2, kind="shard") == []
    assert twitch.claim(container, max_claims=100_000) == []
    assert twitch.claim(new_id(), max_claims=2, kind="shard") == shards[2:]
    assert {channel, *shards[:2]} <= twitch.held(container).keys()
    twitch.post("release", container_id=container)


def test_shards_of_a_conduit_only_become_more(twitch):
    for wanted, count in ((2, 2), (4, 4), (3, 4), (None, 4)):
        twitch.populate(**({} if wanted is None else {"shard_count": wanted}))
        listed = twitch.get("entities", platform="twitch", limit=1000)["entities"]
        assert len([each for each in listed if each["server_id"] == "shard"]) == count
