"""The keys of a community's programs: made, listed and ended by its owner."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydal import DAL
from pydantic import AwareDatetime
from waddlebot.base.contracts import Attributed
from waddlebot.base.errors import Conflict, Invalid
from waddlebot.base.wire import shaped
from waddlebot.community.communities import community_of
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch_one
from waddlebot.web.auth import ACCOUNTS, OWNERS, Account, create_account, list_accounts, revoke_account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import whole_list_answer

GROUP = "api-users"
MAX_KEYS = 50
KeyName = Annotated[
    str, shaped(r"^[\w .-]{1,64}$", "1 to 64 letters, digits, spaces, dots and dashes", strip_whitespace=True)
]


class NewKeyRequest(Attributed):
    """What the key is for, and when it ends; it does not end by itself without."""

    name: KeyName
    expires_at: AwareDatetime | None = None


class TooManyKeys(Conflict):
    """A community has 50 keys at most. End one that nobody uses."""

    code = "too_many_keys"


@endpoint("GET", "/router/communities/<community>/keys", caller=OWNERS, area="settings")
def list_keys(community: str, caller: Account, db: DAL) -> dict[str, Any]:
    """List the keys of a community's programs, without their secrets."""
    community_id = community_of(db, caller, community)
    keys = [_listed(row) for row in list_accounts(db, community_id=community_id, limit=MAX_KEYS)]
    return whole_list_answer("keys", keys)


@endpoint("POST", "/router/communities/<community>/keys", caller=OWNERS, area="settings", body=NewKeyRequest)
def make_key(community: str, new: NewKeyRequest, caller: Account, database: Database) -> dict[str, Any]:
    """Make a key for a program of a community, confined to it. It is shown this once."""
    if new.expires_at is not None and new.expires_at <= datetime.now(UTC):
        raise Invalid("expires_at: That is over.", field="expires_at")
    with database.transaction() as db:
        community_id = community_of(db, caller, community)
        # Whoever makes two at once waits here, so that both are counted.
        row = fetch_one(db, "SELECT slug FROM communities WHERE id = %s FOR UPDATE", (community_id,))
        assert row is not None
        if len(list_accounts(db, community_id=community_id, limit=MAX_KEYS)) == MAX_KEYS:
            raise TooManyKeys()
        # With the community in front no program can take the name of a service.
        name = f"{row['slug']}/{new.name}"
        made = create_account(db, name=name, groups=[GROUP], community_id=community_id, expires_at=new.expires_at)
    shown = {"id": made.key_id, "name": name, "group": GROUP, "expires_at": new.expires_at}
    return {"success": True, "key": {**shown, "community_id": community_id, "api_key": made.api_key}}


@endpoint("DELETE", "/router/communities/<community>/keys/<key_id>", caller=OWNERS, area="settings")
def end_key(community: str, key_id: str, caller: Account, database: Database, bus: Bus) -> dict[str, Any]:
    """End a key of a community's programs at once."""
    with database.transaction() as db:
        community_id = community_of(db, caller, community)
        ended = revoke_account(db, key_id, community_id=community_id)
    bus.invalidate(ACCOUNTS, *ended)
    return {"success": True, "id": key_id}


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "name", "expires_at", "last_used", "created_at")}
    return {**shown, "group": GROUP}
