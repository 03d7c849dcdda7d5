"""Who did what to whom at the broker, and from where: the chained log (waddlebot.data.chain)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydal import DAL
from waddlebot.base.encryption import Keyring
from waddlebot.data.chain import Entry, append
from waddlebot.data.database import Database, fetch
from waddlebot.web.lists import Listed, Page, fetch_page


@dataclass(frozen=True, slots=True)
class By:
    """Who asks: an account by its number, None for the broker itself, and where the request came from."""

    account_id: int | None = None
    address: str = ""
    agent: str = ""


ITSELF = By()


class AuditLog:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def record(
        self,
        db: DAL,
        by: By,
        action: str,
        user_id: int | None,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        result: str = "done",
    ) -> None:
        """Write down one change, in the transaction that makes it."""
        append(
            db,
            self._keyring,
            Entry(action, by.account_id, user_id, result, before, after, by.address, by.agent),
        )

    def read_page(self, page: Page, **filters: Any) -> Listed[dict[str, Any]]:
        """Newest first. The names are those that the numbers have now."""
        with self._database.transaction() as db:
            return fetch_page(lambda sql, values: fetch(db, sql, values), LIST, filters, page)

    def head(self, db: DAL) -> dict[str, Any]:
        """The last row's number and digest, to be kept elsewhere."""
        return fetch(db, "SELECT id, digest FROM kong_admin_audit_head")[0]


LIST = """
SELECT l.id, l.at, a.name AS actor, u.username, l.action, l.result, l.before, l.after, l.address, l.agent, l.digest,
    count(*) OVER () AS total
FROM kong_admin_audit_log l
LEFT JOIN service_accounts a ON a.id = l.account_id
LEFT JOIN kong_admin_users u ON u.id = l.user_id
WHERE (%(username)s::text IS NULL OR lower(u.username) = lower(%(username)s))
    AND (%(actor)s::text IS NULL OR a.name = %(actor)s)
    AND (%(action)s::text IS NULL OR l.action = %(action)s)
    AND (%(since)s::timestamptz IS NULL OR l.at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR l.at < %(until)s)
ORDER BY l.id DESC LIMIT %(limit)s OFFSET %(offset)s
"""
