"""The shoutout module. Composition root."""

from __future__ import annotations

from waddlebot.base.bridge import shared_bridge
from waddlebot.base.errors import NotConfigured
from waddlebot.collecting.collector import check_credentials
from waddlebot.data.retention import EVERY_S
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service
from waddlebot.web.helix import Helix

from .config import ShoutoutSettings
from .controllers import api
from .controllers.api import ShoutoutDesk
from .controllers.chat import ShoutoutChat
from .models import define_tables
from .services.history_service import HistoryService
from .services.people_service import PeopleService
from .services.platform_shoutouts import PlatformShoutouts, collector_bases
from .services.records import PEOPLE, person_part
from .services.shoutout_service import ShoutoutService
from .services.twitch import TwitchLookups

settings = ShoutoutSettings.load()
service = Service(__file__, settings, tables=define_tables)
credentials = {"TWITCH_APP_ID": settings.app_id, "TWITCH_APP_SECRET": settings.app_secret}
service.configured = check_credentials(settings, "shoutout", credentials)


def check_twitch() -> str:
    if settings.twitch_app is None:
        raise NotConfigured("Set TWITCH_APP_ID and TWITCH_APP_SECRET: shoutouts ask Twitch who somebody is.")
    return "configured"


service.check("twitch", check_twitch)
people, history = PeopleService(), HistoryService()
twitch: TwitchLookups | None = None
if settings.twitch_app:
    twitch = TwitchLookups(Helix(settings.twitch_app, service.providers, shared_bridge()), service.log)
shoutouts = ShoutoutService(people, history, twitch, service.log)
platform = PlatformShoutouts(
    service.database,
    service.client,
    service.log,
    bases=collector_bases(service.manifest, service.url, settings.module_urls),
)

chat = ShoutoutChat(shoutouts, platform)
module = InteractionModule(service)
module.command("so", run=chat.so, calls_out=True)
module.command("shoutout", run=chat.so, calls_out=True)
module.serve()

desk = ShoutoutDesk(
    service.database,
    shoutouts,
    platform,
    service.router,
    service.client,
    service.manifest.settings,
    router_url=settings.router_url,
)
service.mount(api, using=[service.database, shoutouts, desk])
service.loops.add("forget-history", lambda: history.forget(service.database), every_s=EVERY_S, once=True)
service.portable(person_part(people))
service.erases(*PEOPLE)
