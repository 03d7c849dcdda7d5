"""The store over HTTP: browsing, a module's page, reviews, and how much it is used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydal import DAL
from pydantic import Field, StringConstraints
from waddlebot.base.contracts import Attributed, Strict
from waddlebot.base.errors import Invalid
from waddlebot.base.ids import parse_entity_id
from waddlebot.community.communities import community_of
from waddlebot.community.places import find_community_of
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, ANY_KEY, OPERATORS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Listed, Page, list_answer, whole_list_answer

from ..services import reviews, usage
from ..services.publishing import publisher_of, rules_all
from ..services.store import Store, list_reviews
from ..services.subscriptions import find_paid_until

ShortText = Annotated[str, StringConstraints(max_length=255)]
# Who asks for a community may only be told of their own.
ALLOWED = ("active", "expiring", "grace")


class BrowseQuery(Strict):
    category: ShortText | None = None
    search: ShortText | None = None
    sort: Literal["popular", "recent", "rating", "name"] = "popular"
    free: bool | None = None
    verified: bool | None = None
    page: int = Field(1, ge=1, le=10_000)
    per_page: int = Field(20, ge=1, le=50)
    entity_id: ShortText | None = None
    community_id: ShortText | None = None


class SearchQuery(Strict):
    q: Annotated[str, StringConstraints(min_length=2, max_length=255)]
    limit: int = Field(10, ge=1, le=20)


class PlaceQuery(Strict):
    community_id: ShortText | None = None


class StatsQuery(PlaceQuery):
    days: int = Field(30, ge=1, le=365)


class Review(Attributed):
    rating: int = Field(ge=1, le=5, strict=True)
    title: Annotated[str, StringConstraints(max_length=120)] = ""
    review_text: Annotated[str, StringConstraints(max_length=4000)] = ""
    community_id: int | ShortText | None = None


class Report(Attributed):
    reason: Literal["malicious", "broken", "spam", "inappropriate", "copyright", "other"]
    details: Annotated[str, StringConstraints(max_length=4000)] = ""
    community_id: int | ShortText | None = None


@endpoint("GET", "/marketplace", caller=ANY_KEY, area="bot")
def read_front(database: Database, store: Store) -> dict[str, Any]:
    """Featured, popular and recent modules, and the categories."""
    with database.lookup() as db:
        return {"success": True, **store.front(db)}


@endpoint("GET", "/marketplace/categories", caller=ANY_KEY, area="bot")
def read_categories(database: Database, store: Store) -> dict[str, Any]:
    """The tree of categories, each with the number of its modules."""
    with database.lookup() as db:
        return whole_list_answer("categories", store.categories(db))


@endpoint("GET", "/marketplace/browse", caller=ANY_KEY, area="bot", query=BrowseQuery)
def browse(query: BrowseQuery, caller: Account, database: Database, store: Store) -> dict[str, Any]:
    """Search and filter modules, page by page; for a place also whether it can have them."""
    with database.lookup() as db:
        community_id = place_of(db, caller, query.entity_id, query.community_id, required=False)
        rows, total = store.browse(
            db,
            category=query.category,
            search=query.search,
            sort=query.sort,
            free=query.free,
            verified=query.verified,
            limit=query.per_page,
            offset=(query.page - 1) * query.per_page,
        )
        access = _access(db, community_id)
    pages = -(-total // query.per_page)
    return {
        "success": True,
        "modules": [{**row, **_may_have(row, access)} for row in rows],
        "total": total,
        "pagination": {
            "page": query.page,
            "per_page": query.per_page,
            "total_count": total,
            "total_pages": pages,
            "has_prev": query.page > 1,
            "has_next": query.page < pages,
        },
        "filters": {"category": query.category, "search": query.search, "sort": query.sort},
        "subscription_info": {"status": access[None]} if access else None,
    }


@endpoint("GET", "/marketplace/search", caller=ANY_KEY, area="bot", query=SearchQuery)
def search(query: SearchQuery, database: Database, store: Store) -> dict[str, Any]:
    """Suggest modules while somebody types."""
    with database.lookup() as db:
        return whole_list_answer("suggestions", store.suggest(db, query.q, query.limit))


@endpoint("GET", "/marketplace/module/<module_id>", caller=ANY_KEY, area="bot")
def read_module(module_id: str, database: Database, store: Store) -> dict[str, Any]:
    """A module's page: versions, commands, what it may do in words, and the newest reviews."""
    with database.lookup() as db:
        return {"success": True, **store.page(db, module_id)}


