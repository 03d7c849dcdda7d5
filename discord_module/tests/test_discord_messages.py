"""A message on Discord is heard, counted and answered, once."""

from __future__ import annotations

import pytest
from waddlebot.community.directory import add_server
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually

from simulators.discord import ADMINISTRATOR, MANAGE_MESSAGES


def level_seen(stub, server, **options):
    """At which level somebody's !stub reaches the module."""
    before = len(stub.calls)
    server.say("!stub", **options)
    eventually(lambda: len(stub.calls) > before)
    return stub.calls[-1]["user"]["level"]


def test_a_command_is_answered_in_its_channel(server):
    server.say("!help")

    eventually(lambda: server.texts)
    assert "!help" in server.texts[0]
    assert server.heard[0].channel_id == server.channel.id


def test_what_somebody_says_earns_the_specifications_points(server):
    server.say("hello", user="601")

    eventually(lambda: server.points_of("601") == 5)


def test_a_reply_is_threaded_to_what_asked_for_it(server, stub):
    stub.behaviour = lambda call: reply_to(
        call, {"response_action": "chat", "response_data": {"message": "here", "reply": True}}
    )
    message_id = server.say("!stub")

    eventually(lambda: server.heard)
    assert server.heard[0].reply_to == message_id


def test_no_reply_ever_mentions_anybody(server, stub):
    stub.behaviour = lambda call: reply_to(call, chat("@everyone <@&1> <@42> hello"))
    server.say("!stub")

    eventually(lambda: server.heard)
    assert server.heard[0].allowed_mentions == {"parse": []}


def test_rights_on_discord_are_levels_here(server, stub):
    moderators = server.guild.add_role("Moderators", MANAGE_MESSAGES)
    admins = server.guild.add_role("Admins", ADMINISTRATOR)
    server.discord.announce(server.guild)

    assert level_seen(stub, server) == "member"
    assert level_seen(stub, server, roles=[moderators]) == "moderator"
    assert level_seen(stub, server, roles=[admins]) == "admin"
    assert level_seen(stub, server, user=server.guild.owner_id) == "owner"


def test_who_boosts_is_a_subscriber(server, stub):
    server.discord.person(server.guild, "777")
    server.guild.members["777"].premium_since = "2026-01-01T00:00:00+00:00"

    assert level_seen(stub, server, user="777") == "subscriber"


def test_a_mention_reads_as_the_persons_name(server, stub):
    alice = server.discord.person(server.guild, "8001", name="Alice")
    server.say("!stub <@8001> hello", mentions=[alice])

    eventually(lambda: stub.calls)
    assert stub.calls[0]["trigger"]["args"] == ["@alice", "hello"]


@pytest.mark.parametrize("who", [{"bot": True}, {"webhook_id": "5"}])
def test_bots_and_webhooks_are_not_heard(server, who):
    server.say("!help", **who)
    server.say("plain", user="602")

    eventually(lambda: server.points_of("602"))
    assert len(server.rows) == 1


def test_a_servers_own_emoji_are_emotes(server, fleet):
    rule = {"match_type": "emotes", "number": 2, "action": "warn", "warning_message": "Fewer emotes."}
    place = {"community_id": f"discord-{server.guild.id}"}
    assert fleet.request("POST", "/router/string-rules", {**rule, **place}).status == 200
    server.say("<:one:1> and :two:", user="605")
    server.say("<:one:1><a:two:22>", user="606")
    eventually(lambda: server.texts)
    eventually(lambda: server.points_of("605"))
    assert ["Fewer emotes." in each for each in server.texts] == [True]


def test_an_edit_is_judged_and_is_no_command_and_no_points(server, fleet):
    rule = {"string": "spam", "match_type": "contains", "action": "warn", "warning_message": "No spam here."}
    assert (
        fleet.request("POST", "/router/string-rules", {**rule, "community_id": f"discord-{server.guild.id}"}).status
        == 200
    )
    message_id = server.say("hello", user="603")
    eventually(lambda: server.points_of("603") == 5)
    server.discord.edit(server.channel, message_id, "!help", user="603")
    server.discord.edit(server.channel, message_id, "buy spam", user="603")
    server.say("after", user="603")

    eventually(lambda: server.points_of("603") == 10)
    eventually(lambda: [each for each in server.texts if "No spam here." in each])
    assert len(server.texts) == 1


