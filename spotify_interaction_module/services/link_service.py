"""The way to Spotify's consent page and back: a ticket that works once, a state, and the cookie of one browser."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from pydal import DAL
from waddlebot.base.encryption import Keyring
from waddlebot.base.errors import NotAllowed, NotConfigured, NotFound, ProviderError, Refused
from waddlebot.community.oauth import BadState, OAuthStates, Started, StateExpired, StateUsed
from waddlebot.data.database import Database, fetch, fetch_one

from .account_service import AccountService
from .apps import Apps
from .spotify_service import Spotify

TICKET_BYTES = 32
USABLE_FOR = timedelta(minutes=10)
KEPT_FOR = timedelta(hours=1)
NO_TOKENS_KEPT = "This fleet cannot keep what you would grant: its operator has to set WADDLEBOT_ENCRYPTION_KEYS."


class NoTicket(BadState):
    """This page is opened by a link of your own: type !spotify connect in chat, or use the portal."""

    code = "no_ticket"


class ConsentDenied(NotAllowed):
    """You did not let the bot use your Spotify. Nothing was changed."""

    code = "consent_denied"


class CodeRefused(ProviderError):
    """Spotify does not take the code that it sent you back with. Begin again."""

    code, http_status = "code_refused", 400


@dataclass(frozen=True, slots=True)
class Done:
    """An account is connected."""

    account_name: str
    community_name: str
    plays: bool
    missing: tuple[str, ...]


class LinkService:
    def __init__(
        self,
        database: Database,
        spotify: Spotify,
        apps: Apps,
        accounts: AccountService,
        keyring: Keyring,
        *,
        states: OAuthStates,
        redirect_url: str,
        scopes: str,
    ) -> None:
        self._db = database
        self._spotify = spotify
        self._apps = apps
        self._accounts = accounts
        self._keyring = keyring
        self._states = states
        # The same origin as where Spotify sends people back to, or the cookie would not be there.
        self._login_url = f"{redirect_url.rpartition('/')[0]}/login"
        self._scopes = frozenset(scopes.split())

    def make(self, db: DAL, community_id: int, user_id: int, *, by_owner: bool) -> str:
        """The address with which somebody connects their account, once, within ten minutes.

        Raises: NoApp; NotConfigured; NotFound for nobody.
        """
        self._apps.get(community_id)
        if not self._keyring.can_seal:
            raise NotConfigured(NO_TOKENS_KEPT, retry_after_s=3600)
        if not fetch_one(db, "SELECT 1 FROM users WHERE id = %s", (user_id,)):
            raise NotFound(f"There is nobody with the number {user_id}.")
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        fetch(
            db,
            "INSERT INTO spotify_links (ticket_hash, community_id, user_id, by_owner) VALUES (%s, %s, %s, %s)",
            (_hash(ticket), community_id, user_id, by_owner),
        )
        return f"{self._login_url}?ticket={quote(ticket)}"

    def begin(self, ticket: str) -> tuple[str, Started]:
        """Where at Spotify to send the browser that came with a ticket, which is used up by this.

        Raises: NoTicket, StateUsed, StateExpired; NoApp.
        """
        rows = self._db.statement(
            "WITH found AS (SELECT ticket_hash, used_at FROM spotify_links WHERE ticket_hash = %(hash)s FOR UPDATE)"
            " UPDATE spotify_links l SET used_at = coalesce(l.used_at, now()) FROM found"
            " WHERE l.ticket_hash = found.ticket_hash RETURNING l.community_id, l.user_id, l.by_owner,"
            " found.used_at IS NOT NULL AS was_used, l.created_at <= now() - %(usable)s AS is_old",
            {"hash": _hash(ticket), "usable": USABLE_FOR},
        )
        if not rows:
            raise NoTicket()
        if rows[0]["is_old"]:
            raise StateExpired()
        if rows[0]["was_used"]:
            raise StateUsed()
        app = self._apps.get(rows[0]["community_id"])
        data = {name: rows[0][name] for name in ("community_id", "user_id", "by_owner")}
        started = self._states.start({**data, "client_id": app.client_id})
        return self._spotify.authorize_url(app, started.state), started

    def finish(self, state: str, cookies: str, *, code: str, error: str) -> Done:
        """What comes of it when Spotify has sent the browser back.

        Raises: BadState and its kinds; ConsentDenied; CodeRefused; NoApp; NotOnTheList; ProviderError.
        """
        asked = self._states.finish(state, cookies)
        if error or not code:
            raise ConsentDenied(None if error in ("access_denied", "") else f"Spotify says: {error[:100]}.")
        community_id, user_id = int(asked["community_id"]), int(asked["user_id"])
        app = self._apps.find(community_id, asked["client_id"])
        if app is None:
            raise BadState("The app that you consented to is not used any more. Begin again.")
        try:
            grant = self._spotify.exchange(app, code)
        except Refused as err:
            raise CodeRefused(None if err.words == "invalid_grant" else err.message) from err
        account = self._spotify.account_of(app, grant.access)
        with self._db.transaction() as db:
            self._accounts.keep(db, community_id, user_id, grant, client_id=app.client_id, account=account)
            if asked["by_owner"]:
                self._accounts.choose(db, community_id, user_id)
            plays = self._accounts.find_choice(db, community_id) == user_id
            row = fetch_one(db, "SELECT name FROM communities WHERE id = %s", (community_id,))
        self._accounts.tell(community_id)
        missing = tuple(sorted(self._scopes - set(grant.scopes)))
        return Done(account[1], row["name"] if row else "", plays, missing)

    def forget_old(self) -> None:
        """Delete links that nobody can use any more."""
        self._db.statement("DELETE FROM spotify_links WHERE created_at < now() - %s", (KEPT_FOR,))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
