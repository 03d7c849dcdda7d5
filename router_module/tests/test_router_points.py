"""What each of the 23 events earns, through the environment and the arithmetic."""

from __future__ import annotations

import importlib
import math
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waddlebot.base.contracts import MessageType
from waddlebot.base.errors import ConfigError

BY_THE_PIECE = {
    "chatMessage": 5,
    "follow": 10,
    "subscription": 50,
    "raid": 30,
    "subgift": 60,
    "ban": -10,
    "reaction": 2,
    "member_join": 10,
    "voice_join": 8,
    "boost": 100,
    "file_share": 15,
    "app_mention": 8,
}
BY_AMOUNT = {"cheer": "bits", "donation": "amount", "voice_time": "minutes"}


# How long an example takes says more about the machine than about the code.
UNHURRIED = settings(deadline=None, database=None)


@pytest.fixture(scope="module")
def config(fleet) -> ModuleType:
    return importlib.import_module("apps.router_module.config")


@pytest.fixture(scope="module")
def points(fleet) -> ModuleType:
    """The module under test, as py4web loaded it: importing it by another name would start the service again."""
    return importlib.import_module("apps.router_module.services.people.points")


@pytest.fixture
def table(config, monkeypatch):
    monkeypatch.delenv("REPUTATION_POINTS", raising=False)
    return config.RouterSettings.load().points


@pytest.mark.parametrize("kind", [str(kind) for kind in MessageType if kind not in BY_AMOUNT])
def test_each_type_earns_what_the_specification_says_and_the_others_nothing(points, table, kind):
    assert points.points_for(table, kind, "twitch", {}) == (BY_THE_PIECE.get(kind, 0), None)


def test_every_type_is_in_the_table(config):
    assert {str(kind) for kind in MessageType} <= set(config.DEFAULT_POINTS)


def test_a_platforms_own_value_counts_first(points, table):
    assert points.points_for(table, "reaction", "slack", {}).score == 3
    assert points.points_for(table, "reaction", "discord", {}).score == 2


@pytest.mark.parametrize(
    ("value", "score"),
    [
        (1, 1),
        (250, 250),
        (4.99, 4),
        ("12.50", 12),
        (0, 0),
        (-5, 0),
        ("-5", 0),
        ("many", 0),
        ("", 0),
        (None, 0),
        (True, 0),
        ([7], 0),
        ({"value": 7}, 0),
        (math.nan, 0),
        (math.inf, 0),
        ("nan", 0),
        ("-inf", 0),
        (1e300, 1_000_000),
        pytest.param(10**4000, 1_000_000, id="huge"),
        pytest.param(-(10**4000), 0, id="hugely negative"),
    ],
)
@pytest.mark.parametrize("kind", BY_AMOUNT)
def test_an_amount_is_read_with_care(points, table, kind, value, score):
    assert points.points_for(table, kind, "twitch", {BY_AMOUNT[kind]: value}).score == score


@UNHURRIED
@given(value=st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.lists(st.integers())))
def test_no_amount_ever_takes_points_or_breaks(points, value):
    score, amount = points.points_for({"cheer": 0.5}, "cheer", "twitch", {"bits": value})

    assert 0 <= score <= 500_000
    assert amount is None or 0 < amount <= points.MAX_AMOUNT


def test_a_part_of_a_point_is_not_lost_to_binary_fractions(points):
    assert points.points_for({"donation": 100}, "donation", "slack", {"amount": 0.29}) == (29, 0.29)


def test_a_gift_is_paid_to_who_gives_it(points, table):
    assert points.points_for(table, "subscription", "twitch", {"is_gift": True}) == (0, None)
    assert points.points_for(table, "subscription", "twitch", {"is_gift": False}).score == 50
    assert points.points_for(table, "subgift", "twitch", {"total": 5}).score == 60


@pytest.mark.parametrize("text", ['{"follow": 25, "twitch.raid": 40.5}', "follow=25, twitch.raid=40.5,"])
def test_the_environment_changes_single_values(config, points, monkeypatch, text):
    monkeypatch.setenv("REPUTATION_POINTS", text)
    table = config.RouterSettings.load().points

    assert points.points_for(table, "follow", "slack", {}).score == 25
    assert points.points_for(table, "raid", "twitch", {}).score == 40
    assert points.points_for(table, "raid", "discord", {}).score == 30
    assert points.points_for(table, "boost", "discord", {}).score == 100


@pytest.mark.parametrize(
    "text", ["{", "[]", "follow", "follow=many", "folow=5", "myspace.follow=5", "follow=nan", "follow=1e7", "{1: 2}"]
)
def test_a_table_that_cannot_be_ends_the_process_with_one_line(config, monkeypatch, text):
    monkeypatch.setenv("REPUTATION_POINTS", text)

    with pytest.raises(ConfigError, match="REPUTATION_POINTS"):
        config.RouterSettings.load()


def test_who_follows_a_channel_twice_has_earned_that_once(bot, fleet):
    for _ in range(2):
        bot.submit({**bot.event(""), "message_type": "follow"})
    bot.submit({**bot.event("", by="bob"), "message_type": "follow"})
    path = f"/router/reputation/{bot.slug}/leaderboard"
    assert [row["current_score"] for row in fleet.request("GET", path, key="admin").json()["leaderboard"]] == [10, 10]


@pytest.mark.parametrize("kinds", [("subscription", "resub"), ("resub", "subscription"), ("follow", "follow")])
@pytest.mark.parametrize("is_one_batch", [True, False])
def test_what_is_told_twice_is_paid_once(bot, fleet, kinds, is_one_batch):
    """Twitch may tell of one renewal as a subscription and as a resub, in either order."""
    change = {"config": {"points": {"subscription": 20, "resub": 20, "follow": 20}}}
    assert fleet.request("PUT", f"/router/communities/{bot.slug}/modules/router", change).status == 200
    events = [{**bot.event("", by=by), "message_type": kind} for by in ("pip", "pop") for kind in kinds]
    for batch in [events] if is_one_batch else [[each] for each in events]:
        assert fleet.request("POST", "/router/events/batch", batch).status == 200

    path = f"/router/reputation/{bot.slug}/leaderboard"
    assert [row["current_score"] for row in fleet.request("GET", path, key="admin").json()["leaderboard"]] == [20, 20]


def test_who_does_not_want_to_be_known_is_in_no_ranking(points):
    assert points.points_for({"cheer": 1}, "cheer", "twitch", {"bits": 9, "is_anonymous": True}).score == 0
    assert points.points_for({"subgift": 60}, "subgift", "twitch", {"is_anonymous": True}).score == 0
    assert points.points_for({"subgift": 60}, "subgift", "twitch", {"is_anonymous": False}).score == 60
