"""The fleet's application at Twitch, as the settings have it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, SecretStr

from ..base.settings import FolderURL, Identifier, Secret, Settings


@dataclass(frozen=True, slots=True)
class TwitchApp:
    """The fleet's application at Twitch, and where Twitch is."""

    app_id: str
    app_secret: SecretStr
    api_base_url: str
    auth_base_url: str


class TwitchAppSettings(Settings):
    """What a module needs to ask Twitch as the application; its own Settings extend this."""

    app_id: Identifier | None = Field(None, alias="TWITCH_APP_ID", description="Client ID of the Twitch application.")
    app_secret: Secret | None = Field(None, alias="TWITCH_APP_SECRET", description="Its client secret.")
    api_base_url: FolderURL = Field(
        "https://api.twitch.tv/helix/", alias="TWITCH_API_BASE_URL", description="Where Helix is."
    )
    auth_base_url: FolderURL = Field(
        "https://id.twitch.tv/oauth2/", alias="TWITCH_AUTH_BASE_URL", description="Where Twitch hands out tokens."
    )

    @property
    def twitch_app(self) -> TwitchApp | None:
        """None without TWITCH_APP_ID and TWITCH_APP_SECRET."""
        if not self.app_id or not self.app_secret:
            return None
        return TwitchApp(self.app_id, self.app_secret, self.api_base_url, self.auth_base_url)
