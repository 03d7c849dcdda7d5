"""Two modules have one command and share it by name: which of them answers is the community's choice (contracts §6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from waddlebot.base.contracts import ModuleRegistration
from waddlebot.community.tokens import Grant
from waddlebot.module.service import SERVICES
from waddlebot.testing.module_stub import ModuleStub, chat, reply_to
from waddlebot.testing.plugin import eventually

YOUTUBE, SPOTIFY = "youtube_music", "spotify"


@dataclass
class Player:
    """A small music module, outside of this checkout."""

    fleet: object
    server: ModuleStub
    name: str

    def register(self, *, shared: str = "music", priority: int = 100, provider: str | None = None) -> None:
        command = {"command": "track", "shared": shared, "priority": priority, "description": f"as {self.name}"}
        body = {
            "module_name": self.name,
            "module_version": "1",
            "endpoint_url": f"http://{self.server.address}/{self.name}",
            "commands": [command],
            "credentials": [{"provider": provider}] if provider else [],
        }
        assert self.fleet.request("POST", "/api/modules/register", body, key=self.name).status == 200

    def beat(self, **fields) -> None:
        body = {"module_name": self.name, **fields}
        assert self.fleet.request("POST", "/api/modules/heartbeat", body, key=self.name).status == 200


@pytest.fixture(scope="module", autouse=True)
def _the_real_ones_come_back(fleet):
    """What is played here takes the places of this checkout's own modules."""
    yield
    for name in (YOUTUBE, SPOTIFY):
        service = next((each for each in SERVICES if each.name == name), None)
        fleet.database.statement("DELETE FROM collector_modules WHERE module_name = %s", (name,))
        if service is not None:
            service.activity_changed.set()
            eventually(lambda name=name: is_registered(fleet, name), within_s=20)


def is_registered(fleet, name) -> bool:
    sql = "SELECT 1 FROM commands WHERE module_name = %s AND command = 'sr' AND is_active"
    return bool(fleet.database.statement(sql, (name,)))


@pytest.fixture
def players(fleet, bot, stub) -> Iterator[tuple[Player, Player]]:
    """YouTube, which needs nothing of the community, and Spotify, which needs a token; YouTube is the first."""

    def play(call):
        name = stub.paths[-1].strip("/")
        return reply_to(call, chat(f"{name} plays"), module_name=name)

    stub.behaviour = play
    made = []
    for name in (YOUTUBE, SPOTIFY):
        if name not in fleet.keys:
            fleet.keys[name] = fleet.make_key(name, "services", module_name=name)
        made.append(Player(fleet, stub, name))
        made[-1].register(priority=10 + len(made), provider="spotify" if name == SPOTIFY else None)
        bot.install(name)
    yield tuple(made)
    for service in SERVICES:
        if service.name in (YOUTUBE, SPOTIFY):
            register_again(fleet, service)


def register_again(fleet, service):
    """Give the real module its name back."""
    url = f"{service.url}{service.manifest.prefix}/execute"
    registration = ModuleRegistration(
        module_name=service.name,
        module_version=service.version,
        endpoint_url=url,
        commands=[each.model_copy(update={"location_url": url}) for each in service.manifest.commands],
        settings=service.manifest.settings,
        credentials=service.manifest.credentials,
    )
    body = registration.model_dump(mode="json")
    assert fleet.request("POST", "/api/modules/register", body, key=service.name).status == 200


def choose(fleet, bot, music, at=None):
    where = f"entities/{at}" if at else f"communities/{bot.slug}"
    done = fleet.request("PUT", f"/router/{where}/modules/router", {"config": {"music": music}})
    assert done.status == 200, done.body


def connect(bot, provider="spotify"):
    """As Spotify's own page would, once its consent is there."""
    service = SERVICES[0]
    grant = Grant("access", "refresh", datetime.now(UTC) + timedelta(hours=1))
    with service.database.transaction() as db:
        service.credentials.keep_token(db, bot.community_id, provider, grant)
    service.credentials.tell(bot.community_id, provider)


