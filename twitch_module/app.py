"""The Twitch collector. Composition root."""

from __future__ import annotations

from waddlebot.base.contracts import ModuleRegistration
from waddlebot.collecting.collector import answer_not_configured, check_credentials
from waddlebot.module.service import Service

from .config import TwitchSettings
from .controllers import api, auth, webhook
from .models import define_tables
from .services.forgetting import KEEPS, PEOPLE
from .wiring import build

settings = TwitchSettings.load()
service = Service(__file__, settings, tables=define_tables)
service.portable()
service.erases(*PEOPLE, keeps=KEEPS)
service.configured = check_credentials(settings, "twitch", settings.credentials)

if service.configured:
    build(service, settings)
else:
    answer_not_configured(service, webhook, auth, api)

service.register_with_router(
    ModuleRegistration(
        module_name=service.name,
        module_version=service.version,
        platform="twitch",
        endpoint_url=service.url,
        health_check_url=f"{service.url}{service.manifest.prefix}/health",
    )
)
