"""The music module for YouTube. Composition root."""

from __future__ import annotations

from waddlebot.base.checks import Counted
from waddlebot.base.errors import ConfigError
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service

from .config import YouTubeMusicSettings
from .controllers import api
from .controllers.api import Music
from .controllers.chat import MusicChat
from .controllers.playback import PlaybackHandler
from .controllers.playlist_chat import PlaylistChat
from .models import define_tables
from .services.history_service import HistoryService
from .services.house import House
from .services.player_service import PlayerService
from .services.playlists import PlaylistService
from .services.quota import QuotaLedger
from .services.records import PEOPLE, blocked_part, playlist_part
from .services.router_service import Outgoing
from .services.youtube_api import YouTubeAPI, translate
from .services.youtube_music_service import YouTubeMusicService

settings = YouTubeMusicSettings.load()
service = Service(__file__, settings, tables=define_tables)
database, log = service.database, service.log
key = settings.youtube_api_key
service.configured = key is not None
if key is None and service.name in settings.require:
    raise ConfigError(f"WADDLEBOT_REQUIRE names {service.name}; set YOUTUBE_API_KEY.")


def make_api() -> YouTubeAPI:
    assert key is not None
    return YouTubeAPI(
        key.get_secret_value(),
        endpoint=settings.youtube_api_endpoint,
        version=settings.youtube_api_version,
        category_id=settings.category_id,
    )


quota = QuotaLedger(database, searches=settings.daily_searches, units=settings.daily_units)
finder = YouTubeMusicService(
    database,
    service.providers.add("youtube", title="YouTube", translate=translate, timeout_s=settings.request_timeout_s),
    quota,
    make_api if key else None,
    region=settings.region_code,
    max_results=settings.max_search_results,
    keep_h=settings.search_cache_h,
)
player, playlists = PlayerService(database), PlaylistService()
history = HistoryService(search_kept_s=settings.cache_ttl_s)
house = House(settings, service.manifest, finder)
outgoing = Outgoing(database, service.router, log)

chat = MusicChat(house, finder, player, history)
module = InteractionModule(service)
module.command("ytmusic", "search", run=chat.search, calls_out=True)
module.command("ytmusic", "play", run=chat.play, calls_out=True)
module.command("ytmusic", "current", run=chat.current, only_reads=True)
module.command("ytmusic", "stop", run=chat.stop)
module.command("ytmusic", "pause", run=chat.pause)
module.command("ytmusic", "resume", run=chat.resume)
module.command("ytmusic", "volume", run=chat.volume)
module.command("ytmusic", "queue", run=chat.queue, only_reads=True)
module.command("ytmusic", "skip", run=chat.skip)
module.command("ytmusic", "remove", run=chat.remove)
module.command("ytmusic", "history", run=chat.history, only_reads=True)
module.command("ytmusic", "stats", run=chat.stats, only_reads=True)
module.command("ytmusic", "playlist", run=PlaylistChat(house, finder, player, playlists).playlist, calls_out=True)
module.command("ytmusic", "block", run=chat.block, calls_out=True)
module.command("ytmusic", "unblock", run=chat.unblock)
module.command("song", run=chat.current, only_reads=True)
module.command("np", run=chat.current, only_reads=True)
module.command("sr", run=chat.request, calls_out=True)
module.command("skip", run=chat.skip)
module.command("playback", run=PlaybackHandler(house, player).heard)
module.serve()

service.mount(api, using=[Music(database, house, finder, player, history, outgoing)])
service.portable(playlist_part(playlists), blocked_part(player))
service.erases(*PEOPLE)
service.active_in = player.list_active

told: list[int] = []


def tell_where_music_plays() -> None:
    """Have the router know at once whose !song is whose."""
    active = player.list_active()
    if active != told:
        told[:] = active
        service.activity_changed.set()


def check_quota() -> str | Counted:
    left = quota.left()
    return f"{left['searches']} searches and {left['units']} units left today"


service.check("youtube", check_quota)
service.loops.add("activity", tell_where_music_plays, every_s=1)
service.loops.add("outgoing", outgoing.step, every_s=1, wake=outgoing.wake)
service.loops.add("forget-searches", finder.forget, every_s=3600, once=True)
service.loops.add("forget-quota", quota.forget, every_s=3600, once=True)
service.loops.add("forget-music", player.forget, every_s=600, once=True)