@endpoint("GET", "/marketplace/module/<module_id>/reviews", caller=ADMINS_OR_API_USERS, area="bot", query=Page)
def read_reviews(module_id: str, query: Page, db: DAL) -> dict[str, Any]:
    """List a module's reviews, the newest first."""
    reviews.check_module(db, module_id)
    rows, total = list_reviews(db, module_id, limit=query.limit, offset=query.offset)
    return list_answer("reviews", Listed(rows, total), query)


@endpoint("POST", "/marketplace/module/<module_id>/reviews", caller=ADMINS_OR_API_USERS, area="bot", body=Review)
def review(module_id: str, review: Review, caller: Account, db: DAL) -> dict[str, Any]:
    """Say what you think of a module that you have used; once, and again instead."""
    community_id = community_of(db, caller, review.community_id)
    made = reviews.put_review(
        db, caller, community_id, module_id, rating=review.rating, title=review.title, text=review.review_text
    )
    return {"success": True, "review": made}


@endpoint("POST", "/marketplace/module/<module_id>/reports", caller=ADMINS_OR_API_USERS, area="bot", body=Report)
def report(module_id: str, report: Report, caller: Account, db: DAL) -> dict[str, Any]:
    """Tell the admins that something is wrong with a module."""
    named = report.community_id is not None or caller.community_id is not None
    community_id = community_of(db, caller, report.community_id) if named else None
    made = reviews.put_report(db, caller, community_id, module_id, reason=report.reason, details=report.details)
    return {"success": True, "report_id": made}


@endpoint("GET", "/marketplace/module/<module_id>/reports", caller=OPERATORS, area="bot")
def read_reports(module_id: str, db: DAL) -> dict[str, Any]:
    """List what was reported of a module."""
    reviews.check_module(db, module_id)
    return whole_list_answer("reports", reviews.list_reports(db, module_id))


@endpoint("GET", "/marketplace/module/<module_id>/stats", caller=ADMINS_OR_API_USERS, area="bot", query=StatsQuery)
def read_stats(module_id: str, query: StatsQuery, caller: Account, db: DAL) -> dict[str, Any]:
    """How much a module is used: in the caller's community, for its publisher and admins everywhere."""
    module = reviews.check_module(db, module_id)
    sees_all = rules_all(caller) or module["publisher"] == publisher_of(caller)
    needs_place = query.community_id is not None or not sees_all
    community_id = community_of(db, caller, query.community_id) if needs_place else caller.community_id
    if sees_all and query.community_id is None:
        community_id = None
    return {
        "success": True,
        "module_id": module_id,
        "days": query.days,
        **usage.stats(db, module_id, community_id, query.days),
    }


def place_of(
    db: DAL, caller: Account, entity_id: str | None, community: int | str | None, *, required: bool = True
) -> int | None:
    """The community that a request is about, by one of its channels or itself.

    Raises: Invalid; NotFound; NotAllowed.
    """
    if entity_id is None:
        if community is None and caller.community_id is None and not required:
            return None
        return community_of(db, caller, community)
    entity = parse_entity_id(entity_id)
    caller.check_platform(entity.platform)
    found = find_community_of(db, entity)
    if found is None:
        raise Invalid(f"{entity} is not a channel of this fleet.", field="entity_id")
    caller.check_community(found)
    return found


def _access(db: DAL, community_id: int | None) -> dict[str | None, str]:
    """What a community's subscriptions are worth: for all modules under None."""
    return {} if community_id is None else {None: find_paid_until(db, community_id, None)[1]}


def _may_have(row: dict[str, Any], access: dict[str | None, str]) -> dict[str, Any]:
    costs = row["price"] > 0
    if not access:
        return {"subscription_required": costs}
    can = not costs or access[None] in ALLOWED
    reason = "free" if not costs else f"subscription_{access[None]}"
    message = "" if can else f"Costs {row['price']:g} {row['currency']} a month."
    return {"subscription_required": costs, "can_install": can, "access_reason": reason, "access_message": message}
