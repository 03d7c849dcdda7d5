"""The Slack collector's settings."""

from __future__ import annotations

from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from waddlebot.base.settings import FolderURL, Identifier, Secret, Settings

EXAMPLE_HOST = "domain.com"
ONE_OF = "SLACK_BOT_TOKEN, or SLACK_CLIENT_ID and SLACK_CLIENT_SECRET,"


def _check_bot_token(token: SecretStr) -> SecretStr:
    if not token.get_secret_value().startswith(("xoxb-", "xoxe.xoxb-")):
        raise ValueError(
            "must begin with xoxb-; it is the Bot User OAuth Token of the app's page “OAuth & Permissions”"
        )
    return token


def _check_app_token(token: SecretStr) -> SecretStr:
    if not token.get_secret_value().startswith("xapp-"):
        raise ValueError("must begin with xapp-; it is an app-level token with the scope connections:write")
    return token


def _no_example(url: str) -> str:
    if urlsplit(url).hostname == EXAMPLE_HOST:
        raise ValueError("is still the placeholder from the documentation; leave it out to follow BASE_URL")
    return url


RedirectURI = Annotated[str, AfterValidator(_no_example)]
BotToken = Annotated[Secret, AfterValidator(_check_bot_token)]
AppToken = Annotated[Secret, AfterValidator(_check_app_token)]


class SlackSettings(Settings):
    prefix: ClassVar[str] = "SLACK"

    signing_secret: Secret | None = Field(
        None, alias="SLACK_SIGNING_SECRET", description="Slack signs what it posts to us with it."
    )
    bot_token: BotToken | None = Field(
        None,
        alias="SLACK_BOT_TOKEN",
        description="The bot's token in the one workspace that has the app without OAuth.",
    )
    app_token: AppToken | None = Field(
        None, alias="SLACK_APP_TOKEN", description="App-level token for socket mode, with connections:write."
    )
    client_id: Identifier | None = Field(
        None, alias="SLACK_CLIENT_ID", description="Client ID of the app, for other workspaces to install it."
    )
    client_secret: Secret | None = Field(None, alias="SLACK_CLIENT_SECRET", description="Its client secret.")
    oauth_redirect_uri: RedirectURI | None = Field(
        None,
        alias="SLACK_OAUTH_REDIRECT_URI",
        description="Where Slack sends people back who let the app in; BASE_URL/slack/oauth/callback if unset.",
    )
    socket_mode: bool = Field(
        False, alias="SLACK_SOCKET_MODE", description="Take events from WebSockets instead of from POST /slack/events."
    )
    api_base_url: FolderURL = Field(
        "https://slack.com/api/", alias="SLACK_API_BASE_URL", description="Where Slack's Web API is."
    )
    max_claims: int = Field(
        5, alias="MAX_CLAIMS", ge=1, description="Workspaces that one container holds at most in socket mode."
    )
    container_id: str | None = Field(None, alias="CONTAINER_ID", description="This container's name; made up if unset.")

    @property
    def credentials(self) -> dict[str, object]:
        """What has to be set, all of it, before there is a Slack: by way of intake and by way of speaking."""
        needed: dict[str, object] = (
            {"SLACK_APP_TOKEN": self.app_token} if self.socket_mode else {"SLACK_SIGNING_SECRET": self.signing_secret}
        )
        if self.client_id or self.client_secret:
            return needed | {"SLACK_CLIENT_ID": self.client_id, "SLACK_CLIENT_SECRET": self.client_secret}
        return needed | {ONE_OF: self.bot_token}

    @property
    def redirect_uri(self) -> str:
        return self.oauth_redirect_uri or f"{self.base_url.rstrip('/')}/slack/oauth/callback"

    @property
    def authorize_url(self) -> str:
        """Slack's consent page, which is beside its API."""
        parts = urlsplit(self.api_base_url)
        return f"{parts.scheme}://{parts.netloc}/oauth/v2/authorize"
