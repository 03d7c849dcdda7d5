"""The audit log for those who read it, and taking back what is in it (contracts: Audit)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from pydal import DAL
from waddlebot.base.errors import Conflict, NotAllowed, UpstreamError
from waddlebot.data.audit import UNDO_HEADER, ChangedSince, NotUndoable, UnknownChange, check_undoable
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import Account
from waddlebot.web.clients import FleetClient
from waddlebot.web.http import HTTPResponse
from waddlebot.web.lists import Page, fetch_page, list_answer

UNDO_TIMEOUT_S = 15.0
# What a module answers when something is in the way of how it was: there, gone, or not fitting any more.
IN_THE_WAY = (404, 409, 422)
COLUMNS = (
    "id, at, actor_account, login_id, own_id, community_id, module, action, subject, before, after, undo, undone_by"
)


class UndoRefused(Conflict):
    """The module did not take that back, most likely because this key may not."""

    code = "undo_refused"


class AuditService:
    def __init__(self, db: Database, client: FleetClient, *, own_name: str, own_url: str) -> None:
        self._db = db
        self._client = client
        self._own_name = own_name
        self._own_url = own_url
        # The web framework keeps the request in its thread, so a call within the process needs another one.
        self._threads = ThreadPoolExecutor(4, "undo")

    def list(
        self,
        community_id: int | None,
        page: Page,
        *,
        module: str | None,
        action: str | None,
        since: datetime | None,
    ) -> dict[str, Any]:
        """A community's entries, or with None those of the whole fleet; the newest first."""
        with self._db.transaction() as db:
            listed = fetch_page(
                partial(fetch, db),
                f"SELECT {COLUMNS}, count(*) OVER () AS total FROM audit"
                " WHERE (%(community)s::bigint IS NULL OR community_id = %(community)s)"
                " AND (%(module)s::text IS NULL OR module = %(module)s)"
                " AND (%(action)s::text IS NULL OR action = %(action)s)"
                " AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)"
                " ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s",
                {"community": community_id, "module": module, "action": action, "since": since},
                page,
            )
        return list_answer("audit", listed, page)

    def undo(self, entry_id: int, caller: Account, headers: Mapping[str, str]) -> dict[str, Any]:
        """Make the call that takes an entry back, at the module that it is of and with the caller's own key, so that it
        is allowed what the caller is allowed. The module checks again, in the transaction of the change.

        Raises: UnknownChange, also for another community's; NotUndoable; ChangedSince; UndoRefused; NotAllowed.
        """
        with self._db.transaction() as db:
            entry = check_undoable(db, self._access(db, entry_id, caller))
            base = self._base_of(db, entry["module"])
        undo = entry["undo"]
        sent = {"X-API-Key": headers.get("x-api-key", ""), UNDO_HEADER: str(entry_id)}
        body = None if undo["body"] is None else json.dumps(undo["body"]).encode()
        response = self._threads.submit(self._call, undo["method"], base + undo["path"], body, sent).result()
        if response.status != 200:
            raise _refusal(response)
        with self._db.transaction() as db:
            row = fetch_one(db, "SELECT undone_by FROM audit WHERE id = %s", (entry_id,))
        if row is None or row["undone_by"] is None:
            raise UndoRefused()
        return {"success": True, "id": entry_id, "undone_by": row["undone_by"]}

    def _access(self, db: DAL, entry_id: int, caller: Account) -> int:
        row = fetch_one(db, "SELECT community_id FROM audit WHERE id = %s", (entry_id,))
        if row is None or caller.community_id not in (None, row["community_id"]):
            raise UnknownChange(f"There is no entry {entry_id} in the audit log.")
        return entry_id

    def _base_of(self, db: DAL, module: str) -> str:
        """Where a module is, as it has registered."""
        if module == self._own_name:
            return self._own_url
        row = fetch_one(db, "SELECT endpoint_url FROM collector_modules WHERE module_name = %s", (module,))
        if row is None or not row["endpoint_url"]:
            raise NotUndoable(f"Module {module} is not there.")
        parts = urlsplit(row["endpoint_url"])
        return f"{parts.scheme}://{parts.netloc}"

    def _call(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> HTTPResponse:
        return self._client.request(method, url, body, timeout_s=UNDO_TIMEOUT_S, headers=headers)


def _refusal(response: HTTPResponse) -> Exception:
    """Why the module did not do it, in its own words."""
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return UpstreamError(f"The module answered HTTP {response.status}.")
    if response.status in IN_THE_WAY:
        return ChangedSince(error["message"], refused_as=error["code"])
    if response.status == 403:
        return NotAllowed(error["message"])
    return UpstreamError(f"The module answered HTTP {response.status}: {error['message']}")
