"""Signing in by a platform, with the fleet's own application there. Who somebody is says the platform; what they may
do here says the role that they have in the community or, for a while, at the platform (docs/adr/0077). Nobody is found
by a mail address, whoever has verified it (docs/adr/0055).

Sources: https://dev.twitch.tv/docs/authentication/getting-tokens-oauth/#authorization-code-grant-flow,
https://discord.com/developers/docs/topics/oauth2#authorization-code-grant and
https://docs.slack.dev/authentication/sign-in-with-slack/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from pydal import DAL
from pydantic import SecretStr
from waddlebot.base.errors import Conflict, NotAllowed, NotFound, UpstreamError, UpstreamRefused
from waddlebot.community.consent import Consenter, ensure_user
from waddlebot.community.oauth import OAuthStates, Started
from waddlebot.community.people import ids_of
from waddlebot.data import audit
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.http import HTTPClient
from waddlebot.web.site import Link

from ..config import PortalSettings
from .platform_roles import PlatformRoles, Roles, SignedIn

TIMEOUT_S = 8.0
TWITCH_SCOPE = "user:read:moderated_channels"
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
# What the platforms call somebody's id, name, and the name that is shown.
FIELDS = {
    "twitch": ("user_id", "login", "login"),
    "discord": ("id", "username", "global_name"),
    "slack": ("https://slack.com/user_id", "name", "name"),
}


class NotLetIn(NotAllowed):
    """You did not agree there, so you are not signed in."""

    code = "not_let_in"


class SomebodyElses(Conflict):
    """That account signs in as somebody else here. Sign in with it, or choose another one."""

    code = "somebody_elses"


class OnePersonEach(Conflict):
    """You are known by another account already. Make the two one person in chat: !link"""

    code = "one_person_each"


@dataclass(frozen=True, slots=True)
class Entered:
    """Whose login it is, and where they wanted to go; `is_connected` if an account was joined to the login that was
    there."""

    login_id: int
    following: str
    is_connected: bool = False


@dataclass(frozen=True, slots=True)
class Provider:
    """The fleet's application at a platform, and how it is asked who somebody is."""

    platform: Literal["twitch", "discord", "slack"]
    title: str
    client_id: str
    client_secret: SecretStr
    authorize_url: str
    token_url: str
    who_url: str
    # What a browser's consent is asked for: who they are, and what they are there where the bot cannot tell.
    scope: str
    bearer: str = "Bearer"

    def person(self, about: Mapping[str, Any]) -> Consenter:
        """Who they are, out of what the platform answers. Raises: UpstreamRefused."""
        user_id, name, shown = (about.get(field) for field in FIELDS[self.platform])
        if not user_id or not name:
            raise UpstreamRefused(f"{self.title} does not say who that is.")
        return Consenter(self.platform, str(user_id), str(name), str(shown or name))


def providers_of(settings: PortalSettings) -> list[Provider]:
    """The platforms for which this fleet has an application."""
    found = []
    if app := settings.twitch_app:
        base = app.auth_base_url
        urls = (f"{base}authorize", f"{base}token", f"{base}validate")
        found.append(Provider("twitch", "Twitch", app.app_id, app.app_secret, *urls, TWITCH_SCOPE, bearer="OAuth"))
    if settings.discord_application_id and settings.discord_client_secret:
        api = f"{settings.discord_api_base_url.rstrip('/')}/v10"
        urls = (settings.discord_authorize_url, f"{api}/oauth2/token", f"{api}/users/@me")
        known = (settings.discord_application_id, settings.discord_client_secret)
        found.append(Provider("discord", "Discord", *known, *urls, scope="identify guilds"))
    if settings.slack_client_id and settings.slack_client_secret:
        api = settings.slack_api_base_url.rstrip("/")
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(api))
        urls = (f"{origin}/openid/connect/authorize", f"{api}/openid.connect.token", f"{api}/openid.connect.userInfo")
        known = (settings.slack_client_id, settings.slack_client_secret)
        found.append(Provider("slack", "Slack", *known, *urls, scope="openid profile"))
    return found


