"""!ytmusic: finding, asking, waiting, skipping; what is said, and what goes to the overlay."""

from __future__ import annotations

import json

import pytest
from waddlebot.base.ids import new_id
from waddlebot.base.youtube_links import Link, read_link
from waddlebot.data.database import fetch
from waddlebot.testing.plugin import eventually

NO_PAGE = " It begins as soon as the media overlay is open."
VIDEO = "dQw4w9WgXcQ"


def test_a_search_is_numbered_and_a_number_plays(music):
    word = new_id()
    music.youtube.add(f"Rock &amp; Roll &#39;{word}&#39;", channel="The Band - Topic", duration_s=213)
    music.youtube.add(f"The Band live {word}", channel="The Band", duration_s=3725)
    music.youtube.add(f"{word} on YouTube only", is_embeddable=False)

    said = music.bot.say(f"!ytmusic search {word}").chat
    assert said == (
        f"1. Rock & Roll '{word}' – The Band (3:33) | 2. The Band live {word} (1:02:05)"
        " – choose with !ytmusic play <number>"
    )
    assert music.bot.say("!ytmusic play 3").chat == "Your last search found 2 songs; there is no number 3."
    assert music.bot.say("!ytmusic play 1", by="bob").chat == (
        "Search first: !ytmusic search <words>, then !ytmusic play <number>."
    )
    assert music.bot.say("!ytmusic play 1").chat == f"Playing Rock & Roll '{word}' – The Band.{NO_PAGE}"
    (media,) = music.shown()
    assert media["media_url"].startswith("https://www.youtube.com/watch?v=")
    wanted = {"player": "youtube", "volume": 50, "duration_ms": 213_000, "requested_by": "Alice", "is_playing": True}
    assert {name: media[name] for name in wanted} == wanted
    assert media["track_id"] and media["artwork_url"].endswith("/hqdefault.jpg")
    assert [each["text"] for each in music.shown("ticker")] == [
        f"♪ Rock & Roll '{word}' – The Band – asked for by Alice"
    ]
    # YouTube is asked as its library asks: for music, for the region, for what may be embedded.
    ((_, query),) = [each for each in music.youtube.requests if each[0].endswith("/search")]
    assert query | {"q": word, "type": "video", "videoCategoryId": "10", "regionCode": "US"} == query


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (f"https://www.youtube.com/watch?v={VIDEO}", Link(VIDEO)),
        (f"http://m.youtube.com/watch?feature=x&v={VIDEO}&t=1m30s", Link(VIDEO, start_s=90)),
        (f"youtu.be/{VIDEO}?t=42&si=abc", Link(VIDEO, start_s=42)),
        (f"https://music.youtube.com/watch?v={VIDEO}&list=PL0123456789", Link(VIDEO, "PL0123456789")),
        (f"https://youtube.com/shorts/{VIDEO}", Link(VIDEO)),
        (f"https://www.youtube-nocookie.com/embed/{VIDEO}?start=7", Link(VIDEO, start_s=7)),
        (f"https://www.youtube.com/live/{VIDEO}#t=1h2m3s", Link(VIDEO, start_s=3723)),
        ("https://www.youtube.com/playlist?list=PL0123456789", Link(list_id="PL0123456789")),
        (f"https://www.youtube.com.evil.example/watch?v={VIDEO}", None),
        (f"https://evil.example/watch?v={VIDEO}", None),
        (f"https://www.youtube.com@evil.example/watch?v={VIDEO}", None),
        (f"javascript://www.youtube.com/watch?v={VIDEO}", None),
        ("https://www.youtube.com/watch?v=short", None),
        ("https://www.youtube.com/@someone", None),
        ("https://[", None),
        ("never gonna give you up", None),
    ],
)
def test_links_are_read_in_every_shape_and_no_other_hosts(text, link):
    assert read_link(text) == link


