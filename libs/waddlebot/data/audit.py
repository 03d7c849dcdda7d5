"""Who changed what: one row for each change, in the transaction of the change (contracts: Audit).

Who acts is known to the thread, as the endpoint, the chat command or the command line has said it; so services only say
what changed. A request that takes a change back says so too, and `record` then holds it to that: what was changed must
still be as it was left, in the very transaction that changes it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from pydal import DAL

from ..base.errors import Conflict, NotFound
from ..base.logs import SECRET_NAMES, SECRET_WORDS
from ..base.wire import to_json
from .database import fetch, fetch_one

HIDDEN = "•"
UNDO_HEADER = "X-WaddleBot-Undo"


class ChangedSince(Conflict):
    """It was changed since, so taking this back would undo more than this. Look at what is newer in the audit log."""

    code = "changed_since"


class NotUndoable(Conflict):
    """That cannot be taken back by one call."""

    code = "not_undoable"


class UnknownChange(NotFound):
    """There is no such entry in the audit log."""

    code = "unknown_change"


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts: an account, and as far as they are known the login in the portal and the person, by number."""

    account: str
    login_id: int | None = None
    own_id: int | None = None
    # The entry that this request takes back, and the request's method and path.
    undoes: int | None = None
    request: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Undo:
    """The one call that takes a change back."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a subject. None is that it was, or is, not there."""

    subject: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    undo: Undo | None = None


_acting: ContextVar[Acting | None] = ContextVar("acting", default=None)
_listed: ContextVar[list[int] | None] = ContextVar("listed", default=None)


@contextmanager
def acting_as(who: Acting) -> Iterator[None]:
    """Whatever this thread changes in the block, it changes in that name."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


@contextmanager
def listed_entries() -> Iterator[list[int]]:
    """The numbers of all entries that this thread writes in the block, also of those that are rolled back."""
    entries: list[int] = []
    token = _listed.set(entries)
    try:
        yield entries
    finally:
        _listed.reset(token)


def who_acts() -> Acting | None:
    """For work that goes on in another thread, which is to begin it with `acting_as`."""
    return _acting.get()


def person_acting() -> int | None:
    """Our number of the person in whose name this thread changes things, if it is a person."""
    who = who_acts()
    return who.own_id if who else None


def record(
    db: DAL,
    module: str,
    action: str,
    subject: str,
    *,
    community_id: int | None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    undo: Undo | None = None,
) -> None:
    """Write down one change, in the transaction that makes it. Secrets are hidden by the names of their fields; people
    are to be given by number.

    Raises: ChangedSince, NotUndoable when this takes back what it may not, and so undoes all of it.
    """
    record_all(db, module, action, [Change(subject, before, after, undo)], community_id=community_id)


def record_all(
    db: DAL, module: str, action: str, changes: Sequence[Change], *, community_id: int | None, by: Acting | None = None
) -> None:
    """Write down changes of one kind. Raises: as record."""
    if not changes:
        return
    who = by or who_acts() or Acting(module)
    if who.undoes is not None:
        _check_undo(db, who, module, community_id)
    rows = fetch(
        db,
        "INSERT INTO audit"
        " (actor_account, login_id, own_id, community_id, module, action, subject, before, after, undo)"
        " SELECT %(account)s, %(login)s, %(own)s, %(community)s, %(module)s, %(action)s,"
        "  subject, before, after, undo FROM jsonb_to_recordset(%(changes)s::jsonb)"
        "  AS c (subject text, before jsonb, after jsonb, undo jsonb) RETURNING id",
        {
            "account": who.account,
            "login": who.login_id,
            "own": who.own_id,
            "community": community_id,
            "module": module,
            "action": action,
            "changes": _written(changes),
        },
    )
    listed = _listed.get()
    if listed is not None:
        listed += [row["id"] for row in rows]
    if who.undoes is not None:
        fetch(db, "UPDATE audit SET undone_by = %s WHERE id = %s", (rows[0]["id"], who.undoes))


def check_undoable(db: DAL, entry_id: int) -> dict[str, Any]:
    """An entry, with its `undo`, if it can be taken back now: what it changed is as it left it.

    Every change of a subject has an entry, so the newest one of it says how it is. Whoever takes the same entry back at
    the same moment waits here.
    Raises: UnknownChange; NotUndoable; ChangedSince, also when it was taken back already.
    """
    entry = fetch_one(db, "SELECT * FROM audit WHERE id = %s FOR UPDATE", (entry_id,))
    if entry is None:
        raise UnknownChange(f"There is no entry {entry_id} in the audit log.")
    if entry["undo"] is None:
        raise NotUndoable()
    newest = fetch_one(
        db,
        "SELECT id, after FROM audit WHERE module = %(module)s AND subject = %(subject)s"
        " AND community_id IS NOT DISTINCT FROM %(community_id)s ORDER BY id DESC LIMIT 1",
        entry,
    )
    assert newest is not None
    if newest["after"] != entry["after"]:
        raise ChangedSince(f"Entry {newest['id']} changed it since.", changed_by=newest["id"])
    if entry["undone_by"] is not None:
        raise ChangedSince(f"That was taken back already, by entry {entry['undone_by']}.")
    return entry


def _check_undo(db: DAL, who: Acting, module: str, community_id: int | None) -> None:
    assert who.undoes is not None
    entry = check_undoable(db, who.undoes)
    wanted = entry["undo"]["method"], unquote(entry["undo"]["path"].partition("?")[0])
    if (entry["module"], entry["community_id"], wanted) != (module, community_id, who.request):
        raise NotUndoable(f"That is not how entry {who.undoes} is taken back.")


def _written(changes: Sequence[Change]) -> str:
    """Changes as JSON, with secrets hidden. What has no word in it that names one is not looked through by names."""
    rows = [_as_written(each) for each in changes]
    text = to_json(rows)
    lowered = text.lower()
    return to_json(_hide(rows)) if any(word in lowered for word in SECRET_WORDS) else text


def _as_written(change: Change) -> dict[str, Any]:
    undo = change.undo
    call = undo and {"method": undo.method, "path": undo.path, "body": undo.body}
    return {"subject": change.subject, "before": change.before, "after": change.after, "undo": call}


def _hide(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {str(key): _hide(each, str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(each, name) for each in value]
    return HIDDEN if value and isinstance(value, str) and _is_secret(name) else value


@lru_cache(1000)
def _is_secret(name: str) -> bool:
    return SECRET_NAMES.search(name) is not None


__all__ = ["Acting", "Change", "Undo", "acting_as", "check_undoable", "record", "record_all", "who_acts"]
