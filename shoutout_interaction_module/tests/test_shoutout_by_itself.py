"""Shoutouts that nobody asked for: raids, follows and subscriptions, the lists, and the cooldown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from shoutout_places import configure, rows, shown
from waddlebot.community.people import link, unlink

from simulators.twitch import Account


def so(channel, text, by=None):
    moderator = by or Account("501", "mod", "Mod")
    return channel.submit("chatMessage", moderator, text, level="moderator")


def rest_is_over(bot, minutes=60):
    rows(
        bot,
        "UPDATE shoutout_history SET created_at = created_at - %s * interval '1 minute' WHERE community_id = %s"
        " RETURNING 1",
        minutes,
        bot.community_id,
    )


def number_of(bot, platform, id_):
    found = rows(
        bot, "SELECT user_id FROM platform_identities WHERE platform = %s AND platform_user_id = %s", platform, id_
    )
    return found[0]["user_id"]


def test_a_raid_of_two_is_answered_and_a_raid_of_one_is_not(bot, channel, twitch, streamer):
    twitch.clip(streamer, "A clip")
    assert channel.raid(streamer, viewers=1).chat == ""
    heard = channel.raid(streamer, viewers=2)
    assert heard.chat.startswith(f"Go and follow {streamer.name} at")
    assert shown(bot, heard)["media_type"] == "clip"
    assert rows(bot, "SELECT cause, by_id FROM shoutout_history WHERE community_id = %s", bot.community_id) == [
        {"cause": "raid", "by_id": None}
    ]


@pytest.mark.parametrize(("event", "setting"), [("follow", "auto_follow"), ("subscription", "auto_subscribe")])
def test_follows_and_subscriptions_only_where_that_is_switched_on(bot, channel, twitch, streamer, event, setting):
    assert channel.submit(event, streamer).chat == ""
    configure(bot, **{setting: True})
    assert channel.submit(event, streamer, is_gift=True).chat == ""
    assert channel.submit(event, streamer).chat.startswith(f"Go and follow {streamer.name}")


def test_by_itself_can_be_for_who_has_a_label_only(bot, channel, twitch, streamer):
    configure(bot, labels=["Friend", "regular"])
    assert channel.raid(streamer).chat == ""
    label = {"label": "friend", "subject_type": "user", "subject_id": f"twitch:{streamer.id}"}
    answer = bot.fleet.request("POST", "/labels/apply", {**label, "community_id": bot.slug})
    assert (answer.status, answer.json()["changed"]) == (200, True)
    assert channel.raid(streamer).chat != ""


def test_raids_can_be_switched_off_and_their_size_chosen(bot, channel, twitch, streamer):
    configure(bot, auto_raid=False)
    assert channel.raid(streamer).chat == ""
    configure(bot, raid_viewers=50)
    assert channel.raid(streamer, viewers=49).chat == ""
    assert channel.raid(streamer, viewers=50).chat != ""


@pytest.mark.parametrize("viewers", ["many", None, [], {}, -1, 1.5])
def test_a_raid_of_nonsense_is_none(bot, channel, twitch, streamer, viewers):
    heard = channel.raid(streamer, viewers=viewers)
    assert (heard.statuses, heard.chat) == (["success"], "")


def test_lists_of_always_and_never(bot, channel, twitch, streamer):
    so(channel, f"!so set {streamer.login} always")
    assert channel.submit("follow", streamer).chat.startswith("Go and follow")
    rest_is_over(bot)
    so(channel, f"!so set {streamer.login} never")
    assert channel.raid(streamer, viewers=500).chat == ""
    assert so(channel, f"!so {streamer.login}").chat.startswith("Go and follow"), "whoever asks gets one"
    rest_is_over(bot)
    so(channel, f"!so set {streamer.login} auto default")
    assert channel.submit("follow", streamer).chat == ""
    assert channel.raid(streamer).chat != ""


def test_once_an_hour_for_whatever_reason_and_a_moderator_as_often_as_they_like(bot, channel, twitch, streamer):
    assert channel.raid(streamer).chat != ""
    assert channel.raid(streamer).chat == ""
    assert so(channel, f"!so {streamer.login}").chat != ""
    rest_is_over(bot, 59)
    assert channel.raid(streamer).chat == ""
    rest_is_over(bot, 2)
    assert channel.raid(streamer).chat != ""


def test_of_many_raids_at_once_one_is_answered(bot, channel, twitch, streamer):
    """Each thread is as good as a replica: what they share is the database."""
    with ThreadPoolExecutor(6) as pool:
        heard = list(pool.map(lambda _: channel.raid(streamer), range(6)))
    said = rows(
        bot,
        "SELECT 1 FROM outbox WHERE community_id = %s AND response_action = 'chat' AND module_name = 'shoutout'",
        bot.community_id,
    )
    assert len(said) == 1, [each.chat for each in heard]


def test_who_has_no_channel_at_twitch_is_not_shouted_out_by_itself(bot, twitch):
    configure(bot, auto_follow=True)
    off = bot.fleet.request("PUT", f"/router/communities/{bot.slug}/modules/browser_source_core", {"enabled": False})
    assert off.status == 200
    for event in ("raid", "follow"):
        heard = bot.submit({**bot.event("", by="pip"), "message_type": event, "data": {"viewers": 9}})
        assert (heard.statuses, heard.chat) == (["success"], "")


def test_the_channel_itself_is_never_shouted_out_by_itself(bot, channel, twitch):
    assert channel.raid(twitch.accounts.get(channel.id)).chat == ""


def test_while_twitch_is_away_a_raid_is_answered_with_what_is_known(bot, channel, twitch, streamer):
    twitch.fail_next(500, 10, at="users")
    assert channel.raid(streamer).chat == f"Go and follow {streamer.name} at https://twitch.tv/{streamer.login}"


# One person, several accounts


def test_a_linked_name_of_another_platform_means_the_twitch_account(bot, channel, twitch, streamer):
    bot.say("hi", by=f"elsewhere{streamer.id}")
    so(channel, f"!so set {streamer.login} Look at {{user}}!")
    mine, theirs = number_of(bot, "console", f"elsewhere{streamer.id}"), number_of(bot, "twitch", streamer.id)
    try:
        linked(bot, link, mine, theirs)
        assert bot.say(f"!so elsewhere{streamer.id}", level="moderator").chat == f"Look at {streamer.name}!"
        # What one account had counts for both.
        assert channel.raid(streamer).chat == ""
        assert "shouted out once" in bot.say(f"!so info elsewhere{streamer.id}", level="moderator").chat
    finally:
        linked(bot, unlink, mine)
    assert bot.say(f"!so elsewhere{streamer.id}", level="moderator").chat.startswith("Give it up for Elsewhere")
    assert so(channel, f"!so info {streamer.login}").chat.startswith(f"{streamer.name}: “Look at {{user}}!”")


def linked(bot, change, *numbers):
    with bot.fleet.database.transaction() as db:
        change(db, *numbers)
