"""!label in chat."""

from __future__ import annotations

import pytest
from waddlebot.base.ids import new_id


@pytest.fixture
def bob(bot) -> str:
    """Somebody who has been heard here and nowhere else."""
    name = "bob" + new_id()[-12:]
    bot.say("hello", by=name)
    return name


def test_a_label_is_given_listed_found_and_taken(bot, bob):
    assert bot.say(f"!label add @{bob} VIP-Guest", level="moderator").chat == f"{bob} has “vip-guest”."
    assert bot.say(f"!label add {bob} vip-guest", level="moderator").chat == f"{bob} already has “vip-guest”."
    assert bot.say("!label list", by=bob).chat == f"{bob.title()} has vip-guest."
    assert bot.say(f"!label list @{bob}").chat == f"{bob} has vip-guest."
    assert bot.say("!label who VIP-GUEST").chat == f"vip-guest: {bob.title()}"
    assert bot.say("!label find vip-guest other", level="moderator").chat == "Nobody has all of vip-guest, other."
    assert bot.say(f"!label remove {bob} vip-guest", level="moderator").chat == f"{bob} no longer has “vip-guest”."
    assert bot.say(f"!label remove {bob} vip-guest", level="moderator").statuses == ["failed"]
    assert bot.say("!label who vip-guest").chat == "Nobody has vip-guest."


def test_what_nobody_sees_in_a_labels_name_does_not_count_in_chat(bot, bob):
    assert bot.say(f"!label add @{bob} vip\u200b-gu\u00adest", level="moderator").chat == f"{bob} has “vip-guest”."
    assert bot.say("!label who \u2060vip-guest").chat == f"vip-guest: {bob.title()}"
    assert bot.say("!label find “vip-\u200bguest”", level="moderator").chat == f"vip-guest: {bob.title()}"
    said = bot.say(f"!label remove @{bob} vip-guest\ufeff", level="moderator").chat
    assert said == f"{bob} no longer has “vip-guest”."


@pytest.mark.parametrize("line", ["add @{} o’neil", "who o'neil", "find o’neil", "remove @{} a/b", "add @{} “x\u0430”"])
def test_a_name_that_no_label_can_have_is_refused_with_why(bot, bob, line):
    heard = bot.say(f"!label {line.format(bob)}", level="moderator")
    assert heard.statuses == ["failed"]
    assert heard.chat.startswith("A label "), heard.chat
