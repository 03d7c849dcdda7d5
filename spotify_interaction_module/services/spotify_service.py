"""Spotify's Web API and accounts service, by its SDK, under the fleet's policy for providers (docs/adr/0022).

Source: https://developer.spotify.com/documentation/web-api
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from waddlebot.base.errors import Away, Refused, Unclear, UpstreamError
from waddlebot.community.tokens import Grant, NeedsReauth, NoToken, RefreshRefused, Token, Tokens
from waddlebot.web.provider import Provider

from ..config import App

if TYPE_CHECKING:
    import requests

    from .sdk import Client

T = TypeVar("T")

# A call and all its tries; less than what a person waits for.
TIMEOUT_S = 10.0
# One try, so that another one may follow one that hangs.
TRY_S = 4.0
ASK_ANEW = "Spotify does not take that consent any more: connect the account again with !spotify connect"


class NoActiveDevice(Refused):
    """No Spotify is open: start it on a computer, phone or speaker of the account that plays here, and try again."""

    code = "no_active_device"


class PremiumRequired(Refused):
    """The account that plays here has no Spotify Premium, and Spotify lets apps control Premium accounts only."""

    code = "premium_required"


class NotOnTheList(Refused):
    """Spotify does not know this account as a user of the bot's app: whoever runs the app has to add it at
    developer.spotify.com, under User Management; an app in development mode has five places."""

    code = "not_on_the_list"


class NoVolume(Refused):
    """That device sets its volume itself, Spotify cannot."""

    code = "no_volume"


class MissingScope(Refused):
    """The account that plays here has not granted that: connect it again with !spotify connect, and agree to all."""

    code = "missing_scope"


class WrongApp(Refused):
    """Spotify does not know the bot's app: its client ID or secret is wrong."""

    code = "wrong_app"


class NotNow(Refused):
    """Spotify cannot do that just now: it is so already, or an advertisement plays."""

    code = "not_now"


class NotThere(Refused):
    """Spotify has nothing there."""

    code = "not_there"


REFUSALS: dict[str, type[Refused]] = {
    "NO_ACTIVE_DEVICE": NoActiveDevice,
    "Device not found": NoActiveDevice,
    "PREMIUM_REQUIRED": PremiumRequired,
    "NOT_REGISTERED": NotOnTheList,
    "VOLUME_CONTROL_DISALLOW": NoVolume,
    "Insufficient client scope": MissingScope,
    "Player command failed: Restriction violated": NotNow,
    "invalid_client": WrongApp,
    "Resource not found": NotThere,
    "Context not found": NotThere,
}


class Spotify:
    """Builds clients of the SDK and says in words what goes wrong with them."""

    def __init__(
        self, provider: Provider, *, api_base_url: str, accounts_base_url: str, redirect_url: str, scopes: str
    ) -> None:
        self.provider = provider
        self._api_base_url = api_base_url
        self._accounts_base_url = accounts_base_url
        self._redirect_url = redirect_url
        self._scopes = scopes
        self._lock = threading.Lock()

    @cached_property
    def _sdk(self) -> ModuleType:
        from . import sdk

        return sdk

    @cached_property
    def _session(self) -> requests.Session:
        from .wire import open_session

        return open_session()

    def client(self, access: str, timeout_s: float) -> Client:
        with self._lock:
            session, sdk = self._session, self._sdk
        client: Client = sdk.Client(
            access, base_url=self._api_base_url, session=session, timeout_s=min(timeout_s, TRY_S)
        )
        return client

    def authorize_url(self, app: App, state: str) -> str:
        """Where a browser is sent to consent."""
        url: str = self._consent(app, 0).get_authorize_url(state=state)
        return url

    def exchange(self, app: App, code: str) -> Grant:
        """What somebody has granted. Raises: Refused for a code that is worth nothing; ProviderError."""

        def ask(timeout_s: float) -> Grant:
            consent = self._consent(app, timeout_s)
            consent.get_access_token(code, as_dict=False, check_cache=False)
            return _as_grant(consent.cache_handler.get_cached_token())

        # Not repeated: a code works once.
        return self._worded(lambda: self.provider.effect(_guarded(ask), account=app.client_id))

    def renew(self, app: App | None, token: Token) -> Grant:
        """Raises: RefreshRefused when the consent is over; ProviderError."""
        if app is None:
            raise RefreshRefused("it was granted to an app that is not used any more")

        def ask(timeout_s: float) -> Grant:
            return _as_grant(self._consent(app, timeout_s).refresh_access_token(token.refresh))

        try:
            return self._worded(lambda: self.provider.effect(_guarded(ask), account=app.client_id))
        except WrongApp:
            raise
        except Refused as err:
            raise RefreshRefused("it was taken back at Spotify") from err

    def account_of(self, app: App, access: str) -> tuple[str, str]:
        """The id and name of the account that a token is for. Raises: NotOnTheList; ProviderError."""
        found = self.look_up(app.client_id, lambda: access, lambda sp: sp.me())
        return str(found["id"]), str(found.get("display_name") or found["id"])

    def look_up(
        self,
        account: str,
        access: Callable[[], str],
        ask: Callable[[Client], T],
        *,
        within_s: float | None = None,
        renew: Callable[[], None] | None = None,
    ) -> T:
        """Ask for something that may be asked twice; `access` gives the token for each try."""
        run = _guarded(lambda timeout_s: ask(self.client(access(), timeout_s)))
        return self._worded(lambda: self.provider.look_up(run, within_s=within_s, account=account, renew=renew))

    def effect(
        self,
        account: str,
        access: Callable[[], str],
        do: Callable[[Client], T],
        *,
        within_s: float | None = None,
        renew: Callable[[], None] | None = None,
    ) -> T:
        """Have something done that is not done twice."""
        run = _guarded(lambda timeout_s: do(self.client(access(), timeout_s)))
        return self._worded(lambda: self.provider.effect(run, within_s=within_s, account=account, renew=renew))

    def _consent(self, app: App, timeout_s: float) -> Any:
        with self._lock:
            sdk = self._sdk
        return sdk.Consent(
            app,
            base_url=self._accounts_base_url,
            redirect_uri=self._redirect_url,
            scopes=self._scopes,
            timeout_s=timeout_s,
        )

    def _worded(self, run: Callable[[], T]) -> T:
        """The provider's refusals as sentences that a viewer understands."""
        try:
            return run()
        except Refused as err:
            raise _in_words(err) from err


