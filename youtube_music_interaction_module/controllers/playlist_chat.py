"""!ytmusic playlist: the community's playlists."""

from __future__ import annotations

from waddlebot.base.contracts import Level
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.text import fold
from waddlebot.module.call import Said
from waddlebot.module.interaction import OutsideCall, say

from ..services.house import House
from ..services.player_service import By, PlayerService, note
from ..services.playlists import MAX_TRACKS, PlaylistService
from ..services.router_service import song_begins
from ..services.tracks import Track
from ..services.youtube_music_service import YouTubeMusicService
from .chat import NO_PAGE, songs_in_words

USAGE = "Usage: !ytmusic playlist create|add|remove|play|list|delete <name> [song or number]"
SHOWN = 8
# What only reads.
FOR_ALL = ("list",)


class OnlyModerators(UserError):
    """Moderators look after the playlists; !ytmusic playlist list shows them."""

    code = "only_moderators"


class PlaylistChat:
    def __init__(
        self, house: House, finder: YouTubeMusicService, player: PlayerService, playlists: PlaylistService
    ) -> None:
        self._house = house
        self._finder = finder
        self._player = player
        self._playlists = playlists

    def playlist(self, call: OutsideCall, *words: str) -> Said:
        """A name of several words stands in quotes."""
        if not self._house.settings.enable_playlists:
            raise UserError("There are no playlists here.")
        action = fold(words[0]) if words else "list"
        if action not in FOR_ALL and call.level < Level.MODERATOR:
            raise OnlyModerators()
        if action == "list" and len(words) < 2:
            return self._list_all(call)
        if len(words) < 2:
            raise UsageError(USAGE)
        name, rest = words[1], words[2:]
        if action == "add":
            return self._add(call, name, " ".join(rest))
        if action == "remove" and len(rest) == 1:
            return self._remove(call, name, rest[0])
        actions = {"create": self._create, "delete": self._delete, "play": self._play, "list": self._list}
        if action not in actions:
            raise UsageError(USAGE)
        return actions[action](call, " ".join(words[1:]))

    def _list_all(self, call: OutsideCall) -> str:
        with call.reading() as db:
            known = self._playlists.list(db, call.community_id)
        if not known:
            return "There are no playlists yet. Moderators make one with !ytmusic playlist create <name>"
        return "Playlists: " + ", ".join(f"{name} ({count})" for name, count in known)[:400]

    def _list(self, call: OutsideCall, name: str) -> str:
        with call.reading() as db:
            tracks = self._playlists.tracks(db, call.community_id, name)
        if not tracks:
            return f"“{name}” has no songs yet: !ytmusic playlist add <name> <url>"
        listed = " | ".join(f"{number}. {each.shown}" for number, each in enumerate(tracks[:SHOWN], 1))
        more = f" … and {len(tracks) - SHOWN} more" if len(tracks) > SHOWN else ""
        return f"{listed}"[:400] + more

    def _create(self, call: OutsideCall, name: str) -> str:
        with call.writing() as db:
            made = self._playlists.create(db, call.community_id, name, call.payload.user.own_id)
        return f"There is a playlist “{made}” now. Fill it with !ytmusic playlist add"

    def _delete(self, call: OutsideCall, name: str) -> str:
        with call.writing() as db:
            gone = self._playlists.delete(db, call.community_id, name)
        return f"Deleted the playlist “{gone}”."

    def _add(self, call: OutsideCall, name: str, what: str) -> str:
        """Add what somebody names, or the song that plays."""
        rules = self._house.rules(call.settings)
        if what:
            tracks = call.look_up(
                f"look up {what} on YouTube",
                lambda left_s: self._finder.find(what, region=rules.region, limit=MAX_TRACKS, within_s=left_s),
            )
        else:
            with call.reading() as db:
                tracks = [self._player.get_now(db, call.community_id, rules).track]
        with call.writing() as db:
            made, added = self._playlists.add(db, call.community_id, name, tracks, call.payload.user.own_id)
            note(db, call.community_id, call.payload.user.own_id, "playlist_add", playlist=made, added=added)
        if not added:
            return f"“{made}” has {'that song' if len(tracks) == 1 else 'all of them'} already."
        what_was = tracks[0].shown if len(tracks) == 1 else songs_in_words(added, plain=True)
        return f"Added {what_was} to “{made}”."

    def _remove(self, call: OutsideCall, name: str, number: str) -> str:
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 10_000):
            raise UsageError("Usage: !ytmusic playlist remove <name> <number>")
        with call.writing() as db:
            gone = self._playlists.remove(db, call.community_id, name, int(number))
        return f"{gone.shown} is out of “{name}”."

    def _play(self, call: OutsideCall, name: str) -> Said:
        rules = self._house.rules(call.settings)
        user = call.payload.user
        with call.writing() as db:
            tracks: list[Track] = self._playlists.tracks(db, call.community_id, name)
            if not tracks:
                raise UserError(f"“{name}” has no songs yet.")
            requested = self._player.put_in_queue(db, call.community_id, tracks, By(call.user_name, user.own_id), rules)
            note(db, call.community_id, user.own_id, "playlist_play", playlist=name)
            has_page = self._player.has_page(db, call.community_id)
        count = len(requested.waiting) + bool(requested.started)
        text = f"{songs_in_words(count, plain=True)} of “{name}” put into the queue."
        left_out = f" Not all: {requested.left_out}" if requested.left_out else ""
        begins = song_begins(requested.started, rules) if requested.started else []
        return [say(text + left_out + (NO_PAGE if begins and not has_page else "")), *begins]
