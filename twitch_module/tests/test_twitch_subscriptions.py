"""The subscriptions of channels: made, repaired, given up, and never in a stampede."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from test_twitch_oauth import ALL, query
from twitch_browser import text_of
from waddlebot.community.directory import add_server, remove_server
from waddlebot.testing.plugin import eventually

CHAT = "channel.chat.message"


def look(fleet, *ids):
    """Have channels looked at now instead of within ten minutes."""
    query(fleet, "UPDATE twitch_channels SET checked_at = NULL WHERE broadcaster_id = ANY(%s)", list(ids))


def subscribed_by_loop(channel, types, *, within_s=30):
    def check():
        look(channel.fleet, channel.id)
        return channel.subscribed == types

    eventually(check, within_s=within_s, what=f"{channel.subscribed} is not {types}")


def test_a_channel_that_an_operator_added_gets_what_needs_no_consent(channel, fleet):
    fleet.request("POST", "/router/coordination/populate", {"platform": "twitch"}, key="twitch")
    eventually(
        lambda: channel.subscribed == {CHAT, "channel.raid", "channel.update", "stream.online", "stream.offline"},
        within_s=30,
    )


def test_what_is_missing_is_made_and_what_is_there_stays(joined, twitch):
    eventually(lambda: joined.subscribed == ALL)
    kept = {each.id for each in twitch.eventsub.find("channel.follow", joined.id)}
    for each in twitch.eventsub.find(CHAT, joined.id):
        twitch.eventsub._forget(each)
    subscribed_by_loop(joined, ALL)
    assert {each.id for each in twitch.eventsub.find("channel.follow", joined.id)} == kept


@pytest.mark.parametrize("status", ["notification_failures_exceeded", "version_removed", "moderator_removed"])
def test_a_revoked_subscription_is_repaired_by_itself(joined, twitch, status):
    eventually(lambda: joined.subscribed == ALL)
    twitch.revoke(CHAT, joined.id, status=status)
    eventually(lambda: joined.subscribed == ALL, within_s=30)
    assert len(twitch.eventsub.find(CHAT, joined.id)) == 1
    eventually(lambda: f"revoked {status}" in [row["detail"] for row in joined.rows])


def test_a_challenge_that_was_never_answered_is_made_again(browser, streamer, twitch):
    twitch.eventsub.forgets_challenges = 100
    browser.consent(streamer.login)
    assert streamer.subscribed == set()
    twitch.eventsub.forgets_challenges = 0
    for each in twitch.eventsub:
        if streamer.id in each.condition.values():
            each.created_at = "2026-01-01T10:00:00.123456789Z"
    subscribed_by_loop(streamer, ALL)


def test_what_belongs_to_another_fleet_of_the_application_is_left_alone(joined, twitch):
    eventually(lambda: joined.subscribed == ALL)
    mine = twitch.eventsub.find(CHAT, joined.id)[0]
    token = next(each for each in twitch.tokens.values() if each.is_app)
    other = {
        "type": CHAT,
        "version": "1",
        "condition": dict(mine.condition),
        "transport": {"method": "webhook", "callback": "https://trial.test/twitch/webhook", "secret": "a" * 20},
    }
    made = twitch.eventsub.create(token, other)
    eventually(lambda: made.status != "webhook_callback_verification_pending")
    look(joined.fleet, joined.id)
    eventually(
        lambda: query(
            joined.fleet,
            "SELECT 1 FROM twitch_channels WHERE broadcaster_id = %s AND checked_at IS NOT NULL",
            joined.id,
        ),
        within_s=20,
    )
    assert made.id in {each.id for each in twitch.eventsub}


def test_of_two_alike_one_is_deleted(joined, twitch):
    eventually(lambda: joined.subscribed == ALL)
    mine = twitch.eventsub.find("channel.follow", joined.id)[0]
    mine.status = "notification_failures_exceeded"
    subscribed_by_loop(joined, ALL)
    assert [each.status for each in twitch.eventsub.find("channel.follow", joined.id)] == ["enabled"]


def test_what_was_refused_is_not_asked_for_again_and_again(browser, streamer, twitch):
    browser.consent(streamer.login, grant=["bits:read"])
    twitch.requests.clear()
    look(streamer.fleet, streamer.id)
    eventually(
        lambda: query(
            streamer.fleet,
            "SELECT 1 FROM twitch_channels WHERE broadcaster_id = %s AND checked_at IS NOT NULL",
            streamer.id,
        ),
        within_s=20,
    )
    rows = query(
        streamer.fleet,
        "SELECT status, reason, retry_at > now() + interval '50 minutes' AS rests FROM twitch_subscriptions"
        " WHERE broadcaster_id = %s AND type = %s",
        streamer.id,
        CHAT,
    )
    assert rows == [{"status": "refused", "reason": "subscription missing proper authorization", "rests": True}]


def test_a_rate_limit_stops_the_loop_and_not_for_good(browser, streamer, twitch):
    twitch.fail_next(429, times=3, at="eventsub/subscriptions")
    assert browser.consent(streamer.login).status == 200
    eventually(lambda: streamer.subscribed == ALL, within_s=30)


def test_too_many_of_a_kind_is_no_rate_limit(browser, streamer, twitch, fleet):
    assert fleet.request("GET", "/twitch/api/user/7", key="admin").status == 200  # Now the application has a token.
    token = next(each for each in twitch.tokens.values() if each.is_app)
    account = twitch.accounts.get(streamer.id)
    account.consents.add("moderator:read:followers")
    condition = {"broadcaster_user_id": account.id, "moderator_user_id": account.id}
    for n in range(3):
        transport = {"method": "webhook", "callback": f"https://other{n}.test/x", "secret": twitch.secret.decode()}
        made = twitch.eventsub.create(
            token, {"type": "channel.follow", "version": "2", "condition": condition, "transport": transport}
        )
        eventually(lambda made=made: made.status == "enabled")

    assert "it answers" in text_of(browser.consent(streamer.login))
    eventually(lambda: streamer.subscribed == ALL)
    listed = fleet.request("GET", "/twitch/api/channels", query={"limit": 1000}, key="admin").json()["channels"]
    mine = next(each for each in listed if each["broadcaster_id"] == streamer.id)
    assert "maximum subscriptions with type and condition exceeded" in mine["subscriptions"]["channel.follow"]


def test_a_channel_that_is_no_longer_served_is_given_up(joined, fleet):
    eventually(lambda: joined.subscribed == ALL)
    with fleet.database.transaction() as db:
        remove_server(db, "twitch", joined.id)
    service = next(each for each in _services() if each.name == "twitch")
    service.bus.client.delete("waddlebot:twitch:sweep")
    _step(service, "sweep")
    assert joined.subscribed == set()


def test_withdrawn_consent_is_subscribed_to_once_for_the_application(joined, twitch):
    service = next(each for each in _services() if each.name == "twitch")
    for _ in range(2):
        service.bus.client.delete("waddlebot:twitch:sweep")
        _step(service, "sweep")
    assert len([each for each in twitch.eventsub.find("user.authorization.revoke") if each.is_enabled]) <= 1


def test_many_new_channels_are_all_heard_chat_first(fleet, twitch):
    ids = [str(500_000 + n) for n in range(60)]
    with fleet.database.transaction() as db:
        for id_ in ids:
            add_server(db, "twitch", id_, community="crowd")
    fleet.request("POST", "/router/coordination/populate", {"platform": "twitch"}, key="twitch")
    eventually(lambda: all(twitch.eventsub.find(CHAT, id_) for id_ in ids), within_s=60)
    eventually(lambda: all(twitch.eventsub.find("stream.offline", id_) for id_ in ids), within_s=60)
    assert all(len(twitch.eventsub.find(CHAT, id_)) == 1 for id_ in ids)
    with fleet.database.transaction() as db:
        for id_ in ids:
            remove_server(db, "twitch", id_)


def test_several_who_consent_at_once_are_all_heard(fleet, twitch):
    from twitch_browser import Browser

    people = [twitch.user(f"crowd{n}") for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        pages = list(pool.map(lambda each: Browser(fleet, twitch).consent(each.login), people))
    assert {page.status for page in pages} == {200}
    for each in people:
        eventually(lambda id_=each.id: twitch.eventsub.find(CHAT, id_))


def _services():
    from waddlebot.module.service import SERVICES

    return SERVICES


def _step(service, name):
    next(loop for loop in service.loops._loops if loop.name == name).step()
