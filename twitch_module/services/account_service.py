"""People's accounts at Twitch: who they are, who the bot is, and whether their consent still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from waddlebot.base.errors import Busy, NotFound, UpstreamError
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import is_number
from waddlebot.community.tokens import NeedsReauth, NoToken

from .channel_service import ChannelService
from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from twitchAPI.object.api import TwitchUser
    from waddlebot.web.helix_client import HelixClient


# Twitch asks to validate tokens that are kept every hour.
# Source: https://dev.twitch.tv/docs/authentication/validate-tokens/
VALIDATE_EVERY = timedelta(hours=1)
VALIDATED_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Profile:
    """Somebody's public face."""

    id: str
    login: str
    display_name: str


class UnknownUser(NotFound):
    """Nobody at Twitch has that id or login."""

    code = "unknown_user"


class AccountService:
    """Asks Helix about people. `bot` is the bot's own account, once it is known."""

    def __init__(self, api: TwitchAPI, channels: ChannelService, *, bot_user_id: str, log: AAALog) -> None:
        self._api = api
        self._channels = channels
        self._bot_user_id = bot_user_id
        self._log = log
        self.bot: Profile | None = None

    def bot_login(self) -> str:
        """What to type after /mod. Never waits."""
        return self.bot.login if self.bot else "and the bot's name"

    def learn_bot(self) -> None:
        """Raises: UpstreamError; UnknownUser."""
        user = self._api.run(self._user(self._bot_user_id))
        self.bot = Profile(user.id, user.login, user.display_name)

    def describe(self, user: str) -> dict[str, Any]:
        """Somebody by id or login, with what their channel is about. Raises: UnknownUser; UpstreamError."""
        return self._api.run(self._describe(user))

    def name_of(self, user_id: str, login: str) -> str:
        """How somebody writes their name; their login if Twitch does not say."""
        try:
            return str(self._api.run(self._user(user_id)).display_name)
        except (UpstreamError, UnknownUser):
            return login

    def check_bot_moderates(self, broadcaster_id: str) -> bool | None:
        """Ask, in the broadcaster's name, whether the bot is a moderator. None if that cannot be found out."""
        if broadcaster_id == self._bot_user_id:
            return True
        try:
            moderates = self._api.run(self._is_moderator(broadcaster_id))
        except (UpstreamError, NoToken, NeedsReauth, Busy):
            return None
        self._channels.note_moderator(broadcaster_id, bot_moderates=moderates)
        return moderates

    def validate_some(self) -> bool:
        """Ask Twitch about tokens that nobody has asked about for an hour. True when more are due."""
        due = self._api.tokens.take_unchecked(older_than=VALIDATE_EVERY, limit=VALIDATED_AT_ONCE)
        for token in due:
            try:
                self._api.run(self._api.check_user(token))
            except NeedsReauth:
                self._channels.recheck([token.owner])
            except (NoToken, UpstreamError, Busy) as err:
                self._log.system("token_not_validated", result="FAILED", owner=token.owner, why=err.message)
        return len(due) == VALIDATED_AT_ONCE

    async def _is_moderator(self, broadcaster_id: str) -> bool:
        async def ask(client: HelixClient) -> bool:
            return any([each async for each in client.get_moderators(broadcaster_id, user_ids=[self._bot_user_id])])

        return await self._api.as_user(broadcaster_id, ask)

    async def _user(self, user: str) -> TwitchUser:
        found = await self._api.as_app(lambda client: _users(client, user))
        if not found:
            raise UnknownUser(f"Nobody at Twitch is {user[:64]}.")
        return found[0]

    async def _describe(self, user: str) -> dict[str, Any]:
        found = await self._user(user)
        channels = await self._api.as_app(lambda client: client.get_channel_information(found.id))
        channel = channels[0] if channels else None
        return {
            "id": found.id,
            "login": found.login,
            "display_name": found.display_name,
            "broadcaster_type": found.broadcaster_type,
            "description": found.description,
            "profile_image_url": found.profile_image_url,
            "created_at": found.created_at,
            "title": channel.title if channel else "",
            "game_name": channel.game_name if channel else "",
        }


async def _users(client: HelixClient, user: str) -> Sequence[TwitchUser]:
    by = {"user_ids": [user]} if is_number(user) else {"logins": [user.lower()]}
    return [each async for each in client.get_users(**by)]
