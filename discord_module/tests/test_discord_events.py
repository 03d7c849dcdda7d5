"""What people do on Discord besides talking: heard, told to the fleet, and paid as the specification says."""

from __future__ import annotations

import pytest
from waddlebot.testing.plugin import eventually


def eventually_paid(check):
    eventually(check, within_s=30)


def told(server, message_type, count=1):
    """Wait until so many events of a type are with the router, and return them."""
    eventually(lambda: [row["state"] for row in server.rows_of(message_type)].count("forwarded") >= count, within_s=30)
    return server.rows_of(message_type)


def test_a_reaction_earns_once_however_often_it_is_given(server):
    message_id = server.say("look", user="610")
    for _ in range(2):
        server.discord.react(server.channel, message_id, user="611")
    server.discord.react(server.channel, message_id, user="611", emoji="🎉")

    told(server, "reaction", 2)
    eventually_paid(lambda: server.points_of("611") == 2 * 2)


def test_who_joins_earns_and_who_leaves_is_told(server):
    server.discord.join(server.guild, "612", name="Nia")
    told(server, "member_join")
    server.discord.leave(server.guild, "612")

    told(server, "member_leave")
    eventually_paid(lambda: server.points_of("612") == 10)


def test_a_kick_is_told_of_who_was_kicked(server):
    server.discord.join(server.guild, "613")
    server.discord.kick(server.guild, "613", by=server.guild.owner_id, reason="spam")

    row = told(server, "kick")[0]
    assert row["user_id"] == "613"
    assert row["event_data"]["details"] == {"by": server.guild.owner_id, "reason": "spam"}


def test_a_ban_costs_who_was_banned(server):
    server.say("hello", user="614")
    server.discord.ban(server.guild, "614", by=server.guild.owner_id)

    told(server, "ban")
    eventually_paid(lambda: server.points_of("614") == 5 - 10)


def test_a_timeout_is_told_once_however_often_the_member_changes(server):
    server.discord.time_out(server.guild, "615", for_s=600)
    server.discord.update_member(server.guild, "615")
    server.discord.join(server.guild, "616")

    told(server, "member_join")
    assert len([row for row in server.rows_of("timeout") if row["state"] != "ignored"]) == 1


def test_a_boost_earns_by_the_message_that_discord_says_of_it(server):
    server.guild.system_channel_id = server.channel.id
    server.discord.set_available(server.guild, True)
    server.discord.boost(server.guild, "617")

    told(server, "boost")
    eventually_paid(lambda: server.points_of("617") == 100)


def test_a_boost_that_discord_says_nothing_of_earns_too(server):
    server.discord.boost(server.guild, "618", with_message=False)
    server.discord.update_member(server.guild, "618")

    told(server, "boost")
    eventually_paid(lambda: server.points_of("618") == 100)


@pytest.mark.parametrize("what", ["join", "voice", "react"])
def test_bots_earn_nothing(server, what):
    lounge = server.discord.add_voice_channel(server.guild)
    message_id = server.say("look", user="619")
    server.discord.person(server.guild, "620", bot=True)
    if what == "join":
        server.discord.join(server.guild, "620", bot=True)
    elif what == "voice":
        server.discord.voice(server.guild, "620", lounge, bot=True)
    else:
        server.discord.react(server.channel, message_id, user="620")
    server.discord.join(server.guild, "621")

    told(server, "member_join")
    assert [row for row in server.rows if row["user_id"] == "620"] == []


def test_who_joins_voice_earns_and_each_minute_there_does(server, service):
    lounge = server.discord.add_voice_channel(server.guild)
    server.discord.voice(server.guild, "622", lounge)
    told(server, "voice_join")
    stay(server, "622", minutes=3)

    told(server, "voice_time", 3)
    eventually_paid(lambda: server.points_of("622") == 8 + 3)