def test_its_own_messages_are_not_answered(server, stub):
    stub.behaviour = lambda call: reply_to(call, chat("!stub"))
    server.say("!stub")

    eventually(lambda: server.heard)
    server.say("after", user="604")
    eventually(lambda: server.points_of("604"))
    assert len(server.heard) == 1


def test_nothing_is_written_down_of_a_server_that_is_not_served(server, elsewhere):
    elsewhere.say("!help")
    server.say("!help")

    eventually(lambda: server.texts)
    assert elsewhere.rows == []
    assert elsewhere.texts == []


def test_one_channel_of_a_server_may_be_served_alone(unserved):
    other = unserved.discord.add_channel(unserved.guild, "elsewhere")
    with unserved.fleet.database.transaction() as db:
        add_server(db, "discord", unserved.channel.id, server_id=unserved.guild.id, community="one-channel")
    unserved.discord.say(other, "!help", user="605")
    unserved.say("!help")

    eventually(lambda: unserved.texts)
    assert {said.channel_id for said in unserved.heard} == {unserved.channel.id}


def test_the_same_message_twice_is_one(server):
    message_id = server.say("!help", user="606")
    server.say("!help", user="606", message_id=message_id)
    server.say("after", user="606")

    eventually(lambda: [row["state"] for row in server.rows] == ["forwarded", "ignored", "forwarded"])
    eventually(lambda: [reply["state"] for reply in server.replies] == ["sent"])
    assert len(server.texts) == 1
    eventually(lambda: server.points_of("606") == 10)


def test_a_broken_rule_has_the_message_deleted(server):
    slug = f"discord-{server.guild.id}"
    rule = {"community_id": slug, "string": "badword", "match_type": "contains", "action": "block"}
    made = server.fleet.request("POST", "/router/string-rules", rule)
    assert made.status in (200, 201), made.body
    message_id = server.say("such a badword")

    eventually(lambda: message_id in server.discord.rest.deleted)


def test_a_warning_reaches_the_person_alone(server):
    slug = f"discord-{server.guild.id}"
    rule = {"community_id": slug, "string": "shout", "match_type": "word", "action": "warn"}
    rule["warning_message"] = "Calm down."
    made = server.fleet.request("POST", "/router/string-rules", rule)
    assert made.status in (200, 201), made.body
    server.say("shout", user="607")

    def warned():
        return [said for said in list(server.discord.messages) if "Calm down." in said.content and not said.guild_id]

    eventually(warned)
    assert server.discord.rest.dm_channels[warned()[0].channel_id].name == "607"


def test_a_second_warning_of_the_same_person_is_seen_too(server, fleet):
    rule = {"string": "shout", "match_type": "word", "action": "warn", "warning_message": "Hold still."}
    rule["community_id"] = f"discord-{server.guild.id}"
    assert fleet.request("POST", "/router/string-rules", rule).status == 200
    body = {"guild_id": server.guild.id, "action": "warn", "user_id": "608", "reason": "Hold still."}
    server.discord.person(server.guild, "608")
    for _ in range(2):
        assert fleet.request("POST", "/discord/api/moderation", body, key="admin").status == 200
    server.say("shout", user="608")

    def warned() -> list[str]:
        return [said.content for said in list(server.discord.messages) if not said.guild_id]

    eventually(lambda: len(warned()) == 3)
    assert set(warned()) == {"A warning: Hold still."}


def test_the_bots_name_in_a_message_calls_who_listens_for_it(server, stub):
    stub.register(server.fleet, {"command": "ask", "listen": [{"match": "mention"}]})
    bot = server.discord.world.bot

    server.say("hello there")
    server.say(f"hello <@{bot.id}>", mentions=[bot])

    eventually(lambda: stub.calls)
    eventually(lambda: [row["state"] for row in server.rows_of("chatMessage")] == ["forwarded"] * 2)
    assert [call["trigger"]["data"]["mentions_bot"] for call in stub.calls] == [True]
