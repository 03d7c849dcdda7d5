"""The simulated Twitch, as twitchAPI and bare HTTP see it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import threading
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest
from twitchAPI.eventsub.webhook import EventSubWebhook
from twitchAPI.eventsub.websocket import EventSubWebsocket
from twitchAPI.oauth import UserAuthenticator, refresh_access_token, revoke_token, validate_token
from twitchAPI.twitch import Twitch
from twitchAPI.type import (
    AuthScope,
    EventSubSubscriptionConflict,
    EventSubSubscriptionError,
    InvalidRefreshTokenException,
    TwitchAPIException,
)
from waddlebot.testing.plugin import eventually

simulators = pytest.importorskip("simulators.twitch")
wire = pytest.importorskip("simulators.twitch.simulator")

REDIRECT = "https://bot.example/twitch/auth/callback"
CALLBACK = "https://bot.example/twitch/webhook"
SECRET = "a secret of this test"
BOT_SCOPES = ["user:bot", "user:read:chat", "user:write:chat"]


@dataclass
class Receiver:
    """Somebody's callback: proves itself, remembers what came, answers with `status`."""

    got: list[tuple[dict, dict]] = field(default_factory=list)
    status: int = 204
    proves: bool = True

    def __call__(self, delivery):
        headers, body = delivery.headers, json.loads(delivery.body)
        signed = headers["Twitch-Eventsub-Message-Id"] + headers["Twitch-Eventsub-Message-Timestamp"]
        digest = hmac.new(SECRET.encode(), signed.encode() + delivery.body, hashlib.sha256).hexdigest()
        assert headers["Twitch-Eventsub-Message-Signature"] == f"sha256={digest}"
        if "challenge" in body:
            return wire.Answered(200, body["challenge"].encode() if self.proves else b"what?")
        self.got.append((dict(headers), body))
        return wire.Answered(self.status)

    def of(self, type_, kind="notification"):
        return [
            body
            for headers, body in self.got
            if (headers["Twitch-Eventsub-Message-Type"], body["subscription"]["type"]) == (kind, type_)
        ]


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def twitch(receiver):
    with simulators.TwitchSimulator(post=receiver, strict=True) as simulator:
        simulator.eventsub.retry_pauses_s = [0, 0]
        yield simulator


@pytest.fixture
def bot(twitch):
    """The bot's account, which has consented to what a bot needs."""
    made = twitch.user("waddlebot", id=twitch.bot_user_id)
    made.consents.update(BOT_SCOPES)
    return made


@pytest.fixture
def alice(twitch, bot):
    """A streamer who lets the bot in and has made it a moderator."""
    made = twitch.user("alice", moderators=["waddlebot"])
    made.consents.update(["channel:bot", "channel:read:subscriptions", "bits:read", "channel:moderate"])
    bot.consents.update(["moderator:read:followers"])
    return made


@asynccontextmanager
async def app_client(twitch):
    client = await Twitch(
        twitch.client_id, twitch.client_secret, base_url=f"{twitch.url}/helix/", auth_base_url=f"{twitch.url}/oauth2/"
    )
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def user_client(twitch, account, *scopes):
    granted = twitch.oauth.token_for(account, scopes)
    client = Twitch(
        twitch.client_id,
        twitch.client_secret,
        authenticate_app=False,
        base_url=f"{twitch.url}/helix/",
        auth_base_url=f"{twitch.url}/oauth2/",
    )
    await client.set_user_authentication(
        granted["access_token"], [AuthScope(scope) for scope in scopes], granted["refresh_token"]
    )
    try:
        yield client
    finally:
        await client.close()


class FleetEventSub(EventSubWebhook):
    """twitchAPI's way to make subscriptions, without its server."""

    def __init__(self, client):
        super().__init__(CALLBACK, 0, client)
        self.secret, self.wait_for_subscription_confirm = SECRET, False

    def _get_transport(self):
        return {"method": "webhook", "callback": CALLBACK, "secret": SECRET}


async def nothing(_):
    pass


def ask(method, url, body=None, **headers):
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers, method=method)
    if body:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            raw = answer.read()
            return answer.status, json.loads(raw) if raw else {}, answer.headers
    except urllib.error.HTTPError as err:
        with err:
            return err.code, json.load(err), err.headers


def app_token(twitch):
    asked = {"client_id": twitch.client_id, "client_secret": twitch.client_secret, "grant_type": "client_credentials"}
    return ask("POST", f"{twitch.url}/oauth2/token?{urlencode(asked)}")[1]["access_token"]


def helix(twitch, method, path, body=None, *, token=None):
    headers = {"Authorization": f"Bearer {token or app_token(twitch)}", "Client-Id": twitch.client_id}
    return ask(method, f"{twitch.url}/helix/{path}", body, **headers)


def subscribe(twitch, type_, version="1", *, token=None, transport=None, **condition):
    body = {
        "type": type_,
        "version": version,
        "condition": condition,
        "transport": transport or {"method": "webhook", "callback": CALLBACK, "secret": SECRET},
    }
    return helix(twitch, "POST", "eventsub/subscriptions", body, token=token)


def enabled(twitch, type_):
    eventually(lambda: [each.status for each in twitch.eventsub.find(type_)] == ["enabled"])


# OAuth


def authorize_url(twitch, *scopes, state="a state", **more):
    asked = {"client_id": twitch.client_id, "redirect_uri": REDIRECT, "response_type": "code", **more}
    return f"{twitch.url}/oauth2/authorize?" + urlencode({**asked, "scope": " ".join(scopes), "state": state})