class AccountCalls:
    """Calls with one account's token, which is renewed ahead of its end, and once when it is refused."""

    def __init__(
        self, spotify: Spotify, tokens: Tokens, owner: str, app: App | None, lost: Callable[[str], None]
    ) -> None:
        self._spotify = spotify
        self._tokens = tokens
        self._owner = owner
        self._app = app
        self._lost = lost
        self._token: Token | None = None

    def look_up(self, ask: Callable[[Client], T], *, within_s: float | None = None) -> T:
        """Raises: ProviderError."""
        self._ensure_token()
        return self._spotify.look_up(self._account, self._access, ask, within_s=within_s, renew=self._renew)

    def effect(self, do: Callable[[Client], T], *, within_s: float | None = None) -> T:
        """Raises: ProviderError."""
        self._ensure_token()
        return self._spotify.effect(self._account, self._access, do, within_s=within_s, renew=self._renew)

    @property
    def _account(self) -> str:
        """Spotify's limits are an app's."""
        return self._app.client_id if self._app else ""

    def _access(self) -> str:
        assert self._token is not None
        return self._token.access

    def _ensure_token(self) -> None:
        if self._token is None:
            self._token = self._fresh(None)

    def _renew(self) -> None:
        self._token = self._fresh(self._token)

    def _fresh(self, refused: Token | None) -> Token:
        try:
            return self._tokens.fresh(self._owner, lambda token: self._spotify.renew(self._app, token), refused=refused)
        except NoToken as err:
            raise Refused(ASK_ANEW + ".", status=403, words=ASK_ANEW) from err
        except NeedsReauth as err:
            self._lost(err.message)
            raise Refused(ASK_ANEW + ".", status=403, words=ASK_ANEW) from err
        except Unclear as err:
            # Only of the token; what it was wanted for was not begun.
            raise Away(err.message) from err


def _guarded(run: Callable[[float], T]) -> Callable[[float], T]:
    """Answers that are JSON but not Spotify's make spotipy and us stumble."""

    def guarded(timeout_s: float) -> T:
        try:
            return run(timeout_s)
        except UpstreamError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise Unclear(f"an answer that is not of the contract: {type(err).__name__}") from err

    return guarded


def _in_words(err: Refused) -> Refused:
    kind = REFUSALS.get(err.words)
    if kind is not None:
        return kind(status=err.status, words=err.words)
    if err.is_about_token:
        return Refused(f"{ASK_ANEW}.", status=err.status, words=err.words)
    return err


def _as_grant(said: Any) -> Grant:
    """Raises: Unclear for what is no token."""
    try:
        expires_at = datetime.fromtimestamp(int(said["expires_at"]), UTC)
        return Grant(
            str(said["access_token"]),
            str(said.get("refresh_token") or ""),
            expires_at,
            tuple(sorted(str(said.get("scope") or "").split())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise Unclear("an answer without a token") from err
