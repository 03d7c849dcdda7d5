"""!so in chat: who is meant, what is said, and what the stream shows."""

from __future__ import annotations

import importlib
from itertools import pairwise

import pytest
from shoutout_places import configure, rows, shown
from waddlebot.module.service import SERVICES
from waddlebot.testing.plugin import eventually


def so(bot, text, **options):
    return bot.say(text, level="moderator", **options)


def test_somebody_of_twitch_gets_a_line_and_a_clip_that_ends_by_its_length(bot, twitch, streamer):
    clip = twitch.clip(streamer, "A fall", duration_s=17.25)

    heard = so(bot, f"!so @{streamer.name}")

    link = f"https://twitch.tv/{streamer.login}"
    assert heard.chat == f"Go and follow {streamer.name} at {link} – last seen with Celeste!"
    media = shown(bot, heard)
    assert (media["action"], media["media_type"], media["media_url"]) == ("media", "clip", clip["embed_url"])
    assert media["duration_ms"] == 17250
    assert media["display_s"] >= 17.25
    assert media["title"] == f"{streamer.name} – Celeste"
    assert media["artist"] == f"A fall · twitch.tv/{streamer.login}"
    assert (media["artwork_url"], media["requested_by"]) == (clip["thumbnail_url"], "Alice")


def test_what_twitch_says_of_somebody_keeps_to_the_rules_of_the_channel(bot, twitch, streamer):
    twitch.clip(streamer, "A darn fall")
    rule = {"string": "darn", "match_type": "contains", "action": "block", "community_id": bot.slug}
    assert bot.fleet.request("POST", "/router/string-rules", rule).status == 200
    heard = so(bot, f"!so {streamer.login}")
    assert heard.chat.startswith(f"Go and follow {streamer.name}")
    assert (shown(bot, heard)["media_type"], shown(bot, heard)["artist"]) == ("clip", "")
    so(bot, f"!so set {streamer.login} Watch {{user}}, this darn fine streamer")
    assert "rule of this channel" in so(bot, f"!so {streamer.login}").chat


def test_filters_of_links_and_capitals_are_not_about_a_shoutout(bot, twitch, streamer):
    """After an import from Nightbot with its filter of links, no shoutout could be said."""
    assert bot.fleet.request("POST", f"/router/communities/{bot.slug}/filter-presets/strict").status == 200
    assert bot.say("look at evil.example.com").answer["moderation"]["action"] == "block"
    assert f"https://twitch.tv/{streamer.login}" in so(bot, f"!so {streamer.login}").chat
    so(bot, f"!so set {streamer.login} {'GO AND FOLLOW {user} '.upper() * 3}")
    assert "GO AND FOLLOW" in so(bot, f"!so {streamer.login}").chat


def test_only_moderators_may(bot, twitch, streamer):
    for command in ("so", "shoutout"):
        assert bot.say(f"!{command} {streamer.login}").statuses == ["denied"]
        assert so(bot, f"!{command} {streamer.login}").statuses == ["success"]


@pytest.mark.parametrize(
    "form",
    [
        "{login}",
        "@{login}",
        "＠{login}",
        "{shout}",
        "@{login},",
        "@{login} who is great",
        "https://www.twitch.tv/{login}",
        "twitch.tv/{login}/videos?x=1",
        "{id}",
        "twitch:{id}",
        "twitch:{login}",
    ],
)
def test_somebody_is_meant_by_any_of_their_names(bot, twitch, streamer, form):
    who = form.format(login=streamer.login, id=streamer.id, shout=streamer.login.upper())
    assert so(bot, f"!so {who}").chat.startswith(f"Go and follow {streamer.name} at")