def query_of(url):
    assert url.startswith(REDIRECT + "?")
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_streamer_consents_and_the_library_gets_tokens(twitch):
    alice = twitch.user("alice", id="7")

    async def consent():
        async with app_client(twitch) as client:
            scopes = [AuthScope.CHANNEL_BOT, AuthScope.BITS_READ]
            auth = UserAuthenticator(client, scopes, url=REDIRECT, auth_base_url=f"{twitch.url}/oauth2/")
            auth.state = "s-t-a-t-e"
            back = query_of(twitch.authorize(auth.return_auth_url(), user="alice"))
            assert back["state"] == "s-t-a-t-e"
            access, refresh = await auth.authenticate(user_token=back["code"])
            about = await validate_token(access, auth_base_url=f"{twitch.url}/oauth2/")
            assert (about["user_id"], about["login"], set(about["scopes"])) == ("7", "alice", set(scopes))
            assert 0 < about["expires_in"] <= 4 * 3600
            newer, _ = await refresh_access_token(
                refresh, twitch.client_id, twitch.client_secret, auth_base_url=f"{twitch.url}/oauth2/"
            )
            assert newer != access
            with pytest.raises(InvalidRefreshTokenException, match="Invalid refresh token"):
                await refresh_access_token(
                    refresh, twitch.client_id, twitch.client_secret, auth_base_url=f"{twitch.url}/oauth2/"
                )
            assert await revoke_token(twitch.client_id, newer, auth_base_url=f"{twitch.url}/oauth2/")
            assert (await validate_token(newer, auth_base_url=f"{twitch.url}/oauth2/"))["status"] == 401

    asyncio.run(consent())
    assert alice.consents == {"channel:bot", "bits:read"}


def test_a_code_is_good_once_and_for_its_address(twitch):
    twitch.user("alice")
    code = query_of(twitch.authorize(authorize_url(twitch, "bits:read"), user="alice"))["code"]
    asked = {"client_id": twitch.client_id, "client_secret": twitch.client_secret, "grant_type": "authorization_code"}

    def exchange(**more):
        return ask("POST", f"{twitch.url}/oauth2/token?{urlencode({**asked, 'code': code, **more})}")[:2]

    assert exchange(redirect_uri="https://else.example/")[1]["message"].startswith("Parameter redirect_uri")
    status, granted = exchange(redirect_uri=REDIRECT)
    assert (status, granted["scope"], granted["token_type"]) == (200, ["bits:read"], "bearer")
    assert exchange(redirect_uri=REDIRECT) == (
        400,
        {"error": "Bad Request", "status": 400, "message": "Invalid authorization code"},
    )


def test_denying_and_granting_less_come_back_to_the_app(twitch):
    twitch.user("alice")
    url = authorize_url(twitch, "bits:read", "channel:bot")
    assert query_of(twitch.authorize(url, user="alice", deny=True)) == {
        "error": "access_denied",
        "error_description": "The user denied you access",
        "state": "a state",
    }
    assert query_of(twitch.authorize(url, user="alice", grant=["bits:read"]))["scope"] == "bits:read"
    with pytest.raises(simulators.AuthorizePageRefused):
        twitch.authorize(url.replace(twitch.client_id, "somebody-else"), user="alice")


def test_the_page_asks_who_one_is_and_remembers(twitch):
    async def click():
        url = authorize_url(twitch, "bits:read")
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            page = await (await browser.get(url)).text()
            assert "bits:read" in page
            assert "Cancel" in page
            form = {"login": "Newcomer", "decision": "authorize"}
            async with browser.post(url, data=form, allow_redirects=False) as answer:
                assert "code=" in answer.headers["Location"]
            async with browser.get(url, allow_redirects=False) as answer:
                assert answer.status == 302
            async with browser.get(url + "&force_verify=true", allow_redirects=False) as answer:
                assert answer.status == 200
            async with browser.post(url, data={"decision": "cancel"}, allow_redirects=False) as answer:
                assert "error=access_denied" in answer.headers["Location"]

    asyncio.run(click())
    assert twitch.accounts.get("newcomer").consents == {"bits:read"}


def test_tokens_end_after_their_time_or_with_a_new_password(twitch, alice):
    twitch.oauth.user_token_life_s = -1
    expired = twitch.oauth.token_for(alice)["access_token"]
    assert helix(twitch, "GET", "users", token=expired)[1]["message"] == "Invalid OAuth token"
    twitch.oauth.user_token_life_s = 60
    good = twitch.oauth.token_for(alice)["access_token"]
    assert helix(twitch, "GET", "users", token=good)[1]["data"][0]["login"] == "alice"
    twitch.revoke_tokens("alice")
    assert helix(twitch, "GET", "users", token=good)[0] == 401


# Subscriptions by webhook


def test_the_library_subscribes_and_is_notified(twitch, receiver, alice, bot):
    async def make():
        async with app_client(twitch) as client:
            events = FleetEventSub(client)
            await events.listen_channel_follow_v2(alice.id, bot.id, nothing)
            await events.listen_channel_raid(nothing, to_broadcaster_user_id=alice.id)
            await events.listen_channel_chat_message(alice.id, bot.id, nothing)
            with pytest.raises(EventSubSubscriptionConflict):
                await events.listen_channel_chat_message(alice.id, bot.id, nothing)
            with pytest.raises(EventSubSubscriptionError, match="missing proper authorization"):
                await events.listen_channel_poll_begin(alice.id, nothing)
            return [each.type async for each in await client.get_eventsub_subscriptions()]

    assert sorted(asyncio.run(make())) == ["channel.chat.message", "channel.follow", "channel.raid"]
    for type_ in ("channel.chat.message", "channel.follow", "channel.raid"):
        enabled(twitch, type_)

    twitch.user("bob")
    assert twitch.follow("alice", "bob") == [204]
    assert twitch.raid("alice", "bob", viewers=5) == [204]
    assert twitch.say("alice", "hello", chatter="bob", badges=["vip"]) == [204]

    (follow,), (raid,) = receiver.of("channel.follow"), receiver.of("channel.raid")
    assert follow["subscription"]["version"] == "2"
    assert (follow["event"]["user_login"], follow["event"]["broadcaster_user_id"]) == ("bob", alice.id)
    assert (raid["event"]["from_broadcaster_user_login"], raid["event"]["viewers"]) == ("bob", 5)
    assert receiver.of("channel.chat.message")[0]["event"]["message"]["text"] == "hello"


