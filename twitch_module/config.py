"""The Twitch collector's settings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr
from waddlebot.base.settings import Identifier, Secret, WebURL
from waddlebot.web.twitch_app import TwitchAppSettings

# The specification's number of claims, and the highest that coordination takes.
CHANNELS_BY_SOCKET = 5
ALL_CHANNELS = 100_000
# The documentation's own example, which the general list of placeholders does not have.
EXAMPLE_WEBHOOK_SECRET = "webhook_secret"  # noqa: S105 - the very value that is refused


def _check_webhook_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text == EXAMPLE_WEBHOOK_SECRET:
        raise ValueError("is still the placeholder from the documentation; set a real secret")
    if not text.isascii() or not 10 <= len(text) <= 100:
        raise ValueError("must be 10 to 100 ASCII characters; Twitch takes no other")
    return secret


def _socket_url(url: str) -> str:
    if not url.startswith(("ws://", "wss://")):
        raise ValueError("must begin with ws:// or wss://")
    return url


SocketURL = Annotated[str, AfterValidator(_socket_url)]
WebhookSecret = Annotated[Secret, AfterValidator(_check_webhook_secret)]


class TwitchSettings(TwitchAppSettings):
    prefix: ClassVar[str] = "TWITCH"

    webhook_secret: WebhookSecret | None = Field(
        None,
        alias="TWITCH_WEBHOOK_SECRET",
        description="EventSub deliveries are signed with it; 10 to 100 characters.",
    )
    bot_user_id: Identifier | None = Field(
        None, alias="TWITCH_BOT_USER_ID", description="User ID of the account that the bot speaks as."
    )
    eventsub_transport: Literal["webhook", "websocket", "conduit"] = Field(
        "webhook",
        alias="TWITCH_EVENTSUB_TRANSPORT",
        description="How Twitch tells what happens; websocket and conduit need no public address.",
    )
    conduit_shards: int = Field(
        4,
        alias="TWITCH_CONDUIT_SHARDS",
        ge=2,
        le=10_000,
        description="Sockets that a conduit is spread over, at least; never fewer than it has had.",
    )
    webhook_callback_url: WebURL | None = Field(
        None,
        alias="TWITCH_WEBHOOK_CALLBACK_URL",
        description="Where Twitch reaches /twitch/webhook, over https; BASE_URL's if unset.",
    )
    redirect_uri: str | None = Field(
        None,
        alias="TWITCH_REDIRECT_URI",
        description="Where Twitch sends streamers back after they consent; BASE_URL's /twitch/auth/callback if unset.",
    )
    send_limit: int = Field(
        20,
        alias="TWITCH_SEND_LIMIT",
        ge=1,
        le=1_000_000,
        description="Messages that the bot may say in 30 s; 100 apply by themselves where it moderates.",
    )
    websocket_url: SocketURL = Field(
        "wss://eventsub.wss.twitch.tv/ws", alias="TWITCH_EVENTSUB_WEBSOCKET_URL", description="Where its sockets are."
    )

    max_claims: int | None = Field(
        None,
        alias="MAX_CLAIMS",
        ge=1,
        le=100_000,
        description="Channels that one container looks after at most; unset 5 by websocket, by webhook all.",
    )
    heartbeat_interval_s: float = Field(
        300, alias="HEARTBEAT_INTERVAL", gt=0, description="A container says that it is alive this often, s."
    )
    container_id: str | None = Field(None, alias="CONTAINER_ID", description="This container's name; made up if unset.")
    context_api_url: WebURL | None = Field(
        None, alias="CONTEXT_API_URL", description="CORE_API_URL's /api/context if unset."
    )
    reputation_api_url: WebURL | None = Field(
        None, alias="REPUTATION_API_URL", description="CORE_API_URL's /api/reputation if unset."
    )
    gateway_activate_url: WebURL | None = Field(
        None, alias="GATEWAY_ACTIVATE_URL", description="CORE_API_URL's /api/gateway/activate if unset."
    )

    @property
    def credentials(self) -> dict[str, object]:
        """What has to be set, all of it, before there is a Twitch."""
        secret = {"TWITCH_WEBHOOK_SECRET": self.webhook_secret} if self.eventsub_transport == "webhook" else {}
        return {
            "TWITCH_APP_ID": self.app_id,
            "TWITCH_APP_SECRET": self.app_secret,
            **secret,
            "TWITCH_BOT_USER_ID": self.bot_user_id,
        }

    @property
    def callback_url(self) -> str:
        return self.webhook_callback_url or f"{self.base_url.rstrip('/')}/twitch/webhook"

    @property
    def redirect_url(self) -> str:
        return self.redirect_uri or f"{self.base_url.rstrip('/')}/twitch/auth/callback"

    @property
    def claims_at_most(self) -> int:
        """A socket is a connection to keep open; looking after a webhook's subscriptions is a request now and then."""
        return self.max_claims or (CHANNELS_BY_SOCKET if self.eventsub_transport == "websocket" else ALL_CHANNELS)