def test_a_link_an_id_and_words_play_or_wait_their_turn(music):
    word = new_id()
    first, second, third = (music.youtube.add(f"{word} {each}", duration_s=100) for each in ("one", "two", "three"))

    assert music.bot.say(f"!ytmusic play https://youtu.be/{first.video_id}?t=42").chat == (
        f"Playing {word} one – A Channel.{NO_PAGE}"
    )
    assert music.shown()[-1]["progress_ms"] == 42_000
    assert music.bot.say(f"!ytmusic play {second.video_id}").chat == f"{word} two – A Channel is number 1 in the queue."
    assert music.bot.say(f"!sr {word} three", by="bob").chat == f"{word} three – A Channel is number 2 in the queue."
    assert music.bot.say("!ytmusic queue").chat == (
        f"2 songs are waiting: 1. {word} two – A Channel (1:40, Alice) | 2. {word} three – A Channel (1:40, Bob)"
    )
    assert music.searches() == [f"{word} three"]
    assert third.title in music.waiting
    # What is no link of YouTube's is not looked for as words.
    assert music.bot.say(f"!sr https://evil.example/watch?v={VIDEO}").chat == (
        "That is no link to a video or playlist on YouTube."
    )
    assert music.bot.say("!sr").chat == "Usage: !sr <url|number|query>"
    assert music.bot.say("!ytmusic play").chat.startswith("Usage: !ytmusic play")


def test_a_playlist_of_youtubes_fills_the_queue_as_far_as_one_may(music):
    word = new_id()
    videos = [music.youtube.add(f"{word} {number}") for number in range(6)]
    videos[1].is_embeddable = False
    name = "PL" + new_id().replace("-", "")
    music.youtube.playlists[name] = [each.video_id for each in videos]
    private = "PL" + new_id().replace("-", "")
    music.youtube.private_playlists.add(private)

    said = music.bot.say(f"!sr https://www.youtube.com/playlist?list={name}").chat
    assert said == (
        f"Playing {word} 0 – A Channel.{NO_PAGE} 3 songs are waiting after it."
        " Not all of it: You have 3 songs in the queue already; that is as many as one may have here."
    )
    assert music.waiting == [f"{word} {number}" for number in (2, 3, 4)]
    for unknown in (private, "PLnothing0000"):
        assert music.bot.say(f"!sr https://www.youtube.com/playlist?list={unknown}").chat == (
            "YouTube refuses: that playlist is private, or there is none."
        )


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"live": "live"}, "“X – A Channel” is a live stream, which has no end."),
        ({"live": "upcoming"}, "“X – A Channel” is a live stream, which has no end."),
        ({"is_age_restricted": True}, "“X – A Channel” is for adults only"),
        ({"blocked_in": ("US",)}, "“X – A Channel” may not be played in US."),
        ({"allowed_in": ("DE", "FR")}, "“X – A Channel” may not be played in US."),
        ({"is_embeddable": False}, "“X – A Channel” may only be played on YouTube itself."),
        ({"privacy": "private"}, "That video is private, or was taken down."),
        ({"duration_s": 601}, "“X – A Channel” takes 10:01; songs here may take 10:00."),
        ({"duration_s": 108_000}, "“X – A Channel” takes 30:00:00; songs here may take 10:00."),
    ],
)
def test_what_cannot_be_played_is_refused_with_why(music, about, why):
    video = music.youtube.add("X", **about)
    heard = music.bot.say(f"!ytmusic play {video.video_id}")
    if about.get("privacy"):
        heard = music.bot.say(f"!ytmusic play https://youtu.be/{video.video_id}")
    assert heard.chat.startswith(why) and heard.statuses == ["failed"]
    assert music.playing is None and music.shown() == []


def test_a_community_says_its_country(music):
    video = music.youtube.add("X", blocked_in=("US",))
    music.set(region="de")
    assert music.bot.say(f"!sr {video.video_id}").statuses == ["success"]