def test_a_callback_has_to_prove_itself(twitch, receiver, alice):
    receiver.proves = False
    assert subscribe(twitch, "stream.online", broadcaster_user_id=alice.id)[0] == 202
    eventually(lambda: twitch.eventsub.find("stream.online")[0].status == "webhook_callback_verification_failed")
    twitch.online("alice")
    assert receiver.got == []


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"type": "channel.follow", "version": "1"}, 400, "invalid subscription type and version"),
        ({"type": "channel.poke", "version": "1"}, 400, "invalid subscription type and version"),
        ({"condition": {}}, 400, "missing required condition field broadcaster_user_id"),
        ({"condition": {"broadcaster_user_id": "404"}}, 400, "user not found"),
        ({"transport": {"method": "webhook", "callback": "http://a.example", "secret": SECRET}}, 400, "https"),
        ({"transport": {"method": "webhook", "callback": CALLBACK, "secret": "short"}}, 400, "secret"),
        ({"transport": {"method": "websocket", "session_id": "x"}}, 400, "invalid transport and auth combination"),
        ({"transport": {"method": "pigeon"}}, 400, "unsupported transport"),
        ({"type": "channel.raid", "condition": {}}, 400, "exactly one of"),
    ],
)
def test_subscriptions_that_twitch_does_not_take(twitch, alice, asked, status, message):
    body = {
        "type": "stream.online",
        "version": "1",
        "condition": {"broadcaster_user_id": alice.id},
        "transport": {"method": "webhook", "callback": CALLBACK, "secret": SECRET},
        **asked,
    }
    refused = helix(twitch, "POST", "eventsub/subscriptions", body)
    assert refused[0] == status
    assert message in refused[1]["message"]


def test_chat_needs_both_consents_or_a_moderator(twitch, bot):
    bob = twitch.user("bob")

    def ask_for_chat():
        twitch.eventsub.clear()
        return subscribe(twitch, "channel.chat.message", broadcaster_user_id=bob.id, user_id=bot.id)[0]

    assert ask_for_chat() == 403
    bob.consents.add("channel:bot")
    assert ask_for_chat() == 202
    bob.consents.clear()
    bob.moderators.add(bot.id)
    assert ask_for_chat() == 202
    bot.consents.remove("user:bot")
    assert ask_for_chat() == 403


def test_no_more_than_three_alike_and_what_they_cost(twitch, alice):
    twitch.user("stranger", id="55")
    for n in range(3):
        transport = {"method": "webhook", "callback": f"{CALLBACK}/{n}", "secret": SECRET}
        made = subscribe(twitch, "stream.online", transport=transport, broadcaster_user_id="55")
        assert made[0] == 202
    transport = {"method": "webhook", "callback": f"{CALLBACK}/4", "secret": SECRET}
    status, refused, _ = subscribe(twitch, "stream.online", transport=transport, broadcaster_user_id="55")
    assert (status, refused["message"]) == (429, "maximum subscriptions with type and condition exceeded")
    eventually(lambda: all(each.is_enabled for each in twitch.eventsub))
    assert subscribe(twitch, "stream.offline", broadcaster_user_id=alice.id)[1]["data"][0]["cost"] == 0
    about = helix(twitch, "GET", "eventsub/subscriptions")[1]
    assert (about["total"], about["total_cost"], about["max_total_cost"]) == (4, 3, 10_000)
    twitch.eventsub.max_webhook_cost = 3
    assert subscribe(twitch, "stream.offline", broadcaster_user_id="55")[0] == 429


def test_subscriptions_come_in_pages_and_are_deleted(twitch):
    for n in range(150):
        twitch.user(f"streamer{n}", id=str(1000 + n))
        assert subscribe(twitch, "stream.online", token=_token(twitch), broadcaster_user_id=str(1000 + n))[0] == 202

    async def read():
        async with app_client(twitch) as client:
            found = [each async for each in await client.get_eventsub_subscriptions()]
            await client.delete_eventsub_subscription(found[0].id)
            return [each.condition["broadcaster_user_id"] for each in found]

    assert sorted(asyncio.run(read())) == [str(1000 + n) for n in range(150)]
    assert len(list(twitch.eventsub)) == 149
    assert helix(twitch, "DELETE", "eventsub/subscriptions?id=none")[0] == 404
    assert helix(twitch, "GET", "eventsub/subscriptions?status=enabled&type=x")[0] == 400


def _token(twitch):
    return next(iter(twitch.tokens), None) or app_token(twitch)


def test_a_failing_callback_is_tried_again_and_then_given_up(twitch, receiver, alice):
    subscribe(twitch, "stream.online", broadcaster_user_id=alice.id)
    enabled(twitch, "stream.online")
    twitch.eventsub.max_failures = 2
    receiver.status = 500
    assert twitch.online("alice") == [500] * 3
    ids = {headers["Twitch-Eventsub-Message-Id"] for headers, _ in receiver.got}
    retries = [headers["Twitch-Eventsub-Message-Retry"] for headers, _ in receiver.got]
    assert (len(ids), retries) == (1, ["0", "1", "2"])
    twitch.online("alice")
    eventually(lambda: receiver.of("stream.online", "revocation"))
    revoked = receiver.of("stream.online", "revocation")[0]["subscription"]
    assert revoked["status"] == "notification_failures_exceeded"
    receiver.got.clear()
    assert twitch.online("alice") == []
    assert receiver.got == []


