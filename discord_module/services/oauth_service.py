"""Adding the bot to a server: to Discord's consent page and back. Who added it is proven by the code, not by the URL.

Source: https://discord.com/developers/docs/topics/oauth2#advanced-bot-authorization
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from pydantic import SecretStr, ValidationError
from waddlebot.base.contracts import IdPart, Name, OpaqueId, Wire
from waddlebot.base.errors import NotAllowed, NotConfigured, UpstreamError, UpstreamRefused
from waddlebot.base.logs import AAALog
from waddlebot.base.manifest import WantedScope, scopes_wanted
from waddlebot.community import consent
from waddlebot.community.consent import Consenter, Settled
from waddlebot.community.oauth import OAuthStates, Started
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database
from waddlebot.web.http import HTTPClient

from .guild_service import GuildService

SCOPES = "bot applications.commands identify"
TIMEOUT_S = 8.0
# View channels, send messages also in threads, embed links, read history, add reactions, use other servers' emoji;
# manage messages, time out, kick, ban; manage roles; view the audit log, where it says who kicked whom.
PERMISSIONS = sum(1 << bit for bit in (6, 10, 11, 14, 16, 18, 38, 13, 40, 1, 2, 28, 7))


def _asked() -> tuple[str, int]:
    """The scopes and permissions that are asked for: the bot's own, and what other modules of this checkout need."""
    from discord import Permissions

    scopes, permissions = SCOPES.split(), PERMISSIONS
    for each in module_scopes():
        bit = Permissions.VALID_FLAGS.get(each.scope)
        if bit is not None:
            permissions |= bit
        elif each.scope not in scopes:
            scopes.append(each.scope)
    return " ".join(scopes), permissions


def module_scopes() -> tuple[WantedScope, ...]:
    return scopes_wanted("discord", "bot") + scopes_wanted("discord", "channel")


class NotConsented(NotAllowed):
    """You did not let the bot in, so nothing was changed."""

    code = "not_consented"


class CannotProve(NotConfigured):
    """The operator of this WaddleBot has to set DISCORD_CLIENT_SECRET before servers can be added here."""

    code = "cannot_prove"


class Person(Wire):
    id: OpaqueId
    username: Name = ""
    global_name: Name | None = None


class Server(Wire):
    id: IdPart
    name: Name = ""


class Grant(Wire):
    access_token: str
    scope: str = ""
    guild: Server | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """A server that the bot was added to."""

    guild_id: str
    guild_name: str
    by: str
    settled: Settled


class OAuthService:
    def __init__(
        self,
        db: Database,
        bus: Bus,
        states: OAuthStates,
        guilds: GuildService,
        *,
        application_id: str,
        client_secret: SecretStr | None,
        api_base_url: str,
        authorize_url: str,
        callback_url: str,
        log: AAALog,
    ) -> None:
        self._db = db
        self._bus = bus
        self._states = states
        self._guilds = guilds
        self._application_id = application_id
        self._client_secret = client_secret
        self._api = f"{api_base_url}/v10"
        self._authorize_url = authorize_url
        self._callback_url = callback_url
        self._log = log
        self._http = HTTPClient()

    @property
    def is_possible(self) -> bool:
        return self._client_secret is not None

    def begin(self, *, community: str = "") -> tuple[str, Started]:
        """Where to send somebody who wants to add the bot, and the state that brings them back. Raises: CannotProve."""
        if self._client_secret is None:
            raise CannotProve()
        started = self._states.start({"community": community})
        scopes, permissions = _asked()
        asked = {
            "client_id": self._application_id,
            "scope": scopes,
            "permissions": str(permissions),
            "response_type": "code",
            "redirect_uri": self._callback_url,
            "integration_type": "0",
            "state": started.state,
        }
        return f"{self._authorize_url}?{urlencode(asked)}", started

    def finish(self, state: str, cookies: str, *, code: str, error: str) -> Added:
        """Serve the server that somebody has just added the bot to.

        Raises: BadState and its kinds; NotConsented; NotYourCommunity; CannotProve; UpstreamError.
        """
        data = self._states.finish(state, cookies)
        if error or not code:
            raise NotConsented()
        grant = self._exchange(code)
        try:
            person = self._who(grant)
        finally:
            self._give_back(grant)
        if grant.guild is None:
            raise NotConsented("Discord does not say to which server you added the bot. Begin again and choose one.")
        consenter = Consenter("discord", person.id, person.username, person.global_name or person.username)
        community = str(data.get("community") or "") or None
        with self._db.transaction() as db:
            settled = consent.settle(
                db, consenter, channel="", server_id=grant.guild.id, name=grant.guild.name, community=community
            )
        self._guilds.note_added(grant.guild.id, name=grant.guild.name, by=person.id)
        consent.tell(self._bus, settled.entity, settled.user_id)
        self._log.auth("consent_given", guild=grant.guild.id, by=person.id)
        self._log.audit("server_added", guild=grant.guild.id, community=settled.community_id, by=person.id)
        return Added(grant.guild.id, grant.guild.name, consenter.display_name, settled)

    def _exchange(self, code: str) -> Grant:
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._callback_url}
        try:
            return Grant.model_validate(self._post("/oauth2/token", asked))
        except ValidationError as err:
            raise UpstreamRefused("Discord's answer is not a grant.") from err

    def _who(self, grant: Grant) -> Person:
        headers = {"Authorization": f"Bearer {grant.access_token}"}
        response = self._http.request("GET", f"{self._api}/users/@me", headers=headers, timeout_s=TIMEOUT_S)
        if response.status != 200:
            raise UpstreamRefused(f"Discord does not say who you are: HTTP {response.status}.")
        try:
            return Person.model_validate(response.json())
        except ValidationError as err:
            raise UpstreamRefused("Discord's answer is not a person.") from err

    def _give_back(self, grant: Grant) -> None:
        """The person's token has served: it is not kept."""
        try:
            self._post("/oauth2/token/revoke", {"token": grant.access_token, "token_type_hint": "access_token"})
        except UpstreamError as err:
            self._log.system("token_not_revoked", result="FAILED", code=err.code)

    def _post(self, path: str, form: dict[str, str]) -> object:
        assert self._client_secret is not None, "begin() has made sure"
        form |= {"client_id": self._application_id, "client_secret": self._client_secret.get_secret_value()}
        response = self._http.request(
            "POST",
            f"{self._api}{path}",
            body=urlencode(form).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            timeout_s=TIMEOUT_S,
        )
        if response.status == 200:
            return response.json()
        kind = UpstreamRefused if response.status < 500 else UpstreamError
        raise kind(f"Discord refused: HTTP {response.status}. The link may be too old; begin again.")
