"""Our installations as Slack's SDK sees them, and the renewal of tokens by the SDK's own rotator.

Imported at first use only.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from logging import Logger

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackTokenRotationError
from slack_sdk.oauth.installation_store import Bot, Installation, InstallationStore
from slack_sdk.oauth.token_rotation import TokenRotator
from waddlebot.base.errors import Refused, UpstreamError
from waddlebot.community.consent import Consenter, Settled
from waddlebot.community.tokens import Grant, RefreshRefused, Token, Tokens

from .installations import Installations, Workspace, admin_of
from .web_api import BROKEN_OFF, explain

# Renew whenever it is asked for: when that is, waddlebot.community.tokens decides.
ALWAYS = 10**9
# The words in which Slack says that a refresh token is worth nothing any more.
WORTHLESS = frozenset({"invalid_refresh_token", "token_revoked", "token_expired", "account_inactive", "invalid_auth"})


class Store(InstallationStore):
    """Keeps installations in slack_teams and slack_tokens: each workspace's own, none of a whole organisation."""

    def __init__(self, installations: Installations, tokens: Tokens) -> None:
        self._installations = installations
        self._tokens = tokens

    @property
    def logger(self) -> Logger:
        return logging.getLogger(__name__)

    def save(
        self, installation: Installation, *, person: Consenter | None = None, community: str | None = None
    ) -> Settled:
        team_id = installation.team_id or ""
        return self._installations.install(
            Workspace(
                team_id,
                installation.team_name or team_id,
                installation.app_id or "",
                installation.enterprise_id or "",
                installation.bot_user_id or "",
            ),
            Grant(
                installation.bot_token or "",
                installation.bot_refresh_token or "",
                _at(installation.bot_token_expires_at),
                tuple(installation.bot_scopes or ()),
            ),
            person or Consenter("slack", installation.user_id, "", ""),
            admin=_admin(installation),
            community=community,
        )

    def find_bot(
        self, *, enterprise_id: str | None, team_id: str | None, is_enterprise_install: bool | None = False
    ) -> Bot | None:
        found = self._tokens.find(team_id or "")
        team = self._installations.find_team(team_id or "")
        if found is None or team is None or is_enterprise_install:
            return None
        return Bot(
            app_id=team["app_id"],
            enterprise_id=enterprise_id,
            team_id=team_id,
            team_name=team["name"],
            bot_token=found.access,
            bot_id="",
            bot_user_id=team["bot_user_id"],
            bot_scopes=list(found.scopes),
            bot_refresh_token=found.refresh or None,
            bot_token_expires_at=int(found.expires_at.timestamp()) if found.expires_at else None,
            installed_at=team["installed_at"].timestamp(),
        )

    def find_installation(
        self,
        *,
        enterprise_id: str | None,
        team_id: str | None,
        user_id: str | None = None,
        is_enterprise_install: bool | None = False,
    ) -> Installation | None:
        bot = self.find_bot(enterprise_id=enterprise_id, team_id=team_id, is_enterprise_install=is_enterprise_install)
        if bot is None:
            return None
        admin = self._tokens.find(admin_of(team_id or ""))
        return Installation(
            app_id=bot.app_id,
            enterprise_id=enterprise_id,
            team_id=team_id,
            team_name=bot.team_name,
            bot_token=bot.bot_token,
            bot_user_id=bot.bot_user_id,
            bot_scopes=bot.bot_scopes,
            bot_refresh_token=bot.bot_refresh_token,
            bot_token_expires_at=bot.bot_token_expires_at,
            user_id=user_id or "",
            user_token=admin.access if admin else None,
            installed_at=bot.installed_at,
        )

    def delete_bot(self, *, enterprise_id: str | None, team_id: str | None) -> None:  # noqa: ARG002 - the SDK's signature
        self._installations.uninstall(team_id or "", at=datetime.now(UTC))

    def delete_installation(
        self,
        *,
        enterprise_id: str | None,  # noqa: ARG002
        team_id: str | None,
        user_id: str | None = None,  # noqa: ARG002
    ) -> None:
        self._installations.revoke_admin(team_id or "")


def rotate(client: WebClient, client_id: str, client_secret: str, token: Token) -> Grant:
    """A token that follows the one at hand. Raises: RefreshRefused; UpstreamError when Slack is away."""
    rotator = TokenRotator(client_id=client_id, client_secret=client_secret, client=client)
    old = _as_installation(token)
    try:
        if token.owner == admin_of(token.owner.split("/")[0]):
            admin = rotator.perform_user_token_rotation(installation=old, minutes_before_expiration=ALWAYS)
            found = _admin(admin) if admin else None
        else:
            bot = rotator.perform_bot_token_rotation(bot=old.to_bot(), minutes_before_expiration=ALWAYS)
            found = Grant(bot.bot_token, bot.bot_refresh_token or "", _at(bot.bot_token_expires_at)) if bot else None
    except SlackTokenRotationError as err:
        raise _why(err.api_error) from err
    except BROKEN_OFF as err:
        raise UpstreamError(f"Slack did not renew the token: {type(err).__name__}.") from err
    if found is None:
        raise RefreshRefused("Slack renewed a token of another kind")
    return found


def _as_installation(token: Token) -> Installation:
    ends_at = int(token.expires_at.timestamp()) if token.expires_at else 0
    return Installation(
        bot_token=token.access,
        bot_id="",
        bot_user_id="",
        bot_refresh_token=token.refresh,
        bot_token_expires_at=ends_at,
        user_id="",
        user_token=token.access,
        user_refresh_token=token.refresh,
        user_token_expires_at=ends_at,
        installed_at=0.0,
    )


def _why(refusal: SlackApiError) -> Exception:
    err = explain(refusal)
    if isinstance(err, Refused) and err.words in WORTHLESS:
        return RefreshRefused(f"Slack does not renew its token ({err.words})")
    return UpstreamError(f"Slack did not renew the token: {err.message}.")


def _admin(installation: Installation) -> Grant | None:
    if not installation.user_token:
        return None
    return Grant(
        installation.user_token,
        installation.user_refresh_token or "",
        _at(installation.user_token_expires_at),
        tuple(installation.user_scopes or ()),
    )


def _at(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
