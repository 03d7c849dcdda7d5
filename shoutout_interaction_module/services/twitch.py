"""What Twitch knows of somebody: their profile, what they played last, and clips of the past week.

Source: https://dev.twitch.tv/docs/api/reference/#get-clips
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from waddlebot.base.errors import ProviderError
from waddlebot.base.logs import AAALog
from waddlebot.web.helix import Helix

from .naming import LOGIN
from .words import Clip, Profile

if TYPE_CHECKING:
    from twitchAPI.object.api import TwitchUser
    from waddlebot.web.helix_client import HelixClient

CLIPS_OF = timedelta(days=7)
# Twitch gives so many at once, those that were watched most first.
CLIPS_AT_MOST = 100
# Of a call's time; what is missing then is left out, so that the line is said in time.
EXTRAS_WITHIN_S = 6.0


@dataclass(frozen=True, slots=True)
class Streamer:
    """Somebody at Twitch."""

    id: str
    login: str
    profile: Profile


class TwitchLookups:
    def __init__(self, helix: Helix, log: AAALog) -> None:
        self._helix = helix
        self._log = log

    def find(self, *, id_: str = "", login: str = "", within_s: float) -> Streamer | None:
        """Somebody by id, or by login; None for nobody. Raises: ProviderError."""
        if not id_.isdigit() and not LOGIN.fullmatch(login):
            return None
        by = {"user_ids": [id_]} if id_.isdigit() else {"logins": [login.lower()]}

        async def ask(client: HelixClient) -> Sequence[TwitchUser]:
            return [each async for each in client.get_users(**by)]

        found = self._helix.look_up(ask, within_s=within_s)
        if not found:
            return None
        user = found[0]
        name = user.display_name or user.login
        link = f"https://twitch.tv/{user.login}"
        return Streamer(user.id, user.login, Profile(name, link, picture=user.profile_image_url or ""))

    def last_game(self, user_id: str, *, within_s: float) -> str:
        """What they stream, or streamed last; empty where Twitch does not say."""

        async def ask(client: HelixClient) -> Any:
            return await client.get_channel_information(user_id)

        try:
            channels = self._helix.look_up(ask, within_s=min(within_s, EXTRAS_WITHIN_S))
        except ProviderError as err:
            self._log.system("no_game", result="FAILED", twitch_id=user_id, code=err.code)
            return ""
        return " ".join((channels[0].game_name or "").split()) if channels else ""

    def clips(self, user_id: str, *, within_s: float) -> list[Clip] | None:
        """Clips of the past week that can be shown; None where Twitch does not say."""
        now = datetime.now(UTC)

        async def ask(client: HelixClient) -> list[Any]:
            found: list[Any] = []
            asked = client.get_clips(user_id, started_at=now - CLIPS_OF, ended_at=now, first=CLIPS_AT_MOST)
            async for each in asked:
                found.append(each)
                if len(found) == CLIPS_AT_MOST:
                    break
            return found

        try:
            found = self._helix.look_up(ask, within_s=min(within_s, EXTRAS_WITHIN_S))
        except ProviderError as err:
            self._log.system("no_clips", result="FAILED", twitch_id=user_id, code=err.code)
            return None
        return [_clip(each) for each in found if each.embed_url and (each.duration or 0) > 0]


def _clip(found: Any) -> Clip:
    return Clip(found.id, found.embed_url, found.title or "", found.thumbnail_url or "", float(found.duration))
