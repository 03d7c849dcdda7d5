"""!spotify, !song, !np, !sr and !skip: words in, a line of chat and a card out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waddlebot.base.chat import shorten
from waddlebot.base.contracts import Level, ModuleResponse
from waddlebot.base.errors import Away, Later, NotAllowed, NotFound, Refused, UsageError, UserError
from waddlebot.base.text import fold
from waddlebot.data.database import Database
from waddlebot.module.interaction import Call, OutsideCall, say
from waddlebot.web.lists import Page

from ..services.account_service import AccountService, Connected, Player
from ..services.link_service import LinkService
from ..services.now_playing_service import NowPlaying, NowPlayingService
from ..services.player_service import PlayerService, find_device
from ..services.request_service import Limits, Requester, RequestService
from ..services.search_service import SearchService, as_number
from ..services.tracks import NoTrack, Playing, Track, clock, read_reference
from ..services.watch_service import WatchService

SHOWN = 5
SEARCH_USAGE = "Usage: !spotify search <query>"
PLAY_USAGE = "Usage: !spotify play <uri/number>"


class MayNot(UserError):
    """Only moderators may do that."""

    code = NotAllowed.code
    http_status = NotAllowed.http_status


class SpotifyChat:
    def __init__(
        self,
        database: Database,
        accounts: AccountService,
        links: LinkService,
        players: PlayerService,
        searches: SearchService,
        requests: RequestService,
        now_playing: NowPlayingService,
        watch: WatchService,
        *,
        takes_requests: bool,
    ) -> None:
        self._db = database
        self._accounts = accounts
        self._links = links
        self._players = players
        self._searches = searches
        self._requests = requests
        self._now = now_playing
        self._watch = watch
        self._takes_requests = takes_requests

    # Accounts

    def connect(self, call: Call) -> ModuleResponse:
        if not call.can_say_privately:
            return say(
                "The link is for you alone, and here everybody would read it: type !spotify connect on Discord or"
                " Slack, or open the portal."
            )
        by_owner = call.level >= Level.OWNER
        url = self._links.make(call.db, call.community_id, call.payload.user.own_id, by_owner=by_owner)
        return say(f"Connect your Spotify account: {url} (works once, for ten minutes; for you alone).", private=True)

    def account(self, call: Call, who: str = "") -> str:
        connected = self._accounts.list_connected(call.db, call.community_id)
        if not who:
            return _accounts(connected)
        if fold(who) == "none":
            self._accounts.choose(call.db, call.community_id, None)
            chosen = "Nobody's Spotify plays here any more."
        else:
            whose = _find_account(connected, who)
            self._accounts.choose(call.db, call.community_id, whose.user_id)
            chosen = f"{whose.account_name}'s Spotify plays here from now on."
        # What the router knows of credentials; after the commit.
        call.invalidate("commands", call.community_id)
        return chosen

    # Finding

    def search(self, call: OutsideCall, *query: str) -> str:
        text = " ".join(query).strip()
        if not text:
            raise UsageError(SEARCH_USAGE)
        with call.reading() as db:
            player = self._accounts.get_player(db, call.community_id)
            found = self._searches.find_same(db, call.community_id, fold(text))
        if found is None:
            found = call.look_up(
                f"search Spotify for {text}", lambda left_s: self._players.search(player, text, within_s=left_s)
            )
        if not found:
            return f"Spotify knows nothing for “{shorten(text, 60)}”."
        with call.writing() as db:
            self._searches.keep(db, call.community_id, call.payload.user.own_id, fold(text), found)
        listed = " · ".join(
            f"{number}. {each.title} ({clock(each.duration_ms)})" for number, each in enumerate(found, 1)
        )
        return f"{listed} – !spotify play <number>"

    def current(self, call: OutsideCall) -> list[ModuleResponse]:
        player = self._player(call)
        playing = call.look_up("ask Spotify what plays", lambda left_s: self._players.look(player, within_s=left_s))
        with call.writing() as db:
            self._now.see(db, call.community_id, playing)
            now = self._now.find(db, call.community_id)
            self._watch.soon(db, call.community_id)
        if playing is None or now is None:
            return [say("Nothing is playing on Spotify.")]
        return [say(_current(now)), self._now.card(now)]

    # Playing

    def play(self, call: OutsideCall, *words: str) -> list[ModuleResponse] | str:
        if not words:
            raise UsageError(PLAY_USAGE)
        player = self._player(call)
        if not self._may_command(call, player):
            if not self._takes_requests or not call.settings["requests"]:
                raise MayNot("Only moderators choose what plays here.")
            return self._request(call, player, words)
        reference = read_reference(words[0]) if len(words) == 1 else None
        if reference and reference[0] != "track":
            kind, uri = reference
            return self._play_list(call, player, uri, f"that {kind}")
        track = self._find_track(call, player, words)
        self._start(call, player, track.uri, track.title)
        return self._begun(call, track)

    def _begun(self, call: OutsideCall, track: Track) -> list[ModuleResponse]:
        user = call.payload.user
        with call.writing() as db:
            cards = self._now.see(
                db, call.community_id, Playing(track, is_playing=True, progress_ms=0), by=(user.own_id, call.user_name)
            )
            self._watch.soon(db, call.community_id)
        text = f"Now playing on Spotify: {track.title}"
        ticker = ModuleResponse(response_action="ticker", response_data={"text": text})
        return [say(f"Playing {track.title}."), *cards, ticker]

    def pause(self, call: OutsideCall) -> list[ModuleResponse] | str:
        player, now = self._read(call)
        call.effect("pause the music", lambda left_s: self._players.pause(player, within_s=left_s), instead=None)
        return self._told(call, now, is_playing=False, said="Paused.")

    def resume(self, call: OutsideCall) -> list[ModuleResponse] | str:
        player, now = self._read(call)
        call.effect("resume the music", lambda left_s: self._players.resume(player, within_s=left_s), instead=None)
        return self._told(call, now, is_playing=True, said="Playing again.")

    def skip(self, call: OutsideCall) -> str:
        player, now = self._read(call)
        asked_for_it = now is not None and now.requested_by_id in call.payload.user.ids
        if not asked_for_it and not self._may_command(call, player):
            raise MayNot("Moderators skip, and whoever asked for what plays.")
        call.effect("skip to the next track", lambda left_s: self._players.skip(player, within_s=left_s), instead=None)
        with call.writing() as db:
            self._watch.soon(db, call.community_id)
        return f"Skipped {now.track.title}." if now else "Skipped."

    def devices(self, call: OutsideCall) -> str:
        player = self._player(call)
        found = call.look_up("ask Spotify for devices", lambda left_s: self._players.devices(player, within_s=left_s))
        if not found:
            return f"No Spotify of {player.account_name} is open anywhere; start it on a computer, phone or speaker."
        listed = " · ".join(
            f"{number}. {shorten(each.name, 40)}"
            + _about(is_active=each.is_active, is_preferred=each.id == player.device_id)
            for number, each in enumerate(found, 1)
        )
        return f"{listed} – !spotify device <number|name>"

    def device(self, call: OutsideCall, *name: str) -> str:
        if not name:
            raise UsageError("Usage: !spotify device <number|name>")
        player = self._player(call)
        found = call.look_up("ask Spotify for devices", lambda left_s: self._players.devices(player, within_s=left_s))
        device = find_device(found, " ".join(name))
        call.effect(
            f"move the music to {device.name}",
            lambda left_s: self._players.transfer(player, device, within_s=left_s),
            instead=None,
        )
        with call.writing() as db:
            self._accounts.prefer(db, call.community_id, device_id=device.id, device_name=device.name)
            self._watch.soon(db, call.community_id)
        return f"The music is on {shorten(device.name, 40)} now, and goes there from now on."

    def volume(self, call: OutsideCall, percent: str = "") -> str:
        number = percent.removesuffix("%")
        if not (number.isascii() and number.isdigit() and int(number[:4]) <= 100):
            raise UsageError("Usage: !spotify volume <0-100>")
        player = self._player(call)
        call.effect(
            f"set the volume to {int(number)}",
            lambda left_s: self._players.set_volume(player, int(number), within_s=left_s),
            instead=None,
        )
        return f"The volume is {int(number)} %."

    # The queue

    def queue(self, call: OutsideCall, *words: str) -> list[ModuleResponse] | str:
        player = self._player(call)
        if words:
            return self._request(call, player, words)
        _, coming = self._coming(call, player)
        with call.writing() as db:
            self._requests.compare(db, call.community_id, [each.uri for each in coming])
            asked_by = self._requests.requesters(db, call.community_id)
        if not coming:
            return "Nothing comes next. Ask for something: !spotify request <track>."
        listed = " · ".join(
            f"{number}. {each.title}" + (f" for {asked_by[each.uri]}" if each.uri in asked_by else "")
            for number, each in enumerate(coming[:SHOWN], 1)
        )
        more = f" · and {len(coming) - SHOWN} more" if len(coming) > SHOWN else ""
        return f"Next: {listed}{more}"

    def _coming(self, call: OutsideCall, player: Player) -> tuple[Track | None, list[Track]]:
        nothing: tuple[Track | None, list[Track]] = (None, [])
        return call.look_up(
            "ask Spotify what comes next",
            lambda left_s: self._players.coming(player, within_s=left_s),
            instead=nothing,
        )

    def request(self, call: OutsideCall, *words: str) -> str:
        if not words:
            raise UsageError("Usage: !spotify request <uri/number/words>")
        player = self._player(call)
        return self._request(call, player, words)

    def _request(self, call: OutsideCall, player: Player, words: Sequence[str]) -> str:
        limits = Limits.of(call.settings)
        if not limits.allowed and not self._may_command(call, player):
            raise MayNot("Requests are off here.")
        limits = replace(limits, allowed=True)
        track = self._find_track(call, player, words)
        current, coming = self._coming(call, player)
        uris = [each.uri for each in coming] + ([current.uri] if current else [])
        user = call.payload.user
        who = Requester(user.ids, user.own_id, call.user_name)
        if call.is_simulated:
            with call.reading() as db:
                self._requests.check(db, call.community_id, track, who, limits)
            place = 0
        else:
            with self._db.transaction() as db:
                self._requests.compare(db, call.community_id, uris)
            place = self._requests.reserve(
                call.community_id, track, who, limits, execution_id=call.payload.execution_id
            )
        self._add(call, player, track, place)
        with call.writing() as db:
            self._requests.queued(db, place)
            self._watch.soon(db, call.community_id)
        # Spotify begins nothing by itself.
        waits = "" if current or call.is_simulated else " Nothing plays yet."
        return f"{track.title} is in the queue, {call.user_name}.{waits}"

    def _add(self, call: OutsideCall, player: Player, track: Track, place: int) -> None:
        def add(left_s: float) -> None:
            self._players.add(player, track.uri, within_s=left_s)

        try:
            call.effect(f"queue {track.title}", add, instead=None)
        except (Refused, Away, Later):
            self._requests.give_up(place)
            raise

    def history(self, call: Call) -> str:
        listed = self._now.list_history(call.db, call.community_id, Page(limit=SHOWN))
        if not listed.rows:
            return "Nothing was played yet."
        tracks = (Track(each["track_uri"], each["track_name"], each["artists"]) for each in listed.rows)
        return "Played: " + " · ".join(each.title for each in tracks)

    def playlist(self, call: OutsideCall, *words: str) -> list[ModuleResponse] | str:
        player = self._player(call)
        reference = read_reference(words[0]) if len(words) == 1 else None
        if reference and reference[0] == "track":
            raise NoTrack("That is a track; !spotify play plays it.")
        if reference:
            return self._play_list(call, player, reference[1], f"that {reference[0]}")
        found = call.look_up(
            "ask Spotify for playlists", lambda left_s: self._players.playlists(player, within_s=left_s)
        )
        if not found:
            return f"{player.account_name} has no playlists."
        if not words:
            listed = " · ".join(f"{number}. {shorten(name, 40)}" for number, (name, _) in enumerate(found[:10], 1))
            return f"{listed} – !spotify playlist <number|name>"
        name, uri = _find_playlist(found, words)
        return self._play_list(call, player, uri, f"“{shorten(name, 60)}”")

    def _start(self, call: OutsideCall, player: Player, uri: str, name: str) -> None:
        call.effect(f"play {name}", lambda left_s: self._players.play(player, uri, within_s=left_s), instead=None)

    def _play_list(self, call: OutsideCall, player: Player, uri: str, name: str) -> str:
        self._start(call, player, uri, name)
        with call.writing() as db:
            self._watch.soon(db, call.community_id)
        return f"Playing {name}."

    # Shared by these

    def _player(self, call: OutsideCall) -> Player:
        with call.reading() as db:
            return self._accounts.get_player(db, call.community_id)

    def _read(self, call: OutsideCall) -> tuple[Player, NowPlaying | None]:
        with call.reading() as db:
            return self._accounts.get_player(db, call.community_id), self._now.find(db, call.community_id)

    def _told(self, call: OutsideCall, now: NowPlaying | None, *, is_playing: bool, said: str) -> list[ModuleResponse]:
        with call.writing() as db:
            cards: list[ModuleResponse] = []
            if now is not None:
                playing = Playing(now.track, is_playing, now.progress_ms, now.device_name, now.volume)
                cards = self._now.see(db, call.community_id, playing)
            self._watch.soon(db, call.community_id)
        return [say(said), *cards]

    def _may_command(self, call: OutsideCall, player: Player) -> bool:
        """Moderators, and whoever's account it is."""
        return call.level >= Level.MODERATOR or player.user_id in call.payload.user.ids

    def _find_track(self, call: OutsideCall, player: Player, words: Sequence[str]) -> Track:
        """The track that words mean: a link, a number of the last search, or the first that is found."""
        number = as_number(words)
        if number is not None:
            with call.reading() as db:
                return self._searches.find_number(db, call.community_id, call.payload.user.ids, number)
        text = " ".join(words).strip()
        reference = read_reference(text)
        if reference and reference[0] != "track":
            raise NoTrack(f"That is a whole {reference[0]}; a track is needed.")
        if reference:
            uri = reference[1]
            return call.look_up(f"look up {uri}", lambda left_s: self._players.get_track(player, uri, within_s=left_s))
        found = call.look_up(
            f"search Spotify for {text}", lambda left_s: self._players.search(player, text, within_s=left_s)
        )
        if not found:
            raise NoTrack(f"Spotify knows nothing for “{shorten(text, 60)}”.")
        return found[0]


