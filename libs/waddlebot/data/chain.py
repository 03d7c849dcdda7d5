"""A log whose rows are chained: each has the digest of the one before, and the last one's is sealed.

Who can write to the database cannot change, put in or take out a row, nor cut off the end, without `verify` telling:
the seal is made with WADDLEBOT_ENCRYPTION_KEYS, which the database does not have. What it cannot tell is that the whole
database was put back to an earlier time; for that keep a head elsewhere, as backups do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydal import DAL

from ..base.encryption import CannotOpen, Keyring
from ..base.wire import parse_json, to_json
from .database import Database, fetch, fetch_one

PURPOSE = "kong_admin_audit_head"
# What a digest is of, in this order.
FIELDS = ("id", "at", "account_id", "user_id", "action", "result", "before", "after", "address", "agent", "previous")
READ_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody did. People stand in it by number, so that forgetting a name changes no digest."""

    action: str
    account_id: int | None
    user_id: int | None
    result: str = "done"
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    address: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found: how many rows hold, the last one's digest, and in words what does not."""

    rows: int
    digest: str
    is_sealed: bool
    problems: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.problems


def append(db: DAL, keyring: Keyring, entry: Entry) -> int:
    """Add a row, in the transaction of the change; whoever adds one at the same moment waits. Returns its number."""
    head = fetch_one(db, "SELECT id, digest FROM kong_admin_audit_head FOR UPDATE")
    assert head is not None
    row = {
        "id": head["id"] + 1,
        "at": datetime.now(UTC),
        "account_id": entry.account_id,
        "user_id": entry.user_id,
        "action": entry.action,
        "result": entry.result,
        "before": _plain(entry.before),
        "after": _plain(entry.after),
        "address": entry.address,
        "agent": entry.agent,
        "previous": head["digest"],
    }
    row["digest"] = digest_of(row)
    seal = keyring.seal(f"{row['id']} {row['digest']}", purpose=PURPOSE) if keyring.can_seal else None
    for name in ("before", "after"):
        row[name] = None if row[name] is None else to_json(row[name])
    fetch(
        db,
        f"INSERT INTO kong_admin_audit_log ({', '.join((*FIELDS, 'digest'))})"
        f" VALUES ({', '.join(f'%({name})s' for name in (*FIELDS, 'digest'))})",
        row,
    )
    fetch(db, "UPDATE kong_admin_audit_head SET id = %s, digest = %s, seal = %s", (row["id"], row["digest"], seal))
    return int(row["id"])


def verify(database: Database, keyring: Keyring, *, digest: str | None = None) -> Verdict:
    """Read the whole log and say what in it is not as it was written. A `digest` that was kept elsewhere must be in
    it."""
    with database.transaction() as db:
        return check(db, keyring, kept=digest)


def check(db: DAL, keyring: Keyring, *, kept: str | None = None) -> Verdict:
    """As verify, within a transaction."""
    # Nothing is added meanwhile.
    head = fetch_one(db, "SELECT id, digest, seal FROM kong_admin_audit_head FOR UPDATE")
    problems: list[str] = []
    rows, digest, is_found = 0, "", not kept
    for row in _rows(db):
        rows += 1
        if row["id"] != rows and not problems:
            problems.append(f"row {rows} is missing; the next one is {row['id']}")
        elif row["previous"] != digest:
            problems.append(f"row {row['id']} does not follow the one before it")
        if digest_of(row) != row["digest"]:
            problems.append(f"row {row['id']} was changed")
        digest = row["digest"]
        is_found = is_found or digest == kept
    if not is_found:
        problems.append("no row has the digest that was kept")
    if head is None:
        return Verdict(rows, digest, False, ("the head of the log is missing",))
    if (head["id"], head["digest"]) != (rows, digest):
        problems.append(f"the log ends at row {rows}, and its head says {head['id']}")
    return Verdict(rows, digest, head["seal"] is not None, (*problems, *_seal_problems(head, keyring)))


def digest_of(row: Mapping[str, Any]) -> str:
    said = {**row, "at": row["at"].astimezone(UTC).isoformat(timespec="microseconds")}
    return hashlib.sha256(json.dumps([said[name] for name in FIELDS], sort_keys=True).encode()).hexdigest()


def _seal_problems(head: Mapping[str, Any], keyring: Keyring) -> Iterator[str]:
    if head["seal"] is None:
        if keyring.can_seal and head["id"]:
            yield "the head of the log is not sealed"
        return
    try:
        opened = keyring.open(head["seal"], purpose=PURPOSE)
    except CannotOpen:
        yield "the seal of the log's head does not open with WADDLEBOT_ENCRYPTION_KEYS"
        return
    if opened != f"{head['id']} {head['digest']}":
        yield "the head of the log is not the one that was sealed"


def _rows(db: DAL) -> Iterator[dict[str, Any]]:
    last = 0
    while rows := fetch(
        db, "SELECT * FROM kong_admin_audit_log WHERE id > %s ORDER BY id LIMIT %s", (last, READ_AT_ONCE)
    ):
        yield from rows
        last = rows[-1]["id"]


def _plain(value: Mapping[str, Any] | None) -> Any:
    """As it will be read back."""
    return None if value is None else parse_json(to_json(value).encode())
