"""The Spotify module. Composition root."""

from __future__ import annotations

from waddlebot.base.encryption import Keyring
from waddlebot.community.oauth import OAuthStates
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service
from waddlebot.web.pages import Pages

from .config import SpotifySettings
from .controllers import api, auth
from .controllers.api import Desk
from .controllers.chat import SpotifyChat
from .models import define_tables
from .services.account_service import AccountService
from .services.apps import PROVIDER, Apps
from .services.link_service import LinkService
from .services.now_playing_service import Display, NowPlayingService
from .services.player_service import PlayerService
from .services.records import PEOPLE
from .services.request_service import RequestService
from .services.search_service import SearchService
from .services.spotify_service import TIMEOUT_S, Spotify
from .services.watch_service import WatchService

SWEEP_EVERY_S = 1.0
OFF = "Whoever runs this bot has switched that off."

settings = SpotifySettings.load()
service = Service(__file__, settings, tables=define_tables)
service.configured = settings.app is not None
service.portable()

redirect_url = settings.redirect_url
keyring = Keyring(settings)
apps = Apps(service.credentials, settings.app)
spotify = Spotify(
    service.providers.add(PROVIDER, title="Spotify", timeout_s=min(TIMEOUT_S, settings.request_timeout_s)),
    api_base_url=settings.api_base_url,
    accounts_base_url=settings.accounts_base_url,
    redirect_url=redirect_url,
    scopes=settings.scopes,
)
accounts = AccountService(
    service.database,
    service.bus,
    keyring,
    service.credentials,
    spotify,
    apps,
    renewed_before_s=settings.token_refresh_buffer_s,
    log=service.log,
)
links = LinkService(
    service.database,
    spotify,
    apps,
    accounts,
    keyring,
    states=OAuthStates(service.database, PROVIDER, path="/spotify/auth", secure=redirect_url.startswith("https://")),
    redirect_url=redirect_url,
    scopes=settings.scopes,
)
players = PlayerService(accounts, search_limit=settings.search_limit)
searches = SearchService(kept_s=settings.cache_ttl_s)
requests = RequestService(service.database)
now_playing = NowPlayingService(
    service.database,
    requests,
    display=Display(settings.media_display_duration_s, settings.show_album_art, settings.show_progress_bar),
    keeps_history=settings.enable_history,
)
watch = WatchService(
    service.database,
    service.bus.client,
    service.router,
    accounts,
    players,
    now_playing,
    activity_changed=service.activity_changed,
    log=service.log,
)

chat = SpotifyChat(
    service.database,
    accounts,
    links,
    players,
    searches,
    requests,
    now_playing,
    watch,
    takes_requests=settings.enable_queue,
)
module = InteractionModule(service)
module.command("spotify", "search", run=chat.search, calls_out=True)
module.command("spotify", "play", run=chat.play, calls_out=True)
module.command("spotify", "current", run=chat.current, calls_out=True)
module.command("spotify", "pause", run=chat.pause, calls_out=True)
module.command("spotify", "resume", run=chat.resume, calls_out=True)
module.command("spotify", "skip", run=chat.skip, calls_out=True)
module.command("spotify", "devices", run=chat.devices, calls_out=True)
module.command("spotify", "device", run=chat.device, calls_out=True)
module.command("spotify", "volume", run=chat.volume, calls_out=True)
module.command("spotify", "queue", run=chat.queue, calls_out=True)
module.command("spotify", "request", run=chat.request, calls_out=True)
module.command("spotify", "history", run=chat.history, only_reads=True)
module.command("spotify", "playlist", run=chat.playlist, calls_out=True)
module.command("spotify", "connect", run=chat.connect)
module.command("spotify", "account", run=chat.account)
module.command("song", run=chat.current, calls_out=True)
module.command("np", run=chat.current, calls_out=True)
module.command("sr", run=chat.request, calls_out=True)
module.command("skip", run=chat.skip, calls_out=True)
if not settings.enable_queue:
    module.switch_off("spotify", "queue", "request", why=OFF)
    module.switch_off("sr", why=OFF)
if not settings.enable_history:
    module.switch_off("spotify", "history", why=OFF)
if not settings.enable_playlists:
    module.switch_off("spotify", "playlist", why=OFF)
if not settings.enable_device_control:
    module.switch_off("spotify", "devices", "device", "volume", why=OFF)
service.active_in = now_playing.playing_in
module.serve()

pages = Pages("/spotify/auth", prefix="/spotify", leads_to=settings.accounts_base_url, start="")
desk = Desk(service.database, accounts, players, now_playing, watch)
service.mount(api, auth, using=[desk, links, pages, service.database])
service.check("consents", accounts.tokens.check)
service.erases(*PEOPLE, forgotten=lambda _: accounts.forget_orphans())
service.loops.add("look-at-players", watch.sweep, every_s=SWEEP_EVERY_S)
service.loops.add("forget-old-music", now_playing.forget_old, every_s=600, once=True)
service.loops.add("forget-requests", requests.forget_old, every_s=600, once=True)
service.loops.add("forget-links", links.forget_old, every_s=600, once=True)
