"""From a button to a channel that answers, and out again; and every way in which that can go wrong."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from twitch_browser import Browser, text_of
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually

ALL = {
    "channel.chat.message",
    "channel.follow",
    "channel.subscribe",
    "channel.subscription.message",
    "channel.subscription.gift",
    "channel.cheer",
    "channel.raid",
    "channel.ban",
    "channel.update",
    "stream.online",
    "stream.offline",
}


def query(fleet, sql, *parameters):
    with fleet.database.transaction() as db:
        return fetch(db, sql, parameters)


def scopes_asked(url):
    return set(parse_qs(urlsplit(url).query)["scope"][0].split())


def test_the_start_page_says_what_is_asked_for_and_why(browser):
    page = browser.get("/twitch/auth?community=my-place")
    assert page.status == 200
    text = text_of(page)
    assert "my-place" in text
    assert "New followers are noticed" in text
    assert b"moderator:read:followers" in page.body
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"


def test_what_somebody_else_wrote_into_the_address_is_only_text(browser):
    page = browser.get("/twitch/auth?community=%3Cscript%3Ealert(1)%3C/script%3E")
    assert b"<script>" not in page.body


def test_only_what_was_ticked_is_asked_for(browser):
    with_moderation = scopes_asked(browser.get("/twitch/auth/login?moderate=1").headers["location"])
    without = scopes_asked(browser.get("/twitch/auth/login").headers["location"])
    assert with_moderation - without == {
        "moderator:manage:banned_users",
        "moderator:manage:chat_messages",
        "moderator:manage:warnings",
    }
    assert "user:read:chat" not in without
    assert not any(scope.startswith("user:") for scope in without)


def test_a_button_leads_to_a_channel_that_answers(browser, streamer):
    page = browser.consent(streamer.login)
    assert page.status == 200
    assert "The bot is in your channel" in text_of(page)
    assert f"serves {streamer.login.title()}" in text_of(page)
    eventually(lambda: streamer.subscribed == ALL)
    assert streamer.twitch.say(streamer.id, "!inventory list", chatter="5") == [204]
    eventually(lambda: streamer.texts == ["The inventory is empty."])


def test_the_streamer_owns_a_community_named_after_the_channel(joined, fleet):
    rows = query(
        fleet,
        "SELECT c.slug, i.platform_user_id, r.role FROM servers s JOIN communities c ON c.id = s.community_id"
        " JOIN platform_identities i ON i.user_id = c.owner_id"
        " JOIN community_rbac r ON r.community_id = c.id AND r.user_id = i.user_id"
        " WHERE s.platform = 'twitch' AND s.channel = %s AND s.is_active",
        joined.id,
    )
    assert rows == [{"slug": joined.login, "platform_user_id": joined.id, "role": "owner"}]


def test_tokens_are_kept_sealed(joined, fleet):
    row = query(fleet, "SELECT * FROM twitch_tokens WHERE owner_id = %s", joined.id)[0]
    known = {token.access for token in joined.twitch.tokens.values()}
    assert row["access_token"].startswith("test:")
    assert not any(access in str(row) for access in known)
    assert "channel:bot" in row["scopes"]
    assert row["expires_at"] is not None


def test_another_channel_may_be_put_into_ones_own_community_but_not_into_anothers(browser, joined, fleet, twitch):
    slug = joined.login
    stranger = twitch.user(f"stranger{joined.id}")
    refused = browser.consent(stranger.login, start=f"/twitch/auth/login?community={slug}")
    assert refused.status == 403
    assert f"{slug} is not a community of yours" in text_of(refused)
    assert query(fleet, "SELECT 1 FROM servers WHERE channel = %s", stranger.id) == []
    assert query(fleet, "SELECT 1 FROM twitch_tokens WHERE owner_id = %s", stranger.id) == []
    eventually(lambda: all(token.user_id != stranger.id for token in twitch.tokens.values()))

    again = browser.consent(slug, start=f"/twitch/auth/login?community={slug}")
    assert again.status == 200


def test_what_is_not_granted_is_missing_in_words(browser, streamer):
    page = browser.consent(streamer.login, grant=["channel:bot", "bits:read"])
    text = text_of(page)
    assert "The bot does not notice new followers" in text
    assert "Missing: " in page.body.decode()
    assert "Consent again" in text
    eventually(
        lambda: (
            streamer.subscribed
            == {
                "channel.chat.message",
                "channel.cheer",
                "channel.raid",
                "channel.update",
                "stream.online",
                "stream.offline",
            }
        )
    )

    browser.consent(streamer.login)
    eventually(lambda: streamer.subscribed == ALL)


def test_without_channel_bot_the_bot_cannot_hear_and_says_so(browser, streamer, fleet):
    page = browser.consent(streamer.login, grant=["bits:read", "moderation:read"])
    text = text_of(page)
    assert "The bot cannot hear your chat yet" in text
    assert "it answers" not in text
    assert "The bot cannot be in your chat as a bot" in text
    assert "The bot cannot hear your chat: subscription missing proper authorization" in text
    assert "type /mod" in text
    listed = fleet.request("GET", "/twitch/api/channels", query={"limit": 1000}, key="admin").json()["channels"]
    mine = next(each for each in listed if each["broadcaster_id"] == streamer.id)
    assert "its chat cannot be heard" in mine["trouble"]
    assert "The bot cannot be in your chat as a bot. Consent again, or type /mod channel900 there." in mine["missing"]
    assert "The bot does not notice new followers." in mine["missing"]
    assert "The bot does not notice cheers." not in mine["missing"], "that was granted"


def test_a_callback_that_twitch_does_not_reach_is_told(browser, streamer, twitch):
    fleet_post, twitch.post = twitch.post, lambda delivery: 502
    page = browser.consent(streamer.login)
    assert "The bot cannot hear your chat yet" in text_of(page)
    assert "Twitch does not reach https://waddlebot.test/twitch/webhook" in text_of(page)
    twitch.post = fleet_post
    assert "it answers" in text_of(browser.consent(streamer.login))
    eventually(lambda: streamer.subscribed == ALL)


def test_a_bot_that_is_no_moderator_is_told_with_the_command_for_it(browser, streamer, twitch):
    page = browser.consent(streamer.login)
    assert "The bot is not a moderator: type /mod channel900" in text_of(page)
    twitch.add_moderator(streamer.id, twitch.bot_user_id)
    assert "not a moderator" not in text_of(browser.consent(streamer.login))


def test_who_says_no_has_changed_nothing(browser, streamer, fleet):
    page = browser.consent(streamer.login, deny=True)
    assert page.status == 403
    assert "Nothing was changed" in text_of(page)
    assert query(fleet, "SELECT 1 FROM servers WHERE channel = %s", streamer.id) == []


def test_a_link_works_once(browser, streamer):
    back = browser.decide(streamer.login)
    assert browser.get(back).status == 200
    page = browser.get(back)
    assert page.status == 409
    assert "used before" in text_of(page)


def test_a_link_of_another_browser_is_refused(browser, streamer, fleet, twitch):
    back = browser.decide(streamer.login)
    page = Browser(fleet, twitch).get(back)
    assert page.status == 403
    assert "another browser" in text_of(page)
    assert query(fleet, "SELECT 1 FROM twitch_tokens WHERE owner_id = %s", streamer.id) == []


@pytest.mark.parametrize("query_", ["", "?state=forged&code=x", "?code=x", "?state=a%00b&code=x&error=%3Cb%3E"])
def test_a_forged_state_is_refused(browser, query_):
    page = browser.get(f"/twitch/auth/callback{query_}")
    assert page.status == 400
    assert "not one that we made" in text_of(page)


def test_an_old_link_is_refused(browser, streamer, fleet):
    back = browser.decide(streamer.login)
    query(fleet, "UPDATE oauth_states SET created_at = created_at - interval '11 minutes'")
    page = browser.get(back)
    assert page.status == 410
    assert "older than ten minutes" in text_of(page)


def test_a_code_that_twitch_does_not_take_is_told(browser, streamer):
    back = browser.decide(streamer.login)
    page = browser.get(back.replace("code=", "code=0"))
    assert page.status == 400
    assert "does not take the code" in text_of(page)


@pytest.mark.parametrize("fault", [500, 503, "hang"])
def test_a_twitch_that_is_away_is_told_and_may_be_tried_again(browser, streamer, twitch, fault):
    back = browser.decide(streamer.login)
    twitch.fail_next_token(fault)
    page = browser.get(back)
    assert page.status in (502, 504)
    assert "Try again in a moment" in text_of(page)
    assert browser.consent(streamer.login).status == 200


def test_a_twitch_that_cannot_subscribe_just_now_is_repaired_by_itself(browser, streamer, twitch):
    twitch.fail_next(503, times=1000, at="eventsub/subscriptions")  # Other channels' are repaired meanwhile.
    page = browser.consent(streamer.login)
    assert "done by itself" in text_of(page)
    twitch.faults.clear()
    eventually(lambda: streamer.subscribed == ALL, within_s=30)


def test_only_the_bots_own_consent_is_taken_as_the_bots(browser, streamer, twitch, fleet):
    assert "as the bot" in text_of(browser.get("/twitch/auth/bot"))
    page = browser.consent(streamer.login, start="/twitch/auth/bot/login")
    assert page.status == 403
    assert "which is not the bot's account" in text_of(page)
    assert query(fleet, "SELECT 1 FROM twitch_tokens WHERE owner_id = %s", streamer.id) == []
    assert all(token.user_id != streamer.id for token in twitch.tokens.values())


def test_the_bot_consents_and_hears_what_it_lacks(browser, twitch, fleet):
    page = browser.consent(twitch.bot_user_id, start="/twitch/auth/bot/login", grant=["user:bot", "user:read:chat"])
    assert "has not granted user:write:chat" in text_of(page)
    page = browser.consent(twitch.bot_user_id, start="/twitch/auth/bot/login")
    assert "The bot is ready" in text_of(page)
    info = fleet.request("GET", "/twitch/info", key="admin").json()
    assert info["bot"] == {
        "user_id": twitch.bot_user_id,
        "login": "channel900",
        "has_consented": True,
        "missing_scopes": [],
    }


def test_leaving_gives_everything_back(browser, joined, fleet, twitch):
    eventually(lambda: joined.subscribed == ALL)
    twitch.say(joined.id, "hello", chatter="5")
    eventually(lambda: joined.rows)
    page = browser.leave(joined.login)
    assert page.status == 200
    assert "The bot has left" in text_of(page)
    assert joined.subscribed == set()
    assert all(token.user_id != joined.id for token in twitch.tokens.values())
    assert query(fleet, "SELECT 1 FROM twitch_tokens WHERE owner_id = %s", joined.id) == []
    assert query(fleet, "SELECT is_active FROM servers WHERE channel = %s", joined.id) == [{"is_active": False}]
    assert query(fleet, "SELECT is_active FROM entities WHERE channel_id = %s", joined.id) == [{"is_active": False}]
    assert joined.say("!inventory list") == [204]
    assert joined.states[-1] == "ignored"
    assert joined.heard == []

    browser.consent(joined.login)
    eventually(lambda: joined.subscribed == ALL)
    assert query(fleet, "SELECT is_active FROM servers WHERE channel = %s", joined.id) == [{"is_active": True}]


def test_what_was_recorded_of_who_left_is_deleted(browser, joined, fleet):
    assert joined.say("a secret", chatter="5") == [204]
    browser.leave(joined.login)
    eventually(
        lambda: query(fleet, "SELECT 1 FROM twitch_channels WHERE broadcaster_id = %s", joined.id) == [], within_s=30
    )
    assert joined.rows == []


def test_nobody_else_can_make_a_channel_leave(browser, joined, fleet, twitch):
    assert browser.post("/twitch/auth/leave", state="forged").status == 400
    assert browser.post("/twitch/auth/leave").status == 400
    asked = browser.consent(joined.login, start="/twitch/auth/leave/login")
    assert "Really leave" in text_of(asked)
    state = asked.body.decode().partition('name="state" value="')[2].partition('"')[0]
    assert Browser(fleet, twitch).post("/twitch/auth/leave", state=state).status == 403
    assert query(fleet, "SELECT is_active FROM servers WHERE channel = %s", joined.id) == [{"is_active": True}]


def test_a_state_for_joining_is_none_for_leaving(browser, joined):
    browser.get("/twitch/auth/login")
    state = parse_qs(urlsplit(browser.get("/twitch/auth/login").headers["location"]).query)["state"][0]
    assert browser.post("/twitch/auth/leave", state=state).status == 403


def test_who_disconnects_at_twitch_is_noticed_and_may_come_back(browser, joined, fleet, twitch):
    eventually(lambda: joined.subscribed == ALL)
    twitch.disconnect(joined.id)

    def state():
        rows = query(fleet, "SELECT state, reason FROM twitch_tokens WHERE owner_id = %s", joined.id)
        return rows[0]["state"], rows[0]["reason"]

    eventually(lambda: state() == ("needs_reauth", "they disconnected the bot at Twitch"))
    for key, is_named in ((None, False), ("admin", True)):
        consents = fleet.request("GET", "/twitch/health", key=key).json()["checks"]["consent"]
        assert not consents["ok"] and "must consent again" in consents["detail"]
        assert (joined.id in consents["detail"]) == is_named
    browser.consent(joined.login)
    assert state() == ("ok", "")
    eventually(lambda: joined.subscribed == ALL)


def test_no_secret_is_in_any_log_or_page(browser, streamer, twitch, caplog):
    back = browser.decide(streamer.login)
    twitch.fail_next_token(500)
    pages = [browser.get(back), browser.consent(streamer.login), browser.leave(streamer.login)]
    code = parse_qs(urlsplit(back).query)["code"][0]
    secrets = [twitch.client_secret, code, *twitch.tokens]
    for secret in secrets:
        assert all(secret.encode() not in page.body for page in pages)
        assert secret not in caplog.text
