"""What admins and the collectors' own keys may ask /twitch and have done."""

from __future__ import annotations

import pytest
from test_twitch_oauth import ALL, query
from waddlebot.testing.plugin import eventually

READS = [
    "/twitch/info",
    "/twitch/api/channels",
    "/twitch/api/subscriptions",
    "/twitch/api/user/7",
    "/twitch/events",
    "/twitch/activities",
]


@pytest.mark.parametrize("path", READS)
def test_only_admins_and_twitchs_own_collectors_may_ask(fleet, twitch, path):
    assert fleet.request("GET", path, key=None).status == 401
    assert fleet.request("GET", path, key="twitch").status == 200
    assert fleet.request("GET", path, key="admin").status == 200
    assert fleet.request("GET", path, key="console").status == 403, "an admin's key that is for another platform"
    other = fleet.make_key(f"discord {path}", "collectors", platforms=["discord"])
    module = fleet.make_key(f"module {path}", "services", module_name="inventory")
    assert fleet.request("GET", path, key=other).status == 403
    assert fleet.request("GET", path, key=module).status == 403


def test_no_answer_has_a_token_or_a_secret(fleet, joined, twitch):
    joined.say("hello", chatter="5")
    secrets = [twitch.client_secret, twitch.secret.decode(), *twitch.tokens]
    for path in READS:
        body = fleet.request("GET", path, key="admin").body.decode()
        assert not [each for each in secrets if each in body]
        assert "access_token" not in body
        assert "test:" not in body


def test_a_user_by_id_and_by_login(fleet, joined, twitch):
    by_id = fleet.request("GET", f"/twitch/api/user/{joined.id}", key="admin").json()["user"]
    by_login = fleet.request("GET", f"/twitch/api/user/{joined.login}", key="admin").json()["user"]
    assert by_id == by_login
    assert (by_id["id"], by_id["login"]) == (joined.id, joined.login)


def test_an_unknown_user_is_not_found(fleet, twitch):
    twitch.accounts.strict = True
    try:
        answer = fleet.request("GET", "/twitch/api/user/nobody_at_all", key="admin")
    finally:
        twitch.accounts.strict = False
    assert (answer.status, answer.json()["error"]["code"]) == (404, "unknown_user")


@pytest.mark.parametrize(("fault", "status"), [(500, 502), (503, 502), (403, 502), (429, 502)])
def test_a_helix_that_fails_is_an_error_and_no_empty_list(fleet, twitch, fault, status):
    eventually(
        lambda: fleet.request("GET", "/twitch/info", key="admin").json()["bot"]["login"]
    )  # Asks by itself, once.
    twitch.fail_next(fault, at="users")
    answer = fleet.request("GET", "/twitch/api/user/7", key="admin")
    assert answer.status == status
    assert str(fault) in answer.json()["error"]["message"]


def test_subscriptions_are_listed_made_and_deleted(fleet, joined, twitch):
    eventually(lambda: joined.subscribed == ALL)
    path = "/twitch/api/subscriptions"
    listed = fleet.request("GET", path, query={"broadcaster_id": joined.id}, key="admin").json()
    assert listed["total"] == len(ALL)
    assert {each["type"] for each in listed["subscriptions"]} == ALL
    page = fleet.request(
        "GET", path, query={"broadcaster_id": joined.id, "limit": 3, "offset": len(ALL) - 1}, key="admin"
    ).json()
    assert (len(page["subscriptions"]), page["total"]) == (1, len(ALL))
    assert fleet.request("GET", path, query={"type": "x", "status": "enabled"}, key="admin").status == 422

    body = {"type": "channel.follow", "broadcaster_id": joined.id}
    assert fleet.request("POST", path, body, key="admin").status == 409
    follow = next(each for each in listed["subscriptions"] if each["type"] == "channel.follow")
    assert fleet.request("DELETE", f"{path}/{follow['id']}", key="admin").status == 200
    assert fleet.request("DELETE", f"{path}/{follow['id']}", key="admin").status == 404
    asked = {"type": "channel.follow", "condition": {"broadcaster_user_id": joined.id}}
    made = fleet.request("POST", path, asked, key="admin")
    assert made.status == 200
    assert made.json()["id"] in {each.id for each in twitch.eventsub.find("channel.follow", joined.id)}
    assert fleet.request("POST", path, {**body, "type": "channel.nonsense"}, key="admin").status == 404
    assert fleet.request("POST", path, {"type": "channel.follow"}, key="admin").status == 422


def test_a_subscription_that_nobody_consented_to_is_refused_in_words(fleet, streamer):
    body = {"type": "channel.follow", "broadcaster_id": streamer.id}
    answer = fleet.request("POST", "/twitch/api/subscriptions", body, key="admin")
    assert answer.status == 422
    assert "missing proper authorization" in answer.json()["error"]["message"]


def test_channels_say_what_they_have_and_lack(fleet, joined, twitch):
    eventually(lambda: joined.subscribed == ALL)
    listed = fleet.request("GET", "/twitch/api/channels", query={"limit": 1000}, key="admin").json()
    mine = next(each for each in listed["channels"] if each["broadcaster_id"] == joined.id)
    assert mine["consent"] == "granted"
    assert mine["login"] == joined.login
    assert set(mine["subscriptions"]) == ALL
    assert mine["trouble"] == ""
    assert mine["missing"] == ["The bot is not a moderator: type /mod channel900 in the chat, so that it may say more."]