def test_limits_shares_doubles_and_what_is_not_played_here(music):
    word = new_id()
    videos = [music.youtube.add(f"{word} {number}") for number in range(6)]
    music.set(max_queue=3, per_person=2, blocked_words=["Polka", "  ", "\u200b"])
    say = music.bot.say

    say(f"!sr {videos[0].video_id}")
    assert say(f"!sr {videos[0].video_id}").chat == f"“{word} 0 – A Channel” is playing already."
    say(f"!sr {videos[1].video_id}")
    assert say(f"!sr {videos[1].video_id}", by="bob").chat == f"“{word} 1 – A Channel” is in the queue already."
    say(f"!sr {videos[2].video_id}")
    assert "You have 2 songs in the queue already" in say(f"!sr {videos[3].video_id}").chat
    say(f"!sr {videos[3].video_id}", by="bob")
    assert say(f"!sr {videos[4].video_id}", by="carol").chat == "The queue is full: 3 songs wait."
    polka = music.youtube.add("Best of POLKA")
    assert say(f"!sr {polka.video_id}", by="carol").chat == "“Best of POLKA – A Channel” is not played here."
    hidden = music.youtube.add("Best of pol\u200bka")
    assert say(f"!sr {hidden.video_id}", by="carol").chat.endswith("is not played here.")

    # Nobody takes somebody else's song out, but a moderator does.
    assert say("!ytmusic remove 1", by="bob").chat == "That is somebody else's song; a moderator may remove it."
    assert say("!ytmusic remove 3", by="bob").chat == f"{word} 3 – A Channel is out of the queue."
    assert say("!ytmusic remove 1", by="mod", level="moderator").chat == f"{word} 1 – A Channel is out of the queue."
    assert say("!ytmusic remove 9").chat == "There is no number 9 in the queue."
    assert say("!ytmusic remove 0").chat == "There is no number 0 in the queue."
    assert say("!ytmusic remove x").chat.startswith("Usage: !ytmusic remove <number>")

    # What a moderator blocks ends, leaves the queue, and does not come back until it is unblocked.
    assert say(f"!ytmusic block https://youtu.be/{videos[2].video_id}").statuses == ["denied"]
    assert say("!ytmusic block", level="moderator").chat == f"{word} 0 – A Channel is not played here any more."
    assert music.playing == f"{word} 2"
    assert say(f"!sr {videos[0].video_id}").chat == f"“{word} 0 – A Channel” is not played here."
    assert say(f"!ytmusic unblock {videos[0].video_id}", level="moderator").statuses == ["success"]
    assert say(f"!sr {videos[0].video_id}").statuses == ["success"]


def test_skip_is_a_vote_and_moderators_and_whoever_asked_need_none(music):
    word = new_id()
    videos = [music.youtube.add(f"{word} {number}") for number in range(4)]
    for video in videos[:3]:
        music.bot.say(f"!sr {video.video_id}")
    say = music.bot.say

    assert say("!skip", by="bob").chat == "1 of 3 want to skip this song."
    assert say("!ytmusic skip", by="bob").chat == "1 of 3 want to skip this song."
    assert say("!skip", by="carol").chat == "2 of 3 want to skip this song."
    assert say("!skip", by="dave").chat == f"Skipped {word} 0 – A Channel. Now: {word} 1 – A Channel."
    assert say("!skip", by="alice").chat == f"Skipped {word} 1 – A Channel. Now: {word} 2 – A Channel."
    # Votes are for one song.
    assert say("!skip", by="bob").chat == "1 of 3 want to skip this song."
    assert say("!skip", by="mod", level="moderator").chat == f"Skipped {word} 2 – A Channel. Nothing waits."
    last = music.shown()[-1]
    assert (last["player"], last["is_playing"], last["media_url"]) == ("none", False, "")
    assert last["track_id"] == music.shown()[-2]["track_id"]
    assert say("!skip", level="moderator").chat == "Nothing is playing."
    music.set(vote_skip=0)
    say(f"!sr {videos[3].video_id}")
    assert say("!skip", by="bob").chat == "A moderator may skip this song, and whoever asked for it."