def test_what_ends_a_subscription_is_told(twitch, receiver, alice, bot):
    follow = {"broadcaster_user_id": alice.id, "moderator_user_id": bot.id}
    subscribe(twitch, "channel.follow", "2", **follow)
    subscribe(twitch, "channel.chat.message", broadcaster_user_id=alice.id, user_id=bot.id)
    subscribe(twitch, "channel.cheer", broadcaster_user_id=alice.id)
    subscribe(twitch, "stream.online", broadcaster_user_id=alice.id)
    subscribe(twitch, "user.authorization.revoke", client_id=twitch.client_id)
    eventually(lambda: [each.is_enabled for each in twitch.eventsub] == [True] * 5)

    def ended(type_):
        eventually(lambda: receiver.of(type_, "revocation"))
        return receiver.of(type_, "revocation")[0]["subscription"]["status"]

    twitch.remove_moderator("alice", bot)
    assert ended("channel.follow") == "moderator_removed"
    twitch.ban("alice", bot)
    assert ended("channel.chat.message") == "chat_user_banned"
    twitch.disconnect("alice")
    assert ended("channel.cheer") == "authorization_revoked"
    eventually(lambda: receiver.of("user.authorization.revoke"))
    assert receiver.of("user.authorization.revoke")[0]["event"]["user_login"] == "alice"
    twitch.remove_user("alice")
    assert ended("stream.online") == "user_removed"


# The WebSocket


@asynccontextmanager
async def listening(twitch, client):
    """twitchAPI's own WebSocket client, and what its handlers got."""
    socket = EventSubWebsocket(client, connection_url=twitch.websocket_url)
    await asyncio.to_thread(socket.start)
    try:
        yield socket
    finally:
        await socket.stop()
        # The library leaves its own loop open.
        await asyncio.to_thread(socket._socket_thread.join)
        socket._socket_loop.close()


def collecting():
    got = []

    async def collect(event):
        got.append(event)

    return got, collect


def test_the_library_listens_by_websocket_through_a_reconnect(twitch, alice, bot):
    async def listen():
        async with user_client(twitch, bot, *BOT_SCOPES) as client, listening(twitch, client) as socket:
            got, collect = collecting()
            await socket.listen_channel_chat_message(alice.id, bot.id, collect)
            session = twitch.sockets.sessions
            twitch.say("alice", "before", chatter="bob")
            await until(lambda: len(got) == 1)
            twitch.sockets.reconnect()
            await until(lambda: twitch.sockets.reconnects == 1)
            assert twitch.sockets.sessions == session
            twitch.say("alice", "after", chatter="bob")
            await until(lambda: len(got) == 2)
            return [each.event.message.text for each in got]

    assert asyncio.run(listen()) == ["before", "after"]


async def until(is_true):
    async with asyncio.timeout(10):
        while not is_true():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def connected(twitch, query=""):
    async with aiohttp.ClientSession() as session, session.ws_connect(twitch.websocket_url + query) as socket:
        welcome = await socket.receive_json()
        assert welcome["metadata"]["message_type"] == "session_welcome"
        yield socket, welcome["payload"]["session"]["id"]


def subscribe_session(twitch, account, session_id, type_="stream.online", *, scopes=(), **condition):
    token = twitch.oauth.token_for(account, scopes)["access_token"]
    transport = {"method": "websocket", "session_id": session_id}
    return subscribe(twitch, type_, token=token, transport=transport, **condition)


def test_a_session_keeps_alive_and_ends_when_nobody_subscribes(twitch):
    twitch.sockets.keepalive_s = 0.05
    twitch.sockets.unused_after_s = 0.3

    async def wait():
        async with connected(twitch) as (socket, _):
            keepalive = await socket.receive_json()
            assert keepalive["metadata"]["message_type"] == "session_keepalive"
            assert keepalive["payload"] == {}
            while not socket.closed:
                await socket.receive()
            return socket.close_code

    assert asyncio.run(wait()) == 4003


def test_who_talks_or_asks_wrongly_is_cut_off(twitch):
    async def talk():
        async with connected(twitch) as (socket, _):
            await socket.send_str("hello")
            await socket.receive()
            first = socket.close_code
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(twitch.websocket_url + "?reconnect_key=nonsense") as socket,
        ):
            await socket.receive()
            return first, socket.close_code

    assert asyncio.run(talk()) == (4001, 4007)


def test_a_deaf_session_is_connected_and_says_nothing(twitch, alice):
    twitch.sockets.keepalive_s = 0.05

    async def wait():
        async with connected(twitch) as (socket, session_id):
            made = await asyncio.to_thread(subscribe_session, twitch, alice, session_id, broadcaster_user_id=alice.id)
            assert made[0] == 202
            twitch.sockets.deafen()
            while True:  # What was on its way still comes.
                try:
                    await socket.receive_json(timeout=0.3)
                except TimeoutError:
                    break
            twitch.online("alice")
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=0.3)
            assert not socket.closed

    asyncio.run(wait())


def test_a_session_is_one_users_and_what_it_costs_is_limited(twitch, alice, bot):
    for n in range(11):
        twitch.user(f"stranger{n}", id=str(500 + n))

    async def fill():
        async with connected(twitch) as (_, session_id):

            def ask(account, channel):
                return subscribe_session(twitch, account, session_id, broadcaster_user_id=channel)

            made = [await asyncio.to_thread(ask, bot, str(500 + n)) for n in range(11)]
            assert [each[0] for each in made] == [202] * 10 + [429]
            other = await asyncio.to_thread(ask, alice, alice.id)
            assert (other[0], "different users" in other[1]["message"]) == (400, True)
        eventually(lambda: {each.status for each in twitch.eventsub} == {"websocket_disconnected"})
        assert (await asyncio.to_thread(ask, bot, "500"))[1]["message"].startswith("session does not exist")

    asyncio.run(fill())


# Conduits


def make_conduit(twitch, shards=2):
    status, made, _ = helix(twitch, "POST", "eventsub/conduits", {"shard_count": shards})
    assert status == 200
    return made["data"][0]["id"]


def assign(twitch, conduit, *shards):
    """Bind (shard, transport or session) pairs. Returns the status, the ids that are bound and the errors by id."""
    asked = [
        {"id": id_, "transport": place if isinstance(place, dict) else {"method": "websocket", "session_id": place}}
        for id_, place in shards
    ]
    status, answer, _ = helix(twitch, "PATCH", "eventsub/conduits/shards", {"conduit_id": conduit, "shards": asked})
    errors = {each["id"]: each["code"] for each in answer.get("errors", ())}
    return status, [each["id"] for each in answer.get("data", ())], errors


