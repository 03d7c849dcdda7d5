"""Makes people VIPs and moderators of a channel, and takes that back, in the broadcaster's name.

Source: https://dev.twitch.tv/docs/api/reference/#add-channel-vip
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from waddlebot.base.encryption import CannotOpen
from waddlebot.base.errors import Refused, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.collecting.roles import Full, Hierarchy, MissingScope, NotThere, RoleNews, RoleSeen
from waddlebot.community.tokens import NeedsReauth, NoToken

from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from waddlebot.web.helix_client import HelixClient

Role = Literal["vip", "moderator"]
MOST_IDS = 100
# Twitch's words for what is so already.
SO_ALREADY = ("already a vip", "is not a vip", "already a mod", "is not a mod", "isn't a mod")
# All places for VIPs are taken; or there are none before the channel has a community of some size.
NO_PLACE = (409, 425)


class RoleService:
    def __init__(self, api: TwitchAPI, roles: RoleNews, log: AAALog) -> None:
        self._api = api
        self._roles = roles
        self._log = log

    def change(self, wanted: RoleSeen, *, by: str) -> bool:
        """Give or take a role. Returns whether that changed anything.

        Raises: Hierarchy; MissingScope; Full; NotThere; Away, Later and Unclear when Twitch did not say.
        """
        with self._roles.causing(wanted):
            changed = self._api.run(self._change(wanted))
        where = {"channel": wanted.server_id, "user": wanted.platform_user_id, "role": wanted.role_id}
        self._log.audit("role_added" if wanted.has else "role_removed", **where, changed=changed, by=by)
        return changed

    def list_people(self, channel: str, role: str, people: Sequence[str]) -> set[str]:
        """Who of some people is a VIP or moderator of a channel. Raises: MissingScope; Refused; Away; Later."""
        found: set[str] = set()
        for first in range(0, len(people), MOST_IDS):
            found |= self._api.run(self._list(channel, role, list(people[first : first + MOST_IDS])))
        return found

    async def _list(self, channel: str, role: str, people: list[str]) -> set[str]:
        async def call(client: HelixClient) -> set[str]:
            return {each.user_id async for each in client.holders(role, channel, people)}

        try:
            return await self._api.as_user(channel, call)
        except (NoToken, NeedsReauth, CannotOpen) as err:
            raise MissingScope("The broadcaster has not consented to that yet: ask them to, at /twitch/auth.") from err

    async def _change(self, wanted: RoleSeen) -> bool:
        try:
            await self._api.as_user(wanted.server_id, _call(wanted))
        except (NoToken, NeedsReauth, CannotOpen) as err:
            raise MissingScope("The broadcaster has not consented to that yet: ask them to, at /twitch/auth.") from err
        except Refused as err:
            if any(words in err.words.lower() for words in SO_ALREADY):
                return False
            raise _why_not(err) from err
        return True


def _why_not(err: Refused) -> WaddleBotError:
    said = f"Twitch refused: {err.words or err.message}."
    if err.status in (401, 403):
        return MissingScope(f"{said} Ask the broadcaster to consent again, at /twitch/auth.")
    if err.status in NO_PLACE:
        return Full(said)
    # A moderator cannot be a VIP, nor the other way round; who is banned can be neither, and a broadcaster is more.
    return Hierarchy(said) if err.status == 422 or "banned" in err.words.lower() else NotThere(said)


def _call(wanted: RoleSeen) -> Callable[[HelixClient], Awaitable[Any]]:
    async def call(client: HelixClient) -> Any:
        channel, person = wanted.server_id, wanted.platform_user_id
        if wanted.role_id == "vip":
            return await (client.add_channel_vip if wanted.has else client.remove_channel_vip)(channel, person)
        change = client.add_channel_moderator if wanted.has else client.remove_channel_moderator
        return await change(channel, person)

    return call