def test_pausing_volume_and_stopping_change_the_track_that_plays_and_begin_none(music):
    word = new_id()
    first, second = (music.youtube.add(f"{word} {number}") for number in "12")
    for video in (first, second):
        music.bot.say(f"!sr {video.video_id}")
    for command in ("pause", "resume", "volume 80", "stop"):
        assert music.bot.say(f"!ytmusic {command}").statuses == ["denied"]

    def say(text):
        return music.bot.say(text, by="mod", level="moderator").chat

    assert say("!ytmusic pause") == "Paused at 0:00."
    assert say("!ytmusic pause") == "The music is paused already."
    assert say("!ytmusic resume") == f"Going on with {word} 1 – A Channel."
    assert say("!ytmusic volume 80%") == "The volume is 80 of 100 now."
    assert say("!ytmusic volume 101") == "Usage: !ytmusic volume <0-100>"
    assert say("!ytmusic stop") == "Stopped. 1 song is still waiting: !ytmusic resume goes on."
    assert say("!ytmusic stop") == "Nothing is playing."
    items = music.shown()
    assert len({each["track_id"] for each in items}) == 1
    assert [(each["is_playing"], each["volume"], each["player"]) for each in items] == [
        (True, 50, "youtube"),
        (False, 50, "youtube"),
        (True, 50, "youtube"),
        (True, 80, "youtube"),
        (False, 80, "none"),
    ]
    # What is said of the volume stays said.
    assert say("!ytmusic play") == f"Playing {word} 2 – A Channel.{NO_PAGE}"
    assert music.shown()[-1]["volume"] == 80


def test_what_the_page_says_moves_the_queue_once(music):
    word = new_id()
    for number in range(3):
        music.bot.say(f"!sr {music.youtube.add(f'{word} {number}').video_id}")
    (first,) = music.shown()

    assert music.page_says("started")["duplicate"] is False
    assert music.page_says("started")["duplicate"] is True
    assert music.playing == f"{word} 0"
    music.page_says("ended")
    assert music.playing == f"{word} 1"
    # Said again, or late, it ends no other song.
    assert music.page_says("ended", track=first)["duplicate"] is True
    music.page_says("failed", track=first)
    assert music.playing == f"{word} 1"
    assert [each["title"] for each in music.get("history")["history"]] == [f"{word} 0"]
    assert music.announced() == []
    music.set(announce_songs=True)
    music.page_says("ended")
    assert music.announced() == [f"Now playing: {word} 2 – A Channel"]
    music.page_says("ended")
    assert music.playing is None and music.shown()[-1]["player"] == "none"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (2, "YouTube does not know that video"),
        (5, "the player cannot play it"),
        (100, "it was taken down or is private"),
        (101, "it may only be played on YouTube itself"),
        (150, "it may only be played on YouTube itself"),
        (0, "it does not begin to play"),
        (7, "the player says error 7"),
    ],
)
def test_what_the_player_refuses_is_said_and_the_next_song_follows(music, code, why):
    word = new_id()
    for number in range(2):
        music.bot.say(f"!sr {music.youtube.add(f'{word} {number}').video_id}")
    music.page_says("failed", code=code)
    assert music.announced() == [f"{word} 0 – A Channel cannot be played: {why}."]
    assert music.playing == f"{word} 1"


def test_an_overlay_without_a_referrer_costs_no_song(music):
    word = new_id()
    for number in range(2):
        music.bot.say(f"!sr {music.youtube.add(f'{word} {number}').video_id}")
    music.page_says("failed", code=153)
    assert "error 153" in music.announced()[-1] and music.playing is None
    assert music.waiting == [f"{word} 0", f"{word} 1"]


def test_songs_that_fail_in_a_row_end_the_music(music):
    music.set(per_person=10)
    for number in range(6):
        music.bot.say(f"!sr {music.youtube.add(f'{new_id()} {number}').video_id}")
    for _ in range(5):
        music.page_says("failed", code=5)
    assert "too many in a row" in music.announced()[-1] and music.playing is None
    assert len(music.waiting) == 1


def test_where_no_page_is_open_the_music_waits_and_says_so(music):
    music.bot.say(f"!sr {music.youtube.add('Patience').video_id}")
    music.page_says("no_page")
    assert music.announced() == [
        "The music waits: no media overlay is open. Patience – A Channel goes on as soon as one is."
    ]
    assert music.bot.say("!np").chat == (
        "Patience – A Channel (0:00 of 3:00, for Alice) waits: no media overlay is open."
    )
    assert music.playing == "Patience"


