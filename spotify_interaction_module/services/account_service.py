"""Who has connected an account in which community, and whose plays there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydal import DAL
from waddlebot.base.encryption import Keyring
from waddlebot.base.errors import Conflict, NotFound
from waddlebot.base.logs import AAALog
from waddlebot.community.credentials import Credentials
from waddlebot.community.tokens import Grant, Tokens
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, Prepared, fetch, fetch_one

from ..models import TOKENS
from .apps import PROVIDER, Apps
from .spotify_service import AccountCalls, Spotify

MODULE = "spotify"
# What of a player is read everywhere: it counts while the community's credential for Spotify stands.
PLAYERS = (
    "SELECT p.community_id, p.user_id, t.owner_id, t.client_id, t.account_name, p.device_id, p.device_name"
    " FROM spotify_players p JOIN spotify_tokens t ON t.community_id = p.community_id AND t.user_id = p.user_id"
    " JOIN community_credentials c ON c.community_id = p.community_id AND c.provider = 'spotify'"
    "  AND c.kind = 'token' AND c.state = 'ok'"
)
# What the portal's page asks for.
PLAYER = Prepared("spotify_player", f"{PLAYERS} WHERE p.community_id = %(community)s::bigint")
CONNECTED = Prepared(
    "spotify_connected",
    """
SELECT t.user_id, t.account_name, t.state <> 'ok' AS needs_reauth, coalesce(p.user_id, 0) = t.user_id AS plays,
    coalesce((SELECT coalesce(nullif(i.display_name, ''), nullif(i.name, ''), i.platform_user_id)
        FROM platform_identities i WHERE i.user_id = t.user_id ORDER BY i.id LIMIT 1), '') AS name
FROM spotify_tokens t LEFT JOIN spotify_players p ON p.community_id = t.community_id
    AND EXISTS (SELECT FROM community_credentials c WHERE c.community_id = p.community_id
        AND c.provider = 'spotify' AND c.kind = 'token')
