from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from waddlebot.base.manifest import CHECKOUT
from waddlebot.data.database import fetch
from waddlebot.testing.module_stub import chat, reply_to
from waddlebot.testing.plugin import eventually


def states(channel):
    return [reply["state"] for reply in channel.replies]


def say(channel, stub, message, *, reply=False, **options):
    answer = {**chat(message), "response_data": {"message": message, "reply": reply}}
    stub.behaviour = lambda call: reply_to(call, answer)
    channel.say("!stub", **options)


def test_a_reply_names_channel_bot_and_the_message_it_answers(channel, stub):
    say(channel, stub, "hello", reply=True, message_id="question")
    eventually(lambda: states(channel) == ["sent"])
    heard = channel.heard[0]
    assert (heard.message, heard.sender_id) == ("hello", channel.twitch.bot_user_id)
    assert heard.reply_parent_message_id == "question"
    assert channel.replies[0]["detail"] == heard.message_id


def test_a_long_reply_is_said_in_parts_split_between_words(channel, stub):
    words = [f"word{n}" for n in range(200)]
    say(channel, stub, " ".join(words), reply=True, message_id="long question")
    eventually(lambda: states(channel) == ["sent"])
    assert all(len(each.message) <= 500 for each in channel.heard)
    assert " ".join(each.message for each in channel.heard).split() == words
    assert [each.reply_parent_message_id for each in channel.heard] == ["long question", "", ""]


def test_lines_become_one_and_no_part_begins_with_a_command(channel, stub):
    say(channel, stub, "one\n\n two  \nthree")
    eventually(lambda: channel.texts == ["one | two | three"])
    say(channel, stub, "x" * 499 + " !ban everybody")
    eventually(lambda: len(channel.heard) == 3)
    assert channel.heard[2].message == "› !ban everybody"


def test_a_word_without_end_is_cut_and_a_flood_is_ended(channel, stub):
    say(channel, stub, "y" * 6000)
    eventually(lambda: states(channel) == ["sent"])
    assert len(channel.heard) == 10
    assert channel.texts[-1].endswith("y…")
    assert all(len(each.message) <= 500 for each in channel.heard)


def test_what_twitch_drops_is_dropped_with_its_reason(channel, stub):
    channel.twitch.fail_next("dropped")
    say(channel, stub, "rude words")
    eventually(lambda: states(channel) == ["dropped"])
    assert (
        channel.replies[0]["detail"] == "msg_rejected: Your message is being checked by mods. (AutoMod holds it back)"
    )


@pytest.mark.parametrize("status", [400, 403, 422])
def test_what_twitch_refuses_is_dropped_with_the_status(channel, stub, status):
    channel.twitch.fail_next(status)
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["dropped"])
    assert channel.replies[0]["detail"] == f"HTTP {status}: simulated"


TAIL = " \U000e0000"


def test_the_same_again_within_30_s_differs_in_what_nobody_sees(channel, stub):
    channel.twitch.drops_repeated = True
    channel.twitch.user(f"strict{channel.id}", id=channel.id, moderators=[channel.twitch.bot_user_id])
    channel.twitch.accounts.get(channel.id).moderators.clear()
    channel.twitch.accounts.get(channel.id).consents.add("channel:bot")
    try:
        for _ in range(3):
            say(channel, stub, "gg")
        eventually(lambda: states(channel) == ["sent"] * 3)
    finally:
        channel.twitch.drops_repeated = False
    assert [each.message for each in channel.heard] == ["gg", "gg" + TAIL, "gg"]


def test_what_another_replica_has_just_said_is_said_a_little_differently(channel, stub):
    twitch = channel.twitch
    twitch.drops_repeated = True
    twitch.user(f"strict{channel.id}", id=channel.id)
    twitch.accounts.get(channel.id).consents.add("channel:bot")
    # As if that replica had said it a moment ago.
    assert not twitch.chat_limits.is_repeated(twitch.bot_user_id, channel.id, "gg")
    try:
        say(channel, stub, "gg")
        eventually(lambda: states(channel) == ["sent"])
    finally:
        twitch.drops_repeated = False
    assert [each.message for each in channel.heard] == ["gg" + TAIL]


@pytest.mark.parametrize(
    "headers", [{"Ratelimit_Reset": "", "Ratelimit_Remaining": ""}, {"Ratelimit_Reset": "", "Retry_After": "1"}]
)
def test_a_429_that_says_nothing_of_a_reset_is_tried_again_soon(channel, stub, headers):
    channel.twitch.fail_next(429, **headers)
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["sent"])
    assert channel.texts == ["hello"]


