"""What goes wrong at Spotify: a sentence in chat, effects once, and no secret in any log."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from waddlebot.base.ids import new_id
from waddlebot.module.interaction import MODULES
from waddlebot.module.service import SERVICES
from waddlebot.testing.fleet import URL, cut_off

NO_ANSWER = "Spotify does not answer. Try again in a moment."
UNKNOWN = "Nobody can say whether this came about: skip to the next track. It is not tried again."


@pytest.fixture
def playing(studio):
    studio.player.play(*(studio.spotify.track(f"Fish {number}") for number in range(1, 9)))
    return studio


@pytest.mark.parametrize("kind", ["html", "truncated", "huge", "string error", 500, 502, "drop"])
def test_a_look_up_is_tried_again_and_then_given_up_in_words(playing, kind):
    playing.spotify.fail_next(kind, at="search")
    assert playing.say("!spotify search icebreaker").chat.startswith("1. “Icebreaker”")
    playing.spotify.fail_next(kind, at="me/player/devices", times=3)
    assert playing.say("!spotify devices").chat == NO_ANSWER
    assert playing.say("!spotify devices").chat.startswith("1. Studio")


@pytest.mark.parametrize("kind", ["after 500", "after drop", 500, "drop", "string error"])
def test_a_skip_of_which_nobody_knows_is_never_repeated(playing, kind):
    playing.spotify.fail_next(kind, at="me/player/next")
    playing.spotify.forget_calls()
    heard = playing.say("!spotify skip")
    assert (heard.chat, heard.statuses) == (UNKNOWN, ["unknown"])
    assert playing.spotify.calls("/me/player/next") == 1
    assert playing.player.skipped == (1 if "after" in str(kind) else 0)
    assert playing.say("!spotify skip").chat.startswith("Skipped")


def test_a_skip_that_hangs_is_given_up(playing):
    playing.spotify.fail_next("hang", at="me/player/next")
    assert playing.say("!spotify skip").chat == UNKNOWN


def test_what_certainly_was_not_done_is_done_after_a_short_wait(playing):
    playing.spotify.fail_next(429, at="me/player/next", headers={"Retry-After": "1"})
    assert playing.say("!spotify skip").chat.startswith("Skipped")
    assert playing.player.skipped == 1


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("!spotify skip", "skip to the next track"),
        ("!spotify pause", "pause the music"),
        ("!spotify resume", "resume the music"),
        ("!spotify play Icebreaker", "play “Icebreaker” – The Waddlers"),
        ("!spotify queue Icebreaker", "queue “Icebreaker” – The Waddlers"),
        ("!spotify volume 12", "set the volume to 12"),
        ("!spotify device Studio", "move the music to Studio"),
        ("!spotify playlist cold", "play “Cold Evenings”"),
    ],
)
def test_an_execution_that_was_cut_off_after_its_effect_does_nothing_more(playing, text, effect):
    playing.spotify.add_playlist("Cold Evenings", playing.name, playing.spotify.track("Fish 4"))
    playing.spotify.forget_calls()

    reply = cut_off(playing.bot, "spotify", text, effect)

    assert (reply["is_unknown"], reply["error_message"]) == (
        True,
        f"Nobody can say whether this came about: {effect}. It is not tried again.",
    )
    assert [each for each in playing.spotify.api.calls if each[0] != "GET"] == []


def test_hours_of_retry_after_are_told_and_kept_by_everybody(stranger, fleet):
    """With an app of the community's own, whose limits are its own."""
    secret = f"secret-{new_id()}"
    app = stranger.spotify.accounts.add_app(f"own-{new_id()}", secret)
    path = f"/router/communities/{stranger.bot.slug}/credentials/spotify"
    secrets = {"client_id": app.client_id, "client_secret": secret}
    assert fleet.request("PUT", path, {"secrets": secrets}).status == 200
    assert stranger.connect().status == 200
    stranger.spotify.fail_next(429, at="me/player/next", headers={"Retry-After": "7200"})
    heard = stranger.say("!spotify skip")
    assert heard.chat == "Spotify has had enough of this bot for now. Try again in about 2 hours."
    stranger.spotify.forget_calls()
    assert stranger.say("!spotify skip").chat.startswith("Spotify has had enough of this bot for now.")
    assert stranger.spotify.calls() == 0