def statuses(twitch, conduit):
    listed = helix(twitch, "GET", f"eventsub/conduits/shards?conduit_id={conduit}")[1]["data"]
    return {each["id"]: each["status"] for each in listed}


def subscribe_conduit(twitch, conduit, channel, type_="stream.online"):
    transport = {"method": "conduit", "conduit_id": conduit}
    return subscribe(twitch, type_, transport=transport, broadcaster_user_id=channel)


async def told(socket):
    """The next notification's id and channel."""
    while (message := await socket.receive_json(timeout=5))["metadata"]["message_type"] != "notification":
        pass
    return message["metadata"]["message_id"], message["payload"]["event"]["broadcaster_user_login"]


def test_conduits_are_made_listed_resized_and_deleted_and_no_more_than_five(twitch, alice):
    first = make_conduit(twitch)
    for _ in range(4):
        make_conduit(twitch)
    assert helix(twitch, "POST", "eventsub/conduits", {"shard_count": 1})[0] == 429
    assert helix(twitch, "POST", "eventsub/conduits", {"shard_count": 0})[0] == 400
    assert helix(twitch, "PATCH", "eventsub/conduits", {"id": first, "shard_count": 20_001})[0] == 400
    assert helix(twitch, "PATCH", "eventsub/conduits", {"id": first, "shard_count": 3})[0] == 200
    listed = helix(twitch, "GET", "eventsub/conduits")[1]["data"]
    assert {"id": first, "shard_count": 3} in listed
    assert len(listed) == 5
    made = subscribe_conduit(twitch, first, alice.id)[1]["data"][0]
    assert (made["cost"], made["transport"]) == (0, {"method": "conduit", "conduit_id": first})
    assert helix(twitch, "DELETE", f"eventsub/conduits?id={first}")[0] == 204
    assert helix(twitch, "DELETE", f"eventsub/conduits?id={first}")[0] == 404
    assert twitch.eventsub.find("stream.online")[0].status == "conduit_deleted"
    assert subscribe_conduit(twitch, first, alice.id)[0] == 400
    user = twitch.oauth.token_for(alice, [])["access_token"]
    assert helix(twitch, "GET", "eventsub/conduits", token=user)[0] == 401


def test_shards_are_bound_each_by_itself_and_a_new_conduit_lists_none(twitch):
    conduit = make_conduit(twitch)
    assert statuses(twitch, conduit) == {}
    assert helix(twitch, "GET", "eventsub/conduits/shards?conduit_id=nobody")[0] == 404
    assert assign(twitch, "nobody", ("0", "x"))[0] == 404
    assert assign(twitch, conduit)[0] == 400

    async def bind():
        async with connected(twitch) as (_, session_id):
            shards = (("0", session_id), ("1", "nobody"), ("2", session_id))
            answer = await asyncio.to_thread(assign, twitch, conduit, *shards)
            assert answer == (202, ["0"], {"1": "websocket_session_not_found", "2": "invalid_parameter"})
            twitch.conduits.refuses["1"] = 1
            again = await asyncio.to_thread(assign, twitch, conduit, ("1", session_id))
            assert again == (202, [], {"1": "internal_error"})
            assert (await asyncio.to_thread(assign, twitch, conduit, ("1", session_id)))[1] == ["1"]
            assert await asyncio.to_thread(statuses, twitch, conduit) == {"0": "enabled", "1": "enabled"}
            twitch.sockets.close(code=4006)
            await until(lambda: not twitch.sockets.sessions)

    asyncio.run(bind())
    assert set(statuses(twitch, conduit).values()) == {"websocket_network_error"}


def test_a_session_that_no_shard_is_bound_to_in_time_is_closed(twitch):
    conduit = make_conduit(twitch)
    twitch.sockets.unused_after_s = 0.3

    async def wait():
        async with connected(twitch) as (bound, session_id), connected(twitch) as (unused, _):
            await asyncio.to_thread(assign, twitch, conduit, ("0", session_id))
            while not unused.closed:
                await unused.receive()
            return unused.close_code, bound.closed

    assert asyncio.run(wait()) == (4003, False)


def test_a_channel_is_one_shards_and_what_a_disabled_one_misses_goes_to_one_other_or_nowhere(twitch, alice):
    conduit = make_conduit(twitch)
    assert subscribe_conduit(twitch, conduit, alice.id)[0] == 202
    own = twitch.conduits.shard_of(twitch.conduits.by_id[conduit], alice.id)
    twitch.online(alice)
    assert twitch.conduits.dropped == 1, "no shard is bound"

    async def listen():
        async with connected(twitch) as (mine, here), connected(twitch) as (other, there):
            shards = ((own, here), (str(1 - int(own)), there))
            await asyncio.to_thread(assign, twitch, conduit, *shards)
            twitch.online(alice)
            twitch.online(alice)
            assert {(await told(mine))[1], (await told(mine))[1]} == {alice.login}
            assert twitch.conduits.moved == 0
            twitch.conduits.repeats = True
            twitch.online(alice)
            assert await told(mine) == await told(other)
            twitch.conduits.repeats = False
            twitch.sockets.drop(here)
            await until(lambda: here not in twitch.sockets.sessions)
            twitch.online(alice)
            assert (await told(other))[1] == alice.login
            assert (twitch.conduits.moved, twitch.conduits.dropped) == (1, 1)

    asyncio.run(listen())
    eventually(lambda: not twitch.sockets.sessions)
    twitch.online(alice)
    assert twitch.conduits.dropped == 2