def test_when_nothing_waits_a_playlist_goes_on_by_itself(music):
    word = new_id()
    first, second, other = (music.youtube.add(f"{word} {number}") for number in "123")

    def say(text):
        return music.bot.say(text, level="moderator").chat

    assert say(f"!ytmusic playlist add autoplay {first.video_id}") == f"Added {word} 1 – A Channel to “autoplay”."
    say(f"!ytmusic playlist add autoplay {second.video_id}")
    say(f"!sr {other.video_id}")
    music.page_says("ended")
    assert music.playing == f"{word} 1"
    music.page_says("ended")
    assert music.playing == f"{word} 2"
    music.page_says("ended")
    assert music.playing == f"{word} 1"
    music.set(autoplay="history")
    music.page_says("ended")
    assert music.playing == f"{word} 3"
    music.set(autoplay="off")
    music.page_says("ended")
    assert music.playing is None


def test_playlists_are_moderators_and_everybody_sees_them(music):
    word = new_id()
    videos = [music.youtube.add(f"{word} {number}") for number in range(3)]

    def say(text):
        return music.bot.say(text, level="moderator").chat

    assert music.bot.say("!ytmusic playlist create Mine").chat.startswith("Moderators look after the playlists")
    assert say('!ytmusic playlist create "Chill Out"').startswith("There is a playlist “Chill Out” now.")
    for spelling in ("chill out", "“Chill\u200b Out”", "CHILL\u00ad OUT"):
        assert "already." in say(f"!ytmusic playlist create {spelling}")
    for video in videos:
        say(f'!ytmusic playlist add "chill out" https://youtu.be/{video.video_id}')
    assert say(f'!ytmusic playlist add "chill out" {videos[0].video_id}') == "“Chill Out” has that song already."
    assert music.bot.say("!ytmusic playlist list").chat == "Playlists: Chill Out (3)"
    assert music.bot.say('!ytmusic playlist list "Chill Out"').chat.startswith(f"1. {word} 0 – A Channel | 2.")
    assert say('!ytmusic playlist remove "chill out" 2') == f"{word} 1 – A Channel is out of “chill out”."
    assert say("!ytmusic playlist play chill out") == f"2 songs of “chill out” put into the queue.{NO_PAGE}"
    assert (music.playing, music.waiting) == (f"{word} 0", [f"{word} 2"])
    assert say("!ytmusic playlist delete nonsense").startswith("There is no playlist “nonsense”.")
    assert say("!ytmusic playlist delete chill out") == "Deleted the playlist “Chill Out”."
    assert say("!ytmusic playlist shuffle x").startswith("Usage: !ytmusic playlist create|add")
    actions = [each["action"] for each in audit(music)]
    assert [each for each in actions if each.startswith("playlist")][:1] == ["playlist_deleted"]


def audit(music):
    answer = music.bot.fleet.request("GET", "/router/audit", query={"community_id": music.bot.slug})
    return answer.json()["audit"]


def test_history_stats_and_what_plays(music):
    word = new_id()
    first, second = (music.youtube.add(f"{word} {number}", duration_s=90) for number in "12")
    assert music.bot.say("!ytmusic history").chat == "Nothing was played yet."
    assert music.bot.say("!ytmusic stats").chat == "Nothing was played yet."
    assert music.bot.say("!song").chat == "Nothing is playing."
    for video, by in ((first, "alice"), (second, "bob"), (first, "alice")):
        music.bot.say(f"!sr {video.video_id}", by=by)
        music.page_says("ended")
    assert music.bot.say("!ytmusic history").chat == (
        f"Lately: {word} 1 – A Channel (Alice) | {word} 2 – A Channel (Bob) | {word} 1 – A Channel (Alice)"
    )
    assert music.bot.say("!ytmusic stats").chat == (
        f"3 songs played, 4:30 in all. Most heard: {word} 1 – A Channel (2), {word} 2 – A Channel (1)."
        " Most asked: Alice (2), Bob (1)."
    )
    music.bot.say(f"!sr {second.video_id}")
    heard = music.bot.say("!ytmusic current")
    assert {each["response_action"] for each in heard.answer["responses"]} >= {"chat"}
    assert music.shown()[-1]["track_id"] == music.shown()[-2]["track_id"]


