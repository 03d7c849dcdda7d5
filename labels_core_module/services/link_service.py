"""Several accounts of one person: proved from both sides, and undone without a trace.

`!link` on one platform gives a code, `!verify CODE` on another one says who claims it, and `!link confirm` by the very
account that asked makes them one. Who each is comes with the message from the platform, never from what they say, so
the code may be read by everybody. Whoever reads it and is quicker than its owner shows: the owner's own try makes the
code contested, and then only naming the account confirms it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydal import DAL
from waddlebot.base.errors import Conflict, NotFound, UserError
from waddlebot.base.logs import AAALog
from waddlebot.base.text import fold
from waddlebot.community import people
from waddlebot.community.people import PEOPLE, NotLinked
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import fetch, fetch_one
from waddlebot.web.lists import Listed, Page, fetch_page

from .label_service import CHANGES, MODULE, READS

# Without those that are taken for another one; 30^8 codes, of which ten minutes see a handful.
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_CHARS = 8
LASTS = "10 minutes"
MAX_CODES_AN_HOUR = 5
MAX_WRONG = 5
MAX_ACCOUNTS = 10
NOT_VALID = (
    "That code is not valid here. A code works once, within ten minutes, and on another platform than the one it was"
    " made on. Say !link there for a new one."
)
TOO_MANY_WRONG = "Those were too many wrong codes. Try again in ten minutes."

FIND_CODE = """
SELECT c.id, c.own_id, c.claimed_by, i.platform, coalesce(nullif(i.display_name, ''), i.name) AS name
FROM link_codes c JOIN platform_identities i ON i.user_id = c.own_id
WHERE c.code_hash = %s AND c.ended_at IS NULL AND c.expires_at > now() FOR UPDATE OF c
"""
FIND_CLAIMED = """
SELECT c.id, c.claimed_by, c.is_contested, i.platform, i.name, i.display_name, i.platform_user_id
FROM link_codes c JOIN platform_identities i ON i.user_id = c.claimed_by
WHERE c.own_id = %s AND c.ended_at IS NULL AND c.expires_at > now() FOR UPDATE OF c
"""
ACCOUNTS = """
SELECT user_id AS own_id, platform, platform_user_id, name, display_name FROM platform_identities
WHERE user_id = ANY(%s) ORDER BY id
"""
LINKS = """
SELECT id, own_id, with_id, joined_ids, reason, made_by, made_by_id, made_at, undone_at, undone_by,
    count(*) OVER () AS total