def test_a_session_moves_with_its_shard_or_under_a_new_id_without_it(twitch):
    conduit = make_conduit(twitch, 1)

    async def move(renames):
        twitch.sockets.renames = renames
        async with connected(twitch) as (socket, before):
            await asyncio.to_thread(assign, twitch, conduit, ("0", before))
            twitch.sockets.reconnect(before)
            asked = await socket.receive_json(timeout=5)
            url = asked["payload"]["session"]["reconnect_url"]
            async with connected(twitch, "?" + url.partition("?")[2]) as (_, after):
                listed = await asyncio.to_thread(statuses, twitch, conduit)
                return after == before, listed

    assert asyncio.run(move(renames=False)) == (True, {"0": "enabled"})
    assert asyncio.run(move(renames=True))[0] is False


def test_fewer_shards_disable_the_highest_unless_twitch_forgets_to(twitch):
    conduit = make_conduit(twitch, 2)

    async def shrink():
        async with connected(twitch) as (_, session_id):
            for keeps, status in ((True, "enabled"), (False, "websocket_disconnected")):
                twitch.conduits.keeps_surplus = keeps
                await asyncio.to_thread(twitch.conduits.resize, conduit, 2)
                await asyncio.to_thread(assign, twitch, conduit, ("0", session_id), ("1", session_id))
                await asyncio.to_thread(twitch.conduits.resize, conduit, 1)
                assert await asyncio.to_thread(statuses, twitch, conduit) == {"0": "enabled", "1": status}

    asyncio.run(shrink())


def test_a_conduit_that_nobody_serves_is_deleted_in_time(twitch, alice):
    conduit = make_conduit(twitch)
    subscribe_conduit(twitch, conduit, alice.id)
    assert [each["id"] for each in helix(twitch, "GET", "eventsub/conduits")[1]["data"]] == [conduit]
    twitch.conduits.deleted_after_s = 0
    assert helix(twitch, "GET", "eventsub/conduits")[1]["data"] == []
    assert twitch.eventsub.find("stream.online")[0].status == "conduit_deleted"


def test_a_shard_that_is_a_webhook_proves_itself_and_is_disabled_when_it_fails(twitch, receiver, alice):
    conduit = make_conduit(twitch, 1)
    subscribe_conduit(twitch, conduit, alice.id)
    place = {"method": "webhook", "callback": CALLBACK, "secret": SECRET}
    assert assign(twitch, conduit, ("0", {**place, "callback": "http://bot.example"}))[2] == {"0": "invalid_parameter"}
    receiver.proves = False
    assert assign(twitch, conduit, ("0", place))[1] == ["0"]
    eventually(lambda: statuses(twitch, conduit) == {"0": "webhook_callback_verification_failed"})
    receiver.proves = True
    assign(twitch, conduit, ("0", place))
    eventually(lambda: statuses(twitch, conduit) == {"0": "enabled"})
    twitch.online(alice)
    eventually(lambda: len(receiver.of("stream.online")) == 1)
    receiver.status = 500
    twitch.online(alice)
    eventually(lambda: statuses(twitch, conduit) == {"0": "notification_failures_exceeded"})
    assert len(receiver.of("stream.online")) > 2, "it was tried again"
    assert twitch.conduits.dropped == 1


# Helix


def test_the_library_reads_people_channels_and_streams(twitch, alice, bot):
    twitch.online("alice", title="Speedrun", game="Celeste", viewers=12)
    twitch.clip("alice", "What a jump")

    async def read():
        async with app_client(twitch) as client:
            users = [each.login async for each in client.get_users(logins=["alice", "nobody"])]
            channel = (await client.get_channel_information(alice.id))[0]
            live = [each async for each in client.get_streams(user_id=[alice.id, bot.id])]
            clips = [each.title async for each in client.get_clips(broadcaster_id=alice.id)]
            return users, channel.game_name, [(each.user_login, each.viewer_count) for each in live], clips

    assert asyncio.run(read()) == (["alice"], "Celeste", [("alice", 12)], ["What a jump"])
    twitch.offline("alice")
    assert helix(twitch, "GET", f"streams?user_id={alice.id}")[1]["data"] == []


def test_the_library_moderates(twitch, alice, bot):
    troll = twitch.user("troll")
    scopes = ["banned_users", "warnings", "chat_messages"]
    rude = {"message_id": "rude"}
    twitch.say("alice", "rude words", chatter=troll, **rude)

    async def moderate():
        async with user_client(twitch, bot, *(f"moderator:manage:{each}" for each in scopes)) as client:
            await client.delete_chat_message(alice.id, bot.id, "rude")
            with pytest.raises(TwitchAPIException):  # It sends a list where Twitch documents an object.
                await client.warn_chat_user(alice.id, bot.id, troll.id, "Mind your words.")
            timeout = await client.ban_user(alice.id, bot.id, troll.id, "Enough.", duration=60)
            assert timeout.end_time is not None
            await client.ban_user(alice.id, bot.id, troll.id, "For ever.")
            await client.unban_user(alice.id, bot.id, troll.id)

    asyncio.run(moderate())
    done = [(each.kind, each.user_id, each.duration_s) for each in twitch.actions]
    assert done == [
        ("delete", troll.id, None),
        ("timeout", troll.id, 60),
        ("ban", troll.id, None),
        ("unban", troll.id, None),
    ]


@pytest.mark.parametrize(
    ("login", "scopes", "status", "message"),
    [
        ("waddlebot", [], 401, "Missing scope: moderator:manage:banned_users"),
        ("stranger", ["moderator:manage:banned_users"], 403, "not one of the broadcaster's moderators"),
        ("", [], 401, "must match the user ID"),
    ],
)
def test_who_may_not_moderate_does_not(twitch, alice, login, scopes, status, message):
    twitch.user("troll", id="66")
    who = twitch.accounts.get(login) if login else twitch.accounts.get("waddlebot")
    token = twitch.oauth.token_for(who, scopes)["access_token"] if login else app_token(twitch)
    path = f"moderation/bans?broadcaster_id={alice.id}&moderator_id={who.id}"
    refused = helix(twitch, "POST", path, {"data": {"user_id": "66"}}, token=token)
    assert refused[0] == status
    assert message in refused[1]["message"]


