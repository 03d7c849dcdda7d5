"""Communities and the places that belong to them, for whoever manages them."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydal import DAL
from pydantic import Field, StringConstraints

from ..base.errors import Invalid, NotFound
from ..base.logs import log_context
from ..base.wire import is_number
from ..data.audit import Acting, Change, record_all
from ..data.database import Database, fetch_one
from ..web.auth import CORE, Account

# A community's number or its slug, as requests name it.
Reference = Annotated[int, Field(strict=True)] | Annotated[str, StringConstraints(max_length=255)]


class UnknownCommunity(NotFound):
    """There is no such community."""

    code = "unknown_community"


def find_community(db: DAL, reference: int | str) -> int | None:
    """A community's id by its number or its slug."""
    text = str(reference)
    by_number = is_number(text)
    row = fetch_one(
        db,
        "SELECT id FROM communities WHERE is_active AND " + ("id = %s" if by_number else "slug = %s"),
        (int(text) if by_number else text,),
    )
    return int(row["id"]) if row else None


def community_of(db: DAL, caller: Account, reference: int | str | None) -> int:
    """The community that a request and its log lines are about, if the caller may act in it. Without a reference the
    caller's own.

    Raises: Invalid without either; UnknownCommunity; NotAllowed for another one than the caller's.
    """
    own = _own_community(caller, reference)
    if own is not None:
        return own
    assert reference is not None
    found = find_community(db, reference)
    if found is None:
        raise UnknownCommunity(f"There is no community {str(reference)[:64]}.")
    caller.check_community(found)
    log_context().community = found
    return found


def get_community(database: Database, caller: Account, reference: int | str | None) -> int:
    """As community_of, by itself: for what is to be done without a transaction."""
    own = _own_community(caller, reference)
    if own is not None:
        return own
    with database.reading() as db:
        return community_of(db, caller, reference)


def _own_community(caller: Account, reference: int | str | None) -> int | None:
    """The caller's own, if that is meant. By its number, as the portal names it, nothing has to be looked up.

    Raises: Invalid without any.
    """
    own = caller.community_id
    if reference is None and own is None:
        raise Invalid("community_id is missing.", field="community_id")
    if own is None or reference not in (None, own, str(own)):
        return None
    log_context().community = own
    return own


def slug_of(name: str) -> str:
    """A slug for a name: latin letters, digits and dashes, or `community` when nothing of it is left."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:48] or "community"


def record_new_community(db: DAL, community_id: int, *, by: Acting | None = None) -> None:
    """Write into the audit log that there is a community now; by number, because many bear a person's name."""
    change = Change(f"community/{community_id}", after={"is_active": True})
    record_all(db, CORE, "community_made", [change], community_id=community_id, by=by)


def ensure_community(db: DAL, slug: str, name: str) -> int:
    """The community with that slug, made if there is none."""
    row = fetch_one(
        db,
        "INSERT INTO communities (slug, name) VALUES (%s, %s)"
        " ON CONFLICT (slug) DO UPDATE SET slug = excluded.slug RETURNING id, xmax = 0 AS is_new",
        (slug, name),
    )
    assert row is not None
    if row["is_new"]:
        record_new_community(db, row["id"])
    return int(row["id"])