def test_events_and_activities_are_lists(fleet, channel):
    channel.twitch.follow(channel.id, "555")
    eventually(lambda: channel.activities)
    events = fleet.request("GET", "/twitch/events", query={"channel_id": channel.id}, key="admin").json()
    assert (events["total"], events["events"][0]["type"]) == (1, "channel.follow")
    assert events["events"][0]["event"]["user_id"] == "555"
    activities = fleet.request("GET", "/twitch/activities", query={"channel_id": channel.id}, key="admin").json()
    assert activities["total"] == 1
    assert activities["activities"][0]["activity_type"] == "follow"
    assert fleet.request("GET", "/twitch/events", query={"limit": 0}, key="admin").status == 422
    assert fleet.request("GET", "/twitch/events", query={"nonsense": 1}, key="admin").status == 422


# Moderation


@pytest.fixture
def bot_consented(browser, twitch):
    assert browser.consent(twitch.bot_user_id, start="/twitch/auth/bot/login").status == 200


def moderate(channel, action, **more):
    body = {"action": action, "channel_id": channel.id, "platform_user_id": "777", **more}
    answer = channel.fleet.request("POST", "/twitch/api/moderation", body, key="admin")
    assert answer.status == 200, answer.body
    return answer.json()


def actions(channel):
    return [
        (each.kind, each.user_id, each.moderator_id)
        for each in channel.twitch.actions
        if each.broadcaster_id == channel.id
    ]


@pytest.mark.parametrize(
    ("action", "more", "kind"),
    [
        ("warn", {"reason": "language"}, "warn"),
        ("timeout", {"duration_s": 60}, "timeout"),
        ("ban", {}, "ban"),
        ("unban", {}, "unban"),
    ],
)
def test_where_the_bot_moderates_it_acts_itself(joined, twitch, bot_consented, action, more, kind):
    twitch.add_moderator(joined.id, twitch.bot_user_id)
    if action == "unban":
        twitch.ban(joined.id, "777")
        twitch.actions.clear()
    assert moderate(joined, action, **more) == {"success": True, "state": "sent", "detail": f"{action} as the bot"}
    assert actions(joined) == [(kind, "777", twitch.bot_user_id)]


def test_a_message_is_deleted(joined, twitch, bot_consented):
    twitch.say(joined.id, "rude", chatter="777", message_id=f"rude-{joined.id}")
    assert moderate(joined, "delete", message_id=f"rude-{joined.id}")["state"] == "sent"
    assert actions(joined)[0][0] == "delete"


def test_where_the_bot_is_no_moderator_the_broadcaster_acts(joined, twitch, bot_consented):
    assert moderate(joined, "ban")["detail"] == "ban as the broadcaster"
    assert actions(joined) == [("ban", "777", joined.id)]


def test_where_neither_may_it_is_said_what_to_do(browser, streamer, twitch, bot_consented):
    browser.consent(streamer.login, start="/twitch/auth/login")
    done = moderate(streamer, "ban")
    assert done["state"] == "dropped"
    assert "the bot may not ban here" in done["detail"]
    assert "type /mod channel900" in done["detail"]
    assert actions(streamer) == []


def test_what_is_so_already_is_done(joined, twitch, bot_consented):
    twitch.ban(joined.id, "777")
    assert moderate(joined, "ban")["state"] in ("sent", "dropped")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action": "ban", "platform_user_id": "7"}, 422),
        ({"action": "ban", "channel_id": "7"}, 422),
        ({"action": "delete", "channel_id": "7", "platform_user_id": "7"}, 422),
        ({"action": "ban", "entity_id": "discord:1:2", "platform_user_id": "7"}, 422),
        ({"action": "forgive", "channel_id": "7", "platform_user_id": "7"}, 422),
        ({"action": "timeout", "channel_id": "7", "platform_user_id": "7", "duration_s": 0}, 422),
        ({"action": "ban", "channel_id": "7", "platform_user_id": "7", "surprise": 1}, 422),
    ],
)
def test_moderation_that_makes_no_sense_is_refused(fleet, body, status):
    assert fleet.request("POST", "/twitch/api/moderation", body, key="admin").status == status


def test_an_ended_token_is_renewed_once_and_everything_goes_on(joined, twitch, bot_consented, fleet):
    twitch.oauth.expire()
    twitch.requests.clear()
    assert moderate(joined, "ban")["state"] == "sent"
    version = query(fleet, "SELECT version FROM twitch_tokens WHERE owner_id = %s", joined.id)
    assert version[0]["version"] == 2


def test_a_refused_renewal_is_told_and_hangs_nobody(joined, twitch, fleet):
    twitch.revoke_tokens(joined.id)
    first = moderate(joined, "ban")
    assert "has to grant access again" in first["detail"]
    assert moderate(joined, "ban")["detail"] == first["detail"]
    row = query(fleet, "SELECT state, reason FROM twitch_tokens WHERE owner_id = %s", joined.id)[0]
    assert row["state"] == "needs_reauth"
    assert "Invalid refresh token" in row["reason"]