class PlatformLogins:
    def __init__(
        self,
        db: Database,
        http: HTTPClient,
        states: OAuthStates,
        providers: Sequence[Provider],
        roles: PlatformRoles,
        *,
        url: str,
    ) -> None:
        self._db = db
        self._http = http
        self._states = states
        self._providers: dict[str, Provider] = {each.platform: each for each in providers}
        self._roles = roles
        self._url = url

    @property
    def ways_in(self) -> list[Link]:
        """The buttons of the page for signing in."""
        named = self._providers.items()
        return [Link(f"Go on with {each.title}", name, f"/portal/auth/with/{name}") for name, each in named]

    def begin(self, platform: str, following: str, *, connecting: int | None = None) -> tuple[str, Started]:
        """Where to send the browser, and the state that it takes along; `connecting` is a login that the account there
        is to be joined to. Raises: NotFound."""
        provider = self._get(platform)
        started = self._states.start({"platform": platform, "next": following, "connecting": connecting})
        asked = {
            "client_id": provider.client_id,
            "redirect_uri": self._callback(platform),
            "response_type": "code",
            "scope": provider.scope,
            "state": started.state,
        }
        return f"{provider.authorize_url}?{urlencode(asked)}", started

    def take_up(self, state: str, cookies: str) -> dict[str, Any]:
        """What was begun in the browser that comes back, once; `next` is where it wanted to go. Raises: BadState and
        its kinds."""
        return self._states.finish(state, cookies)

    def finish(self, platform: str, begun: Mapping[str, Any], code: str, *, login_id: int | None = None) -> Entered:
        """The login of whoever came back, made if they are new here. `login_id` is who is signed in in that browser.

        Raises: NotLetIn; SomebodyElses; OnePersonEach; NotFound; UpstreamError.
        """
        provider = self._get(platform)
        connecting = begun.get("connecting")
        if begun.get("platform") != platform or not code or connecting not in (None, login_id):
            raise NotLetIn()
        token = self._exchange(provider, code)
        shown = {"Authorization": f"{provider.bearer} {token}"}
        about = self._ask("GET", provider.who_url, None, shown, provider.title)
        person = provider.person(about)
        roles = self._roles.ask(SignedIn(platform, person.platform_user_id, about, token))
        with self._db.transaction() as db:
            own_id = ensure_user(db, person)
            found = _find(db, ids_of(db, own_id))
            if connecting is not None:
                _connect(db, connecting, own_id, found)
                self._keep(db, connecting, platform, roles)
                return Entered(connecting, str(begun["next"]), is_connected=True)
            entered = found or _make(db, own_id, person)
            self._keep(db, entered, platform, roles)
            fetch(db, "UPDATE auth_user SET last_portal_login = now() WHERE id = %s", (entered,))
        return Entered(entered, str(begun["next"]))

    @property
    def ways_to_connect(self) -> list[Link]:
        """The buttons by which a login that is no person yet becomes one."""
        query = urlencode({"connect": 1, "next": "/portal/profile"})
        named = self._providers.items()
        return [Link(f"Connect {each.title}", name, f"/portal/auth/with/{name}?{query}") for name, each in named]

    def accounts_of(self, own_id: int) -> list[dict[str, Any]]:
        """The accounts on platforms that are one person."""
        with self._db.reading() as db:
            return fetch(
                db,
                "SELECT i.platform, i.platform_user_id, i.name, i.display_name FROM platform_identities i"
                " WHERE i.user_id = ANY(%s) ORDER BY i.platform, i.name LIMIT 50",
                (ids_of(db, own_id),),
            )

    def owned_by(self, own_id: int) -> list[dict[str, Any]]:
        """The communities that are a person's."""
        with self._db.reading() as db:
            sql = "SELECT slug, name FROM communities WHERE owner_id = ANY(%s) AND is_active ORDER BY name LIMIT 50"
            return fetch(db, sql, (ids_of(db, own_id),))

    def _get(self, platform: str) -> Provider:
        provider = self._providers.get(platform)
        if provider is None:
            raise NotFound("Nobody signs in that way here.")
        return provider

    def _callback(self, platform: str) -> str:
        return f"{self._url}/portal/auth/callback/{platform}"

    def _keep(self, db: DAL, login_id: int, platform: str, roles: Roles | None) -> None:
        if roles is not None:
            self._roles.keep(db, login_id, platform, roles)

    def _exchange(self, provider: Provider, code: str) -> str:
        """The token that a code is worth."""
        asked = {
            "client_id": provider.client_id,
            "client_secret": provider.client_secret.get_secret_value(),
            "code": code,
            "grant_type": "authorization_code",
            "redirect_uri": self._callback(provider.platform),
        }
        granted = self._ask("POST", provider.token_url, urlencode(asked).encode(), FORM, provider.title)
        return str(granted.get("access_token", ""))

    def _ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], title: str) -> dict[str, Any]:
        response = self._http.request(method, url, body=body, headers=headers, timeout_s=TIMEOUT_S)
        answer = dict(response.json()) if response.status == 200 else {}
        if answer.get("ok", True) and answer:
            return answer
        kind = UpstreamRefused if response.status < 500 else UpstreamError
        why = answer.get("error") or f"HTTP {response.status}"
        raise kind(f"{title} did not let you in: {why}. Begin again.")


def _find(db: DAL, ids: Sequence[int]) -> int | None:
    """The login that is a person's; one with an address first."""
    row = fetch_one(
        db,
        "SELECT id FROM auth_user WHERE waddlebot_user_id = ANY(%s) ORDER BY email IS NULL, id LIMIT 1",
        (list(ids),),
    )
    return int(row["id"]) if row else None


def _make(db: DAL, own_id: int, person: Consenter) -> int:
    row = fetch_one(
        db,
        "INSERT INTO auth_user (waddlebot_user_id, first_name, created_by) VALUES (%s, %s, %s)"
        " ON CONFLICT (waddlebot_user_id) DO UPDATE SET waddlebot_user_id = excluded.waddlebot_user_id RETURNING id",
        (own_id, person.display_name or person.name, person.platform),
    )
    assert row is not None
    return int(row["id"])


def _connect(db: DAL, login_id: int, own_id: int, found: int | None) -> None:
    """Let a login be a person. Raises: SomebodyElses; OnePersonEach."""
    if found == login_id:
        return
    if found is not None:
        raise SomebodyElses()
    sql = "UPDATE auth_user SET waddlebot_user_id = %s WHERE id = %s AND waddlebot_user_id IS NULL RETURNING id"
    if fetch_one(db, sql, (own_id, login_id)) is None:
        raise OnePersonEach()
    audit.record(
        db, "portal", "portal_login_connected", f"login/{login_id}", community_id=None, after={"own_id": own_id}
    )
