"""What a community gives for other services: goes in, is used by modules, and is told to nobody (contracts §6)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from waddlebot.base.encryption import CannotOpen, Keyring
from waddlebot.base.errors import NotConfigured
from waddlebot.base.logs import AAALog
from waddlebot.base.settings import Settings
from waddlebot.community.credentials import Credentials, NoCredentials
from waddlebot.community.tokens import Grant, NeedsReauth, RefreshRefused
from waddlebot.fleet.home import make_encryption_key
from waddlebot.module.service import SERVICES

SECRET = "sk-very-secret-indeed"


@pytest.fixture
def asking(fleet, stub):
    """A module that wants a community's key at openai, and its token at spotify."""
    wants = [
        {"provider": "openai", "fields": ["api_key"], "why": "!ai answers with your own key"},
        {"provider": "spotify", "why": "!sr plays on your account"},
        {"provider": "tokens_only", "why": "!sr plays elsewhere"},
    ]
    stub.register(fleet, more={"credentials": wants})
    return stub


@pytest.fixture
def credentials() -> Credentials:
    """As a module's process has them."""
    return SERVICES[0].credentials


@pytest.fixture
def call(fleet, bot):
    def request(method, provider="openai", key="console", **secrets):
        path = f"/router/communities/{bot.slug}/credentials" + (f"/{provider}" if provider else "")
        return fleet.request(method, path, {"secrets": secrets} if method == "PUT" else None, key=key)

    return request


def test_a_module_finds_what_its_community_gave_and_a_change_at_once(call, bot, asking, credentials):
    assert credentials.find(bot.community_id, "openai") is None
    with pytest.raises(NoCredentials, match="no credentials for openai yet"):
        credentials.get(bot.community_id, "openai")
    assert call("PUT", api_key=f" {SECRET} ").status == 200
    assert credentials.get(bot.community_id, "openai") == {"api_key": SECRET}
    call("PUT", api_key="another")
    assert credentials.find(bot.community_id, "openai") == {"api_key": "another"}
    assert call("DELETE").status == 200
    assert credentials.find(bot.community_id, "openai") is None
    assert call("DELETE").status == 404


def test_what_is_told_are_kinds_and_dates(call, bot, asking, fleet, caplog):
    empty = call("GET").json()["credentials"]
    assert (empty["fields"], empty["kinds"]) == (["api_key"], [])
    assert {"module_name": "stub", "why": "!ai answers with your own key"} in empty["modules"]

    answers = [call("PUT", api_key=SECRET), call("GET"), call("GET", provider=None)]
    (kind,) = answers[1].json()["credentials"]["kinds"]
    assert (kind["kind"], kind["fields"], kind["needs_reauth"]) == ("secret", ["api_key"], False)
    assert datetime.fromisoformat(kind["created_at"]) <= datetime.now(UTC)
    listed = {each["provider"]: len(each["kinds"]) for each in answers[2].json()["credentials"]}
    assert (listed["openai"], listed["spotify"]) == (1, 0)
    bot.say("!stub")
    rows = fleet.database.statement("SELECT t::text FROM community_credentials t")
    assert rows
    for shown in (*(each.body.decode() for each in answers), str(rows), caplog.text, json.dumps(asking.calls)):
        assert SECRET not in shown


@pytest.mark.parametrize(
    ("secrets", "field"),
    [
        ({}, "secrets"),
        ({"api_key": " "}, "secrets.api_key"),
        ({"api_key": SECRET, "base_url": "x"}, "secrets.base_url"),
        ({"api_key": "https://evil.example/v1"}, "secrets.api_key"),
        ({"api_key": SECRET * 300}, "secrets.api_key"),
    ],
)
def test_what_a_provider_does_not_take_is_refused_by_name_and_never_echoed(call, asking, secrets, field):
    refused = call("PUT", **secrets)
    assert refused.status == 422
    details = refused.json()["error"]["details"]
    assert field in (details.get("field"), details.get("fields", [{}])[0].get("field"))
    assert SECRET not in refused.body.decode()
    assert call("GET").json()["credentials"]["kinds"] == []


