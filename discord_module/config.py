"""The Discord collector's settings."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, StringConstraints
from waddlebot.base.settings import BaseURL, Identifier, Secret, Settings
from waddlebot.base.wire import is_number

PUBLIC_KEY = re.compile("[0-9a-f]{64}")


def _check_application_id(text: str) -> str:
    if not is_number(text, digits=20):
        raise ValueError("must be the number that the Developer Portal shows as Application ID")
    return text


def _check_public_key(text: str) -> str:
    if not PUBLIC_KEY.fullmatch(text.lower()):
        raise ValueError("must be the 64 hexadecimal digits that the Developer Portal shows as Public Key")
    return text.lower()


ApplicationId = Annotated[Identifier, AfterValidator(_check_application_id)]
PublicKey = Annotated[Identifier, AfterValidator(_check_public_key)]
CommandPrefix = Annotated[str, StringConstraints(pattern=r"^[^\s\w]{1,5}$")]


class DiscordSettings(Settings):
    prefix: ClassVar[str] = "DISCORD"

    bot_token: Secret | None = Field(None, alias="DISCORD_BOT_TOKEN", description="The bot's token.")
    application_id: ApplicationId | None = Field(
        None, alias="DISCORD_APPLICATION_ID", description="The application's ID, a number."
    )
    public_key: PublicKey | None = Field(
        None, alias="DISCORD_PUBLIC_KEY", description="Interactions over HTTP are checked with it; 64 hex digits."
    )
    client_secret: Secret | None = Field(
        None,
        alias="DISCORD_CLIENT_SECRET",
        description="The application's client secret; /discord/auth proves with it who added the bot.",
    )
    command_prefix: CommandPrefix = Field(
        "!", alias="DISCORD_COMMAND_PREFIX", description="What commands begin with on Discord, in place of !."
    )
    redirect_uri: BaseURL | None = Field(
        None,
        alias="DISCORD_REDIRECT_URI",
        description="Where Discord sends people back to; BASE_URL/discord/auth/callback if unset.",
    )
    api_base_url: BaseURL = Field(
        "https://discord.com/api", alias="DISCORD_API_BASE_URL", description="Where the API is."
    )
    authorize_url: BaseURL = Field(
        "https://discord.com/oauth2/authorize",
        alias="DISCORD_AUTHORIZE_URL",
        description="Where people add the bot to a server.",
    )

    shard_count: int | None = Field(
        None, alias="DISCORD_SHARD_COUNT", ge=1, le=10_000, description="As many as Discord recommends, unless set."
    )
    identify_spacing_s: float = Field(
        5.0, alias="DISCORD_IDENTIFY_SPACING", ge=0, le=60, description="Time between two shards that identify, s."
    )
    send_limit: int = Field(
        40,
        alias="DISCORD_SEND_LIMIT",
        ge=1,
        le=1000,
        description="The bot's messages per second in all; Discord allows 50 requests of every kind.",
    )

    max_claims: int = Field(5, alias="MAX_CLAIMS", ge=1, description="Shards that one container holds at most.")
    container_id: str | None = Field(None, alias="CONTAINER_ID", description="This container's name; made up if unset.")

    @property
    def callback_url(self) -> str:
        return self.redirect_uri or f"{self.base_url.rstrip('/')}/discord/auth/callback"

    @property
    def credentials(self) -> dict[str, object]:
        """What has to be set, all of it, before there is a Discord."""
        return {
            "DISCORD_BOT_TOKEN": self.bot_token,
            "DISCORD_APPLICATION_ID": self.application_id,
            "DISCORD_PUBLIC_KEY": self.public_key,
        }