WHERE t.community_id = %(community)s::bigint ORDER BY lower(t.account_name), t.user_id LIMIT 100
""",
)


class NotConnected(Conflict):
    """Nobody's Spotify plays here yet: this community's owner types !spotify connect."""

    code = "not_connected"


@dataclass(frozen=True, slots=True)
class Player:
    """The account that plays for a community, and the device that it prefers."""

    community_id: int
    user_id: int
    owner_id: str
    client_id: str
    account_name: str
    device_id: str
    device_name: str


@dataclass(frozen=True, slots=True)
class Connected:
    """An account that somebody has connected."""

    user_id: int
    name: str
    account_name: str
    plays: bool
    needs_reauth: bool


class AccountService:
    def __init__(
        self,
        database: Database,
        bus: Bus,
        keyring: Keyring,
        credentials: Credentials,
        spotify: Spotify,
        apps: Apps,
        *,
        renewed_before_s: float,
        log: AAALog,
    ) -> None:
        self._db = database
        self._credentials = credentials
        self._spotify = spotify
        self._apps = apps
        self._log = log
        margin = timedelta(seconds=renewed_before_s)
        self.tokens = Tokens(database, TOKENS, keyring, log=log, spare=bus.client, margin=margin)

    def find_player(self, db: DAL, community_id: int) -> Player | None:
        row = fetch_one(db, PLAYER, {"community": community_id})
        return Player(**row) if row else None

    def get_player(self, db: DAL, community_id: int) -> Player:
        """Raises: NoApp; NotConnected."""
        player = self.find_player(db, community_id)
        if player is None:
            self._apps.get(community_id)
            raise NotConnected()
        return player

    def calls(self, player: Player) -> AccountCalls:
        """For calling with a player's token; nothing is asked yet."""
        app = self._apps.find(player.community_id, player.client_id)

        def lost(reason: str) -> None:
            self._credentials.refuse_token(player.community_id, PROVIDER, reason)

        return AccountCalls(self._spotify, self.tokens, player.owner_id, app, lost)

    def keep(
        self, db: DAL, community_id: int, user_id: int, grant: Grant, *, client_id: str, account: tuple[str, str]
    ) -> None:
        """Keep what somebody has granted in a community. Raises: NotConfigured without a key to seal with."""
        owner = owner_of(community_id, user_id)
        self.tokens.keep(db, owner, grant)
        fetch(
            db,
            "UPDATE spotify_tokens SET client_id = %s, account_id = %s, account_name = %s WHERE owner_id = %s",
            (client_id, *account, owner),
        )
        plays = self.find_choice(db, community_id) == user_id
        if plays:  # It was refused, perhaps.
            self._mark(db, community_id, user_id)
        self._log.audit("spotify_connected", community=community_id, user=user_id)

    def choose(self, db: DAL, community_id: int, user_id: int | None) -> None:
        """Let somebody's account play for a community, or nobody's; an owner's act. After the commit comes `tell`.

        Raises: NotFound when they have not connected one.
        """
        before = self.find_choice(db, community_id)
        if user_id is None:
            fetch(db, "DELETE FROM spotify_players WHERE community_id = %s", (community_id,))
            self._credentials.forget_token(db, community_id, PROVIDER)
        else:
            if not fetch_one(
                db, "SELECT 1 FROM spotify_tokens WHERE owner_id = %s", (owner_of(community_id, user_id),)
            ):
                raise NotFound("They have not connected a Spotify account here: !spotify connect.")
            fetch(
                db,
                "INSERT INTO spotify_players AS p (community_id, user_id) VALUES (%s, %s)"
                " ON CONFLICT (community_id) DO UPDATE SET user_id = excluded.user_id, updated_at = now(),"
                " look_at = now(), device_id = CASE WHEN p.user_id = excluded.user_id THEN p.device_id ELSE '' END,"
                " device_name = CASE WHEN p.user_id = excluded.user_id THEN p.device_name ELSE '' END",
                (community_id, user_id),
            )
            self._mark(db, community_id, user_id)
        if before != user_id:
            undo = Undo("PUT", "/spotify/account", {"community_id": community_id, "own_id": before})
            changes = {"before": {"own_id": before}, "after": {"own_id": user_id}}
            audit.record(db, MODULE, "account_chosen", "account", community_id=community_id, undo=undo, **changes)

    def tell(self, community_id: int) -> None:
        """Have the router look anew at whether a community has Spotify. After the commit."""
        self._credentials.tell(community_id, PROVIDER)

    def list_connected(self, db: DAL, community_id: int) -> list[Connected]:
        """Everybody who has connected an account in a community, by name."""
        rows = fetch(db, CONNECTED, {"community": community_id})
        return [Connected(**row) for row in rows]

    def find_choice(self, db: DAL, community_id: int) -> int | None:
        """Whose account an owner chose, whether or not it can play."""
        row = fetch_one(
            db,
            "SELECT p.user_id FROM spotify_players p JOIN community_credentials c ON c.community_id = p.community_id"
            " AND c.provider = 'spotify' AND c.kind = 'token' WHERE p.community_id = %s",
            (community_id,),
        )
        return int(row["user_id"]) if row else None

    def prefer(self, db: DAL, community_id: int, *, device_id: str, device_name: str) -> None:
        """Remember where a community wants its music."""
        fetch(
            db,
            "UPDATE spotify_players SET device_id = %s, device_name = %s, updated_at = now() WHERE community_id = %s",
            (device_id, device_name, community_id),
        )

    def forget_orphans(self) -> None:
        """Take the credential from communities whose player is gone, as when somebody was erased."""
        with self._db.transaction() as db:
            rows: Sequence[dict[str, Any]] = fetch(
                db,
                "SELECT c.community_id FROM community_credentials c WHERE c.provider = 'spotify' AND c.kind = 'token'"
                " AND NOT EXISTS (SELECT FROM spotify_players p JOIN spotify_tokens t ON t.user_id = p.user_id"
                "  AND t.community_id = p.community_id WHERE p.community_id = c.community_id)",
            )
            for row in rows:
                self._credentials.forget_token(db, row["community_id"], PROVIDER)
        for row in rows:
            self.tell(row["community_id"])

    def _mark(self, db: DAL, community_id: int, user_id: int) -> None:
        """The community's credential: that somebody's account plays. Their token stands in spotify_tokens, once."""
        self._credentials.keep_token(db, community_id, PROVIDER, Grant(f"user:{user_id}"))


def owner_of(community_id: int, user_id: int) -> str:
    return f"{community_id}:{user_id}"
