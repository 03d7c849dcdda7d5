"""What Twitch, or the way to it, may answer instead of doing what it was asked."""

from __future__ import annotations

from waddlebot.base.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable


class HelixRefusal(UpstreamRefused):
    """Twitch refused the request."""

    def __init__(self, status: int, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.words = message
        self.retry_after_s = retry_after_s


class TwitchAway(UpstreamUnreachable):
    """Twitch cannot be reached, so nothing was done there."""


class TwitchUnclear(UpstreamTimeout):
    """Twitch broke off, so nobody knows whether it did what it was asked."""


class NoAppToken(UpstreamError):
    """Twitch gives this application no token: it is away, or TWITCH_APP_ID and TWITCH_APP_SECRET are wrong."""


class CodeRefused(UpstreamRefused):
    """Twitch does not take the code that it sent the browser back with."""