def test_followers_and_subscribers_are_for_who_may_see_them(twitch, alice, bot):
    twitch.user("fan", id="77")
    twitch.follow("alice", "fan")
    twitch.subscribe("alice", "fan", tier="3000")
    about = helix(twitch, "GET", f"channels/followers?broadcaster_id={alice.id}")[1]
    assert (about["total"], about["data"]) == (1, [])

    async def read():
        async with (
            user_client(twitch, bot, "moderator:read:followers") as moderator,
            user_client(twitch, alice, "channel:read:subscriptions") as owner,
        ):
            followers = await moderator.get_channel_followers(alice.id)
            subscribers = await owner.get_broadcaster_subscriptions(alice.id)
            return followers.total, [each.user_login for each in followers.data], subscribers.points, subscribers.total

    assert asyncio.run(read()) == (1, ["fan"], 6, 1)


def test_where_somebody_moderates_is_told_to_them_alone(twitch, alice, bot):
    carol, scope = twitch.user("carol"), "user:read:moderated_channels"
    for number in range(3):
        twitch.user(f"channel{number}").moderators.add(carol.id)

    async def read():
        async with user_client(twitch, carol, scope) as client:
            return [each.broadcaster_login async for each in client.get_moderated_channels(carol.id, first=2)]

    assert sorted(asyncio.run(read())) == ["channel0", "channel1", "channel2"], "and their own is none of these"
    path = f"moderation/channels?user_id={carol.id}"
    for token, message in (
        (twitch.oauth.token_for(carol, [])["access_token"], f"Missing scope: {scope}"),
        (twitch.oauth.token_for(alice, [scope])["access_token"], "The ID in user_id must match"),
        (app_token(twitch), "The ID in user_id must match"),
    ):
        refused = helix(twitch, "GET", path, token=token)
        assert refused[0] == 401
        assert message in refused[1]["message"]


def test_shoutouts_need_a_stream_and_patience(twitch, alice, bot):
    friend, other = twitch.user("friend"), twitch.user("other")
    token = twitch.oauth.token_for(bot, ["moderator:manage:shoutouts"])["access_token"]

    def shout(to):
        path = f"chat/shoutouts?from_broadcaster_id={alice.id}&to_broadcaster_id={to.id}&moderator_id={bot.id}"
        return helix(twitch, "POST", path, token=token)[0]

    assert shout(friend) == 400
    twitch.online("alice")
    assert [shout(friend), shout(friend), shout(other)] == [204, 429, 429]


# Saying


def say(twitch, channel, text, *, token=None, sender=None, **more):
    body = {"broadcaster_id": channel.id, "sender_id": sender or twitch.bot_user_id, "message": text, **more}
    return helix(twitch, "POST", "chat/messages", body, token=token or _token(twitch))


def test_what_the_bot_says_comes_back_to_it(twitch, receiver, alice, bot):
    subscribe(twitch, "channel.chat.message", broadcaster_user_id=alice.id, user_id=bot.id)
    enabled(twitch, "channel.chat.message")
    twitch.say("alice", "who are you?", chatter="bob", message_id="question")
    status, answer, _ = say(twitch, alice, "a bot", reply_parent_message_id="question")
    assert (status, answer["data"][0]["is_sent"]) == (200, True)
    eventually(lambda: len(receiver.of("channel.chat.message")) == 2)
    echo = receiver.of("channel.chat.message")[1]["event"]
    assert (echo["chatter_user_id"], echo["message_id"]) == (bot.id, answer["data"][0]["message_id"])
    assert echo["reply"]["parent_message_body"] == "who are you?"


def test_the_same_words_twice_are_dropped_unless_one_moderates(twitch, alice, bot):
    bob = twitch.user("bob")
    bob.consents.add("channel:bot")
    assert say(twitch, bob, "hello")[1]["data"][0]["is_sent"]
    assert say(twitch, bob, "hello")[1]["data"][0]["drop_reason"]["code"] == "msg_duplicate"
    assert say(twitch, bob, "hello!")[1]["data"][0]["is_sent"]
    assert [say(twitch, alice, "hello")[1]["data"][0]["is_sent"] for _ in range(2)] == [True, True]


def test_a_bot_without_consent_or_banned_may_not_speak(twitch, alice, bot):
    bob = twitch.user("bob")
    assert say(twitch, bob, "hello")[0] == 403
    twitch.ban(alice, bot)
    assert say(twitch, alice, "hello")[0] == 403
    token = twitch.oauth.token_for(bot, ["user:read:chat"])["access_token"]
    assert say(twitch, bob, "hello", token=token)[1]["message"] == "Missing scope: user:write:chat"


def test_limits_of_an_account_count_over_channels(twitch, alice, bot):
    bob = twitch.user("bob")
    bob.consents.add("channel:bot")
    twitch.chat_limits.is_enforced = True
    assert [say(twitch, bob, f"line {n}")[0] for n in range(21)] == [200] * 20 + [429]
    assert say(twitch, alice, "I moderate here")[0] == 200
    twitch.chat_limits.is_verified = True
    assert say(twitch, bob, "line 22")[0] == 200


def test_helix_counts_points_and_says_how_many_are_left(twitch, alice):
    twitch.points.per_min = 3
    token = app_token(twitch)
    answers = [helix(twitch, "GET", f"users?id={alice.id}", token=token) for _ in range(4)]
    assert [status for status, *_ in answers] == [200, 200, 200, 429]
    assert [headers["Ratelimit-Remaining"] for *_, headers in answers] == ["2", "1", "0", "0"]
    assert answers[3][2]["Ratelimit-Reset"].isdigit()
    assert "Retry-After" not in answers[3][2]


def test_faults_are_planned_for_any_path(twitch, alice):
    twitch.fail_next(429, at="users", Retry_After="2", Ratelimit_Reset="")
    status, _, headers = helix(twitch, "GET", "users?id=1")
    assert (status, headers["Retry-After"], "Ratelimit-Reset" in headers) == (429, "2", False)
    assert helix(twitch, "GET", "users?id=1")[0] == 200


