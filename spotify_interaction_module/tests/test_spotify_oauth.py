"""The way in: a ticket that works once, a state, one browser's cookie; whose account plays, and by which app."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from spotify_studio import Browser
from waddlebot.data.database import fetch
from waddlebot.testing.fleet import URL
from waddlebot.testing.plugin import eventually


def tokens(studio):
    return studio.bot.fleet.database.statement(
        "SELECT * FROM spotify_tokens WHERE community_id = %s ORDER BY user_id", (studio.bot.community_id,)
    )


def text_of(page):
    return html.unescape(re.sub(r"<[^>]+>|\s+", " ", page.body.decode()))


def test_the_link_is_private_and_works_once_in_one_browser(stranger):
    studio = stranger
    heard = studio.bot.say("!spotify connect", by="owner", level="owner")
    (said,) = heard.answer["responses"]
    assert said["response_data"]["private"] is True
    link = re.search(r"http\S+", said["response_data"]["message"])[0]
    fleet, browser = studio.bot.fleet, Browser(studio.bot.fleet)
    preview = fleet.request(
        "GET", link.removeprefix(URL), key=None, headers={"User-Agent": "Slackbot-LinkExpanding 1.0"}
    )
    assert preview.status == 200  # Which has not used it up.
    sent = browser.get(link)
    asked = parse_qs(urlsplit(sent.headers["location"]).query)
    assert asked["redirect_uri"] == [f"{URL}/spotify/auth/callback"]
    assert "playlist-read-private" in asked["scope"][0]
    assert "HttpOnly" in sent.headers["set-cookie"]
    assert Browser(fleet).get(link).status == 409
    back = studio.spotify.accounts.authorize(sent.headers["location"], user=studio.name)
    assert Browser(fleet).get(back).status == 403  # Another browser; the state is used up by it.
    assert browser.get(back).status == 409
    assert tokens(studio) == []
    done = studio.connect()
    assert f"The account {studio.name.title()} plays for" in text_of(done)


@pytest.mark.parametrize("ticket", ["", "nonsense", "x" * 256])
def test_without_a_ticket_nobody_is_sent_anywhere(fleet, ticket):
    answer = Browser(fleet).get(f"{URL}/spotify/auth/login?ticket={ticket}")
    assert (answer.status, "location" in answer.headers) == (400, False)
    assert "!spotify connect" in text_of(answer)
    assert Browser(fleet).get(f"{URL}/spotify/auth/callback?code=x&state={ticket}").status == 400


def test_an_old_ticket_and_a_refusal_change_nothing(stranger):
    link, browser = stranger.link(), Browser(stranger.bot.fleet)
    stranger.bot.fleet.database.statement("UPDATE spotify_links SET created_at = now() - interval '11 minutes'")
    assert browser.get(link).status == 410
    sent = browser.get(stranger.link())
    back = stranger.spotify.accounts.authorize(sent.headers["location"], user=stranger.name, deny=True)
    assert "You did not let the bot use your Spotify" in text_of(browser.get(back))
    sent = browser.get(stranger.link())
    state = parse_qs(urlsplit(sent.headers["location"]).query)["state"][0]
    wrong = browser.get(f"{URL}/spotify/auth/callback?code=forged&state={state}")
    assert (wrong.status, "does not take the code" in text_of(wrong)) == (400, True)
    assert tokens(stranger) == []


def test_tokens_are_sealed_with_what_was_really_granted(stranger):
    page = stranger.connect(grant=["user-read-playback-state"])
    assert "You have not granted" in text_of(page)
    (row,) = tokens(stranger)
    assert row["scope"] == "user-read-playback-state"
    secrets = [each for token in stranger.spotify.accounts.tokens.values() for each in (token.access, token.refresh)]
    assert not any(secret in str(row) for secret in secrets)
    assert stranger.say("!spotify skip").chat == (
        "The account that plays here has not granted that: connect it again with !spotify connect, and agree to all."
    )


def test_whose_account_plays_changes_only_by_an_owner(studio):
    friend = f"{studio.name}dj"
    studio.spotify.user(friend, devices=["Decks"])
    page = studio.connect(by="dj", level="moderator", user=friend)
    assert "once the community's owner chooses it" in text_of(page)
    assert studio.say("!spotify devices").chat.startswith("1. Studio (active)")
    assert studio.bot.say("!spotify account @dj", by="dj", level="moderator").statuses == ["denied"]
    listed = studio.bot.say("!spotify account", by="owner", level="owner").chat
    assert f"{studio.name.title()} (Owner) – plays here" in listed and f"{friend.title()} (Dj)" in listed
    assert studio.bot.say("!spotify account @dj", by="owner", level="owner").chat == (
        f"{friend.title()}'s Spotify plays here from now on."
    )
    assert studio.say("!spotify devices").chat.startswith("1. Decks (active)")
    accounts = studio.ask("GET", "/spotify/account").json()["accounts"]
    assert {each["account_name"]: each["plays"] for each in accounts} == {
        studio.name.title(): False,
        friend.title(): True,
    }
    owner = next(each["own_id"] for each in accounts if each["account_name"] == studio.name.title())
    assert studio.ask("PUT", "/spotify/account", own_id=owner).status == 200
    assert studio.say("!spotify devices").chat.startswith("1. Studio (active)")
    assert studio.ask("PUT", "/spotify/account", own_id=owner + 10_000).status == 404


def test_the_owner_can_take_the_credential_away(studio):
    path = f"/router/communities/{studio.bot.slug}/credentials/spotify"
    kept = studio.bot.fleet.request("GET", path).json()
    assert "token" in str(kept) and "user:" not in str(kept)
    assert studio.bot.fleet.request("DELETE", path).status == 200
    assert studio.say("!spotify skip").chat == (
        "Nobody's Spotify plays here yet: this community's owner types !spotify connect."
    )


def test_the_portal_makes_links_for_an_owner(stranger, fleet):
    own_id = _number(stranger)
    body = {"community_id": stranger.bot.slug, "own_id": own_id}
    made = fleet.request_for("POST", "/spotify/auth/links", body, community_id=stranger.bot.community_id, area="music")
    assert made.status == 200, made.body
    assert made.json()["url"].startswith(f"{URL}/spotify/auth/login?ticket=")
    refused = fleet.request_for(
        "POST", "/spotify/auth/links", body, community_id=stranger.bot.community_id, area="music", right="editor"
    )
    assert refused.status == 403
    browser = Browser(fleet)
    back = stranger.spotify.accounts.authorize(browser.get(made.json()["url"]).headers["location"], user=stranger.name)
    assert "plays for" in text_of(browser.get(back))
    assert fleet.request("POST", "/spotify/auth/links", body).status == 403
    unknown = {**body, "own_id": 2**40}
    assert fleet.request("POST", "/spotify/auth/links", unknown, key="portal").status == 404


def _number(studio):
    studio.bot.say("hello", by="owner", level="owner")
    with studio.bot.fleet.database.transaction() as db:
        (row,) = fetch(
            db,
            "SELECT m.user_id FROM community_memberships m JOIN platform_identities i ON i.user_id = m.user_id"
            " WHERE m.community_id = %s AND i.platform_user_id = 'owner' LIMIT 1",
            (studio.bot.community_id,),
        )
    return row["user_id"]


def test_a_community_may_bring_its_own_app(stranger, fleet):
    app = stranger.spotify.accounts.add_app(f"own-{stranger.name}", "s3cret-of-their-own")
    path = f"/router/communities/{stranger.bot.slug}/credentials/spotify"
    secrets = {"client_id": app.client_id, "client_secret": "s3cret-of-their-own"}
    assert fleet.request("PUT", path, {"secrets": secrets}).status == 200
    browser = Browser(fleet)
    sent = browser.get(stranger.link())
    assert f"client_id={app.client_id}" in sent.headers["location"]
    browser.get(stranger.spotify.accounts.authorize(sent.headers["location"], user=stranger.name))
    stranger.spotify.accounts.expire(stranger.name)
    assert stranger.say("!spotify play blue lagoon").chat == "Playing “Blue Lagoon” – The Waddlers."
    assert {
        each.app.client_id for each in stranger.spotify.accounts.tokens.values() if each.person.id == stranger.name
    } == {app.client_id}


def test_who_is_not_on_the_apps_list_is_told_so(stranger):
    stranger.spotify.accounts.people[stranger.name].is_listed = False
    page = stranger.connect()
    assert "has to add it at developer.spotify.com, under User Management" in text_of(page)
    assert tokens(stranger) == []


def test_a_token_is_renewed_ahead_and_once_when_it_is_refused(studio):
    accounts = studio.spotify.accounts
    before = accounts.refreshes
    studio.say("!spotify devices")
    assert accounts.refreshes == before
    studio.bot.fleet.database.statement(
        "UPDATE spotify_tokens SET expires_at = now() + interval '200 seconds' WHERE community_id = %s",
        (studio.bot.community_id,),
    )
    studio.say("!spotify devices")
    assert accounts.refreshes == before + 1
    accounts.expire(studio.name)
    assert studio.say("!spotify devices").chat.startswith("1. Studio")
    assert accounts.refreshes == before + 2


def test_refresh_tokens_that_work_once_are_kept_and_scopes_stay(studio):
    accounts = studio.spotify.accounts
    accounts.rotates = True
    try:
        for _ in range(2):
            accounts.expire(studio.name)
            assert studio.say("!spotify devices").chat.startswith("1. Studio")
    finally:
        accounts.rotates = False
    assert "user-modify-playback-state" in tokens(studio)[0]["scope"]


def test_a_consent_that_was_taken_back_is_said_and_given_again(studio):
    studio.spotify.accounts.revoke(studio.name)
    gone = "Spotify does not take that consent any more: connect the account again with !spotify connect."
    assert studio.say("!spotify devices").chat == gone
    # From then on nobody asks Spotify.
    studio.spotify.forget_calls()
    assert "Nobody's Spotify plays here" in studio.say("!spotify devices").chat
    assert studio.spotify.calls() == 0
    assert "must connect again" in studio.bot.say("!spotify account", by="owner", level="owner").chat
    studio.connect()
    eventually(lambda: studio.say("!spotify devices").chat.startswith("1. Studio"))


def test_what_is_wrong_with_the_accounts_service_is_a_sentence(studio):
    accounts = studio.spotify.accounts
    for kind in (500, "html", "truncated", "string error", "drop"):
        accounts.expire(studio.name)
        studio.spotify.fail_next(kind, at="api/token")
        heard = studio.say("!spotify skip")
        assert heard.statuses != ["unknown"], kind  # It was not begun.
        assert "Spotify" in heard.chat and "Try again" in heard.chat, (kind, heard.chat)
    studio.spotify.heal()
    assert studio.player.skipped == 0
