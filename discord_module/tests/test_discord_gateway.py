"""The connection to Discord: it is lost, silent, moved and refused in every way, and comes back by itself."""

from __future__ import annotations

import pytest
from waddlebot.testing.plugin import eventually

MESSAGE_CONTENT = 1 << 15


def answers(server, text="!help"):
    """Whether the bot answers, once it is connected."""
    before = len(server.texts)
    gateway = server.discord.gateway  # Its table of sessions is another one after they were invalidated.
    eventually(lambda: any(each.connection for each in list(gateway.sessions.values())), within_s=60)
    server.say(text)
    eventually(lambda: len(server.texts) > before, within_s=30)
    return True


def shard(server):
    return server.fetch("SELECT * FROM discord_shards WHERE shard_id = 0")[0]


def gateway_check(server):
    return server.fleet.request("GET", "/discord/health", key=None).json()["checks"]["gateway"]


@pytest.fixture
def settled(server):
    """A server whose shard is connected and says so."""
    eventually(lambda: gateway_check(server)["ok"], within_s=30)
    yield server
    server.discord.gateway.reset()
    eventually(lambda: gateway_check(server)["ok"], within_s=60)


def test_health_says_that_it_is_connected(settled):
    assert "1 shards connected" in gateway_check(settled)["detail"]
    assert answers(settled)


def test_a_move_to_another_gateway_loses_and_doubles_nothing(settled):
    settled.discord.reconnect()
    # Said while nobody listens: it is replayed.
    settled.say("hello", user="900")
    eventually(lambda: settled.points_of("900") == 5, within_s=30)

    assert settled.discord.gateway.resumes[-1] is True
    assert settled.discord.gateway.resumed_elsewhere == 0
    assert answers(settled)
    assert len(settled.rows_of("chatMessage")) == 2


@pytest.mark.parametrize("code", [4000, 4009])
def test_a_socket_that_closes_is_resumed(settled, code):
    settled.discord.drop(code)
    settled.say("hello", user="901")

    eventually(lambda: settled.points_of("901") == 5, within_s=30)


def test_a_resume_that_is_refused_begins_anew_and_notes_the_gap(settled):
    settled.discord.gateway.refuses_resumes = True
    identified = len(settled.discord.gateway.identifies)
    settled.discord.reconnect()

    eventually(lambda: len(settled.discord.gateway.identifies) > identified, within_s=30)
    assert answers(settled)
    gaps = settled.fleet.request("GET", "/discord/channels", key="discord").json()["gaps"]
    assert any("could not be resumed" in gap["why"] for gap in gaps)


def test_a_session_that_is_invalidated_begins_anew(settled):
    settled.discord.invalidate()

    assert answers(settled)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("MESSAGE_CREATE", {"id": "not a number"}),
        ("MESSAGE_CREATE", []),
        ("MESSAGE_CREATE", "text"),
        ("MESSAGE_REACTION_ADD", {}),
        ("GUILD_MEMBER_ADD", {"guild_id": None}),
        ("GUILD_CREATE", {"id": "x"}),
        ("VOICE_STATE_UPDATE", {"guild_id": "1"}),
        ("INTERACTION_CREATE", {"type": 2}),
        ("NOT_AN_EVENT", {"anything": True}),
    ],
)
def test_a_dispatch_that_cannot_be_read_does_not_end_the_connection(settled, event, data):
    identified, resumed = len(settled.discord.gateway.identifies), len(settled.discord.gateway.resumes)
    settled.discord.malformed(event, data)

    assert answers(settled)
    assert len(settled.discord.gateway.identifies) == identified
    assert len(settled.discord.gateway.resumes) == resumed


def test_heartbeats_that_are_not_answered_end_a_connection_that_looks_well(settled):
    settled.discord.gateway.acks = False
    eventually(lambda: settled.discord.gateway.resumes, within_s=30)
    settled.discord.gateway.acks = True

    assert answers(settled)


