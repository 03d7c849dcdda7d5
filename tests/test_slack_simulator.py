"""The local Slack, asked by Slack's own SDK."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.oauth import AuthorizeUrlGenerator
from slack_sdk.oauth.token_rotation import TokenRotator
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook import WebhookClient
from waddlebot.testing.plugin import eventually

from simulators.slack import Answered, SlackSimulator


@pytest.fixture
def got():
    """What Slack posted to the app."""
    return []


@pytest.fixture
def slack(got):
    def post(delivery):
        got.append(delivery)
        return Answered(200)

    with SlackSimulator(post=post) as simulator:
        yield simulator


@pytest.fixture
def client(slack):
    return WebClient(slack.bot_token, base_url=f"{slack.url}/api/", timeout=5, retry_handlers=[])


def refused(call, **arguments):
    with pytest.raises(SlackApiError) as refusal:
        call(**arguments)
    return refusal.value.response["error"]


def test_the_bot_says_something_and_hears_itself(slack, client, got):
    answer = client.chat_postMessage(channel="C1", text="hello", thread_ts="1.2")
    assert [(said.text, said.thread_ts, said.ts) for said in slack.said] == [("hello", "1.2", answer["ts"])]
    eventually(lambda: got)
    event = json.loads(got[0].body)["event"]
    assert (event["text"], event["bot_id"], event["user"]) == ("hello", "BBOTT0SIM", "UBOTT0SIM")


def test_a_signature_is_the_one_that_the_sdk_checks(slack, got):
    slack.say("C1", "grüß dich")
    verifier = SignatureVerifier(slack.signing_secret.decode())
    assert verifier.is_valid_request(got[0].body, got[0].headers)
    assert not verifier.is_valid_request(got[0].body + b" ", got[0].headers)


def test_tokens_are_refused_in_slacks_words(slack):
    def ask(token):
        client = WebClient(token, base_url=f"{slack.url}/api/", retry_handlers=[])
        return refused(client.chat_postMessage, channel="C1", text="x")

    ended = slack.state.make_token("T9")
    slack.state.end_tokens("T9", "account_inactive")
    old = slack.state.make_token("T8", ttl_s=-1)
    assert [ask(None), ask("xoxb-wrong"), ask(ended), ask(old)] == [
        "not_authed",
        "invalid_auth",
        "account_inactive",
        "token_expired",
    ]


def test_a_channel_takes_one_message_a_second(slack, client):
    slack.channel_pause_s = 1.0
    client.chat_postMessage(channel="C1", text="one")
    with pytest.raises(SlackApiError) as refusal:
        client.chat_postMessage(channel="C1", text="two")
    assert refusal.value.response.status_code == 429
    assert refusal.value.response.headers["Retry-After"] == "1"
    client.chat_postMessage(channel="C2", text="another channel")


def test_a_cut_connection_has_done_its_work(slack, client):
    slack.fail_next("cut")
    with pytest.raises((OSError, SlackApiError)):
        client.chat_postMessage(channel="C1", text="hello")
    assert len(slack.said) == 1


def test_a_code_is_good_once_and_for_one_address(slack):
    client = WebClient(base_url=f"{slack.url}/api/")
    exchange = {"client_id": slack.client_id, "client_secret": slack.client_secret}
    code = slack.pages.make_code("T5", "U7", "http://back")
    granted = client.oauth_v2_access(**exchange, code=code, redirect_uri="http://back")
    assert (granted["team"]["id"], granted["token_type"]) == ("T5", "bot")
    assert client.auth_test(token=granted["access_token"])["team_id"] == "T5"
    assert refused(client.oauth_v2_access, **exchange, code=code, redirect_uri="http://back") == "code_already_used"
    other = slack.pages.make_code("T5", "U7", "http://back")
    assert refused(client.oauth_v2_access, **exchange, code=other, redirect_uri="http://x") == "bad_redirect_uri"


def test_a_rotating_token_is_refreshed_by_the_sdk(slack):
    slack.rotates = True
    client = WebClient(base_url=f"{slack.url}/api/")
    exchange = {"client_id": slack.client_id, "client_secret": slack.client_secret}
    code = slack.pages.make_code("T5", "U7", "http://back")
    granted = client.oauth_v2_access(**exchange, code=code, redirect_uri="http://back")
    from slack_sdk.oauth.installation_store import Bot

    bot = Bot(
        app_id=granted["app_id"],
        bot_id="B1",
        bot_user_id=granted["bot_user_id"],
        team_id="T5",
        bot_token=granted["access_token"],
        bot_refresh_token=granted["refresh_token"],
        bot_token_expires_at=int(time.time()) + 60,
        installed_at=time.time(),
    )
    rotated = TokenRotator(**exchange, client=client).perform_bot_token_rotation(bot=bot)
    assert rotated is not None
    assert rotated.bot_token != bot.bot_token
    assert client.auth_test(token=rotated.bot_token)["ok"]
    used_up = {**exchange, "grant_type": "refresh_token", "refresh_token": bot.bot_refresh_token}
    assert refused(client.oauth_v2_access, **used_up) == "invalid_refresh_token"


def test_somebody_agrees_on_the_page(slack):
    generator = AuthorizeUrlGenerator(
        client_id=slack.client_id,
        scopes=["chat:write"],
        redirect_uri="http://127.0.0.1:9/back",
        authorization_url=f"{slack.url}/oauth/v2/authorize",
    )
    with urllib.request.urlopen(generator.generate("state-1")) as page:
        assert b"Allow" in page.read()

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    with pytest.raises(urllib.error.HTTPError) as sent_back:
        urllib.request.build_opener(Stay).open(generator.generate("state-1"), data=b"decision=allow")
    with sent_back.value as answer:
        assert answer.headers["Location"].startswith("http://127.0.0.1:9/back?code=")
        assert answer.headers["Location"].endswith("&state=state-1")


def test_a_response_url_is_good_five_times(slack):
    form = slack.slash_form("help", channel="C1", user="U1", command="/waddlebot")
    webhook = WebhookClient(form["response_url"], retry_handlers=[])
    assert [webhook.send(text=str(n), response_type="in_channel").status_code for n in range(5)] == [200] * 5
    assert (answer := webhook.send(text="once more")).status_code == 404, answer.body
    assert [said.text for said in slack.said] == ["0", "1", "2", "3", "4"]


def test_a_failed_delivery_is_tried_again_with_number_and_reason(slack, got):
    answers = iter([Answered(500), Answered(0), Answered(200)])

    def post(delivery):
        got.append(delivery)
        return next(answers)

    slack.post = post
    assert slack.say("C1", "hello", event_id="Ev1") == [500, 0, 200]
    retries = [(d.headers.get("X-Slack-Retry-Num"), d.headers.get("X-Slack-Retry-Reason")) for d in got]
    assert retries == [(None, None), ("1", "http_error"), ("2", "http_timeout")]


def test_an_uninstalled_app_hears_of_it_and_its_token_is_dead(slack, client, got):
    slack.uninstall()
    assert [json.loads(each.body)["event"]["type"] for each in got] == ["tokens_revoked", "app_uninstalled"]
    assert refused(client.auth_test) == "account_inactive"


def test_events_go_down_a_socket_and_are_sent_again_until_they_are_acknowledged(slack):
    slack.transport = "socket"
    slack.sockets.ack_within_s = 0.2
    heard = []

    async def listen(client, request):
        heard.append((request.type, request.retry_attempt))
        if len(heard) != 1:
            await client.send_socket_mode_response(SocketModeResponse(request.envelope_id, {"text": "ack"}))

    async def main():
        web_client = AsyncWebClient(base_url=f"{slack.url}/api/")
        first, second = [SocketModeClient(slack.app_token, web_client=web_client) for _ in range(2)]
        for each in (first, second):
            each.socket_mode_request_listeners.append(listen)
            await each.connect()
        await asyncio.to_thread(slack.say, "C1", "hello")
        await asyncio.to_thread(slack.say, "C1", "again")
        spread = [len(connection.envelopes) for connection in slack.sockets.connections]
        await asyncio.to_thread(slack.run, slack.sockets.disconnect("refresh_requested"))
        answer = await asyncio.to_thread(slack.slash, "help")
        for each in (first, second):
            await each.close()
        return spread, answer

    spread, answer = asyncio.run(main())
    assert heard == [("events_api", 0), ("events_api", 1), ("events_api", 0), ("slash_commands", None)]
    assert sorted(spread) == [1, 2]
    assert json.loads(answer.body) == {"text": "ack"}


def test_an_app_token_is_needed_for_a_socket(slack):
    client = WebClient(base_url=f"{slack.url}/api/")
    assert refused(client.apps_connections_open, app_token="xapp-wrong") == "invalid_auth"


def test_the_buttons_work_from_another_process(slack, client):
    def ask(path, **body):
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(f"{slack.url}/_control/{path}", data, timeout=10) as answer:
            return json.load(answer)

    assert ask("chat", channel="C1", text="hello", user="U2") == {"statuses": [200]}
    client.chat_postMessage(channel="C1", text="and to you")
    assert [each["text"] for each in ask("messages")["messages"]] == ["and to you"]
    assert [each["user"] for each in ask("messages?all=1")["messages"]] == ["U2", "UBOTT0SIM"]
    ask("fail", kind="channel_not_found")
    assert refused(client.chat_postMessage, channel="C1", text="x") == "channel_not_found"


def test_what_was_said_is_changed_where_it_stands(slack, client):
    answer = client.chat_postMessage(channel="C1", text="hello")

    client.chat_update(channel="C1", ts=answer["ts"], text="hello again")

    assert [(said.text, said.ts, said.edited_at > 0) for said in slack.said] == [("hello again", answer["ts"], True)]
    assert refused(client.chat_update, channel="C1", ts="1.1", text="x") == "message_not_found"


def test_blocks_need_no_text_and_a_type_each(slack, client):
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "*hello*"}}

    client.api_call("chat.postMessage", json={"channel": "C1", "blocks": [section]})

    assert slack.said[0].blocks == [section]
    assert refused(client.chat_postMessage, channel="C1", text="x", blocks=[{"text": "x"}]) == "invalid_blocks"
    assert refused(client.chat_postMessage, channel="C1", text="x", blocks="no json") == "invalid_blocks_format"


def test_a_conversation_with_somebody_is_opened(slack, client):
    channel = client.conversations_open(users=["U1"])["channel"]["id"]

    assert channel.startswith("D")
    assert client.chat_postMessage(channel=channel, text="hello")["ok"]
    assert refused(client.conversations_open, users=["UGONE1"]) == "user_not_found"


@pytest.mark.parametrize("channel", ["", "general", "#general", "c1", "C-1"])
def test_what_is_no_channel_is_not_found(slack, client, channel):
    assert refused(client.chat_postMessage, channel=channel, text="hello") == "channel_not_found"


def test_what_nobody_has_said_of_themselves_is_null(slack, client):
    user = client.users_info(user="U1")["user"]

    assert (user["tz"], user["profile"]["title"]) == (None, None)