@pytest.mark.parametrize(
    "who",
    [
        "nobody_at_all",
        "@nobody_at_all",
        "🦆🦆",
        "@🦆",
        "n" * 300,
        "99999999999999999999999",
        "a-b",
        "twitch:a-b",
        "slack:U9",
    ],
)
def test_nobody_is_told_kindly(bot, strict, who):
    heard = so(bot, f"!so {who}")
    assert heard.statuses == ["failed"]
    assert "Nobody here or on Twitch is called" in heard.chat or "Whom?" in heard.chat
    assert rows(bot, "SELECT 1 FROM shoutout_history WHERE community_id = %s", bot.community_id) == []


def test_without_a_name_the_forms_are_shown(bot):
    assert so(bot, "!so").chat.startswith("Usage: !so <user> | set <user>")


def test_the_same_clip_is_never_shown_twice_in_a_row(bot, twitch, streamer):
    clips = {twitch.clip(streamer, f"Clip {n}")["embed_url"] for n in range(3)}
    shows = [shown(bot, so(bot, f"!so {streamer.login}"))["media_url"] for _ in range(9)]
    assert all(one != other for one, other in pairwise(shows)), shows
    assert set(shows) <= clips


def test_an_only_clip_gives_way_to_the_picture(bot, twitch, streamer):
    twitch.clip(streamer, "Only one")
    first, second = shown(bot, so(bot, f"!so {streamer.login}")), shown(bot, so(bot, f"!so {streamer.login}"))
    assert (first["media_type"], second["media_type"]) == ("clip", "image")
    assert second["media_url"] == streamer.picture
    assert (second["artist"], second["display_s"]) == (f"twitch.tv/{streamer.login}", 10)


def test_clips_of_the_past_week_only(bot, twitch, streamer):
    twitch.clip(streamer, "Old", age_s=8 * 86400)
    assert shown(bot, so(bot, f"!so {streamer.login}"))["media_type"] == "image"
    new = twitch.clip(streamer, "New", age_s=6 * 86400)
    assert shown(bot, so(bot, f"!so {streamer.login}"))["media_url"] == new["embed_url"]


def test_without_clip_and_picture_the_name_is_shown(bot, twitch, streamer):
    streamer.picture, streamer.game = "", ""
    heard = so(bot, f"!so {streamer.login}")
    assert heard.chat == f"Go and follow {streamer.name} at https://twitch.tv/{streamer.login}"
    assert (shown(bot, heard)["action"], shown(bot, heard)["title"]) == ("general", streamer.name)


def test_a_member_without_twitch_gets_what_their_platform_knows(bot, twitch):
    """On Discord and Slack; the console stands for any platform here."""
    bot.say("hi", by="bobby")
    twitch.requests.clear()
    heard = so(bot, "!so @bobby")
    assert heard.chat == "Give it up for Bobby!"
    assert (shown(bot, heard)["action"], shown(bot, heard)["title"]) == ("general", "Bobby")
    assert twitch.requests == []


def test_a_member_is_found_by_a_name_with_a_space(bot, twitch):
    bot.submit({**bot.event("hi", by="rob"), "user": {"platform_user_id": "rob", "display_name": "Rob Roy"}})
    assert so(bot, "!so @Rob Roy").chat == "Give it up for Rob Roy!"
    assert so(bot, "!so @Rob Roy and friends").chat == "Give it up for Rob Roy!"
    assert so(bot, '!so "Rob Roy" and friends').chat == "Give it up for Rob Roy!"


def test_markup_mentions_and_commands_stay_texts(bot, twitch, streamer):
    streamer.game = "!ban\n<b>@everyone</b>"
    twitch.clip(streamer, "<img src=x onerror=alert(1)> !quit @everyone")
    so(bot, f"!so set @{streamer.login} !timeout {{user}} <@1>")
    heard = so(bot, f"!so {streamer.login}")
    said = next(each for each in heard.answer["responses"] if each["response_action"] == "chat")
    assert said["response_data"]["message"] == f"› !timeout {streamer.name} <@1>"
    assert shown(bot, heard)["artist"].startswith("<img")
    assert "\n" not in shown(bot, heard)["title"]


# What is set