def test_a_connection_through_which_nothing_passes_is_noticed(settled):
    settled.discord.go_deaf()
    settled.say("hello", user="902")

    # What was said meanwhile is replayed.
    eventually(lambda: settled.points_of("902") == 5, within_s=30)
    assert answers(settled)


def test_an_outage_of_a_server_is_not_its_end(settled):
    settled.discord.set_available(settled.guild, False)
    known = "SELECT is_available, left_at FROM discord_guilds WHERE guild_id = %s"
    eventually(lambda: not settled.fetch(known, settled.guild.id)[0]["is_available"])
    assert settled.fetch(known, settled.guild.id)[0]["left_at"] is None
    settled.discord.set_available(settled.guild, True)

    eventually(lambda: settled.fetch(known, settled.guild.id)[0]["is_available"])
    assert answers(settled)


def test_a_server_that_the_bot_was_taken_out_of_is_known_to_be_left(settled):
    settled.discord.remove_bot(settled.guild)

    known = "SELECT left_at FROM discord_guilds WHERE guild_id = %s"
    eventually(lambda: settled.fetch(known, settled.guild.id)[0]["left_at"] is not None)


def test_missing_intents_are_said_in_words_and_slash_commands_still_work(settled):
    settled.discord.forbid_intents(MESSAGE_CONTENT)
    settled.discord.invalidate()
    eventually(lambda: not gateway_check(settled)["ok"] and shard(settled)["state"] == "limited", within_s=30)
    used = settled.slash("help")

    eventually(lambda: "Message Content Intent" in gateway_check(settled)["detail"])
    eventually(lambda: settled.answers_to(used), within_s=30)
    # Begin anew, as it would within a minute.
    settled.discord.gateway.allowed_intents = -1
    eventually(lambda: gateway_check(settled)["ok"], within_s=90)
    assert answers(settled)


def test_soundboards_and_other_things_that_are_not_there_do_no_harm(settled):
    settled.discord.rest.has_soundboard = False
    settled.discord.invalidate()

    assert answers(settled)


def test_discord_is_asked_to_begin_a_session_no_more_often_than_it_allows(settled):
    for _ in range(3):
        before = len(settled.discord.gateway.identifies)
        settled.discord.invalidate()
        eventually(lambda before=before: len(settled.discord.gateway.identifies) > before, within_s=30)

    assert answers(settled)
    assert settled.discord.gateway.identified_too_soon == []


def test_what_comes_through_a_connection_that_was_taken_over_does_not_count(settled):
    epoch = settled.fetch("SELECT epoch FROM coordination WHERE entity_id = 'discord:shard:0'")[0]["epoch"]
    resumed = len(settled.discord.gateway.resumes)
    settled.fetch("UPDATE coordination SET epoch = epoch + 1 WHERE entity_id = 'discord:shard:0'")
    settled.say("hello", user="903")
    eventually(lambda: settled.rows, within_s=30)

    assert settled.rows[0]["detail"] in ("no longer held here", "")
    # The container notices, holds it under the new epoch, and goes on with the session: what did not count comes again.
    eventually(lambda: len(settled.discord.gateway.resumes) > resumed, within_s=60)
    assert settled.discord.gateway.resumes[-1] is True
    eventually(lambda: settled.points_of("903") == 5, within_s=30)
    assert [row["state"] for row in settled.rows].count("forwarded") == 1
    assert answers(settled)
    assert settled.fetch("SELECT epoch FROM coordination WHERE entity_id = 'discord:shard:0'")[0]["epoch"] > epoch


def test_commands_are_never_registered_by_the_connection_itself(settled):
    settled.discord.rest.requests.clear()
    settled.discord.invalidate()
    assert answers(settled)

    puts = [each.path for each in settled.discord.rest.requests if each.method == "PUT" and "/commands" in each.path]
    assert all("/guilds/" in path for path in puts)
