"""Shoutouts over HTTP: sending, what is set, history, figures, and what a process without credentials says."""

from __future__ import annotations

import pytest
from shoutout_places import configure, rows
from waddlebot.testing.plugin import eventually


def ask(bot, method, path, body=None, *, key="admin", **query):
    given = {"community_id": bot.slug}
    body = None if method == "GET" else {**given, **(body or {})}
    return bot.fleet.request(method, path, body, key=key, query={**given, **query} if method == "GET" else None)


def said_in(bot, outbox_ids):
    return [
        (row["response_action"], row["entity_id"])
        for row in rows(bot, "SELECT * FROM outbox WHERE id = ANY(%s) ORDER BY id", outbox_ids)
    ]


def test_one_is_sent_to_where_the_community_is_told_things(bot, twitch, streamer):
    bot.say("hi")
    clip = twitch.clip(streamer, "A clip")
    answer = ask(bot, "POST", "/shoutout/send", {"user": f"@{streamer.login}"})
    assert answer.status == 200, answer.body
    sent = answer.json()
    assert (sent["username"], sent["game"], sent["clip_id"]) == (streamer.name, "Celeste", clip["id"])
    # Whether a clip plays is told apart from why none does.
    again = [ask(bot, "POST", "/shoutout/send", {"user": streamer.login}).json()["clip"] for _ in range(1)]
    twitch.fail_next(403, 10, at="clips")
    again.append(ask(bot, "POST", "/shoutout/send", {"user": streamer.login}).json()["clip"])
    twitch.reset()
    assert [sent["clip"], *again] == ["playing", "shown_before", "refused"]
    assert sent["message"].startswith(f"Go and follow {streamer.name}")
    assert [action for action, _ in said_in(bot, sent["outbox_ids"])] == ["chat", "media"]
    history = ask(bot, "GET", "/shoutout/history").json()
    first = history["shoutouts"][-1]
    assert (first["username"], first["cause"], first["id"]) == (streamer.name, "api", sent["shoutout_id"])


def test_the_same_request_says_nothing_twice(bot, twitch, streamer):
    bot.say("hi")
    body = {"user": streamer.login, "request_id": "once"}
    first, again = (ask(bot, "POST", "/shoutout/send", body).json() for _ in range(2))
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["outbox_ids"] == again["outbox_ids"]
    assert ask(bot, "GET", "/shoutout/stats").json()["stats"]["total"] == 1


def test_into_one_channel_of_the_community_and_into_nobody_elses(bot, channel, twitch, streamer):
    answer = ask(bot, "POST", "/shoutout/send", {"user": streamer.login, "entity_id": channel.entity_id})
    assert answer.status == 200, answer.body
    assert ("chat", channel.entity_id) in said_in(bot, answer.json()["outbox_ids"])
    other = bot.fleet.bot()
    assert ask(other, "POST", "/shoutout/send", {"user": "x", "entity_id": channel.entity_id}).status == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"user": ""}, 422),
        ({"user": "@"}, 422),
        ({"user": "🦆"}, 404),
        ({"user": "nobody_at_all"}, 404),
        ({"user": 7}, 422),
        ({"user": "x", "entity_id": "nonsense"}, 422),
        ({"user": "x", "colour": "red"}, 422),
    ],
)
def test_what_cannot_be_sent_is_refused(bot, strict, body, status):
    answer = ask(bot, "POST", "/shoutout/send", body)
    assert answer.status == status, answer.body
    assert ask(bot, "GET", "/shoutout/history").json()["total"] == 0


def test_a_twitch_that_fails_is_no_error_of_ours(bot, twitch):
    twitch.fail_next(500, 10, at="users")
    answer = ask(bot, "POST", "/shoutout/send", {"user": "somebody"})
    assert (answer.status, answer.json()["error"]["code"]) == (502, "unclear")