def test_own_words_and_links_for_somebody(bot, twitch, streamer):
    who = f"@{streamer.login}"
    assert so(bot, f"!so set {who} Look at {{user}}, who plays {{game}}: {{link}}").statuses == ["success"]
    so(bot, f"!so set {who} link https://example.com/a https://example.com/b")
    heard = so(bot, f"!so {who}")
    assert heard.chat == (
        f"Look at {streamer.name}, who plays Celeste: https://twitch.tv/{streamer.login}"
        " https://example.com/a https://example.com/b"
    )
    info = so(bot, f"!so info {who}").chat
    assert "https://example.com/b" in info
    assert "shouted out once" in info

    assert so(bot, f"!so clear {who}").chat == f"Nothing is set for {streamer.name} any more."
    assert so(bot, f"!so clear {who}").chat == f"Nothing is set for {streamer.name}."
    assert so(bot, f"!so {who}").chat.startswith("Go and follow")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("link javascript:alert(1)", "is not a link"),
        ("link https://", "is not a link"),
        ("link " + "https://e.com/" + "x" * 300, "is not a link"),
        ("link " + " ".join(f"https://e.com/{n}" for n in range(6)), "room for 5 links"),
        ("auto sometimes", "always, never or default"),
        ("x" * 401, "400 characters"),
        ("", "Usage: !so set"),
        ("link", "Which link?"),
    ],
)
def test_what_cannot_be_set_is_refused_with_the_reason(bot, twitch, streamer, words, said):
    heard = so(bot, f"!so set {streamer.login} {words}")
    assert heard.statuses == ["failed"]
    assert said in heard.chat
    assert rows(bot, "SELECT 1 FROM shoutout_people WHERE community_id = %s", bot.community_id) == []


def test_the_communitys_words_and_pictures(bot, twitch, streamer):
    twitch.clip(streamer, "A clip")
    configure(bot, message="{user}! {game}.", clips=False, picture_s=5)
    heard = so(bot, f"!so {streamer.login}")
    assert heard.chat == f"{streamer.name}! Celeste."
    assert (shown(bot, heard)["media_type"], shown(bot, heard)["display_s"]) == ("image", 5)
    refused = bot.fleet.request(
        "PUT", f"/router/communities/{bot.slug}/modules/shoutout", {"enabled": True, "config": {"raid_viewers": 0}}
    )
    assert refused.status == 422
    assert "raid_viewers" in refused.body.decode()


def test_history_and_stats(bot, twitch, streamer):
    assert so(bot, "!so history").chat == so(bot, "!so stats").chat == "Nobody was shouted out yet."
    twitch.clip(streamer, "A clip")
    so(bot, f"!so {streamer.login}")
    so(bot, f"!shoutout {streamer.login}", by="carol")
    history = so(bot, "!so history").chat
    assert history.startswith(f"2 shoutouts: {streamer.name} (")
    assert "by Carol" in history
    assert "by Alice" in history
    assert so(bot, f"!so history @{streamer.login}").chat == history
    other = twitch.user("somebody_new")
    assert so(bot, f"!so history {other.login}").chat == f"{other.name} was never shouted out here."
    stats = so(bot, "!so stats").chat
    assert stats == f"2 shoutouts of 1 person, 1 with a clip (asked for 2). Most: {streamer.name} (2)."


# What fails


def begin_anew():
    """Have Twitch be asked again, whatever it has done."""
    service = next(each for each in SERVICES if each.name == "shoutout")
    service.providers._circuits._circuits.clear()
    service.providers._pauses._own.clear()
    for key in service.bus.client.scan_iter("waddlebot:pause:*"):
        service.bus.client.delete(key)


