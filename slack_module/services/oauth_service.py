"""Letting the app into a workspace: to Slack's consent page and back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pydantic import SecretStr
from waddlebot.base.errors import ProviderError, Refused, UpstreamError, UserError
from waddlebot.base.logs import AAALog
from waddlebot.base.manifest import WantedScope, scopes_wanted
from waddlebot.community.consent import Consenter, Settled
from waddlebot.community.oauth import OAuthStates, Started
from waddlebot.community.tokens import Tokens

from .installations import Installations
from .people import read_user
from .slack_calls import SlackCalls

if TYPE_CHECKING:
    from slack_sdk.oauth.installation_store import Installation

BOT_SCOPES = (
    "app_mentions:read",
    "channels:history",
    "channels:read",
    "chat:write",
    "commands",
    "files:read",
    "groups:history",
    "groups:read",
    "im:history",
    "reactions:read",
    "users:read",
)
# With an admin's token for this the bot may delete what breaks a rule.
ADMIN_SCOPES = ("chat:write",)
# What the bot cannot do its work without.
NEEDED = frozenset({"channels:history", "chat:write", "commands", "users:read"})


class NotGranted(UserError):
    """Slack did not let the app in."""

    code = "not_granted"


@dataclass(frozen=True, slots=True)
class Installed:
    settled: Settled
    team_name: str
    missing_scopes: tuple[str, ...]
    may_delete: bool


class OAuthService:
    def __init__(
        self,
        installations: Installations,
        tokens: Tokens,
        states: OAuthStates,
        calls: SlackCalls,
        *,
        client_id: str,
        client_secret: SecretStr,
        redirect_uri: str,
        authorize_url: str,
        log: AAALog,
    ) -> None:
        self._installations = installations
        self._tokens = tokens
        self._states = states
        self._calls = calls
        self._client_id = client_id
        self._client_secret = client_secret
        self._redirect_uri = redirect_uri
        self._authorize_url = authorize_url
        self._log = log

    def start(self, *, moderate: bool, community: str | None) -> tuple[str, Started]:
        """Where to send a browser, and the cookie that it has to bring back."""
        from slack_sdk.oauth import AuthorizeUrlGenerator

        started = self._states.start({"community": community})
        user_scopes = ADMIN_SCOPES if moderate else ()
        generator = AuthorizeUrlGenerator(
            client_id=quote(self._client_id, safe=""),
            scopes=[*BOT_SCOPES, *_more("bot", BOT_SCOPES)],
            user_scopes=[*user_scopes, *_more("channel", user_scopes)],
            # The generator puts it into the address as it is.
            redirect_uri=quote(self._redirect_uri, safe=""),
            authorization_url=self._authorize_url,
        )
        return generator.generate(started.state), started

    def finish(self, *, code: str, state: str, error: str, cookies: str) -> Installed:
        """Keep what Slack grants for a code, and serve the workspace.

        Raises: BadState and its kinds; NotGranted; NotYourCommunity; NotConfigured; UpstreamError.
        """
        asked = self._states.finish(state, cookies)
        if error:
            raise NotGranted("You did not let WaddleBot in, so nothing has changed.")
        granted = self._exchange(code)
        installation = _installation(granted)
        person = self._who(installation)
        from .store import Store

        store = Store(self._installations, self._tokens)
        settled = store.save(installation, person=person, community=asked.get("community") or None)
        scopes = {*(installation.bot_scopes or ()), *(installation.user_scopes or ())}
        return Installed(
            settled,
            installation.team_name or "",
            tuple(sorted({*NEEDED, *_more("bot"), *_more("channel")} - scopes)),
            bool(installation.user_token) and set(ADMIN_SCOPES) <= set(installation.user_scopes or ()),
        )

    def forget_cookie(self, state: str) -> str:
        return self._states.forget_cookie(state)

    def _exchange(self, code: str) -> dict[str, Any]:
        try:
            return self._calls.api.ask_once(
                lambda slack: slack.oauth_v2_access(
                    client_id=self._client_id,
                    client_secret=self._client_secret.get_secret_value(),
                    code=code,
                    redirect_uri=self._redirect_uri,
                )
            )
        except Refused as err:
            self._log.auth("code_refused", result="FAILED", error=err.words)
            raise NotGranted(f"Slack did not accept the answer of its own page ({err.words}). Begin again.") from err
        except ProviderError as err:
            raise UpstreamError("Slack does not answer. Begin again in a moment.") from err

    def _who(self, installation: Installation) -> Consenter:
        """Who consented, with their name if Slack tells it."""
        token, user = installation.bot_token, installation.user_id
        try:
            answer = self._calls.api.ask_once(lambda slack: slack.users_info(token=token, user=user))
        except ProviderError:
            return Consenter("slack", user, user, user)
        person = read_user(answer.get("user") or {})
        return Consenter("slack", user, person.name or user, person.display_name or person.name or user)


def module_scopes() -> tuple[WantedScope, ...]:
    """What other modules of this checkout need of a workspace."""
    return scopes_wanted("slack", "bot") + scopes_wanted("slack", "channel")


def _more(on: Literal["bot", "channel"], own: Collection[str] = ()) -> list[str]:
    """Scopes of other modules, of the bot or of the person who installs it, beyond those that are asked for anyway."""
    return [scope for scope in dict.fromkeys(each.scope for each in scopes_wanted("slack", on)) if scope not in own]


def _installation(granted: dict[str, Any]) -> Installation:
    """Raises: NotGranted for what is of no use here."""
    from slack_sdk.oauth.installation_store import Installation

    team, person = granted.get("team") or {}, granted.get("authed_user") or {}
    if granted.get("is_enterprise_install") or not team.get("id"):
        raise NotGranted("The app was let into a whole organisation; let it into each workspace instead.")
    if not granted.get("access_token"):
        raise NotGranted("Slack granted no bot token; the app needs a bot user.")
    return Installation(
        app_id=granted.get("app_id"),
        enterprise_id=(granted.get("enterprise") or {}).get("id"),
        team_id=team["id"],
        team_name=team.get("name"),
        bot_token=granted["access_token"],
        bot_user_id=granted.get("bot_user_id"),
        bot_scopes=granted.get("scope", ""),
        bot_refresh_token=granted.get("refresh_token"),
        bot_token_expires_in=granted.get("expires_in"),
        user_id=person.get("id", ""),
        user_token=person.get("access_token"),
        user_scopes=person.get("scope", ""),
        user_refresh_token=person.get("refresh_token"),
        user_token_expires_in=person.get("expires_in"),
        token_type=granted.get("token_type"),
    )
