"""What the collector asks of Slack beside speaking, and the one Web API client of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from waddlebot.base.errors import Away, Later, ProviderError, Refused, UpstreamError, WaddleBotError
from waddlebot.community.tokens import Grant, NeedsReauth, RefreshRefused, Token

from .installations import Workspace

if TYPE_CHECKING:
    from .web_api import WebAPI

# users.info is asked no more for so long, after Slack has said that it is too often.
USERS_PAUSE_S = 10.0


class SlackCalls:
    def __init__(self, *, api_base_url: str, client_id: str | None, client_secret: SecretStr | None) -> None:
        self._api_base_url = api_base_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._api: WebAPI | None = None
        self._paused: dict[str, float] = {}

    @property
    def api(self) -> WebAPI:
        """Slack's Web API; the first use loads the SDK."""
        if self._api is None:
            from .web_api import WebAPI

            self._api = WebAPI(self._api_base_url)
        return self._api

    def warm_up(self) -> None:
        """Load the SDK before the first slash command does: that takes a second or two of Slack's three."""
        _ = self.api

    async def who(self, bot_token: SecretStr) -> Workspace:
        """Whose token it is. Raises: NeedsReauth; UpstreamError."""
        token = bot_token.get_secret_value()
        try:
            found = await self.api.ask(lambda slack: slack.auth_test(token=token))
        except Refused as err:
            raise NeedsReauth(f"Slack refuses SLACK_BOT_TOKEN ({err.words}).") from err
        except ProviderError as err:
            raise UpstreamError(f"Slack does not say whose SLACK_BOT_TOKEN is: {err.message}.") from err
        return Workspace(found["team_id"], found.get("team") or "", bot_user_id=found.get("user_id") or "")

    def refresh(self, token: Token) -> Grant:
        """A token that follows the one at hand. Raises: RefreshRefused; UpstreamError."""
        if self._client_id is None or self._client_secret is None:
            raise RefreshRefused(
                "SLACK_CLIENT_ID and SLACK_CLIENT_SECRET are gone, and without them it cannot be renewed"
            )
        from .store import rotate

        secret = self._client_secret.get_secret_value()
        return rotate(self.api.client_for_threads(), self._client_id, secret, token)

    async def user(self, token_of: Callable[[str], str], team: str, user: str) -> dict[str, Any] | None:
        """Slack's user object; None when it cannot be had now."""
        now = asyncio.get_running_loop().time()
        if self._paused.get(team, 0.0) > now:
            return None
        try:
            token = await asyncio.to_thread(token_of, team)
            answer = await self.api.ask(lambda slack: slack.users_info(token=token, user=user))
        except (Later, Away) as err:
            self._paused[team] = now + max(err.retry_after_s, USERS_PAUSE_S)
            return None
        except WaddleBotError:
            return None
        found = answer.get("user")
        return found if isinstance(found, dict) else None
