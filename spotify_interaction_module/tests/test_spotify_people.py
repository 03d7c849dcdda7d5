"""What the module owes people and operators: forgetting, saying what is missing, and hiding what is switched off."""

from __future__ import annotations

import importlib

import pytest
from waddlebot.base.ids import new_id
from waddlebot.data.database import fetch

TABLES = {
    "spotify_tokens": "user_id",
    "spotify_players": "user_id",
    "spotify_links": "user_id",
    "spotify_search_cache": "user_id",
    "spotify_queue": "user_id",
    "spotify_history": "user_id",
    "spotify_now_playing": "requested_by_id",
}


@pytest.fixture
def app(fleet):
    """The module's composition root, as py4web has loaded it."""
    return importlib.import_module("apps.spotify_interaction_module.app")


def number_of(studio, name):
    (row,) = studio.bot.fleet.database.statement(
        "SELECT user_id FROM platform_identities WHERE platform = 'console' AND platform_user_id = %s", (name,)
    )
    return row["user_id"]


def rows_of(studio, number):
    with studio.bot.fleet.database.transaction() as db:
        counted = {
            table: fetch(db, f"SELECT count(*) AS n FROM {table} WHERE {column} = %s", (number,))[0]["n"]
            for table, column in TABLES.items()
        }
    return {table: n for table, n in counted.items() if n}


def test_somebody_is_shown_what_is_known_of_them_and_forgotten(stranger):
    who = f"fan{new_id()[-12:]}"
    assert stranger.connect(by=who).status == 200
    stranger.say("!spotify search icebreaker", by=who)
    stranger.say("!spotify play blue lagoon", by=who)
    stranger.say("!sr icebreaker", by=who)
    number = number_of(stranger, who)
    assert set(rows_of(stranger, number)) == set(TABLES)
    query = {"identities": f"console:{who}", "community_id": stranger.bot.slug}
    shown = stranger.bot.fleet.request("GET", "/spotify/people/export", query=query, key="portal").json()
    assert {each["kind"] for each in shown["items"]} == set(TABLES)
    assert "token" not in {name for each in shown["items"] for name in each}
    body = {"request_id": new_id(), "identities": [f"console:{who}"], "community_id": stranger.bot.slug}
    erased = stranger.bot.fleet.request("POST", "/spotify/people/erase", body, key="portal")
    assert erased.status == 200, erased.body
    assert rows_of(stranger, number) == {}
    history = stranger.ask("GET", "/spotify/history").json()["history"]
    assert [each["requested_by"] for each in history] == [""]
    # Their account plays no more, and the router knows it.
    assert "Nobody's Spotify plays here yet" in stranger.say("!spotify skip").chat
    kept = stranger.bot.fleet.request("GET", f"/router/communities/{stranger.bot.slug}/credentials/spotify").json()
    assert kept["credentials"]["kinds"] == [], kept


def test_without_an_app_chat_says_what_the_operator_or_the_owner_has_to_do(stranger, app, monkeypatch, caplog):
    monkeypatch.setattr(app.apps, "_fleets", None)
    monkeypatch.setattr(app.service, "configured", False)
    for line, level in {"!spotify search x": "member", "!np": "member", "!spotify connect": "owner"}.items():
        said = stranger.bot.say(line, by="somebody", level=level).chat
        assert "has to set SPOTIFY_CLIENT_ID and SPOTIFY_CLIENT_SECRET" in said, line
    assert stranger.bot.fleet.request("GET", "/spotify/health", key=None).json()["status"] == "unconfigured"
    answer = stranger.ask("POST", "/spotify/skip")
    assert (answer.status, answer.json()["error"]["code"]) == (503, "not_configured")
    # Whoever looks at the portal's page of music asks, and nothing has failed.
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_what_is_switched_off_is_in_no_list_and_refused_in_words(studio, app, monkeypatch):
    module = app.module
    monkeypatch.setattr(module, "_specs", dict(module._specs))
    monkeypatch.setattr(module, "_off", dict(module._off))
    module.switch_off("spotify", "queue", "request", why=app.OFF)
    assert studio.say("!spotify request icebreaker").chat == "Whoever runs this bot has switched that off."
    assert "request" not in studio.say("!spotify").chat
    assert studio.say("!spotify play icebreaker").chat.startswith("Playing")
    module.switch_off("sr", why=app.OFF)
    assert "sr" not in module._specs