FROM account_links WHERE %(own_id)s::bigint IS NULL OR own_id = %(own_id)s OR with_id = %(own_id)s
    OR %(own_id)s = ANY(joined_ids)
ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s
"""


class NothingToConfirm(UserError):
    """There is nothing to confirm. Say !link, on the other platform !verify with the code, then !link confirm here."""

    code = "nothing_to_confirm"


class TooManyAccounts(Conflict):
    """One person can have ten accounts."""

    code = "too_many_accounts"


class UnknownLink(NotFound):
    """There is no such link."""

    code = "unknown_link"


@dataclass(frozen=True, slots=True)
class Changed:
    """Whose person changed, and what is to be forgotten for it, by cache, once that is committed."""

    link_id: int
    together: Sequence[int]
    stale: dict[str, list[str]]


class LinkService:
    """Everything happens in a transaction of the caller's."""

    def __init__(self, log: AAALog) -> None:
        self._log = log

    def make_code(self, db: DAL, own_id: int, ids: Sequence[int]) -> str:
        """A code for an account, in the place of the one it had. Raises: UserError for too many of them."""
        _wait_for(db, ids)
        row = fetch_one(
            db,
            "SELECT count(*) AS n FROM link_codes WHERE own_id = ANY(%s) AND created_at > now() - interval '1 hour'",
            (list(ids),),
        )
        if row and row["n"] >= MAX_CODES_AN_HOUR:
            self._refuse("too_many_codes", own_id)
            raise UserError("That were many codes. Try again in an hour.")
        code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARS))
        fetch(db, "UPDATE link_codes SET ended_at = now() WHERE own_id = %s AND ended_at IS NULL", (own_id,))
        fetch(
            db,
            f"INSERT INTO link_codes (own_id, code_hash, expires_at) VALUES (%s, %s, now() + interval '{LASTS}')",
            (own_id, _hash(code)),
        )
        return f"{code[:4]}-{code[4:]}"

    def claim(self, db: DAL, code: str, own_id: int, ids: Sequence[int], *, platform: str) -> str:
        """Say that a code's account is one's own too. What is wrong is counted, so it is said and not raised; and it is
        said in the same words, whatever it is, so that nobody learns which codes there are."""
        _wait_for(db, ids)
        row = fetch_one(
            db,
            f"SELECT count(*) AS n FROM link_tries WHERE own_id = ANY(%s) AND at > now() - interval '{LASTS}'",
            (list(ids),),
        )
        if row and row["n"] >= MAX_WRONG:
            self._refuse("too_many_tries", own_id)
            return TOO_MANY_WRONG
        found = fetch_one(db, FIND_CODE, (_hash(code),))
        if found is None or found["platform"] == platform or found["own_id"] in ids:
            return self._count_wrong(db, own_id, "code_not_valid")
        if found["claimed_by"] not in (None, own_id):
            fetch(db, "UPDATE link_codes SET is_contested = true WHERE id = %s", (found["id"],))
            return self._count_wrong(db, own_id, "code_claimed")
        fetch(db, "UPDATE link_codes SET claimed_by = %s WHERE id = %s", (own_id, found["id"]))
        return f"Now say !link confirm on {found['platform'].title()} as {found['name']}, within ten minutes."

    def confirm(
        self, db: DAL, own_id: int, ids: Sequence[int], *, named: str, community_id: int
    ) -> tuple[Changed, str]:
        """Make the account that claimed one's code, and one's own, one person. Returns also what that one is called.

        Raises: NothingToConfirm; UserError when several claimed it and it is not named; SamePerson; TooManyAccounts.
        """
        _wait_for(db, ids)
        row = fetch_one(db, FIND_CLAIMED, (own_id,))
        if row is None:
            raise NothingToConfirm()
        name = f"{row['display_name'] or row['name']} on {row['platform'].title()}"
        wanted = fold(named.removeprefix("@"))
        names = {fold(row["name"]), fold(row["display_name"]), fold(row["platform_user_id"])}
        if row["is_contested"] and not wanted:
            raise UserError(f"Others tried your code too. If {name} is you, say: !link confirm {row['name']}")
        if wanted and wanted not in names:
            self._refuse("confirmed_another", own_id)
            raise UserError(f"Your code was claimed by {name}. If that is not you, say !link for a new one.")
        fetch(db, "UPDATE link_codes SET ended_at = now() WHERE id = %s", (row["id"],))
        return self.link(db, row["claimed_by"], own_id, reason="proved in chat", community_id=community_id), name

    def link(self, db: DAL, own_id: int, with_id: int, *, reason: str, community_id: int | None) -> Changed:
        """Make two people one. Raises: SamePerson; TooManyAccounts; NotFound for a number that nobody has."""
        joined = people.ids_of(db, own_id)
        together = people.link(db, own_id, with_id)
        if len(together) > MAX_ACCOUNTS:
            raise TooManyAccounts()
        who = audit.who_acts()
        row = fetch_one(
            db,
            "INSERT INTO account_links (own_id, with_id, joined_ids, reason, made_by, made_by_id)"
            " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            (own_id, with_id, joined, reason, who.account if who else MODULE, who.own_id if who else None),
        )
        assert row is not None
        audit.record(
            db,
            MODULE,
            "accounts_linked",
            f"link/{row['id']}",
            community_id=community_id,
            after={"own_ids": [own_id, with_id]},
            undo=Undo("DELETE", f"/labels/links/{row['id']}"),
        )
        self._log.audit("accounts_linked", link_id=row["id"], own_id=own_id, with_id=with_id)
        return Changed(row["id"], together, _stale(db, together))

    def unlink(self, db: DAL, own_id: int, *, community_id: int) -> Changed:
        """Make an account a person of its own again. Raises: NotLinked."""
        together = people.unlink(db, own_id)
        others = [each for each in together if each != own_id]
        row = fetch_one(
            db,
            "SELECT id, own_id, with_id FROM account_links WHERE undone_at IS NULL"
            " AND (own_id = %(own)s OR with_id = %(own)s) ORDER BY id DESC LIMIT 1",
            {"own": own_id},
        )
        link_id = int(row["id"]) if row else 0
        pair = [row["own_id"], row["with_id"]] if row else [own_id, others[0]]
        self._end(db, link_id, pair, community_id=community_id)
        return Changed(link_id, together, _stale(db, together))

    def undo(self, db: DAL, link_id: int) -> Changed:
        """Part the accounts that came together by a link, as they were before. Raises: UnknownLink; NotLinked."""
        row = fetch_one(db, "SELECT * FROM account_links WHERE id = %s AND undone_at IS NULL FOR UPDATE", (link_id,))
        if row is None:
            raise UnknownLink(f"There is no link {link_id}, or it was undone.")
        together = people.separate(db, row["own_id"], row["joined_ids"])
        self._end(db, link_id, [row["own_id"], row["with_id"]], community_id=None)
        return Changed(link_id, together, _stale(db, together))

    def list_links(self, db: DAL, own_id: int | None, page: Page) -> Listed[dict[str, Any]]:
        return fetch_page(lambda sql, asked: fetch(db, sql, asked), LINKS, {"own_id": own_id}, page)

    def list_accounts(self, db: DAL, ids: Sequence[int]) -> list[dict[str, Any]]:
        return fetch(db, ACCOUNTS, (list(ids),))

    def points(self, db: DAL, community_id: int, ids: Sequence[int]) -> int:
        """What all of somebody's accounts have earned in a community."""
        row = fetch_one(
            db,
            "SELECT coalesce(sum(current_score), 0)::bigint AS n FROM user_reputation"
            " WHERE community_id = %s AND user_id = ANY(%s)",
            (community_id, list(ids)),
        )
        return int(row["n"]) if row else 0

    def _end(self, db: DAL, link_id: int, own_ids: Sequence[int], *, community_id: int | None) -> None:
        who = audit.who_acts()
        fetch(
            db,
            "UPDATE account_links SET undone_at = now(), undone_by = %s WHERE id = %s",
            (who.account if who else MODULE, link_id),
        )
        audit.record(
            db,
            MODULE,
            "accounts_parted",
            f"link/{link_id}",
            community_id=community_id,
            before={"own_ids": list(own_ids)},
            undo=Undo("POST", "/labels/links", {"own_ids": list(own_ids), "reason": "parting was undone"}),
        )
        self._log.audit("accounts_parted", link_id=link_id, own_ids=str(list(own_ids)))

    def _count_wrong(self, db: DAL, own_id: int, why: str) -> str:
        fetch(db, "INSERT INTO link_tries (own_id) VALUES (%s)", (own_id,))
        self._refuse(why, own_id)
        return NOT_VALID

    def _refuse(self, why: str, own_id: int) -> None:
        self._log.audit("link_refused", result="FAILED", why=why, own_id=own_id)


def forget_old(db: DAL) -> None:
    """Delete codes and tries that nobody counts any more."""
    fetch(db, "DELETE FROM link_codes WHERE created_at < now() - interval '1 day'")
    fetch(db, "DELETE FROM link_tries WHERE at < now() - interval '1 day'")


def _wait_for(db: DAL, ids: Sequence[int]) -> None:
    """One step of a person's at a time, so that what is counted is right."""
    fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('links of ' || %s, 0))", (str(min(ids)),))


def _stale(db: DAL, together: Sequence[int]) -> dict[str, list[str]]:
    rows = fetch(db, "SELECT DISTINCT community_id FROM labels_of_people WHERE own_id = ANY(%s)", (list(together),))
    changes = {CHANGES: [str(row["community_id"]) for row in rows]} if rows else {}
    return {PEOPLE: [str(each) for each in together], READS: ["*"], **changes}


def _hash(code: str) -> str:
    plain = "".join(each for each in code.upper() if each.isalnum())
    return hashlib.sha256(f"link:{plain}".encode()).hexdigest()


__all__ = ["Changed", "LinkService", "NotLinked", "forget_old"]