@pytest.mark.parametrize("status", [429, 503])
def test_what_did_not_leave_is_said_later(channel, stub, status):
    channel.twitch.fail_next(status)
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["sent"])
    assert channel.texts == ["hello"]


def test_a_used_up_limit_does_not_hold_up_a_reply_that_was_said(channel, stub):
    far_away = str(int(time.time()) + 60)
    channel.twitch.fail_next("ok", Ratelimit_Remaining="0", Ratelimit_Reset=far_away)
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["sent"], within_s=3)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_what_may_have_been_said_is_unknown_and_never_repeated(channel, stub, status):
    channel.twitch.fail_next(status)
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["unknown"])
    say(channel, stub, "next")
    eventually(lambda: channel.texts == ["next"])


def test_a_reply_that_hangs_is_unknown_and_holds_up_only_its_channel(channel, stub):
    channel.twitch.fail_next("hang")
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["unknown"])
    assert channel.heard == []


def test_a_reply_of_which_a_part_was_said_is_never_repeated(channel, stub):
    channel.twitch.fail_next("ok")
    channel.twitch.fail_next(429)
    say(channel, stub, "z" * 700)
    eventually(lambda: states(channel) == ["unknown"])
    assert channel.replies[0]["detail"].startswith("after 1 of 2 parts: HTTP 429")
    assert [len(text) for text in channel.texts] == [500]


def test_a_revoked_token_is_replaced_once_for_all(channel, stub):
    say(channel, stub, "first")
    eventually(lambda: channel.texts == ["first"])
    channel.twitch.revoke_tokens()
    channel.twitch.requests.clear()
    for _ in range(10):
        say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["sent"] * 11)
    assert channel.twitch.requests.count("token") == 1
    assert channel.texts == ["first"] + ["hello"] * 10


@pytest.mark.parametrize("kind", [500, 403])
def test_without_a_token_replies_wait(channel, stub, kind):
    channel.twitch.revoke_tokens()
    channel.twitch.fail_next_token(kind)
    say(channel, stub, "hello")
    eventually(lambda: channel.twitch.requests.count("token") >= 1)
    assert channel.heard == []
    eventually(lambda: states(channel) == ["sent"], within_s=12)
    assert channel.texts == ["hello"]


def test_a_token_may_come_in_pieces(channel, stub):
    channel.twitch.revoke_tokens()
    channel.twitch.fail_next_token("pieces")
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["sent"], within_s=3)
    assert channel.texts == ["hello"]


def test_a_token_that_hangs_leaves_the_reply_for_later(channel, stub):
    channel.twitch.revoke_tokens()
    channel.twitch.fail_next_token("hang")
    say(channel, stub, "hello")
    eventually(lambda: states(channel) == ["sent"], within_s=15)
    assert channel.texts == ["hello"]


def test_a_twitch_that_is_not_reached_gets_the_reply_later(channel, stub):
    say(channel, stub, "first")
    eventually(lambda: channel.texts == ["first"])
    channel.twitch.stop()
    try:
        say(channel, stub, "second")
        eventually(lambda: channel.states == ["forwarded"] * 2)
        eventually(lambda: channel.replies[1]["state"] == "pending")
    finally:
        channel.twitch.start()
    eventually(lambda: channel.texts == ["first", "second"])


def test_replies_in_one_channel_keep_their_order(channel, stub):
    channel.twitch.send_delay_s = 0.01
    stub.behaviour = lambda call: reply_to(call, *[chat(f"line {n}") for n in range(8)])
    channel.say("!stub")
    eventually(lambda: states(channel) == ["sent"] * 8)
    assert channel.texts == [f"line {n}" for n in range(8)]


START = """
import sys
from pathlib import Path
from waddlebot.web.clients import call_wsgi
from waddlebot.base.errors import ConfigError
from waddlebot.web.app import create_app
try:
    app = create_app("twitch_module", apps_folder=Path(sys.argv[1]))
except ConfigError as err:
    sys.exit(err.message)
for method, path in [("POST", "/twitch/webhook"), ("GET", "/twitch/health")]:
    answer = call_wsgi(app, method, "http://twitch.test" + path, body=b"{}" if method == "POST" else None)
    print(answer.status, answer.body.decode())
print("twitchAPI" in sys.modules)
"""


