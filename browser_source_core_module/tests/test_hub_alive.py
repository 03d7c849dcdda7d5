"""Nothing that is said on Redis, and no bug in a task of it, makes a hub deaf: overlays show at once what is sent."""

from __future__ import annotations

import time

import pytest
from waddlebot.base.settings import Settings
from waddlebot.data.cache import open_redis
from waddlebot.data.database import fetch
from waddlebot.data.redis_users import INVALIDATIONS
from waddlebot.testing.plugin import eventually

pytestmark = pytest.mark.usefixtures("forgiven", "afterwards")

QUEUES = INVALIDATIONS + "overlay_queues"
# Much less than the second after which a hub that was told nothing looks by itself.
AT_ONCE_S = 0.4


@pytest.fixture(scope="module")
def afterwards(hub):
    """A hub that has seen no harm."""
    yield
    hub.restart()


@pytest.fixture
def anybody(fleet):
    """Somebody else on the fleet's Redis."""
    return open_redis(Settings.load())


def is_told_at_once(live, page) -> bool:
    """Whether an item comes with what Redis says of it. A machine that is busy may be late once or twice."""
    for n in range(5):
        live.ticker(f"now {n}")
        began_at = time.monotonic()
        page.receive()
        if time.monotonic() - began_at < AT_ONCE_S:
            return True
    return False


def troubles(live) -> str:
    return " ".join(live.hub.health()["troubles"])


def test_a_hub_hears_on_when_two_people_get_a_role_at_once(live, fleet, bot):
    page = live.connect().hello()
    with fleet.database.transaction() as db:
        users = [row["id"] for row in fetch(db, "INSERT INTO users SELECT FROM generate_series(1, 2) RETURNING id")]
    key = fleet.make_key(f"roles {bot.slug}", "api-users", community_id=bot.community_id)
    body = {"assignments": [{"user_id": user, "role": "vip"} for user in users]}

    given = fleet.request("POST", "/router/roles/assign", body, key=key)

    assert [each["error"] for each in given.json()["results"]] == [None, None]
    assert is_told_at_once(live, page)
    assert "ended" not in troubles(live)


@pytest.mark.parametrize("message", [b"not json", b"\xff\xfe", b'["x"]', b"[]", b"{}"])
def test_a_hub_hears_on_whatever_is_said_on_the_invalidation_channel(live, anybody, message):
    page = live.connect().hello()

    anybody.publish(QUEUES, message)

    eventually(lambda: f"cannot read what {QUEUES} says" in troubles(live))
    assert is_told_at_once(live, page)


@pytest.mark.parametrize(
    ("source", "message"),
    [("1:ticker", b"x"), ("x", b"1 {}"), ("1:nowhere", b"1 {}"), ("1:ticker", b"\xff 1"), ("1:ticker", b"1 no frame")],
)
def test_a_hub_hears_on_whatever_is_said_of_items(live, anybody, source, message):
    page = live.connect().hello()

    anybody.publish(f"waddlebot:overlay:item:{source}", message)

    eventually(lambda: f"cannot read what waddlebot:overlay:item:{source} says" in troubles(live))
    assert is_told_at_once(live, page)


@pytest.fixture
def refusal(live, fleet):
    """What the database refuses, so that a task of the hub fails which counts on it: that an item of this community was
    shown."""
    name = f"refuse_{live.bot.community_id}"
    fleet.database.statement(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not today'; END$$"
    )
    fleet.database.statement(
        f"CREATE TRIGGER {name} BEFORE UPDATE ON browser_source_history FOR EACH ROW"
        f" WHEN (new.community_id = {live.bot.community_id} AND new.shown_at IS NOT NULL) EXECUTE FUNCTION {name}()"
    )
    yield lambda: fleet.database.statement(f"DROP TRIGGER {name} ON browser_source_history")
    fleet.database.statement(f"DROP FUNCTION {name} CASCADE")


def test_a_task_of_a_hub_that_ends_is_told_of_and_begun_again_and_nothing_is_lost(live, fleet, refusal):
    page = live.connect().hello()
    seq = live.ticker("first")
    page.receive()

    page.ack(seq, "shown")

    eventually(lambda: "hub-acks ended: RaiseException: not today" in troubles(live))
    checks = "/browser/health"
    eventually(
        lambda: "hub-acks ended" in fleet.request("GET", checks, key=None).json()["checks"]["background"]["detail"]
    )
    refusal()
    eventually(lambda: live.states() == ["shown"])
    metrics = fleet.request("GET", "/browser/metrics", headers={"Accept": "text/plain"}).body.decode()
    assert 'waddlebot_browser_source_core_background_ended_total{name="hub-acks",process="hub"}' in metrics