FAULTS = [401, 403, 429, 500, 503, "html", "truncated", "empty", "huge"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_twitch_that_fails_is_told_in_a_sentence(bot, twitch, streamer, fault):
    twitch.fail_next(fault, 10, at="users")
    heard = so(bot, f"!so {streamer.login}")
    assert heard.statuses == ["failed"]
    assert heard.chat.startswith("Twitch ")
    assert twitch.client_secret not in str(heard.answer)
    twitch.reset()
    eventually(lambda: so(bot, f"!so {streamer.login}").statuses == ["success"], what="it works again once Twitch does")


@pytest.mark.parametrize("fault", [403, 429, 500, "html", "truncated", "empty", "huge", "hang"])
def test_a_twitch_that_gives_no_token_is_told_in_a_sentence(bot, twitch, streamer, fault):
    twitch.revoke_tokens()
    twitch.fail_next_token(fault, 10)
    heard = so(bot, f"!so {streamer.login}")
    assert heard.chat.startswith("Twitch "), heard.chat
    assert twitch.client_secret not in str(heard.answer)
    twitch.reset()
    begin_anew()
    eventually(lambda: so(bot, f"!so {streamer.login}").statuses == ["success"], what="it works again once Twitch does")


def test_no_secret_is_in_any_log_at_debug(bot, twitch, streamer, whole_log):
    twitch.clip(streamer, "A clip")
    so(bot, f"!so {streamer.login}")
    for path, faults in (("users", FAULTS), ("clips", FAULTS[::4])):
        for fault in faults:
            twitch.fail_next(fault, 10, at=path)
            so(bot, f"!so {streamer.login}")
            twitch.reset()
            begin_anew()
    twitch.revoke_tokens()
    so(bot, f"!so {streamer.login}")
    secrets = [twitch.client_secret, *twitch.tokens]
    assert len(secrets) > 1
    text = whole_log("shoutout")
    assert "provider_failed" in text
    assert [secret[:12] for secret in secrets if secret in text] == []


@pytest.mark.parametrize(("path", "fault"), [("channels", 500), ("clips", 500), ("clips", "html"), ("clips", "hang")])
def test_without_game_or_clip_it_is_said_all_the_same(bot, twitch, streamer, path, fault):
    twitch.clip(streamer, "A clip")
    twitch.fail_next(fault, 10, at=path)
    heard = so(bot, f"!so {streamer.login}")
    assert heard.chat.startswith(f"Go and follow {streamer.name} at")
    assert shown(bot, heard)["media_type"] == ("image" if path == "clips" else "clip")


def test_somebody_known_is_shouted_out_while_twitch_is_away(bot, channel, twitch, streamer):
    channel.submit("chatMessage", streamer, "hello")
    twitch.fail_next(500, 10, at="users")
    heard = channel.submit("chatMessage", streamer, f"!so {streamer.login}", level="moderator")
    assert heard.chat == f"Go and follow {streamer.name} at https://twitch.tv/{streamer.login}"


@pytest.fixture
def unconfigured(fleet, monkeypatch):
    """The module as it is without TWITCH_APP_ID."""
    app = importlib.import_module("apps.shoutout_interaction_module.app")
    monkeypatch.setattr(app.shoutouts, "_twitch", None)


def test_without_credentials_it_says_what_to_do(unconfigured, bot, channel, streamer):
    bot.say("hi", by="bobby")
    for who in ("@somebody", "bobby", "twitch.tv/somebody"):
        heard = so(bot, f"!so {who}")
        assert heard.statuses == ["failed"]
        assert "TWITCH_APP_ID and TWITCH_APP_SECRET" in heard.chat
    heard = channel.raid(streamer)
    assert (heard.statuses, heard.chat) == (["success"], ""), "nobody asked, so nobody is told"
    assert so(bot, "!so stats").chat == "Nobody was shouted out yet."


def test_a_simulated_shoutout_asks_nobody_and_changes_nothing(bot, twitch, streamer):
    twitch.requests.clear()
    heard = so(bot, f"!so {streamer.login}", mode="simulate")
    assert "Simulated" in heard.chat
    assert twitch.requests == []
    assert rows(bot, "SELECT 1 FROM shoutout_history WHERE community_id = %s", bot.community_id) == []