@pytest.fixture
def start(stack, tmp_path):
    """Start a Twitch collector of its own with these settings."""

    def run(**settings):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TWITCH_")}
        environment |= {**stack.environment(), "LOG_DIR": str(tmp_path / "logs"), **settings}
        command = [sys.executable, "-c", START, str(tmp_path)]
        return subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)

    return run


CREDENTIALS = {
    "TWITCH_APP_ID": "abc",
    "TWITCH_APP_SECRET": "def",
    "TWITCH_WEBHOOK_SECRET": "0123456789",
    "TWITCH_BOT_USER_ID": "900",
}


def test_without_credentials_it_starts_unconfigured(start):
    done = start()
    webhook, health, loaded = done.stdout.splitlines()
    assert webhook.startswith("503 ")
    assert '"not_configured"' in webhook
    assert '"status":"unconfigured"' in health
    assert loaded == "False"


def test_with_all_of_them_it_is_configured_and_loads_no_sdk_yet(start):
    done = start(**CREDENTIALS)
    webhook, health, loaded = done.stdout.splitlines()
    assert webhook.startswith("403 ")
    assert '"unconfigured"' not in health
    assert loaded == "False"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"TWITCH_APP_ID": "abc"}, "TWITCH_APP_SECRET, TWITCH_WEBHOOK_SECRET, TWITCH_BOT_USER_ID missing"),
        ({**CREDENTIALS, "TWITCH_APP_ID": ""}, "TWITCH_APP_ID missing"),
        ({**CREDENTIALS, "TWITCH_APP_ID": "your_app_id"}, "TWITCH_APP_ID"),
        ({**CREDENTIALS, "TWITCH_APP_SECRET": "your_app_secret"}, "TWITCH_APP_SECRET"),
        ({**CREDENTIALS, "TWITCH_WEBHOOK_SECRET": "webhook_secret"}, "TWITCH_WEBHOOK_SECRET"),
        ({**CREDENTIALS, "TWITCH_WEBHOOK_SECRET": "short"}, "10 to 100 ASCII characters"),
        ({**CREDENTIALS, "TWITCH_API_BASE_URL": "api.twitch.tv"}, "TWITCH_API_BASE_URL"),
        ({"WADDLEBOT_REQUIRE": "discord,twitch"}, "WADDLEBOT_REQUIRE names twitch"),
    ],
)
def test_half_placeholder_or_missing_credentials_end_the_process_with_a_line(start, settings, told):
    done = start(**settings)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_announcement_is_said_in_a_twitch_channel(channel, fleet, stub):
    body = {"announcement_id": f"a-{channel.id}", "community_id": f"twitch-{channel.id}", "responses": [chat("News!")]}

    answer = fleet.request("POST", "/router/announcements", body, key="stub").json()

    eventually(lambda: channel.texts == ["News!"])
    eventually(lambda: channel.replies[0]["state"] == "sent")
    assert [row["id"] for row in channel.replies] == answer["outbox_ids"]
    assert channel.heard[0].reply_parent_message_id == ""


def test_what_is_private_is_refused_and_never_said(channel, stub):
    stub.behaviour = lambda call: reply_to(call, chat("your code is 4711", private=True))
    channel.say("!stub")

    eventually(lambda: channel.texts)
    assert channel.texts == ["The answer to !stub is for you alone, and I cannot say it so here."]
    assert "4711" not in str(channel.replies)


def test_a_private_reply_that_got_into_the_outbox_all_the_same_is_not_said(channel, fleet):
    channel.say("hi")
    eventually(lambda: channel.states == ["forwarded"])
    with fleet.database.transaction() as db:
        fetch(
            db,
            "INSERT INTO outbox (platform, event_id, ordinal, session_id, entity_id, community_id, module_name,"
            " response_action, response_data, expires_at) SELECT 'twitch', 'leak-' || %s, 0, gen_random_uuid(),"
            ' entity_id, community_id, \'stub\', \'private\', \'{"message": "4711", "to": "42"}\','
            " now() + interval '1 h' FROM entities WHERE entity_id = %s",
            (channel.id, f"twitch::{channel.id}"),
        )

    eventually(lambda: channel.replies[0]["state"] == "dropped")
    assert channel.replies[0]["detail"] == "not_private_here"
    assert channel.texts == []
