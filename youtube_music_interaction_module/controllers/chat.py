"""!ytmusic and the commands that music modules share: words in, a line of chat and something to hear out."""

from __future__ import annotations

from collections.abc import Sequence

from pydal import DAL
from waddlebot.base.contracts import Level, ModuleResponse
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.youtube_links import VIDEO_ID, read_link
from waddlebot.data import audit
from waddlebot.module.call import Asked, Said
from waddlebot.module.interaction import Call, OutsideCall, say
from waddlebot.web.lists import Page

from ..services.history_service import HistoryService
from ..services.house import House
from ..services.player_service import By, NothingPlays, Now, PlayerService, Requested, Rules, note
from ..services.playlists import MODULE
from ..services.router_service import song_begins, song_changes, song_is_over, song_shown
from ..services.tracks import Track, as_time, in_words
from ..services.youtube_music_service import YouTubeMusicService

SHOWN_SONGS = 5
MAX_LINE_CHARS = 440
PLAY_USAGE = "Usage: !ytmusic play <url|number|id|query>"
NO_PAGE = " It begins as soon as the media overlay is open."


class MusicChat:
    def __init__(
        self, house: House, finder: YouTubeMusicService, player: PlayerService, history: HistoryService
    ) -> None:
        self._house = house
        self._finder = finder
        self._player = player
        self._history = history

    # Finding and asking

    def search(self, call: OutsideCall, *query: str) -> Said:
        if not query:
            raise UsageError("Usage: !ytmusic search <query>")
        words, rules = " ".join(query), self._rules(call)
        found = call.look_up(
            f"search YouTube for {words}",
            lambda left_s: self._finder.search(words, region=rules.region, within_s=left_s),
        )
        songs = [each for each in found if not each.refusal]
        if not songs:
            return f"Nothing of what YouTube knows for “{words[:60]}” can be played here."
        with call.writing() as db:
            self._history.keep_search(db, call.community_id, call.payload.user.own_id, words, songs)
            note(db, call.community_id, call.payload.user.own_id, "search", query=words[:200])
        listed = _numbered([(song.title, song.artist, song.duration) for song in songs])
        return f"{listed} – choose with !ytmusic play <number>"

    def play(self, call: OutsideCall, *words: str) -> Said:
        """Play what somebody names, or without a name go on."""
        if not words:
            return self._go_on(call)
        return self.request(call, *words)

    def request(self, call: OutsideCall, *words: str) -> Said:
        if not words:
            raise UsageError("Usage: !sr <url|number|query>")
        self._finder.check_set_up()
        rules, text = self._rules(call), " ".join(words)
        tracks = self._find(call, text, rules)
        with call.writing() as db:
            requested = self._player.request(db, call.community_id, tracks, _by(call), rules)
            videos = [each.video_id for each in tracks[:50]]
            note(db, call.community_id, call.payload.user.own_id, "play", videos=videos)
            has_page = self._player.has_page(db, call.community_id)
        return _told(requested, rules, has_page=has_page)

    def _find(self, call: OutsideCall, text: str, rules: Rules) -> list[Track]:
        """What a link, an id, a number of the last search or words mean."""
        if text.isascii() and text.isdigit() and len(text) < 4:
            with call.reading() as db:
                chosen = self._history.get_found(db, call.community_id, call.payload.user.ids, int(text))
            return [chosen]
        return call.look_up(
            f"look up {text} on YouTube",
            lambda left_s: self._finder.find(text, region=rules.region, limit=rules.max_queue, within_s=left_s),
        )

    def _go_on(self, call: OutsideCall) -> Said:
        if call.level < Level.MODERATOR:
            raise UsageError(PLAY_USAGE)
        with call.writing() as db:
            return self._resumed(db, call)

    # What plays

    def current(self, call: Call) -> Said:
        rules = self._rules(call)
        now = self._player.find_now(call.db, call.community_id, rules)
        if now is None:
            _, waiting = self._player.list_waiting(call.db, call.community_id, limit=1)
            return f"Nothing is playing; {songs_in_words(waiting)} waiting." if waiting else "Nothing is playing."
        return [say(_now_in_words(now)), *song_shown(now, rules)]

    def stop(self, call: Call) -> Said:
        rules = self._rules(call)
        now = self._player.end(call.db, call.community_id, "stopped", rules)
        if now is None:
            raise NothingPlays()
        self._note(call, "stop", now)
        _, waiting = self._player.list_waiting(call.db, call.community_id, limit=1)
        rest = f" {songs_in_words(waiting)} still waiting: !ytmusic resume goes on." if waiting else ""
        return [say(f"Stopped.{rest}"), song_is_over(now)]

    def pause(self, call: Call) -> Said:
        now = self._player.set_paused(call.db, call.community_id, self._rules(call), is_paused=True)
        self._note(call, "pause", now)
        return [say(f"Paused at {as_time(now.position_s)}."), song_changes(now)]

    def resume(self, call: Call) -> Said:
        return self._resumed(call.db, call)

    def _resumed(self, db: DAL, call: Asked) -> Said:
        """Go on with the song that is paused, or with what waits."""
        rules = self._rules(call)
        now = self._player.find_now(db, call.community_id, rules)
        if now is None:
            began = self._player.go_on(db, call.community_id, rules)
            if began is None:
                raise NothingPlays("Nothing is playing, and nothing waits.")
            has_page = self._player.has_page(db, call.community_id)
            return [say(f"Playing {began.track.shown}.{'' if has_page else NO_PAGE}"), *song_begins(began, rules)]
        now = self._player.set_paused(db, call.community_id, rules, is_paused=False)
        return [say(f"Going on with {now.track.shown}."), song_changes(now)]

    def volume(self, call: Call, volume: str) -> Said:
        digits = volume.removesuffix("%")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 4 and int(digits) <= 100):
            raise UsageError("Usage: !ytmusic volume <0-100>")
        loudness = int(digits)
        now = self._player.set_volume(call.db, call.community_id, self._rules(call), loudness)
        note(call.db, call.community_id, call.payload.user.own_id, "volume", volume=loudness)
        said = say(f"The volume is {loudness} of 100 now.")
        return [said, song_changes(now)] if now else said

    def skip(self, call: Call) -> Said:
        """End the song: at once for moderators and whoever asked for it, else by vote."""
        rules, user = self._rules(call), call.payload.user
        now = self._player.get_now(call.db, call.community_id, rules)
        is_own = now.own_id is not None and now.own_id in user.ids
        if call.level < Level.MODERATOR and not is_own:
            if rules.vote_skip == 0:
                raise UserError("A moderator may skip this song, and whoever asked for it.")
            votes = self._player.vote(call.db, call.community_id, now, user.own_id)
            if votes < rules.vote_skip:
                return f"{votes} of {rules.vote_skip} want to skip this song."
        ended = self._player.end(call.db, call.community_id, "skipped", rules, track_id=now.track_id)
        if ended is None:
            raise NothingPlays("That song is over already.")
        self._note(call, "skip", ended)
        following = self._player.go_on(call.db, call.community_id, rules)
        if following is None:
            return [say(f"Skipped {ended.track.shown}. Nothing waits."), song_is_over(ended)]
        return [
            say(f"Skipped {ended.track.shown}. Now: {following.track.shown}."),
            *song_begins(following, rules),
        ]

    # What waits

    def queue(self, call: Call) -> Said:
        if not self._house.settings.enable_queue:
            raise UserError("Songs do not wait here: the next one can be asked for when this one is over.")
        waiting, total = self._player.list_waiting(call.db, call.community_id, limit=SHOWN_SONGS)
        if not waiting:
            return "Nothing waits. Ask for a song with !sr <url or words>"
        listed = " | ".join(
            f"{each.place}. {each.track.shown} ({as_time(each.track.duration)}"
            + (f", {each.requested_by})" if each.requested_by else ")")
            for each in waiting
        )
        more = f" … and {total - len(waiting)} more" if total > len(waiting) else ""
        return f"{songs_in_words(total)} waiting: {listed}"[:MAX_LINE_CHARS] + more

    def remove(self, call: Call, number: str) -> Said:
        if not (number.isascii() and number.isdigit() and len(number) < 5):
            raise UsageError("Usage: !ytmusic remove <number>, as !ytmusic queue has it")
        removed = self._player.remove(
            call.db,
            call.community_id,
            int(number),
            _by(call),
            may_remove_any=call.level >= Level.MODERATOR,
        )
        note(call.db, call.community_id, call.payload.user.own_id, "remove", video=removed.track.video_id)
        return f"{removed.track.shown} is out of the queue."

    # What was

    def history(self, call: Call) -> Said:
        if not self._house.settings.enable_history:
            raise UserError("What was played is not remembered here.")
        listed = self._history.list(call.db, call.community_id, Page(limit=SHOWN_SONGS))
        if not listed.rows:
            return "Nothing was played yet."
        songs = " | ".join(
            in_words(row["title"], row["artist"])
            + (f" ({row['requested_by']})" if row["requested_by"] else "")
            + ("" if row["outcome"] == "played" else f" – {row['outcome']}")
            for row in listed.rows
        )
        return f"Lately: {songs}"[:MAX_LINE_CHARS]

    def stats(self, call: Call) -> Said:
        stats = self._history.stats(call.db, call.community_id)
        if not stats.songs and not stats.top_requesters:
            return "Nothing was played yet."
        top = [(in_words(each["title"], each["artist"]), each["plays"]) for each in stats.top_songs[:3]]
        songs = ", ".join(f"{song} ({plays})" for song, plays in top)
        people = ", ".join(f"{each['name'] or 'somebody'} ({each['songs']})" for each in stats.top_requesters[:3])
        said = f"{songs_in_words(stats.songs, plain=True)} played, {as_time(stats.played_s)} in all."
        said += f" Most heard: {songs}." if songs else ""
        return (said + (f" Most asked: {people}." if people else ""))[:MAX_LINE_CHARS]

    # What is not played here

    def block(self, call: OutsideCall, *words: str) -> Said:
        rules = self._rules(call)
        if words:
            tracks = self._find_any(call, " ".join(words), rules)
        else:
            with call.reading() as db:
                tracks = [self._player.get_now(db, call.community_id, rules).track]
        track = tracks[0]
        with call.writing() as db:
            self._player.block(db, call.community_id, track, _by(call))
            after = {"video_id": track.video_id, "title": track.title}
            subject = f"blocked/{track.video_id}"
            audit.record(db, MODULE, "video_blocked", subject, community_id=call.community_id, after=after)
            now = self._player.find_now(db, call.community_id, rules)
            said: list[ModuleResponse] = [say(f"{track.shown} is not played here any more.")]
            if now and now.track.video_id == track.video_id:
                self._player.end(db, call.community_id, "skipped", rules)
                following = self._player.go_on(db, call.community_id, rules)
                said += song_begins(following, rules) if following else [song_is_over(now)]
        return said

    def unblock(self, call: Call, video: str) -> Said:
        link = read_link(video)
        video_id = link.video_id if link else video
        if not VIDEO_ID.fullmatch(video_id):
            raise UsageError("Usage: !ytmusic unblock <url|id>")
        title = self._player.unblock(call.db, call.community_id, video_id)
        before = {"video_id": video_id, "title": title}
        audit.record(
            call.db, MODULE, "video_unblocked", f"blocked/{video_id}", community_id=call.community_id, before=before
        )
        return f"“{title}” may be played again."

    def _find_any(self, call: OutsideCall, text: str, rules: Rules) -> list[Track]:
        """A video by link, id or number, also one that could not be played."""
        link = read_link(text)
        video_id = link.video_id if link else text if VIDEO_ID.fullmatch(text) else ""
        if not video_id:
            return self._find(call, text, rules)
        found = call.look_up(
            f"look up {text} on YouTube",
            lambda left_s: self._finder.look_up([video_id], region=rules.region, within_s=left_s),
        )
        return found or [Track(video_id, video_id, "", 0)]

    # Small print

    def _rules(self, call: Asked) -> Rules:
        return self._house.rules(call.settings)

    @staticmethod
    def _note(call: Call, action: str, now: Now) -> None:
        note(call.db, call.community_id, call.payload.user.own_id, action, video=now.track.video_id)


