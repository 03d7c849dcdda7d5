"""The Twitch collector's settings."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, SecretStr
from waddlebot.settings import PLACEHOLDERS, Secret, Settings

# The documentation's own example, which the general list of placeholders does not have.
EXAMPLE_WEBHOOK_SECRET = "webhook_secret"  # noqa: S105 - the very value that is refused


def _no_placeholder(text: str) -> str:
    if any(mark in text.lower() for mark in PLACEHOLDERS):
        raise ValueError("is still the placeholder from the documentation; set a real one")
    return text


def _check_webhook_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text == EXAMPLE_WEBHOOK_SECRET:
        raise ValueError("is still the placeholder from the documentation; set a real secret")
    if not text.isascii() or not 10 <= len(text) <= 100:
        raise ValueError("must be 10 to 100 ASCII characters; Twitch takes no other")
    return secret


def _with_slash(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url.rstrip("/") + "/"


Identifier = Annotated[str, AfterValidator(_no_placeholder)]
BaseURL = Annotated[str, AfterValidator(_with_slash)]
WebhookSecret = Annotated[Secret, AfterValidator(_check_webhook_secret)]


class TwitchSettings(Settings):
    prefix: ClassVar[str] = "TWITCH"

    app_id: Identifier | None = Field(None, alias="TWITCH_APP_ID", description="Client ID of the Twitch application.")
    app_secret: Secret | None = Field(None, alias="TWITCH_APP_SECRET", description="Its client secret.")
    webhook_secret: WebhookSecret | None = Field(
        None,
        alias="TWITCH_WEBHOOK_SECRET",
        description="EventSub deliveries are signed with it; 10 to 100 characters.",
    )
    bot_user_id: Identifier | None = Field(
        None, alias="TWITCH_BOT_USER_ID", description="User ID of the account that the bot speaks as."
    )
    webhook_callback_url: str | None = Field(
        None, alias="TWITCH_WEBHOOK_CALLBACK_URL", description="Where Twitch reaches /twitch/webhook."
    )
    redirect_uri: str | None = Field(
        None, alias="TWITCH_REDIRECT_URI", description="Where Twitch sends streamers back after they consent."
    )
    api_base_url: BaseURL = Field(
        "https://api.twitch.tv/helix/", alias="TWITCH_API_BASE_URL", description="Where Helix is."
    )
    auth_base_url: BaseURL = Field(
        "https://id.twitch.tv/oauth2/", alias="TWITCH_AUTH_BASE_URL", description="Where Twitch hands out tokens."
    )

    max_claims: int = Field(5, alias="MAX_CLAIMS", ge=1, description="Channels that one container holds at most.")
    heartbeat_interval_s: float = Field(
        300, alias="HEARTBEAT_INTERVAL", gt=0, description="A container says that it is alive this often, s."
    )
    container_id: str | None = Field(None, alias="CONTAINER_ID", description="This container's name; made up if unset.")
    context_api_url: str | None = Field(
        None, alias="CONTEXT_API_URL", description="CORE_API_URL's /api/context if unset."
    )
    reputation_api_url: str | None = Field(
        None, alias="REPUTATION_API_URL", description="CORE_API_URL's /api/reputation if unset."
    )
    gateway_activate_url: str | None = Field(
        None, alias="GATEWAY_ACTIVATE_URL", description="CORE_API_URL's /api/gateway/activate if unset."
    )

    @property
    def credentials(self) -> dict[str, object]:
        """What has to be set, all of it, before there is a Twitch."""
        return {
            "TWITCH_APP_ID": self.app_id,
            "TWITCH_APP_SECRET": self.app_secret,
            "TWITCH_WEBHOOK_SECRET": self.webhook_secret,
            "TWITCH_BOT_USER_ID": self.bot_user_id,
        }