def test_one_persons_accounts_share_what_one_may_and_their_last_search(music):
    word, say = new_id(), music.bot.say
    videos = [music.youtube.add(f"{word} {number}") for number in range(4)]
    music.set(per_person=2)
    say(f"!sr {videos[0].video_id}", by=f"one-{word}")
    say(f"!sr {videos[1].video_id}", by=f"one-{word}")
    say(f"!sr {videos[2].video_id}", by=f"two-{word}")
    say(f"!ytmusic search {word}", by=f"one-{word}")
    one, two = (number_of(music, f"{name}-{word}") for name in ("one", "two"))
    link(music, one, two)
    assert "You have 2 songs" in say("!ytmusic play 4", by=f"two-{word}").chat
    assert say("!ytmusic remove 1", by=f"two-{word}").statuses == ["success"]
    say("!skip", by=f"one-{word}")  # It was theirs, so it ends at once.
    assert music.playing == f"{word} 2"
    link(music, one, None)
    assert say("!ytmusic play 4", by=f"two-{word}").chat.startswith("Search first")
    assert music.get("now-playing")["now_playing"]["requested_by"] == f"Two-{word}".title()


def number_of(music, name):
    with music.bot.fleet.database.transaction() as db:
        (row,) = fetch(db, "SELECT user_id FROM platform_identities WHERE platform_user_id = %s", (name,))
    return row["user_id"]


def link(music, one, head):
    from waddlebot.community.people import PEOPLE
    from waddlebot.module.service import SERVICES

    sql = "UPDATE users SET head_id = %s WHERE id = %s"
    music.bot.fleet.database.statement(sql, (head, one))
    SERVICES[0].bus.invalidate(PEOPLE)


def test_titles_are_only_text(music):
    video = music.youtube.add("!ban @everyone &lt;b&gt;x&lt;/b&gt;\u202e\x07 " + "y" * 300, channel="<@123> - Topic")
    heard = music.bot.say(f"!sr {video.video_id}")
    assert heard.chat.startswith("Playing !ban @everyone <b>x</b> yyy") and len(heard.chat) < 200
    assert len(heard.answer["executions"]) == 1
    assert "\u202e" not in json.dumps(music.shown(), ensure_ascii=False)


def test_the_router_knows_at_once_where_music_plays(music):
    def is_active():
        sql = "SELECT active_in FROM collector_modules WHERE module_name = 'youtube_music'"
        return music.bot.community_id in music.bot.fleet.database.statement(sql)[0]["active_in"]

    music.bot.say(f"!sr {music.youtube.add('X').video_id}")
    eventually(is_active)
    music.bot.say("!ytmusic stop", level="moderator")
    eventually(lambda: not is_active())


def test_a_simulated_request_asks_nobody_and_plays_nothing(music):
    heard = music.bot.say("!sr some song", mode="simulate", level="owner")
    assert "look up some song on YouTube" in heard.chat
    assert music.youtube.requests == [] and music.playing is None


def test_titles_keep_to_the_rules_of_the_channel_wherever_they_are_read(music):
    word = new_id()
    rule = {"string": "darn", "match_type": "word", "action": "warn", "community_id": music.bot.slug}
    assert music.bot.fleet.request("POST", "/router/string-rules", rule).status == 200
    song = music.youtube.add(f"Darn {word}", duration_s=100)
    other = music.youtube.add(f"DARN it {word}", duration_s=100)
    assert music.bot.say(f"!sr {song.video_id}").chat.startswith("A rule of this channel")
    (media,) = music.shown()
    assert (media["title"], music.shown("ticker")) == ("", [])
    assert music.bot.say("!song").chat.startswith("A rule of this channel")
    music.bot.say(f"!sr {other.video_id}")
    music.set(announce_songs=True)
    music.page_says("started")
    music.page_says("ended")
    eventually(lambda: music.announced())
    assert all("arn" not in each.lower() for each in music.announced())
    assert all("arn" not in each["title"].lower() for each in music.shown())
