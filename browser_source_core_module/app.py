"""The browser sources: what OBS shows, and all about it but the sockets, which are the hub's. Composition root."""

from __future__ import annotations

from pathlib import Path

from waddlebot.base.encryption import Keyring
from waddlebot.base.manifest import all_manifests
from waddlebot.data.wakeup import Wakeup
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service
from waddlebot.web.http import EgressGuard, HTTPClient

from .config import BrowserSourceSettings
from .controllers import admin, alerts, display, forms, tips
from .controllers import media as media_pages
from .controllers.alerts import AlertChat
from .controllers.chat import OverlayChat
from .models import define_tables
from .services.alert_items import alert_part, media_part
from .services.alert_service import AlertService
from .services.audience_service import AudienceService
from .services.browser_source_service import BrowserSourceService
from .services.form_service import MAX_ANSWER_BYTES, FormService, ModuleGateway, fleet_bases
from .services.frames import PLAYBACK, SOURCE_TYPES, Source
from .services.media_service import MediaService
from .services.page_service import PageService
from .services.playback_service import PlaybackService
from .services.records import PEOPLE, theme_part
from .services.router_service import ContentService, Limits
from .services.safe_content import MediaPolicy
from .services.theme_service import ThemeService
from .services.tip_service import TipService
from .services.token_service import TokenService

settings = BrowserSourceSettings.load()
service = Service(__file__, settings, tables=define_tables)
database, bus, log = service.database, service.bus, service.log

keyring = Keyring(settings)
media = MediaPolicy([*settings.media_hosts, settings.clips_host])
content = ContentService(
    media, Limits(settings.ticker_duration_s, settings.media_duration_s, settings.max_ticker_length)
)
overlays = BrowserSourceService(
    database, bus, log, item_expiry_s=settings.item_expiry_s, queue_size=settings.queue_size
)
tokens = TokenService(
    database,
    bus,
    keyring,
    log,
    base_url=settings.overlays_url or settings.base_url,
    token_length=settings.token_length,
)
themes = ThemeService(database)
audience = AudienceService(database, bus)
form_pages = forms.FormPages(Path(__file__).parent)
statics = form_pages.look.statics
pages = PageService(
    Path(__file__).parent,
    media,
    static=statics.base,
    sockets_url=settings.sockets_url,
    frame_ancestors=settings.frame_ancestors,
    portal=settings.portal_origin,
    youtube=settings.youtube_embed_base_url.rstrip("/"),
    clips=settings.clips_host,
)
guarded = HTTPClient(EgressGuard(settings.egress_allow), max_response_bytes=MAX_ANSWER_BYTES)
gateway = ModuleGateway(service.client, guarded, fleet_bases(all_manifests(), service.manifest, service.url))
form_service = FormService(
    database,
    keyring,
    overlays,
    gateway,
    log,
    base_url=settings.base_url,
    expires_after_s=settings.form_expiry_s,
)
playback = PlaybackService(database, service.router, log)
desk = display.DisplayDesk(database, content, overlays, form_service, service.metrics)

alert_service = AlertService(media, log, base_url=settings.base_url)
tip_service = TipService(database, service.router, keyring, log, base_url=settings.base_url)
files = MediaService(database, log, base_url=settings.base_url)


def announce_all(community_id: int) -> None:
    for source_type in SOURCE_TYPES:
        overlays.announce(Source(community_id, source_type))


service.mount_static(statics)
service.mount(
    display,
    admin,
    forms,
    alerts,
    media_pages,
    tips,
    using=[
        service,
        database,
        log,
        content,
        tokens,
        themes,
        audience,
        pages,
        form_pages,
        overlays,
        form_service,
        desk,
        alert_service,
        files,
        tip_service,
    ],
)

service.portable(theme_part(themes, overlays), media_part(files), alert_part(alert_service), changed=announce_all)
service.erases(*PEOPLE)

chat = OverlayChat(overlays, audience)
module = InteractionModule(service)
module.command("overlay", "skip", run=chat.skip)
module.command("overlay", "pause", run=chat.pause)
module.command("overlay", "resume", run=chat.resume)
module.command("overlay", "clear", run=chat.clear)
module.command("overlay", "replay", run=chat.replay)
module.command("overlay", "status", run=chat.status)
alert_chat = AlertChat(alert_service, overlays, content)
module.command("alert", "skip", run=alert_chat.skip)
module.command("alert", "pause", run=alert_chat.pause)
module.command("alert", "resume", run=alert_chat.resume)
module.command("alert", "replay", run=alert_chat.replay)
module.command("alert", "test", run=alert_chat.test)
module.command("celebrate", run=alert_chat.celebrate)
module.serve()


def clean_up() -> bool:
    return overlays.clean_up(
        access_log_days=settings.access_log_retention_days, history_days=settings.history_retention_days
    )


service.loops.add("trim", overlays.trim, every_s=settings.queue_interval_s, once=True)
service.loops.add("clean-up", clean_up, every_s=settings.cleanup_interval_s, once=True)
service.loops.add("no-page", playback.look_for_pages, every_s=2, once=True)
# The hubs ring when a page has said something.
Wakeup(settings, PLAYBACK).listen(lambda _: playback.wake.set())
service.loops.add("playback", playback.tell, every_s=1, wake=playback.wake)
service.loops.add("forget-playback", playback.forget, every_s=settings.cleanup_interval_s, once=True)
service.loops.add("tips", tip_service.tell, every_s=1, once=True)
service.loops.add("forget-tips", tip_service.forget, every_s=settings.cleanup_interval_s, once=True)