def test_moving_or_muting_in_voice_is_not_joining(server):
    lounge, den = (server.discord.add_voice_channel(server.guild, name) for name in ("Lounge", "Den"))
    server.discord.voice(server.guild, "623", lounge)
    told(server, "voice_join")
    server.discord.voice(server.guild, "623", den)
    server.discord.voice(server.guild, "623", den)
    server.discord.voice(server.guild, "623", None)

    told(server, "voice_leave")
    assert len(server.rows_of("voice_join")) == 1


def test_minutes_that_passed_unseen_until_the_leaving_count(server):
    lounge = server.discord.add_voice_channel(server.guild)
    server.discord.voice(server.guild, "624", lounge)
    told(server, "voice_join")
    server.fetch("UPDATE discord_voice_sessions SET joined_at = now() - interval '130 s' WHERE user_id = '624'")
    server.discord.voice(server.guild, "624", None)

    told(server, "voice_leave")
    eventually_paid(lambda: server.points_of("624") == 8 + 2)


def test_a_minute_that_was_told_and_not_yet_ticked_off_is_not_paid_twice(server):
    lounge = server.discord.add_voice_channel(server.guild)
    server.discord.voice(server.guild, "625", lounge)
    told(server, "voice_join")
    stay(server, "625", minutes=1)
    told(server, "voice_time", 1)
    # As after a crash between the two.
    server.fetch("UPDATE discord_voice_sessions SET minutes = -1 WHERE user_id = '625'")

    eventually(lambda: server.fetch("SELECT 1 FROM discord_voice_sessions WHERE user_id = '625' AND minutes = 1"))
    eventually_paid(lambda: server.points_of("625") == 8 + 1)
    assert len(server.rows_of("voice_time")) == 1


def test_who_is_in_voice_when_the_server_comes_back_goes_on_earning(server):
    lounge = server.discord.add_voice_channel(server.guild)
    server.discord.voice(server.guild, "626", lounge)
    server.discord.voice(server.guild, "627", lounge)
    told(server, "voice_join", 2)
    server.discord.set_available(server.guild, False)
    del server.guild.voice["627"]
    server.discord.set_available(server.guild, True)

    assert told(server, "voice_leave")[0]["user_id"] == "627"
    stay(server, "626", minutes=1)
    eventually_paid(lambda: server.points_of("626") == 8 + 1)


def test_characters_that_no_database_holds_keep_nobody_waiting(server):
    server.say("a\x00b\ud800c", user="628")
    server.say("hello", user="628")

    texts = [row["event_data"]["text"] for row in told(server, "chatMessage", 2)]
    assert texts == ["a\ufffdb\ufffdc", "hello"]


def stay(server, user, *, minutes):
    """Let somebody have been in voice for so long."""
    server.fetch(
        "UPDATE discord_voice_sessions SET joined_at = now() - %s * interval '1 minute' - interval '1 s'"
        " WHERE user_id = %s AND guild_id = %s",
        minutes,
        user,
        server.guild.id,
    )


LOGINS = [
    "!community portal login add {}",
    "!community portal login ad {}",
    "!comunity portal login add {}",
    "community portal login add {}",
    "!community portal {}",
]


def test_an_address_that_a_command_takes_is_on_no_record_here_or_there(server):
    address = f"pip&bob-{server.guild.id.lower()}@example.org"
    for each in LOGINS:
        server.say(each.format(address))
    eventually(lambda: [row["state"] for row in server.rows_of("chatMessage")] == ["forwarded"] * len(LOGINS))
    assert server.fleet.tables_with(address) == []
    assert server.fleet.tables_with(address.replace("&", "&amp;")) == []


def test_an_address_in_a_slash_command_is_on_no_record_either(server):
    address = f"pip-{server.guild.id}@example.org"
    for text in (f"login add {address}", f"login ad {address}"):
        server.slash("community", {"args": text}, path=["portal"])
    eventually(lambda: [row["state"] for row in server.rows_of("chatMessage")] == ["forwarded"] * 2)
    texts = [row["event_data"]["text"] for row in server.rows_of("chatMessage")]
    assert sorted(texts) == ["!community portal login add •", "!community portal login • •"]
    assert server.fleet.tables_with(address) == []
