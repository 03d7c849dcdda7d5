"""What only the consent pages meet; everything else that Twitch answers is in `waddlebot.base.errors`."""

from __future__ import annotations

from waddlebot.base.errors import UpstreamRefused


class CodeRefused(UpstreamRefused):
    """Twitch does not take the code that it sent the browser back with."""