# What happens in channels


def test_a_gift_is_an_event_for_each_and_one_for_all(twitch, receiver, alice):
    for type_ in ("channel.subscribe", "channel.subscription.gift", "channel.subscription.message"):
        subscribe(twitch, type_, broadcaster_user_id=alice.id)
        enabled(twitch, type_)
    twitch.gift("alice", "bob", 3)
    twitch.gift("alice", None, to=["carol"])
    twitch.resub("alice", "bob", "Two years!", months=24, streak=2)
    assert [each["event"]["is_gift"] for each in receiver.of("channel.subscribe")] == [True] * 4
    gifts = [each["event"] for each in receiver.of("channel.subscription.gift")]
    assert [(each["total"], each["is_anonymous"], each["user_id"] is None) for each in gifts] == [
        (3, False, False),
        (1, True, True),
    ]
    assert receiver.of("channel.subscription.message")[0]["event"]["cumulative_months"] == 24


def test_a_cheer_is_a_message_and_an_event(twitch, receiver, alice, bot):
    subscribe(twitch, "channel.chat.message", broadcaster_user_id=alice.id, user_id=bot.id)
    subscribe(twitch, "channel.cheer", broadcaster_user_id=alice.id)
    enabled(twitch, "channel.chat.message")
    enabled(twitch, "channel.cheer")
    twitch.cheer("alice", "bob", 100, "well played")
    twitch.cheer("alice", None, 5)
    message = receiver.of("channel.chat.message")[0]["event"]
    assert (message["message"]["text"], message["cheer"]) == ("Cheer100 well played", {"bits": 100})
    assert [(each["event"]["bits"], each["event"]["user_login"]) for each in receiver.of("channel.cheer")] == [
        (100, "bob"),
        (5, None),
    ]


def test_other_processes_fire_events_and_wait_for_answers(twitch, receiver, alice, bot):
    subscribe(twitch, "channel.follow", "2", broadcaster_user_id=alice.id, moderator_user_id=bot.id)
    enabled(twitch, "channel.follow")
    control = f"{twitch.url}/_control"
    assert ask("POST", f"{control}/event", {"kind": "follow", "channel": "alice", "user": "bob"})[0] == 200
    assert ask("POST", f"{control}/event", {"kind": "stop"})[0] == 400
    assert receiver.of("channel.follow")
    feed = ask("GET", f"{control}/feed?since=0")[1]
    assert [each["type"] for each in feed["feed"]][-1] == "channel.follow"
    timer = threading.Timer(0.2, lambda: say(twitch, alice, "hello"))
    timer.start()
    heard = ask("GET", f"{control}/messages?since=0&wait=4")[1]
    assert [each["message"] for each in heard["messages"]] == ["hello"]
    timer.join()
    with urllib.request.urlopen(f"{control}/stream?since={feed['last']}", timeout=5) as stream:
        assert stream.readline().startswith(b"id: ")
        assert json.loads(stream.readline().removeprefix(b"data: "))["event"]["message"]["text"] == "hello"
    assert {each["login"] for each in ask("GET", f"{control}/state")[1]["users"]} >= {"alice", "waddlebot"}


def test_who_stops_watching_the_feed_is_no_error(twitch, alice, caplog):
    with urllib.request.urlopen(f"{twitch.url}/_control/stream?since=0", timeout=5):
        eventually(lambda: twitch.feed._waiting)

    def is_gone():
        say(twitch, alice, "anybody there?")
        return not twitch.feed._waiting

    eventually(is_gone)
    assert not [each for each in caplog.records if each.name == "aiohttp.server"]


@pytest.mark.parametrize("pace", [{"per_s": 400}, {"per_s": None, "window": 4}], ids=["paced", "fast"])
def test_traffic_counts_what_is_lost_and_doubled(pace):
    server = pytest.importorskip("simulators.server")
    commands = itertools.count()

    def bot(request):
        event = request.json()["event"]
        if event["message"]["text"] == "!hi":
            number = next(commands)
            for _ in range({1: 0, 2: 2}.get(number, 1)):
                channel = twitch.accounts.get(event["broadcaster_user_id"])
                parent = {"reply_parent_message_id": event["message_id"]} if number % 2 else {}
                say(twitch, channel, "hi", **parent)
        return server.Reply(204)

    with simulators.TwitchSimulator() as twitch:
        app_token(twitch)
        callback = server.LoopbackServer(bot)
        twitch.callback = f"{callback.url}/twitch/webhook"
        control = f"{twitch.url}/_control/traffic"
        # So many channels that no two commands meet in one, where only their order would tell them apart.
        plan = {"count": 200, "channels": 1_000_000, "commands": 0.2, "command": "!hi", "settle_s": 0.5, **pace}
        assert ask("POST", control, plan)[0] == 200
        eventually(lambda: ask("GET", control)[1]["done"])
        report = ask("GET", control)[1]
        callback.stop()
    assert report["failed"] is None
    assert (report["sent"], report["statuses"], report["lost_deliveries"]) == (200, {"204": 200}, 0)
    assert 20 <= report["commands"] <= 60
    assert (report["answered"], report["lost"]) == (report["commands"] - 1, 1)
    assert report["doubled"] + report["unexpected"] == 1
    assert 0 < report["reply_ms"]["p50"] <= report["reply_ms"]["p99"]


def test_without_strictness_nothing_need_be_subscribed(receiver):
    with simulators.TwitchSimulator(post=receiver, secret=SECRET) as twitch:
        assert twitch.say("12826", "hello") == [204]
        assert twitch.follow("12826", "42") == [204]
        assert subscribe(twitch, "stream.online", broadcaster_user_id="12826")[0] == 202
        enabled(twitch, "stream.online")
        assert twitch.follow("12826", "43") == []
        assert twitch.online("12826") == [204]
    assert [body["subscription"]["type"] for _, body in receiver.got] == [
        "channel.chat.message",
        "channel.follow",
        "stream.online",
    ]
