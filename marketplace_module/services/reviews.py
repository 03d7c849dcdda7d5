"""What people think of modules: reviews by those who have used one, and reports to the fleet's admins."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydal import DAL
from waddlebot.base.errors import Conflict, NotAllowed, NotFound
from waddlebot.data import audit
from waddlebot.data.database import fetch, fetch_one
from waddlebot.web.auth import Account
from waddlebot.web.lists import Listed, Page, fetch_page

from .publishing import MODULE, UnknownModule, publisher_of, rules_all


class NotUsed(NotAllowed):
    """Only who has used a module can review it."""

    code = "not_used"


class UnknownReview(NotFound):
    """There is no such review of yours."""

    code = "unknown_review"


class UnknownReport(NotFound):
    """There is no such report."""

    code = "unknown_report"


class OwnModule(Conflict):
    """You published this module yourself."""

    code = "own_module"


def put_review(
    db: DAL, caller: Account, community_id: int, module_id: str, *, rating: int, title: str, text: str
) -> dict[str, Any]:
    """A person's one review of a module; another one takes its place.

    Who has a number must have used it themselves, in this community; of others somebody there must have.
    Raises: UnknownModule; OwnModule; NotUsed.
    """
    module = check_module(db, module_id)
    reviewer, own_id = publisher_of(caller), caller.actor.own_id if caller.actor else None
    if module["publisher"] == reviewer:
        raise OwnModule()
    if not _has_used(db, community_id, module_id, _accounts_of(db, own_id)):
        raise NotUsed()
    row = fetch_one(
        db,
        "INSERT INTO module_reviews (module_id, reviewer, own_id, user_name, rating, title, review_text, version)"
        " VALUES (%(module)s, %(reviewer)s, %(own)s, coalesce((SELECT coalesce(nullif(display_name, ''), name)"
        "  FROM platform_identities WHERE user_id = %(own)s ORDER BY id LIMIT 1), ''), %(rating)s, %(title)s, %(text)s,"
        " coalesce((SELECT version FROM module_installations WHERE community_id = %(community)s"
        "  AND module_id = %(module)s AND version IS NOT NULL ORDER BY entity_id NULLS FIRST LIMIT 1), ''))"
        " ON CONFLICT (module_id, reviewer) DO UPDATE SET rating = excluded.rating, title = excluded.title,"
        " review_text = excluded.review_text, user_name = excluded.user_name, version = excluded.version,"
        " updated_at = now()"
        " RETURNING id AS review_id, user_name, rating, title, review_text, version, created_at, updated_at",
        {
            "module": module_id,
            "reviewer": reviewer,
            "own": own_id,
            "rating": rating,
            "title": title,
            "text": text,
            "community": community_id,
        },
    )
    count_ratings(db, [module_id])
    assert row is not None
    return row


def delete_review(db: DAL, caller: Account, module_id: str, review_id: int) -> None:
    """Raises: UnknownReview, also of somebody else's."""
    gone = fetch_one(
        db,
        "DELETE FROM module_reviews WHERE id = %s AND module_id = %s AND (%s OR reviewer = %s) RETURNING rating",
        (review_id, module_id, rules_all(caller), publisher_of(caller)),
    )
    if gone is None:
        raise UnknownReview()
    count_ratings(db, [module_id])
    audit.record(db, MODULE, "review_removed", f"review/{module_id}/{review_id}", community_id=None, before=gone)


def count_ratings(db: DAL, module_ids: Sequence[str]) -> None:
    fetch(
        db,
        "UPDATE marketplace_modules m SET (rating_average, rating_count) = ("
        " SELECT coalesce(avg(rating), 0), count(*) FROM module_reviews r WHERE r.module_id = m.module_id)"
        " WHERE module_id = ANY(%s)",
        (list(module_ids),),
    )


def put_report(db: DAL, caller: Account, community_id: int | None, module_id: str, *, reason: str, details: str) -> int:
    """A person's one report of a module; another one takes its place. Raises: UnknownModule."""
    check_module(db, module_id)
    row = fetch_one(
        db,
        "INSERT INTO module_reports (module_id, reporter, own_id, community_id, reason, details)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (module_id, reporter) DO UPDATE SET reason = excluded.reason,"
        " details = excluded.details, created_at = now(), state = 'open', resolution = '', resolved_at = NULL"
        " RETURNING id",
        (
            module_id,
            publisher_of(caller),
            caller.actor.own_id if caller.actor else None,
            community_id,
            reason,
            details,
        ),
    )
    assert row is not None
    return int(row["id"])


def list_reports(db: DAL, page: Page, *, module_id: str | None, state: str | None) -> Listed[dict[str, Any]]:
    """What was reported, the newest first."""
    return fetch_page(
        partial(fetch, db),
        "SELECT id AS report_id, module_id, reason, details, community_id, state, resolution, created_at, resolved_at,"
        " count(*) OVER () AS total FROM module_reports WHERE (%(module)s::text IS NULL OR module_id = %(module)s)"
        " AND (%(state)s::text IS NULL OR state = %(state)s) ORDER BY id DESC LIMIT %(limit)s OFFSET %(offset)s",
        {"module": module_id, "state": state},
        page,
    )


def resolve_report(db: DAL, report_id: int, resolution: str) -> dict[str, Any]:
    """Say that a report was seen to, and how. Raises: UnknownReport."""
    row = fetch_one(
        db,
        "UPDATE module_reports SET state = 'resolved', resolution = %s, resolved_at = now() WHERE id = %s"
        " RETURNING id AS report_id, module_id, reason, state, resolution, resolved_at",
        (resolution, report_id),
    )
    if row is None:
        raise UnknownReport()
    after = {"state": row["state"], "resolution": resolution}
    audit.record(db, MODULE, "report_resolved", f"report/{report_id}", community_id=None, after=after)
    return row


def check_module(db: DAL, module_id: str) -> dict[str, Any]:
    """Raises: UnknownModule."""
    row = fetch_one(db, "SELECT publisher FROM marketplace_modules WHERE module_id = %s", (module_id,))
    if row is None:
        raise UnknownModule(f"There is no module {module_id[:64]}.")
    return row


def _accounts_of(db: DAL, own_id: int | None) -> list[int] | None:
    """All accounts of a person; None for somebody without a number."""
    if own_id is None:
        return None
    rows = fetch(
        db,
        "SELECT u.id FROM users u JOIN users own ON own.id = %s"
        " WHERE coalesce(u.head_id, u.id) = coalesce(own.head_id, own.id)",
        (own_id,),
    )
    return [row["id"] for row in rows]


def _has_used(db: DAL, community_id: int, module_id: str, own_ids: list[int] | None) -> bool:
    return bool(
        fetch(
            db,
            "SELECT FROM command_executions WHERE community_id = %(community)s AND module_name = %(module)s"
            " AND status = 'success' AND (%(ids)s::bigint[] IS NULL OR user_id = ANY(%(ids)s)) LIMIT 1",
            {"community": community_id, "module": module_id, "ids": own_ids},
        )
    )
