"""The simulated Discord is what py-cord takes for Discord, traps included."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from waddlebot.testing.plugin import eventually
from waddlebot.web.http import HTTPClient

from simulators.discord import MANAGE_MESSAGES, DiscordSimulator

discord = pytest.importorskip("discord")


@pytest.fixture
def world() -> Iterator[DiscordSimulator]:
    with DiscordSimulator(hurried=True) as simulator:
        yield simulator


class Client:
    """A plain py-cord bot in a loop and thread of its own, as a collector's process has one."""

    def __init__(self, world: DiscordSimulator, kind=None, **options) -> None:
        self.heard: list[tuple[str, tuple]] = []
        self.failed: BaseException | None = None
        self.bot = None
        self._kind = kind or discord.AutoShardedBot
        self._options = options
        self._world = world
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._ended = threading.Event()

    def __enter__(self) -> Client:
        self._before = discord.http.Route.API_BASE_URL
        discord.http.Route.API_BASE_URL = self._world.url + "/api/v{API_VERSION}"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bot is not None and not self._ended.is_set():
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(self.bot.close(), self.bot.loop).result(5)
        self._thread.join(10)
        discord.http.Route.API_BASE_URL = self._before

    def do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.bot.loop).result(10)

    def names(self) -> list[str]:
        return [name for name, _ in self.heard]

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def _run(self) -> None:
        intents = discord.Intents(guilds=True, guild_messages=True, message_content=True, members=True)
        defaults = {"auto_sync_commands": False, "cache_default_sounds": False, "max_messages": None}
        defaults |= {"chunk_guilds_at_startup": False, "guild_ready_timeout": 0.1}
        self.bot = self._kind(loop=asyncio.get_running_loop(), intents=intents, **{**defaults, **self._options})
        for name in ("message", "ready", "resumed", "guild_available"):
            self.bot.event(self._listener(name))
        try:
            await self.bot.start(self._world.token)
        except Exception as err:  # noqa: BLE001 - what it ended with is what some tests ask for
            self.failed = err
        finally:
            self._ended.set()
            with contextlib.suppress(Exception):
                await self.bot.close()

    def _listener(self, name):
        async def listen(*args):
            self.heard.append((name, args))

        listen.__name__ = f"on_{name}"
        return listen


def test_a_bot_connects_hears_and_answers(world):
    guild = world.add_guild("Demo")
    channel = world.add_channel(guild)
    with Client(world) as client:
        eventually(lambda: "ready" in client.names(), within_s=30)
        world.say(channel, "hello", user="42", name="Ann")
        eventually(lambda: "message" in client.names())
        message = next(args[0] for name, args in client.heard if name == "message")
        client.do(message.channel.send("hi"))

    assert (message.content, message.author.name, message.guild.id) == ("hello", "ann", int(guild.id))
    assert [said.content for said in world.messages] == ["hi"]


def test_what_was_missed_is_replayed_to_who_resumes(world):
    channel = world.add_channel(world.add_guild())
    with Client(world) as client:
        eventually(lambda: "ready" in client.names(), within_s=30)
        world.reconnect()
        world.say(channel, "while away")
        eventually(lambda: "message" in client.names() and "resumed" in client.names(), within_s=30)

    assert world.gateway.resumes == [True]


def test_a_message_with_one_nonce_is_said_once(world):
    channel = world.add_channel(world.add_guild())
    with Client(world) as client:
        eventually(lambda: "ready" in client.names(), within_s=30)
        place = client.bot.get_partial_messageable(int(channel.id))
        first = client.do(place.send("once", nonce="n1", enforce_nonce=True))
        second = client.do(place.send("once", nonce="n1", enforce_nonce=True))

    assert first.id == second.id
    assert len(world.messages) == 1


@pytest.mark.parametrize(("content", "code"), [("x" * 2001, 50035), ("", 50006)])
def test_what_discord_does_not_take_it_refuses_with_its_codes(world, content, code):
    channel = world.add_channel(world.add_guild())
    with Client(world) as client:
        eventually(lambda: "ready" in client.names(), within_s=30)
        with pytest.raises(discord.HTTPException) as refused:
            client.do(client.bot.http.send_message(channel.id, content))

    assert refused.value.code == code


def test_privileged_intents_have_to_be_switched_on(world):
    world.forbid_intents()
    world.add_guild()
    with Client(world) as client:
        eventually(lambda: client.has_ended, within_s=30)

    assert isinstance(client.failed, discord.PrivilegedIntentsRequired)


def test_a_wrong_token_is_refused(world):
    world.rest.token = "another"
    with Client(world) as client:
        eventually(lambda: client.has_ended, within_s=30)

    assert isinstance(client.failed, discord.LoginFailure)


def test_answers_are_json_without_a_charset(world):
    """py-cord reads anything else as text and fails."""
    answer = HTTPClient().request("GET", f"{world.url}/api/v10/gateway", keep_headers=True)

    assert answer.status == 401
    assert answer.headers["content-type"] == "application/json"


def test_a_missing_soundboard_keeps_a_plain_bot_from_being_ready(world):
    """Which is why the collector does not ask for it."""
    world.rest.has_soundboard = False
    world.add_guild()
    with Client(world, discord.Bot, cache_default_sounds=True) as client:
        eventually(lambda: any(request.path.endswith("sounds") for request in world.rest.requests), within_s=30)
        eventually(lambda: world.gateway.sessions)
        assert "ready" not in client.names()