def test_settings_of_people_are_set_listed_and_forgotten(bot, twitch, streamer):
    body = {"user": f"https://twitch.tv/{streamer.login}", "message": "Hi {user}", "auto": "always"}
    person = ask(bot, "POST", "/shoutout/settings", body).json()["person"]
    assert (person["message"], person["auto"], person["links"]) == ("Hi {user}", "always", [])
    changed = ask(
        bot, "POST", "/shoutout/settings", {"user": f"user:{person['own_id']}", "links": ["https://example.com"]}
    )
    assert changed.json()["person"]["message"] == "Hi {user}", "what is left out stays"

    listed = ask(bot, "GET", "/shoutout/settings", auto="always").json()
    assert [(each["username"], each["links"]) for each in listed["people"]] == [
        (streamer.name, ["https://example.com"])
    ]
    assert listed["settings"]["auto_raid"] is True
    assert ask(bot, "GET", "/shoutout/settings", auto="never").json()["total"] == 0
    assert ask(bot, "GET", "/shoutout/settings", user=streamer.login).json()["total"] == 1

    assert ask(bot, "POST", "/shoutout/settings", {"user": streamer.login, "clear": True}).status == 200
    assert ask(bot, "GET", "/shoutout/settings").json()["total"] == 0
    for bad in ({"user": streamer.login}, {"user": streamer.login, "auto": "x"}, {"user": "x", "links": ["ftp://x"]}):
        assert ask(bot, "POST", "/shoutout/settings", bad).status == 422


def test_a_change_is_on_record_and_can_be_taken_back(bot, twitch, streamer):
    ask(bot, "POST", "/shoutout/settings", {"user": streamer.login, "message": "One"})
    ask(bot, "POST", "/shoutout/settings", {"user": streamer.login, "message": "Two"})
    found = bot.fleet.request("GET", "/router/audit", key="admin", query={"community_id": bot.slug}).json()["audit"]
    newest = next(each for each in found if each["module"] == "shoutout")
    assert (newest["before"]["message"], newest["after"]["message"]) == ("One", "Two")
    assert streamer.login not in str(newest)
    undone = bot.fleet.request("POST", f"/router/audit/{newest['id']}/undo", {}, key="admin")
    assert undone.status == 200, undone.body
    assert ask(bot, "GET", "/shoutout/settings").json()["people"][0]["message"] == "One"


def test_what_is_set_for_all_is_shown_as_it_counts(bot):
    configure(bot, auto_follow=True, cooldown_minutes=90)
    settings = ask(bot, "GET", "/shoutout/settings").json()["settings"]
    assert (settings["auto_follow"], settings["cooldown_minutes"], settings["raid_viewers"]) == (True, 90, 2)


def test_what_is_set_for_all_can_be_changed_here_too(bot):
    configure(bot, auto_follow=True)
    changed = ask(bot, "POST", "/shoutout/settings", {"settings": {"raid_viewers": 7}}).json()["settings"]
    assert (changed["raid_viewers"], changed["auto_follow"]) == (7, True)
    for bad in ({"raid_viewers": 0}, {"raid_viewers": "x"}, {"no_such": 1}):
        refused = ask(bot, "POST", "/shoutout/settings", {"settings": bad})
        assert refused.status == 422, refused.body
        assert next(iter(bad)) in refused.json()["error"]["message"]
    other = bot.fleet.make_key(f"program of {bot.slug}", "api-users", community_id=bot.fleet.bot().community_id)
    assert ask(bot, "POST", "/shoutout/settings", {"settings": {"raid_viewers": 9}}, key=other).status == 403
    assert ask(bot, "GET", "/shoutout/settings").json()["settings"]["raid_viewers"] == 7


def test_stats_of_some_days(bot, twitch, streamer):
    bot.say(f"!so {streamer.login}", level="moderator")
    rows(
        bot,
        "UPDATE shoutout_history SET created_at = now() - interval '9 days' WHERE community_id = %s RETURNING 1",
        bot.community_id,
    )
    bot.say(f"!so {streamer.login}", level="moderator")
    week = ask(bot, "GET", "/shoutout/stats", days=7).json()["stats"]
    assert (week["total"], week["people"], week["causes"]) == (1, 1, {"command": 1})
    assert ask(bot, "GET", "/shoutout/stats").json()["stats"]["top"] == [{"username": streamer.name, "shoutouts": 2}]
    assert ask(bot, "GET", "/shoutout/stats", days=0).status == 422


def test_health_says_that_it_is_configured(bot):
    eventually(lambda: bot.fleet.request("GET", "/shoutout/health", key=None).json()["status"] == "healthy")