def _by(call: Asked) -> By:
    user = call.payload.user
    return By(call.user_name, user.own_id, user.ids)


def _told(requested: Requested, rules: Rules, *, has_page: bool) -> Said:
    """What to say of what was asked for, with what is to be heard."""
    shown: list[ModuleResponse] = []
    if requested.started:
        text = f"Playing {requested.started.track.shown}.{'' if has_page else NO_PAGE}"
        shown = song_begins(requested.started, rules)
        if requested.waiting:
            text += f" {songs_in_words(len(requested.waiting))} waiting after it."
    elif len(requested.waiting) == 1:
        first = requested.waiting[0]
        text = f"{first.track.shown} is number {first.place} in the queue."
    else:
        count, first = len(requested.waiting), requested.waiting[0]
        text = f"{songs_in_words(count, plain=True)} put into the queue, from number {first.place} on."
    left_out = f" Not all of it: {requested.left_out}" if requested.left_out else ""
    return [say(text + left_out, reply=True), *shown]


def _now_in_words(now: Now) -> str:
    asked = f", for {now.requested_by}" if now.requested_by else ""
    said = f"{now.track.shown} ({as_time(now.position_s)} of {as_time(now.track.duration)}{asked})"
    if not now.has_page:
        return f"{said} waits: no media overlay is open."
    return f"Paused: {said}" if now.is_paused else f"Now playing: {said}"


def songs_in_words(count: int, *, plain: bool = False) -> str:
    noun = "1 song" if count == 1 else f"{count} songs"
    return noun if plain else f"{noun} {'is' if count == 1 else 'are'}"


def _numbered(songs: Sequence[tuple[str, str, int]]) -> str:
    """As many as fit a line, each with the number that it is chosen by."""
    line = ""
    for number, (title, artist, duration) in enumerate(songs, 1):
        each = f"{number}. {in_words(title, artist)} ({as_time(duration)})"
        if line and len(line) + len(each) > MAX_LINE_CHARS - 60:
            break
        line += f" | {each}" if line else each
    return line


__all__ = ["NO_PAGE", "MusicChat"]
