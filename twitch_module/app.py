"""The Twitch collector. Composition root."""

from __future__ import annotations

from waddlebot.collector import Collector, answer_not_configured, check_credentials
from waddlebot.contracts import ModuleRegistration
from waddlebot.service import Service

from .config import TwitchSettings
from .controllers import webhook
from .models import EVENTS, define_tables
from .services.bot_service import BotService
from .services.translation import translate
from .services.webhook_service import WebhookService

settings = TwitchSettings.load()
service = Service(__file__, settings, tables=define_tables)
service.configured = check_credentials(settings, "twitch", settings.credentials)

if settings.app_id and settings.app_secret and settings.webhook_secret and settings.bot_user_id:
    bot = BotService(
        app_id=settings.app_id,
        app_secret=settings.app_secret,
        bot_user_id=settings.bot_user_id,
        api_base_url=settings.api_base_url,
        auth_base_url=settings.auth_base_url,
        log=service.log,
    )
    receiver = WebhookService(
        Collector(service, EVENTS, translate=translate, send=bot.send),
        secret=settings.webhook_secret.get_secret_value().encode(),
        bot_user_id=settings.bot_user_id,
        log=service.log,
    )
    service.mount(webhook, using=[receiver])
else:
    answer_not_configured(service, webhook)

service.register_with_router(
    ModuleRegistration(
        module_name=service.name,
        module_version=service.version,
        platform="twitch",
        endpoint_url=service.url,
        health_check_url=f"{service.url}{service.manifest.prefix}/health",
    )
)
