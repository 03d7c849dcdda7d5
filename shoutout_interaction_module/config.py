"""The shoutout module's settings: Twitch's application, as the Twitch collector has it."""

from __future__ import annotations

from typing import ClassVar

from waddlebot.web.twitch_app import TwitchAppSettings


class ShoutoutSettings(TwitchAppSettings):
    prefix: ClassVar[str] = "SHOUTOUT"