def test_one_of_them_answers_and_the_setting_says_which(fleet, bot, players):
    heard = bot.say("!track")
    assert (heard.chat, heard.statuses) == ("youtube_music plays", ["success"])
    choose(fleet, bot, SPOTIFY)
    assert bot.say("!track").chat == "spotify plays"
    assert "!track – as spotify" in bot.say("!help").chat
    choose(fleet, bot, YOUTUBE)
    assert bot.say("!track").chat == "youtube_music plays"


def test_a_channel_may_choose_another_than_its_community(fleet, bot, players):
    bot.say("hi", channel="party")
    choose(fleet, bot, SPOTIFY, at=f"console:{bot.slug}:party")
    assert bot.say("!track", channel="party").chat == "spotify plays"
    assert bot.say("!track").chat == "youtube_music plays"


def test_auto_is_the_one_with_credentials_that_plays_else_the_first_with_credentials(fleet, bot, players):
    youtube, spotify = players
    youtube.register(priority=11, provider="youtube")  # Now both need something of the community.
    assert bot.say("!track").chat == "youtube_music plays"  # Nobody has anything: the first says what to do.
    connect(bot)
    assert bot.say("!track").chat == "spotify plays"
    connect(bot, "youtube")
    assert bot.say("!track").chat == "youtube_music plays"
    spotify.beat(active_in=[bot.community_id])
    assert bot.say("!track").chat == "spotify plays"
    spotify.beat()  # Which says nothing about that.
    assert bot.say("!track").chat == "spotify plays"
    other = fleet.bot()
    other.install(YOUTUBE)
    assert other.say("!track").chat == "youtube_music plays"  # Nor is it anybody else's business.
    spotify.beat(active_in=[])
    assert bot.say("!track").chat == "youtube_music plays"


def test_what_the_community_connected_goes_before_the_operators_key(fleet, bot, players):
    youtube, _ = players
    assert bot.say("!track").chat == "youtube_music plays"
    connect(bot)
    assert bot.say("!track").chat == "spotify plays"
    youtube.beat(status="unconfigured")
    assert bot.say("!track").chat == "spotify plays"


def test_what_the_setting_names_is_passed_over_while_it_is_off(fleet, bot, players):
    choose(fleet, bot, SPOTIFY)
    fleet.request("PUT", f"/router/communities/{bot.slug}/modules/spotify", {"enabled": False})
    assert bot.say("!track").chat == "youtube_music plays"


def test_unshared_commands_of_one_name_are_all_called(fleet, bot, players):
    _, spotify = players
    spotify.register(shared="", priority=12)
    assert bot.say("!track").chat == "youtube_music plays\nspotify plays"


def test_a_token_that_was_refused_is_no_credential(fleet, bot, players):
    players[0].register(priority=11, provider="youtube")
    connect(bot)
    connect(bot, "youtube")
    service = SERVICES[0]
    fleet.database.statement(
        "UPDATE community_credentials SET state = 'needs_reauth' WHERE community_id = %s AND provider = 'youtube'",
        (bot.community_id,),
    )
    service.credentials.tell(bot.community_id, "youtube")
    assert bot.say("!track").chat == "spotify plays"


def test_the_library_tells_the_router_at_once_where_a_module_is_at_work(fleet, bot):
    service = next(each for each in SERVICES if each.name == "inventory")

    def is_at_work() -> bool:
        (row,) = fleet.database.statement("SELECT active_in FROM collector_modules WHERE module_name = 'inventory'")
        return bot.community_id in row["active_in"]

    try:
        for at_work in ([bot.community_id], []):
            service.active_in = lambda at_work=at_work: at_work
            service.activity_changed.set()
            eventually(lambda at_work=at_work: is_at_work() is bool(at_work))
    finally:
        service.active_in = None
