"""Socket mode: a socket while a workspace is held, acknowledged once stored, and taken up again when it breaks."""

from __future__ import annotations

import importlib
import json
import logging

import pytest
from pydantic import SecretStr
from waddlebot.base.contracts import ClaimedEntity
from waddlebot.base.errors import UpstreamError
from waddlebot.testing.plugin import eventually


def claim(entity_id, epoch=1):
    _, server_id, channel_id = entity_id.split(":")
    return ClaimedEntity(
        entity_id=entity_id,
        platform="slack",
        server_id=server_id,
        channel_id=channel_id,
        epoch=epoch,
        status="claimed",
        is_live=False,
        viewer_count=0,
        priority=100,
        last_activity=None,
        claim_expires=None,
        metadata={},
        config={},
    )


@pytest.fixture
def container(channel):
    """Makes containers of the collector in socket mode, which hold nothing yet."""
    app = importlib.import_module("apps.slack_module.app")
    service = importlib.import_module("apps.slack_module.services.socket_service")
    logging.getLogger("slack_sdk").setLevel(logging.CRITICAL)
    made = []

    def make(token=channel.slack.app_token):
        sockets = service.SocketService(
            app.intake,
            app.commands,
            app.calls,
            app.bridge,
            app.collector.liveness,
            app_token=SecretStr(token),
            log=app.log,
        )
        made.append(sockets)
        return sockets

    channel.slack.transport = "socket"
    channel.slack.sockets.ack_within_s = 1.0
    yield make
    channel.slack.transport = "http"
    for each in made:
        each.close()
    eventually(lambda: channel.slack.sockets.connections == [])
    app.collector.liveness.save()
    app.collector.liveness.forget([f"slack:{team}:" for team in (channel.team, "T1", "T2", "TOTHER")])


@pytest.fixture
def held(container, channel):
    """A container that holds the workspace."""
    sockets = container()
    sockets.gain(claim(f"slack:{channel.team}:"))
    sockets.step()
    return sockets


def connections(channel):
    return len(channel.slack.sockets.connections)


def test_a_command_down_a_socket_is_answered_and_acknowledged(held, channel):
    assert channel.say("!inventory list") == [200]
    eventually(lambda: channel.texts == ["The inventory is empty."])
    assert channel.slack.acks[0].tries == 1


def test_a_slash_command_down_a_socket_is_answered(held, channel):
    answer = channel.slash("status")
    assert "I am here" in json.loads(answer.body)["text"]
    assert channel.slash("inventory list").status == 200
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_there_is_a_socket_only_while_a_workspace_is_held(container, channel):
    sockets = container()
    sockets.step()
    assert connections(channel) == 0
    sockets.gain(claim("slack:T1:"))
    sockets.gain(claim("slack:T2:"))
    sockets.step()
    eventually(lambda: connections(channel) == 1)
    sockets.lose(claim("slack:T1:"))
    sockets.step()
    assert connections(channel) == 1
    sockets.lose(claim("slack:T2:"))
    sockets.step()
    eventually(lambda: connections(channel) == 0)


def test_two_containers_share_the_events_and_each_is_answered_once(held, container, channel):
    other = container()
    other.gain(claim("slack:TOTHER:"))
    other.step()
    for n in range(6):
        channel.say("!inventory list", user=f"U{channel.id}{n}")
    eventually(lambda: len(channel.texts) == 6, within_s=20)
    assert len(channel.replies) == 6
    assert all(connection.envelopes for connection in channel.slack.sockets.connections)


def test_what_comes_to_a_container_that_holds_nothing_any_more_goes_to_another(held, container, channel):
    channel.slack.sockets.ack_within_s = 0.3
    former = container()
    former.gain(claim("slack:TOTHER:"))
    former.step()
    former.lose(claim("slack:TOTHER:"))  # And it has not closed its socket yet.
    for n in range(4):
        assert channel.say("hello", user=f"U{channel.id}{n}") == [200]
    assert len(channel.forwarded) == 4


def test_when_slack_asks_for_a_new_socket_nothing_is_lost(held, channel):
    channel.slack.run(channel.slack.sockets.disconnect("refresh_requested"))
    assert channel.say("!inventory list") == [200]
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_a_warning_of_slacks_is_followed_by_a_new_socket(held, channel):
    channel.slack.run(channel.slack.sockets.disconnect("warning"))
    assert channel.say("!inventory list") == [200]
    eventually(lambda: channel.texts == ["The inventory is empty."])


def test_a_deaf_socket_is_replaced(held, channel):
    held.repair(f"slack:{channel.team}:")
    held.step()
    assert channel.say("hello") == [200]


def test_an_app_token_that_slack_refuses_is_told(container):
    sockets = container("xapp-wrong")
    sockets.gain(claim("slack:T1:"))
    with pytest.raises(UpstreamError, match="invalid_auth"):
        sockets.step()


def test_what_is_malformed_is_acknowledged_and_not_sent_again(held, channel):
    assert channel.happen({"type": "message", "text": "no channel"}) == [200]
    assert channel.slack.acks[-1].tries == 1


def test_a_held_workspace_is_alive_as_long_as_slack_answers(held, channel, fleet):
    held.step()
    alive = "SELECT 1 FROM channel_liveness WHERE entity_id = %s AND heard_at > now() - interval '10 seconds'"
    eventually(lambda: fleet.database.statement(alive, (f"slack:{channel.team}:",)))
