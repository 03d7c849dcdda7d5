from __future__ import annotations

import calendar
from datetime import UTC, datetime

import pytest
from waddlebot_sdk.testing import ask


@pytest.mark.parametrize("words", ["Cape Town july", "cape town JUL", "CAPE TOWN July"])
def test_a_city_and_a_month_are_answered(handler, words):
    assert ask(handler, words) == "Cape Town in July: usually 8 to 18 °C, with rain or snow on 10 days."


def test_without_a_month_it_is_this_one(handler):
    assert calendar.month_name[datetime.now(UTC).month] in ask(handler, "Berlin")


@pytest.mark.parametrize("words", ["", "Atlantis", "may", "Berlin Atlantis"])
def test_what_is_not_known_is_said_with_what_is(handler, words):
    assert ask(handler, words).startswith("I know the weather of Berlin, Cape Town")
