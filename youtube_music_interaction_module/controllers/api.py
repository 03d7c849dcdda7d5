"""The music over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

from typing import Annotated, Any

from pydal import DAL
from pydantic import StringConstraints
from waddlebot.base.contracts import Attributed
from waddlebot.base.errors import Invalid, NotConfigured
from waddlebot.community.communities import community_of, get_community
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Listed, Page, list_answer

from ..services.history_service import HistoryService
from ..services.house import House
from ..services.player_service import By, NothingPlays, Now, PlayerService, Waiting, note
from ..services.router_service import Outgoing, song_begins, song_is_over
from ..services.youtube_music_service import NotSetUp, YouTubeMusicService

FIND_WITHIN_S = 15.0
Text = Annotated[str, StringConstraints(max_length=2000)]


class MusicQuery(Page):
    community_id: str | None = None


class NowQuery(Attributed):
    community_id: str | None = None


class PlayRequest(Attributed):
    """A song by one of `query` (words, a link or an id), `url` and `video_id`."""

    community_id: int | str | None = None
    query: Text = ""
    url: Text = ""
    video_id: Text = ""
    requested_by: Annotated[str, StringConstraints(max_length=255)] = ""

    @property
    def wanted(self) -> str:
        given = [text.strip() for text in (self.query, self.url, self.video_id) if text.strip()]
        if len(given) != 1:
            raise Invalid("Name a song by one of query, url and video_id.", field="query")
        return given[0]


class SongRequest(Attributed):
    """`track_id` keeps it from meaning the next song where this one has just ended."""

    community_id: int | str | None = None
    track_id: Annotated[str, StringConstraints(max_length=64)] | None = None


class Music:
    """What the endpoints need, together."""

    def __init__(
        self,
        database: Database,
        house: House,
        finder: YouTubeMusicService,
        player: PlayerService,
        history: HistoryService,
        outgoing: Outgoing,
    ) -> None:
        self.database = database
        self.house = house
        self.finder = finder
        self.player = player
        self.history = history
        self.outgoing = outgoing


@endpoint("GET", "/youtube/now-playing", caller=ADMINS_OR_API_USERS, area="music", query=NowQuery)
def read_now(query: NowQuery, caller: Account, db: DAL, music: Music) -> dict[str, Any]:
    """What plays in a community, and where it is; `now_playing` is null where nothing does."""
    community_id = community_of(db, caller, query.community_id)
    now = music.player.find_now(db, community_id, music.house.rules_of(db, community_id))
    return {"success": True, "community_id": community_id, "now_playing": as_json(now) if now else None}


@endpoint("GET", "/youtube/queue", caller=ADMINS_OR_API_USERS, area="music", query=MusicQuery)
def read_queue(query: MusicQuery, caller: Account, db: DAL, music: Music) -> dict[str, Any]:
    """List what waits in a community, the next one first."""
    community_id = community_of(db, caller, query.community_id)
    waiting, total = music.player.list_waiting(db, community_id, limit=query.limit, offset=query.offset)
    return list_answer("queue", Listed([_waiting_as_json(each) for each in waiting], total), query)


@endpoint("GET", "/youtube/history", caller=ADMINS_OR_API_USERS, area="music", query=MusicQuery)
def read_history(query: MusicQuery, caller: Account, db: DAL, music: Music) -> dict[str, Any]:
    """List what was played in a community, the newest first."""
    community_id = community_of(db, caller, query.community_id)
    return list_answer("history", music.history.list(db, community_id, query), query)


@endpoint("GET", "/youtube/stats", caller=ADMINS_OR_API_USERS, area="music", query=NowQuery)
def read_stats(query: NowQuery, caller: Account, db: DAL, music: Music) -> dict[str, Any]:
    """The songs that were heard most in a community, and who asked for most."""
    community_id = community_of(db, caller, query.community_id)
    stats = music.history.stats(db, community_id)
    return {
        "success": True,
        "community_id": community_id,
        "songs": stats.songs,
        "played_s": stats.played_s,
        "top_songs": list(stats.top_songs),
        "top_requesters": list(stats.top_requesters),
    }


@endpoint("POST", "/youtube/play", caller=ADMINS_OR_API_USERS, area="music", body=PlayRequest)
def play(request: PlayRequest, caller: Account, music: Music) -> dict[str, Any]:
    """Play a song, or put it into the queue."""
    wanted = request.wanted
    community_id = get_community(music.database, caller, request.community_id)
    with music.database.transaction() as db:
        rules = music.house.rules_of(db, community_id)
    try:
        tracks = music.finder.find(wanted, region=rules.region, limit=rules.max_queue, within_s=FIND_WITHIN_S)
    except NotSetUp as err:
        raise NotConfigured(err.message) from err
    with music.database.transaction() as db:
        requested = music.player.request(db, community_id, tracks, _by(request, caller), rules)
        note(db, community_id, _own_id(caller), "play", videos=[each.video_id for each in tracks[:50]])
        music.outgoing.add(db, community_id, song_begins(requested.started, rules) if requested.started else [])
    music.outgoing.wake.set()
    return {
        "success": True,
        "now_playing": as_json(requested.started) if requested.started else None,
        "queued": [_waiting_as_json(each) for each in requested.waiting],
        "left_out": requested.left_out,
    }


@endpoint("POST", "/youtube/skip", caller=ADMINS_OR_API_USERS, area="music", body=SongRequest)
def skip(request: SongRequest, caller: Account, music: Music) -> dict[str, Any]:
    """End the song that plays; the next one follows."""
    return _end(request, caller, music, "skipped")


@endpoint("POST", "/youtube/stop", caller=ADMINS_OR_API_USERS, area="music", body=SongRequest)
def stop(request: SongRequest, caller: Account, music: Music) -> dict[str, Any]:
    """End the song that plays; what waits stays."""
    return _end(request, caller, music, "stopped")


def _end(request: SongRequest, caller: Account, music: Music, outcome: Any) -> dict[str, Any]:
    with music.database.transaction() as db:
        community_id = community_of(db, caller, request.community_id)
        rules = music.house.rules_of(db, community_id)
        ended = music.player.end(db, community_id, outcome, rules, track_id=request.track_id)
        if ended is None:
            raise NothingPlays()
        following = music.player.go_on(db, community_id, rules) if outcome == "skipped" else None
        note(db, community_id, _own_id(caller), outcome, video=ended.track.video_id)
        music.outgoing.add(db, community_id, song_begins(following, rules) if following else [song_is_over(ended)])
    music.outgoing.wake.set()
    return {"success": True, "ended": as_json(ended), "now_playing": as_json(following) if following else None}


def _own_id(caller: Account) -> int | None:
    return caller.actor.own_id if caller.actor else None


def _by(request: PlayRequest, caller: Account) -> By:
    own_id = _own_id(caller)
    return By(request.requested_by, own_id, [own_id] if own_id else [])


def as_json(now: Now) -> dict[str, Any]:
    track = now.track
    return {
        "track_id": now.track_id,
        "video_id": track.video_id,
        "title": track.title,
        "artist": track.artist,
        "duration": track.duration,
        "thumbnail_url": track.thumbnail_url,
        "requested_by": now.requested_by,
        "started_at": now.started_at,
        "position_s": now.position_s,
        "is_paused": now.is_paused,
        "volume": now.volume,
        "state": now.state if now.has_page else "waiting",
    }


def _waiting_as_json(each: Waiting) -> dict[str, Any]:
    track = each.track
    return {
        "position": each.place,
        "video_id": track.video_id,
        "title": track.title,
        "artist": track.artist,
        "duration": track.duration,
        "thumbnail_url": track.thumbnail_url,
        "requested_by": each.requested_by,
    }
