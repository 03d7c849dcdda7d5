"""What becomes of a reply when Discord does not just take it."""

from __future__ import annotations

from datetime import UTC, datetime

from waddlebot.collecting.streams import StreamNews, Streams
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually


def state_of(server, *, is_final=("sent", "dropped", "unknown")):
    eventually(lambda: server.replies and server.replies[0]["state"] in is_final, within_s=25)
    return server.replies[0]["state"]


def test_an_answer_that_was_lost_makes_no_second_reply(server):
    server.discord.fail_next("lost", on="/messages")
    server.say("!help")

    assert state_of(server) == "sent"
    assert len(server.texts) == 1


def test_a_dropped_connection_loses_no_reply(server):
    server.discord.fail_next("drop", on="/messages")
    server.say("!help")

    assert state_of(server) == "sent"
    assert len(server.texts) == 1


def test_a_server_error_is_tried_again(server):
    server.discord.fail_next(503, on="/messages")
    server.say("!help")

    assert state_of(server) == "sent"
    assert len(server.texts) == 1


def test_discords_own_limit_is_waited_for(server):
    server.discord.fail_next(429, on="/messages", Retry_After="0.3")
    server.say("!help")

    assert state_of(server) == "sent"
    assert len(server.texts) == 1


def test_a_limit_without_via_is_the_proxys_and_holds_for_everything(server):
    server.discord.fail_next(429, on="/messages", Retry_After="1", Via="")
    server.say("!help")

    assert state_of(server) == "sent"
    assert len(server.texts) == 1


def test_where_the_bot_may_not_write_the_reply_is_dropped_in_words(server):
    server.channel.writable = False
    server.say("!help")

    assert state_of(server) == "dropped"
    assert "give its role the permission" in server.replies[0]["detail"]


def test_where_the_channel_is_gone_the_reply_is_dropped_in_words(server):
    server.say("hello", user="700")
    eventually(lambda: server.points_of("700"))
    del server.discord.world.channels[server.channel.id]
    server.discord.dispatch(
        server.guild.id, "MESSAGE_CREATE", server.discord.message(server.channel, "!help", user="700")
    )

    assert state_of(server) == "dropped"
    assert "that channel is gone" in server.replies[0]["detail"]


def test_a_long_reply_comes_in_parts_that_discord_takes(server, stub):
    stub.behaviour = lambda call: reply_to(call, chat("\n".join(f"line {n} of a long answer" for n in range(150))))
    server.say("!stub")

    assert state_of(server) == "sent"
    said = "\n".join(server.texts)
    assert len(server.texts) == 2
    assert all(f"line {n} of" in said for n in range(150))


def test_a_reply_to_what_happened_in_a_whole_server_goes_where_discord_greets(server, stub):
    server.guild.system_channel_id = server.channel.id
    server.discord.announce(server.guild)
    seen = "SELECT 1 FROM discord_guilds WHERE guild_id = %s AND system_channel_id = %s"
    eventually(lambda: server.fetch(seen, server.guild.id, server.channel.id))
    stub.register(server.fleet, {"command": "welcome", "trigger_type": "event", "event_types": ["member_join"]})
    stub.behaviour = lambda call: reply_to(call, chat(f"Welcome, {call['user']['name']}!"))
    server.discord.join(server.guild, "701", name="Zoe")

    eventually(lambda: server.texts)
    assert server.texts == ["Welcome, zoe!"]
    assert server.heard[0].channel_id == server.channel.id


def live_notice(server, entity_id: str, **stream: object) -> str:
    """Have a server's channel told of a stream in its community. Returns the stream's channel."""
    server.say("hi")
    eventually(lambda: server.fetch("SELECT 1 FROM entities WHERE entity_id = %s", entity_id))
    streamer = f"twitch::9{server.guild.id}"
    server.fetch(
        "INSERT INTO entities (entity_id, platform, channel_id, community_id)"
        " SELECT %s, 'twitch', %s, community_id FROM entities WHERE entity_id = %s RETURNING 1 AS one",
        streamer,
        f"9{server.guild.id}",
        entity_id,
    )
    place = f"/router/communities/discord-{server.guild.id}/live-notices"
    assert server.fleet.request("POST", place, {"entity_id": entity_id}).status == 200
    told = {"title": "Endgames *with* Bob", "game": "Chess", "url": "https://www.twitch.tv/pip", "name": "Pip"}
    began = {"is_live": True, "started_at": datetime.now(UTC).isoformat(), "picture": "https://pics.example/pip.jpg"}
    Streams(server.fleet.database).note([StreamNews(streamer, **{**began, **told, **stream})])
    return streamer


def end(server, streamer: str) -> None:
    Streams(server.fleet.database).note([StreamNews(streamer, is_live=False)])
    passed = "UPDATE streams SET updated_at = now() - interval '2 minutes' WHERE entity_id = %s RETURNING 1 AS one"
    server.fetch(passed, streamer)


def test_a_live_notice_has_a_card_and_becomes_what_tells_of_the_end(server):
    entity_id = f"discord:{server.guild.id}:{server.channel.id}"
    streamer = live_notice(server, entity_id)
    eventually(lambda: state_of(server) == "sent")
    (told,) = server.heard
    assert told.content == "Pip is live: Endgames \\*with\\* Bob (Chess) <https://www.twitch.tv/pip>"
    (card,) = told.embeds
    assert (card["title"], card["description"], card["url"]) == (
        "Endgames \\*with\\* Bob",
        "Chess",
        "https://www.twitch.tv/pip",
    )
    assert card["image"]["url"].startswith("https://pics.example/pip.jpg?at=")

    end(server, streamer)

    now = eventually(
        lambda: next((each for each in server.discord.rest.messages.values() if " is off again" in each.content), None)
    )
    assert (now.message_id, "image" in now.embeds[0]) == (told.message_id, False)
    eventually(lambda: [(row["state"], row["detail"]) for row in server.replies][-1:] == [("sent", told.message_id)])
    assert len(server.heard) == 1


def test_an_end_is_said_anew_where_the_beginning_was_deleted(server):
    streamer = live_notice(server, f"discord:{server.guild.id}:{server.channel.id}", picture="no address")
    eventually(lambda: state_of(server) == "sent")
    assert "image" not in server.heard[0].embeds[0]
    server.discord.rest.deleted.append(server.heard[0].message_id)

    end(server, streamer)

    eventually(lambda: len(server.texts) == 2)
    assert " is off again" in server.texts[1]
