"""The music over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator
from waddlebot.base.contracts import Attributed, Strict, UserId
from waddlebot.community.communities import Reference, community_of
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, OWNERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer, whole_list_answer

from ..services.account_service import AccountService, Player
from ..services.now_playing_service import NowPlayingService
from ..services.player_service import PlayerService
from ..services.tracks import NoTrack, Playing, Track, read_reference
from ..services.watch_service import WatchService

Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
# One command and all its tries.
WITHIN_S = 10.0


class CommunityQuery(Strict):
    """Whose music."""

    community_id: str | None = None


class HistoryQuery(Page):
    community_id: str | None = None


class Command(Attributed):
    community_id: Reference | None = None


class PlayRequest(Command):
    """What to play: a URI or link of a track, playlist or album, or words to search for."""

    uri: Text | None = None
    query: Text | None = None

    @model_validator(mode="after")
    def _is_one(self) -> PlayRequest:
        if (self.uri is None) == (self.query is None):
            raise ValueError("give either uri or query")
        return self


class AccountChoice(Command):
    """Whose connected account plays; null for nobody's."""

    own_id: UserId | None = Field(None)


class Desk:
    """Commands for whoever has a key."""

    def __init__(
        self,
        database: Database,
        accounts: AccountService,
        players: PlayerService,
        now_playing: NowPlayingService,
        watch: WatchService,
    ) -> None:
        self._db = database
        self.accounts = accounts
        self.players = players
        self.now_playing = now_playing
        self.watch = watch

    def player_of(self, caller: Account, reference: int | str | None) -> Player:
        """Raises: NoApp; NotConnected; UnknownCommunity; NotAllowed."""
        with self._db.reading() as db:
            return self.accounts.get_player(db, community_of(db, caller, reference))

    def done(self, action: str, player: Player, **more: Any) -> dict[str, Any]:
        with self._db.transaction() as db:
            self.watch.soon(db, player.community_id)
        return {"success": True, "action": action, **more}

    def find_track(self, player: Player, request: PlayRequest) -> Track | str:
        """A track, or the URI of a whole list. Raises: NoTrack."""
        if request.query is not None:
            found = self.players.search(player, request.query, within_s=WITHIN_S)
            if not found:
                raise NoTrack("Spotify knows nothing for that.")
            return found[0]
        reference = read_reference(request.uri or "")
        if reference is None:
            raise NoTrack("uri is neither a URI nor a link of Spotify's.")
        if reference[0] != "track":
            return reference[1]
        return self.players.get_track(player, reference[1], within_s=WITHIN_S)


@endpoint("GET", "/spotify/now-playing", caller=ADMINS_OR_API_USERS, area="music", query=CommunityQuery)
def read_now_playing(query: CommunityQuery, caller: Account, database: Database, desk: Desk) -> dict[str, Any]:
    """What plays in a community; null where nothing does."""
    player = desk.player_of(caller, query.community_id)
    desk.watch.see(player, desk.players.look(player, within_s=WITHIN_S))
    with database.reading() as db:
        now = desk.now_playing.find(db, player.community_id)
    return {"success": True, "now_playing": now.as_json() if now else None}


@endpoint("GET", "/spotify/devices", caller=ADMINS_OR_API_USERS, area="music", query=CommunityQuery)
def list_devices(query: CommunityQuery, caller: Account, desk: Desk) -> dict[str, Any]:
    """Where a community's music can play."""
    player = desk.player_of(caller, query.community_id)
    devices = [
        {
            "id": each.id,
            "name": each.name,
            "type": each.type,
            "is_active": each.is_active,
            "is_preferred": each.id == player.device_id,
            "volume": each.volume,
        }
        for each in desk.players.devices(player, within_s=WITHIN_S)
    ]
    return whole_list_answer("devices", devices)


@endpoint("GET", "/spotify/history", caller=ADMINS_OR_API_USERS, area="music", query=HistoryQuery)
def list_history(query: HistoryQuery, caller: Account, database: Database, desk: Desk) -> dict[str, Any]:
    """What was played in a community, the latest first."""
    with database.reading() as db:
        listed = desk.now_playing.list_history(db, community_of(db, caller, query.community_id), query)
    return list_answer("history", listed, query)


@endpoint("POST", "/spotify/play", caller=ADMINS_OR_API_USERS, area="music", body=PlayRequest)
def play(request: PlayRequest, caller: Account, desk: Desk) -> dict[str, Any]:
    """Play something now."""
    player = desk.player_of(caller, request.community_id)
    found = desk.find_track(player, request)
    if isinstance(found, str):
        desk.players.play(player, found, within_s=WITHIN_S)
        return desk.done("play", player, uri=found)
    desk.players.play(player, found.uri, within_s=WITHIN_S)
    desk.watch.see(player, Playing(found, is_playing=True, progress_ms=0))
    return desk.done("play", player, uri=found.uri, track=found.as_json())


@endpoint("POST", "/spotify/pause", caller=ADMINS_OR_API_USERS, area="music", body=Command)
def pause(request: Command, caller: Account, desk: Desk) -> dict[str, Any]:
    """Pause the music."""
    return _run("pause", request, caller, desk)


@endpoint("POST", "/spotify/resume", caller=ADMINS_OR_API_USERS, area="music", body=Command)
def resume(request: Command, caller: Account, desk: Desk) -> dict[str, Any]:
    """Go on with the music."""
    return _run("resume", request, caller, desk)


@endpoint("POST", "/spotify/skip", caller=ADMINS_OR_API_USERS, area="music", body=Command)
def skip(request: Command, caller: Account, desk: Desk) -> dict[str, Any]:
    """Play the next track."""
    return _run("skip", request, caller, desk)


@endpoint("GET", "/spotify/account", caller=OWNERS, area="music", query=CommunityQuery)
def list_accounts(query: CommunityQuery, caller: Account, database: Database, desk: Desk) -> dict[str, Any]:
    """Who has connected an account in a community, and whose plays."""
    with database.reading() as db:
        connected = desk.accounts.list_connected(db, community_of(db, caller, query.community_id))
    accounts = [
        {
            "own_id": each.user_id,
            "name": each.name,
            "account_name": each.account_name,
            "plays": each.plays,
            "needs_reauth": each.needs_reauth,
        }
        for each in connected
    ]
    return whole_list_answer("accounts", accounts)


@endpoint("PUT", "/spotify/account", caller=OWNERS, area="music", body=AccountChoice)
def choose_account(request: AccountChoice, caller: Account, database: Database, desk: Desk) -> dict[str, Any]:
    """Choose whose account plays in a community."""
    with database.transaction() as db:
        community_id = community_of(db, caller, request.community_id)
        desk.accounts.choose(db, community_id, request.own_id)
    desk.accounts.tell(community_id)
    return {"success": True, "own_id": request.own_id}


def _run(action: Literal["pause", "resume", "skip"], request: Command, caller: Account, desk: Desk) -> dict[str, Any]:
    player = desk.player_of(caller, request.community_id)
    commands = {"pause": desk.players.pause, "resume": desk.players.resume, "skip": desk.players.skip}
    commands[action](player, within_s=WITHIN_S)
    return desk.done(action, player)
