"""Keys that were made elsewhere, by a community in the portal or on the command line: told to Kong, so that they open
the gateway as well. Services check them themselves; those that have ended are taken out of Kong when there is time."""

from __future__ import annotations

from datetime import UTC, datetime

from waddlebot.base.errors import Conflict, Invalid, NotAllowed, NotAuthenticated
from waddlebot.data.database import Database, fetch
from waddlebot.web.auth import Account, Accounts

from .audit_log import AuditLog, By
from .kong_client import KongClient
from .progress import Progress

# Consumers of its own, which neither the broker's accounts nor the fleet's are among.
TAG = "waddlebot-programs"
MARK = "program-"
LIVE = f"""
SELECT DISTINCT '{MARK}' || account_id AS mark FROM service_account_keys
WHERE '{MARK}' || account_id = ANY(%(marks)s::text[]) AND is_active AND (expires_at IS NULL OR expires_at > now())
"""


class HasItsWay(Conflict):
    """Keys of super-admins are told to Kong by the broker when it makes them."""

    code = "has_its_way"


class ProgramKeys:
    def __init__(self, database: Database, accounts: Accounts, kong: KongClient, audit: AuditLog) -> None:
        self._database = database
        self._accounts = accounts
        self._kong = kong
        self._audit = audit

    def admit(self, api_key: str, by: By, *, community_id: int | None) -> bool:
        """Tell Kong of a key that is live here. Said again it changes nothing. Returns whether there is a Kong.

        With a community only a key of one of its programs. Raises: Invalid; NotAllowed; KongUnavailable, and then it
        may not open the gateway yet.
        """
        try:
            account = self._accounts.authenticate(api_key)
        except NotAuthenticated as err:
            raise Invalid("api_key: Nothing opens with that key.", field="api_key") from err
        if "super-admins" in account.groups:
            raise HasItsWay()
        if community_id is not None and (account.community_id != community_id or account.groups != {"api-users"}):
            raise NotAllowed("That key is not of a program of this community.")
        if not self._kong.is_there:
            return False
        key_id = api_key.split("_")[1]
        progress = Progress("the consumer in Kong", "its groups", "its key")
        with progress.step():
            consumer = self._kong.ensure_consumer(f"{MARK}{account.id}", f"{MARK}{account.id}", tag=TAG)
        with progress.step():
            for group in sorted(account.groups):
                self._kong.put_group(consumer, group)
        with progress.step():
            self._kong.put_key(consumer, api_key, key_id=key_id, ttl_s=_left_s(account))
        with self._database.transaction() as db:
            self._audit.record(db, by, "key_admitted", None, after={"key": key_id, "groups": sorted(account.groups)})
        return True

    def forget_ended(self) -> None:
        """Take out of Kong what has no live key left here."""
        if not self._kong.is_there:
            return
        consumers = list(self._kong.all_consumers(tag=TAG))
        with self._database.reading() as db:
            live = {row["mark"] for row in fetch(db, LIVE, {"marks": [each.custom_id or "" for each in consumers]})}
        for each in consumers:
            if each.custom_id not in live:
                self._kong.remove_consumer(each.id)


def _left_s(account: Account) -> int | None:
    if account.expires_at is None:
        return None
    return max(1, int((account.expires_at - datetime.now(UTC)).total_seconds()))