def test_who_uses_nothing_and_what_needs_consent_is_said(call, asking):
    assert (call("PUT", "winamp", api_key="x").status, call("GET", "winamp").status) == (404, 404)
    refused = call("PUT", "tokens_only", api_key="x")
    assert (refused.status, "consent" in refused.json()["error"]["message"]) == (422, True)


def test_only_the_communitys_owner_and_admins_may(call, fleet, bot, asking):
    path = f"/router/communities/{bot.slug}/credentials/openai"
    own = fleet.make_key(f"own-{bot.slug}", "api-users", community_id=bot.community_id)

    def as_person(method, right, community_id=bot.community_id):
        body = {"secrets": {"api_key": SECRET}} if method == "PUT" else None
        asked = {"community_id": community_id, "right": right, "area": "settings"}
        return fleet.request_for(method, path, body, **asked).status

    assert as_person("PUT", "owner") == 200
    for method in ("GET", "PUT", "DELETE"):
        for key in (own, "stub", "inventory", "twitch", None):
            assert call(method, key=key, **({"api_key": "x"} if method == "PUT" else {})).status in (401, 403)
        assert as_person(method, "editor") == 403
        assert as_person(method, "owner", fleet.bot().community_id) == 403
    assert call("GET").json()["credentials"]["kinds"]


def test_no_two_communities_and_no_other_kind_share_a_secret(call, fleet, bot, asking, credentials):
    call("PUT", api_key=SECRET)
    other = fleet.bot()
    assert credentials.find(other.community_id, "openai") is None
    fleet.database.statement(
        "INSERT INTO community_credentials (owner_id, access_token) SELECT %s, access_token FROM community_credentials"
        " WHERE owner_id = %s",
        (f"{other.community_id}:openai:secret", f"{bot.community_id}:openai:secret"),
    )
    credentials.tell(other.community_id, "openai")
    with pytest.raises(CannotOpen):
        credentials.find(other.community_id, "openai")


def test_without_the_keys_nothing_opens_and_nothing_is_kept(call, bot, asking, fleet):
    call("PUT", api_key=SECRET)
    for keys, error in ((None, CannotOpen), (make_encryption_key("other"), CannotOpen)):
        keyring = Keyring(Settings(DATABASE_URL="postgresql://h/d", WADDLEBOT_ENCRYPTION_KEYS=keys))
        blind = Credentials(fleet.database, SERVICES[0].bus, keyring, log=AAALog("test", "1"))
        with pytest.raises(error):
            blind.find(bot.community_id, "openai")
        if keys is None:
            with fleet.database.transaction() as db, pytest.raises(NotConfigured):
                blind.keep(db, bot.community_id, "openai", {"api_key": "x"})


def test_a_granted_token_is_refreshed_and_its_end_is_told(call, bot, asking, credentials, fleet):
    community = bot.community_id
    with fleet.database.transaction() as db:
        credentials.keep_token(db, community, "spotify", Grant("a1", "r1", datetime.now(UTC), ("playback",)))
    fresh = credentials.fresh_token(community, "spotify", lambda token: Grant("a2", token.refresh + "+"))
    assert (fresh.access, fresh.refresh, fresh.scopes) == ("a2", "r1+", ("playback",))

    def refuse(_):
        raise RefreshRefused("Spotify took it back")

    with pytest.raises(NeedsReauth, match="Spotify took it back"):
        credentials.fresh_token(community, "spotify", refuse, refused=fresh)
    (kind,) = call("GET", "spotify").json()["credentials"]["kinds"]
    assert (kind["kind"], kind["needs_reauth"], kind["reason"]) == ("token", True, "Spotify took it back")
    assert call("DELETE", "spotify").status == 200
    assert call("GET", "spotify").json()["credentials"]["kinds"] == []


def test_a_community_that_is_deleted_takes_its_secrets_along(call, bot, asking, credentials, fleet):
    call("PUT", api_key=SECRET)
    with fleet.database.transaction() as db:
        credentials.keep_token(db, bot.community_id, "spotify", Grant("a", "r", datetime.now(UTC) + timedelta(days=1)))
    fleet.database.statement("DELETE FROM communities WHERE id = %s", (bot.community_id,))
    left = fleet.database.statement("SELECT FROM community_credentials WHERE community_id = %s", (bot.community_id,))
    assert left == []