def test_no_premium_and_not_on_the_list_are_sentences(playing):
    person = playing.spotify.accounts.people[playing.name]
    person.is_premium = False
    assert playing.say("!spotify skip").chat == (
        "The account that plays here has no Spotify Premium, and Spotify lets apps control Premium accounts only."
    )
    person.is_listed = False
    assert "an app in development mode has five places" in playing.say("!spotify current").chat
    answer = playing.ask("POST", "/spotify/skip")
    assert (answer.status, answer.json()["error"]["code"]) == (502, "not_on_the_list")


def test_a_token_that_is_refused_again_is_said(playing):
    playing.spotify.fail_next(401, at="me/player/devices", times=2)
    assert "connect the account again with !spotify connect" in playing.say("!spotify devices").chat
    assert playing.say("!spotify devices").chat.startswith("1. Studio")


def test_failures_are_counted(playing):
    playing.spotify.fail_next(500, at="me/player/next")
    playing.say("!spotify skip")
    figures = playing.bot.fleet.request("GET", "/spotify/metrics", headers={"Accept": "text/plain"}).body.decode()
    assert 'provider_calls_total{outcome="unclear",provider="spotify"}' in figures


def test_no_secret_is_in_any_log_at_debug(stranger, whole_log):
    link = stranger.link()
    stranger.connect()
    accounts = stranger.spotify.accounts
    app = accounts.app()
    basic = base64.b64encode(f"{app.client_id}:{app.client_secret}".encode()).decode()
    secrets = [link.partition("ticket=")[2], app.client_secret, basic]
    for kind in (500, "html", 401, 403, "string error", "truncated", "huge"):
        stranger.spotify.fail_next(kind, at="me/player/next")
        stranger.say("!spotify skip")
    accounts.expire(stranger.name)
    secrets += [each for token in accounts._refresh.values() for each in (token.access, token.refresh)]
    stranger.say("!spotify devices")
    accounts.revoke(stranger.name)
    stranger.say("!spotify devices")
    secrets += [each.access for each in accounts.tokens.values()]
    text = whole_log("spotify")
    assert "spotify" in text
    assert [secret[:12] for secret in secrets if secret in text] == []


LAZY = """
import sys
from waddlebot.base.settings import Settings
sys.path.insert(0, ".")
import importlib
importlib.import_module("spotify_interaction_module.services.player_service")
importlib.import_module("spotify_interaction_module.services.link_service")
importlib.import_module("spotify_interaction_module.controllers.chat")
sys.exit("spotipy" in sys.modules or "requests" in sys.modules)
"""


def test_the_sdk_is_loaded_when_somebody_is_first_asked():
    """In a process of its own, without the composition root."""
    root = Path(__file__).parents[2]
    stub = "import sys, types; m = types.ModuleType('spotify_interaction_module');"
    stub += f" m.__path__ = [{str(root / 'spotify_interaction_module')!r}]; sys.modules[m.__name__] = m\n"
    done = subprocess.run([sys.executable, "-c", stub + LAZY], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_localhost_is_read_as_the_address_that_spotify_takes(monkeypatch):
    settings = next(each for each in SERVICES if each.name == "spotify").settings
    assert settings.redirect_url == f"{URL}/spotify/auth/callback"
    written = settings.model_copy(update={"redirect_uri": "http://localhost:8026/spotify/auth/callback"})
    assert written.redirect_url == "http://127.0.0.1:8026/spotify/auth/callback"


def test_a_ticket_is_in_no_record_an_hour_after_it_was_told(stranger, fleet):
    heard = stranger.say("!spotify connect", by="owner", level="owner")
    [told] = heard.answer["responses"]
    ticket = parse_qs(urlsplit(told["response_data"]["message"].split()[4]).query)["ticket"][0]
    assert fleet.tables_with(ticket) == ["module_replies", "outbox"], "until it is said, and asked for again"

    assert fleet.request("POST", f"/router/outbox/{told['outbox_id']}", {"state": "sent"}).status == 200
    fleet.database.statement(
        "UPDATE module_replies SET created_at = now() - interval '61 minutes' WHERE execution_id = %s RETURNING id",
        (told["execution_id"],),
    )
    module = next(each for each in MODULES.values() if each.service.name == "spotify")
    module._forget_replies()

    assert fleet.tables_with(ticket) == []
