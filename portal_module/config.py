"""The portal's settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from waddlebot.base.settings import Secret, WebURL
from waddlebot.web.site import SiteSettings
from waddlebot.web.twitch_app import TwitchAppSettings


class PortalSettings(SiteSettings, TwitchAppSettings):
    prefix: ClassVar[str] = "PORTAL"

    overlays_url: WebURL | None = Field(
        None,
        alias="OVERLAYS_URL",
        description="How browsers reach the overlays' previews; BASE_URL unless set. More than one has commas between.",
    )
    consent_urls: str = Field(
        "", alias="CONSENT_URLS", description="Where collectors' pages are that are not at BASE_URL: twitch=https://…,…"
    )
    broker_url: WebURL | None = Field(
        None,
        alias="BROKER_URL",
        description="Where the admin broker is, which tells Kong of new keys; without it there is no gateway.",
    )
    fleet_calls: int = Field(
        32, alias="FLEET_CALLS", ge=1, le=500, description="Calls that pages make of other modules at the same time."
    )
    discord_application_id: str | None = Field(
        None, alias="DISCORD_APPLICATION_ID", description="With the secret: people sign in by Discord."
    )
    discord_client_secret: Secret | None = Field(
        None, alias="DISCORD_CLIENT_SECRET", description="The Discord application's secret."
    )
    discord_api_base_url: WebURL = Field(
        "https://discord.com/api", alias="DISCORD_API_BASE_URL", description="Where Discord's API is."
    )
    discord_authorize_url: WebURL = Field(
        "https://discord.com/oauth2/authorize", alias="DISCORD_AUTHORIZE_URL", description="Discord's consent page."
    )
    slack_client_id: str | None = Field(
        None, alias="SLACK_CLIENT_ID", description="With the secret: people sign in by Slack."
    )
    slack_client_secret: Secret | None = Field(
        None, alias="SLACK_CLIENT_SECRET", description="The Slack app's client secret."
    )
    slack_api_base_url: WebURL = Field(
        "https://slack.com/api/", alias="SLACK_API_BASE_URL", description="Where Slack's API is."
    )
