"""The Twitch collector. Composition root."""

from __future__ import annotations

from waddlebot.collecting.collector import answer_not_configured, check_credentials
from waddlebot.module.interaction import InteractionModule
from waddlebot.module.service import Service

from .config import TwitchSettings
from .controllers import api, auth, webhook
from .controllers.chat import StreamChat
from .models import define_tables
from .services.forgetting import KEEPS, PEOPLE
from .wiring import build

settings = TwitchSettings.load()
service = Service(__file__, settings, tables=define_tables)
service.portable()
service.erases(*PEOPLE, keeps=KEEPS)
service.configured = check_credentials(settings, "twitch", settings.credentials)

streams = build(service, settings) if service.configured else None
if streams is None:
    answer_not_configured(service, webhook, auth, api)

chat = StreamChat(streams)
module = InteractionModule(service)
module.command("title", run=chat.title, calls_out=True)
module.command("game", run=chat.game, calls_out=True)
module.command("uptime", run=chat.uptime, calls_out=True)
module.command("followage", run=chat.followage, calls_out=True)
module.command("clip", run=chat.clip, calls_out=True)
module.command("marker", run=chat.marker, calls_out=True)
module.serve(platform="twitch")