def _current(now: NowPlaying) -> str:
    track = now.track
    album = f" ({shorten(track.album, 60)})" if track.album else ""
    state = "" if now.is_playing else ", paused"
    where = f" on {shorten(now.device_name, 40)}" if now.device_name else ""
    asked = f", for {now.requested_by}" if now.requested_by else ""
    return f"{track.title}{album} [{clock(now.progress_ms)}/{clock(track.duration_ms)}]{where}{state}{asked}"


def _about(*, is_active: bool, is_preferred: bool) -> str:
    words = [word for word, holds in (("active", is_active), ("preferred", is_preferred)) if holds]
    return f" ({', '.join(words)})" if words else ""


def _accounts(connected: Sequence[Connected]) -> str:
    if not connected:
        return "Nobody has connected a Spotify account here: !spotify connect."
    return "Connected: " + ", ".join(
        each.account_name
        + (f" ({each.name})" if each.name and each.name != each.account_name else "")
        + (" – plays here" if each.plays else "")
        + (" – must connect again" if each.needs_reauth else "")
        for each in connected
    )


def _find_account(connected: Sequence[Connected], who: str) -> Connected:
    wanted = fold(who.lstrip("@"))
    found = [each for each in connected if wanted in (fold(each.name), fold(each.account_name))]
    if len(found) != 1:
        raise NotFound(f"{'Nobody' if not found else 'More than one'} here is “{who[:40]}” with an account connected.")
    return found[0]


def _find_playlist(found: Sequence[tuple[str, str]], words: Sequence[str]) -> tuple[str, str]:
    number = as_number(words)
    if number is not None and 1 <= number <= len(found):
        return found[number - 1]
    wanted = fold(" ".join(words))
    named = [each for each in found if fold(each[0]) == wanted] or [each for each in found if wanted in fold(each[0])]
    if not named:
        raise NotFound(f"There is no playlist “{shorten(' '.join(words), 40)}”. !spotify playlist lists them.")
    return named[0]
