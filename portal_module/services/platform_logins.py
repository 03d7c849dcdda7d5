"""Signing in by a platform, with the fleet's own application there. Who somebody is says the platform; what they may
do here says the role that they have.

Sources: https://dev.twitch.tv/docs/authentication/getting-tokens-oauth/#authorization-code-grant-flow and
https://discord.com/developers/docs/topics/oauth2#authorization-code-grant
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import SecretStr
from waddlebot.base.errors import NotAllowed, NotFound, UpstreamError, UpstreamRefused
from waddlebot.community.consent import Consenter, ensure_user
from waddlebot.community.oauth import OAuthStates, Started
from waddlebot.community.people import ids_of
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.http import HTTPClient
from waddlebot.web.site import Link

from ..config import PortalSettings

TIMEOUT_S = 8.0
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


class NotLetIn(NotAllowed):
    """You did not agree there, so you are not signed in."""

    code = "not_let_in"


@dataclass(frozen=True, slots=True)
class Provider:
    """The fleet's application at a platform, and how it is asked who somebody is."""

    platform: Literal["twitch", "discord"]
    title: str
    client_id: str
    client_secret: SecretStr
    authorize_url: str
    token_url: str
    who_url: str
    # What a browser's consent is asked for: who they are, and nothing else.
    scope: str = ""
    bearer: str = "Bearer"

    def person(self, about: Mapping[str, Any]) -> Consenter:
        """Who they are, out of what the platform answers. Raises: UpstreamRefused."""
        fields = {"twitch": ("user_id", "login", "login"), "discord": ("id", "username", "global_name")}
        user_id, name, shown = (about.get(field) for field in fields[self.platform])
        if not user_id or not name:
            raise UpstreamRefused(f"{self.title} does not say who that is.")
        return Consenter(self.platform, str(user_id), str(name), str(shown or name))


def providers_of(settings: PortalSettings) -> list[Provider]:
    """The platforms for which this fleet has an application."""
    found = []
    if app := settings.twitch_app:
        base = app.auth_base_url
        urls = (f"{base}authorize", f"{base}token", f"{base}validate")
        found.append(Provider("twitch", "Twitch", app.app_id, app.app_secret, *urls, bearer="OAuth"))
    if settings.discord_application_id and settings.discord_client_secret:
        api = settings.discord_api_base_url.rstrip("/")
        urls = (settings.discord_authorize_url, f"{api}/oauth2/token", f"{api}/users/@me")
        known = (settings.discord_application_id, settings.discord_client_secret)
        found.append(Provider("discord", "Discord", *known, *urls, scope="identify"))
    return found


class PlatformLogins:
    def __init__(
        self, db: Database, http: HTTPClient, states: OAuthStates, providers: Sequence[Provider], *, url: str
    ) -> None:
        self._db = db
        self._http = http
        self._states = states
        self._providers: dict[str, Provider] = {each.platform: each for each in providers}
        self._url = url

    @property
    def ways_in(self) -> list[Link]:
        """The buttons of the page for signing in."""
        named = self._providers.items()
        return [Link(f"Go on with {each.title}", name, f"/portal/auth/with/{name}") for name, each in named]

    def begin(self, platform: str, following: str) -> tuple[str, Started]:
        """Where to send the browser, and the state that it takes along. Raises: NotFound."""
        provider = self._get(platform)
        started = self._states.start({"platform": platform, "next": following})
        asked = {
            "client_id": provider.client_id,
            "redirect_uri": self._callback(platform),
            "response_type": "code",
            "scope": provider.scope,
            "state": started.state,
        }
        return f"{provider.authorize_url}?{urlencode(asked)}", started

    def finish(self, platform: str, state: str, code: str, cookies: str) -> tuple[int, str]:
        """The login of whoever came back, made if they are new here, and where they wanted to go.

        Raises: BadState and its kinds; NotLetIn; NotFound; UpstreamError.
        """
        provider = self._get(platform)
        begun = self._states.finish(state, cookies)
        if begun.get("platform") != platform or not code:
            raise NotLetIn()
        person = provider.person(self._who(provider, code))
        with self._db.transaction() as db:
            own_id = ensure_user(db, person)
            row = fetch_one(
                db,
                "SELECT id FROM auth_user WHERE waddlebot_user_id = ANY(%s) ORDER BY email IS NULL, id LIMIT 1",
                (ids_of(db, own_id),),
            ) or fetch_one(
                db,
                "INSERT INTO auth_user (waddlebot_user_id, first_name, created_by) VALUES (%s, %s, %s)"
                " ON CONFLICT (waddlebot_user_id) DO UPDATE SET waddlebot_user_id = excluded.waddlebot_user_id"
                " RETURNING id",
                (own_id, person.display_name or person.name, platform),
            )
            assert row is not None
            fetch(db, "UPDATE auth_user SET last_portal_login = now() WHERE id = %s", (row["id"],))
        return int(row["id"]), str(begun["next"])

    def _get(self, platform: str) -> Provider:
        provider = self._providers.get(platform)
        if provider is None:
            raise NotFound("Nobody signs in that way here.")
        return provider

    def _callback(self, platform: str) -> str:
        return f"{self._url}/portal/auth/callback/{platform}"

    def _who(self, provider: Provider, code: str) -> dict[str, Any]:
        asked = {
            "client_id": provider.client_id,
            "client_secret": provider.client_secret.get_secret_value(),
            "code": code,
            "grant_type": "authorization_code",
            "redirect_uri": self._callback(provider.platform),
        }
        granted = self._ask("POST", provider.token_url, urlencode(asked).encode(), FORM, provider.title)
        token = {"Authorization": f"{provider.bearer} {granted.get('access_token', '')}"}
        return self._ask("GET", provider.who_url, None, token, provider.title)

    def _ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], title: str) -> dict[str, Any]:
        response = self._http.request(method, url, body=body, headers=headers, timeout_s=TIMEOUT_S)
        if response.status == 200:
            return dict(response.json())
        kind = UpstreamRefused if response.status < 500 else UpstreamError
        raise kind(f"{title} did not let you in: HTTP {response.status}. Begin again.")