def test_a_malformed_dispatch_ends_py_cords_own_client(world):
    """Which is why the collector guards what reads dispatches."""
    world.add_guild()
    with Client(world) as client:
        eventually(lambda: "ready" in client.names(), within_s=30)
        world.malformed()
        eventually(lambda: client.has_ended, within_s=30)

    assert client.failed is not None


def test_commands_are_registered_for_each_shard_unless_that_is_switched_off(world):
    """Which is why the collector tells Discord of commands by itself."""
    for shard in (0, 1):
        world.add_guild(shard=shard, of=2)
    with Client(world, shard_count=2, auto_sync_commands=True):
        eventually(
            lambda: sum(request.path.endswith("/commands") for request in list(world.rest.requests)) >= 2, within_s=30
        )


def test_too_many_messages_in_a_channel_are_limited_and_waited_for(world):
    world.rest.message_limit, world.rest.message_per_s = 2, 1.0
    channel = world.add_channel(world.add_guild())
    with Client(world) as client:
        eventually(lambda: "ready" in client.names(), within_s=30)
        place = client.bot.get_partial_messageable(int(channel.id))
        for number in range(5):
            client.do(place.send(str(number)))

    assert [said.content for said in world.messages] == ["0", "1", "2", "3", "4"]
    assert all(request.status != 429 for request in world.rest.requests if request.method == "POST")


def test_messages_are_read_changed_and_go_on_in_threads(world):
    guild = world.add_guild("Demo")
    channel = world.add_channel(guild)
    asked = world.say(channel, "ping", user="42")
    with Client(world) as client:
        eventually(lambda: "ready" in client.names(), within_s=30)
        place = client.bot.get_channel(int(channel.id))
        file = discord.File(io.BytesIO(b"pixels"), "picture.png")
        sent = client.do(place.send(embed=discord.Embed(title="A card"), file=file))
        client.do(sent.edit(content="changed"))
        read = client.do(place.fetch_message(sent.id))
        thread = client.do(read.create_thread(name="About it"))
        client.do(thread.send("below"))
        by_number = client.do(client.bot.guilds[0].query_members(user_ids=[42, 1]))
        by_name = client.do(client.bot.guilds[0].query_members("USER4"))
        with pytest.raises(discord.Forbidden):
            client.do(place.get_partial_message(int(asked)).edit(content="not mine"))
        with pytest.raises(discord.NotFound):
            client.do(place.fetch_message(1))

    assert (read.content, read.embeds[0].title, read.attachments[0].filename) == ("changed", "A card", "picture.png")
    assert read.edited_at is not None
    assert (thread.parent_id, thread.id) == (int(channel.id), sent.id)
    assert [each.id for each in by_number] == [each.id for each in by_name] == [42]
    assert [said.content for said in world.messages] == ["", "below"]


def test_what_discord_does_not_take_is_refused(world):
    channel = world.add_channel(world.add_guild("Demo"))
    url = f"{world.url}/api/v10/channels/{channel.id}/messages"
    headers = {"Authorization": f"Bot {world.token}", "Content-Type": "application/json"}

    def status(**body):
        return HTTPClient().request("POST", url, body=json.dumps(body).encode(), headers=headers).status

    assert status(content="hello", nonce="n" * 25) == 200
    assert status(content="hello", nonce="n" * 26) == 400
    assert status(content="", embeds=[]) == 400
    assert status(content="", embeds=[{"title": "x"}] * 11) == 400


def test_a_persons_token_opens_what_they_agreed_to(world):
    guilds = [world.add_guild(f"Server {number}", owner="42" if number == 1 else "") for number in range(3)]
    for guild in guilds:
        world.person(guild, "42", roles=[guild.add_role("Moderators", MANAGE_MESSAGES)])
    world.add_guild("Elsewhere")

    def token(scope: str) -> str:
        back = world.rest.identify("42", state="s", redirect_uri="https://bot.example/back", scope=scope)
        asked = {
            "client_id": world.world.application_id,
            "client_secret": world.client_secret,
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(back).query)["code"][0],
            "redirect_uri": "https://bot.example/back",
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{world.url}/api/v10/oauth2/token"
        granted = HTTPClient().request("POST", url, body=urlencode(asked).encode(), headers=headers).json()
        assert granted["scope"] == scope
        return str(granted["access_token"])

    def get(path: str, bearer: str):
        headers = {"Authorization": f"Bearer {bearer}"}
        return HTTPClient().request("GET", f"{world.url}/api/v10{path}", headers=headers)

    both, alone = token("identify guilds"), token("identify")
    assert [get("/users/@me", each).status for each in (both, alone, token("guilds"))] == [200, 200, 401]
    assert [get("/users/@me/guilds", each).status for each in (both, alone)] == [200, 401]
    assert get("/applications/@me", both).status == 401
    mine = get("/users/@me/guilds", both).json()
    assert [each["name"] for each in mine] == ["Server 0", "Server 1", "Server 2"]
    assert [each["owner"] for each in mine] == [False, True, False]
    assert all(int(each["permissions"]) & MANAGE_MESSAGES for each in mine)
    second = get(f"/users/@me/guilds?limit=1&after={mine[0]['id']}", both).json()
    assert [each["id"] for each in second] == [mine[1]["id"]]
    assert get("/users/@me/guilds?limit=201", both).status == 400
