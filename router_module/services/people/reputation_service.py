"""Reputation: the points that people earned in a community, as they are read, and those that others report.

The ledger reputation_events is only ever added to; user_reputation is its sum by person and community, kept in the same
statement. The global community's standings are sums over all communities.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydal import DAL
from pydantic import BeforeValidator, Field, StringConstraints
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import EventUser, MessageType, ModuleCall, OpaqueId, PlatformName, UserId, Wire
from waddlebot.base.errors import Invalid, NotFound, UsageError
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.base.text import fold
from waddlebot.base.wire import is_number
from waddlebot.community.communities import Reference, get_community
from waddlebot.community.people import find_by_name
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.auth import Account
from waddlebot.web.lists import Listed, Page

from ..catalogue.cache_manager import CacheManager
from ..catalogue.module_specs import ROUTER
from .points import AMOUNT_IN, points_for

GLOBAL = "global"
CORRECTION = "correction"

# What the ids of reported events are made in, apart from the sessions of events that the router saw.
REPORTED = uuid.UUID("6f1b0d52-7c1f-4f0e-9f3c-3a8c58f7c0a4")
DEFAULT_LEADERS = 5
MAX_LEADERS_IN_CHAT = 20
MAX_NAME_CHARS = 40

EARN = """
WITH earned AS (
    INSERT INTO reputation_events (source_id, community_id, user_id, entity_id, event_name, event_score, amount)
    VALUES (%(source)s, %(community)s, %(user)s, %(entity)s, %(event)s, %(score)s, %(amount)s)
    ON CONFLICT (source_id) DO NOTHING
    RETURNING community_id, user_id, event_score
)
INSERT INTO user_reputation AS r (community_id, user_id, current_score, total_events)
SELECT community_id, user_id, event_score, 1 FROM earned
ON CONFLICT (community_id, user_id) DO UPDATE SET current_score = r.current_score + excluded.current_score,
    total_events = r.total_events + 1, last_activity = now()
RETURNING current_score, total_events
"""
EARNED_BEFORE = """
SELECT e.user_id, e.community_id, e.event_name, e.event_score, r.current_score, r.total_events
FROM reputation_events e JOIN user_reputation r USING (community_id, user_id) WHERE e.source_id = %s
"""
# All accounts of a person have their points together.
TOTALS = """MATERIALIZED (
SELECT coalesce(linked.head_id, r.user_id) AS user_id, sum(r.current_score)::bigint AS current_score,
    sum(r.total_events)::bigint AS total_events, max(r.last_activity) AS last_activity
FROM user_reputation r LEFT JOIN (SELECT id, head_id FROM users WHERE head_id IS NOT NULL) AS linked
    ON linked.id = r.user_id
WHERE {here}{visible} GROUP BY 1
)"""
STANDING = """
WITH totals AS {totals}, own AS (
    SELECT totals.* FROM totals JOIN users me ON coalesce(me.head_id, me.id) = totals.user_id WHERE me.id = %(user)s
)
SELECT rank, user_id, display_name, own.current_score, own.total_events, own.last_activity, total
FROM own JOIN users u ON u.id = user_id, LATERAL (
    SELECT count(*) FILTER (WHERE totals.current_score > own.current_score) + 1 AS rank, count(*) AS total FROM totals
) AS place
"""
# Whoever is not as high as the first of the page ranks by the place in the list, so that nobody needs to be counted
# but those above the first.
LEADERBOARD = """
WITH totals AS {totals}, page AS (
    SELECT * FROM totals ORDER BY current_score DESC, user_id LIMIT %(limit)s OFFSET %(offset)s
), first AS (
    SELECT best, count(*) FILTER (WHERE current_score > best) + 1 AS rank, count(*) AS total
    FROM totals, (SELECT max(current_score) AS best FROM page) AS page GROUP BY best
)
SELECT CASE WHEN current_score = best THEN first.rank ELSE %(offset)s + rank() OVER (ORDER BY current_score DESC) END
        AS rank, user_id, display_name, current_score, total_events, last_activity, total
FROM page JOIN users u ON u.id = user_id, first ORDER BY current_score DESC, user_id
"""
ON_PLATFORMS = "SELECT 1 FROM platform_identities i WHERE i.platform = ANY(%(platforms)s)"


class UnknownPerson(NotFound):
    """There is no such person here."""

    code = "unknown_user"


@dataclass(frozen=True, slots=True)
class Standing:
    """Somebody's place in a community. Who has as many points has the same rank; who has none has no rank."""

    rank: int | None
    user_id: int
    display_name: str
    current_score: int
    total_events: int
    last_activity: datetime | None
    # How many people have a standing there.
    total: int


# What collectors of old call the same things.
SYNONYMS = {"message": "chatMessage", "sub": "subscription", "bits": "cheer"}


def _without_synonym(name: Any) -> Any:
    return SYNONYMS.get(name, name) if isinstance(name, str) else name


class Activity(Wire):
    """Something that somebody did, as a collector or a module reports it.

    A `userid` that is a number is ours, as /api/context told it; one that is text is the platform's own.
    """

    userid: UserId | OpaqueId
    activity: Annotated[MessageType, BeforeValidator(_without_synonym)]
    amount: float | None = Field(None, allow_inf_nan=False)
    text: Annotated[str, StringConstraints(max_length=40_000)] = ""
    namespace: Annotated[str, StringConstraints(max_length=255)] | None = None
    namespaceid: Reference | None = None
    platform: PlatformName | None = None
    event_id: OpaqueId | None = None


@dataclass(frozen=True, slots=True)
class Earning:
    """What came of an activity; of one that was reported before, what came of it then, and the score of today."""

    user_id: int
    community_id: int
    event_name: str
    event_score: int
    previous_score: int
    new_score: int
    total_events: int
    duplicate: bool


class ReputationService:
    def __init__(self, db: Database, lookups: CacheManager, log: AAALog, *, points: Mapping[str, float]) -> None:
        self._db = db
        self._lookups = lookups
        self._people = lookups.people
        self._log = log
        self._points = points
        self._global_id: int | None = None

    def standing(self, community_id: int, user_id: int, *, platforms: Collection[str] = ()) -> Standing | None:
        """Somebody's score and rank, None without any points; with `platforms` among the people of those only."""
        rows = self._standings(STANDING, community_id, platforms, user=user_id)
        return rows[0] if rows else None

    def get_standing(self, community_id: int, user_id: int, caller: Account) -> Standing:
        """Somebody's standing as the caller may see it. Raises: UnknownPerson."""
        found = self.standing(community_id, user_id, platforms=sorted(caller.platforms))
        if found is not None:
            return found
        name = self._get_name(user_id, caller)
        return Standing(None, user_id, name, current_score=0, total_events=0, last_activity=None, total=0)

    def correct(self, community_id: int, user_id: int, points: int, reason: str) -> int:
        """Add points by hand, or with a minus take them; returns what they are then. Raises: UnknownPerson for who is
        no member there."""
        with self._db.transaction() as db:
            member = "SELECT FROM community_memberships WHERE community_id = %s AND user_id = %s AND is_active"
            if fetch_one(db, f"SELECT EXISTS ({member}) AS here", (community_id, user_id)) == {"here": False}:
                raise UnknownPerson(f"There is no member {user_id} here.")
            return correct_in(db, community_id, user_id, points, reason)

    def leaderboard(self, community_id: int, page: Page, *, platforms: Collection[str] = ()) -> Listed[Standing]:
        """Those with the most points, highest first; with `platforms` only the people of those."""

        def read(limit: int, offset: int) -> list[Standing]:
            return self._standings(LEADERBOARD, community_id, platforms, limit=limit, offset=offset)

        leaders = read(page.limit, page.offset)
        # Nobody tells the total on a page beyond the end, so the first of all is asked then.
        counted = leaders if leaders or not page.offset else read(1, 0)
        return Listed(leaders, counted[0].total if counted else 0)

    def say_points(self, call: ModuleCall) -> str:
        """What !points answers: the caller's own points, or those of who is named."""
        name = " ".join(call.trigger.args).lstrip("@").strip()
        if not name:
            own = self.standing(call.community.id, call.user.id)
            return f"You have {_standing(own)}" if own else "You have no points here yet."
        user_id = self._find_by_name(call.community.id, name, call.entity.platform)
        found = self.standing(call.community.id, user_id) if user_id else None
        if found is None:
            raise UnknownPerson(f"Nobody called {shorten(name, MAX_NAME_CHARS)} has points here.")
        return f"{_name(found)} has {_standing(found)}"

    def say_leaderboard(self, call: ModuleCall) -> str:
        """What !leaderboard answers: a line with the first few."""
        leaders = self.leaderboard(call.community.id, Page(limit=_how_many(call.trigger.args))).rows
        if not leaders:
            return "Nobody has any points here yet."
        names = self._names_of(leaders)
        return "Most points here: " + ", ".join(
            f"{each.rank}. {names[each.user_id]} ({each.current_score})" for each in leaders
        )

    def _names_of(self, leaders: Sequence[Standing]) -> dict[int, str]:
        """What to call each; where several have one name, with the platform that they are on."""
        names = {each.user_id: _name(each) for each in leaders}
        times = Counter(map(fold, names.values()))
        twice = [user_id for user_id, name in names.items() if times[fold(name)] > 1]
        if not twice:
            return names
        rows = self._db.statement(
            "SELECT user_id, min(platform) AS platform FROM platform_identities WHERE user_id = ANY(%s) GROUP BY 1",
            (twice,),
        )
        return names | {row["user_id"]: f"{names[row['user_id']]} on {row['platform'].title()}" for row in rows}

    def report(self, activity: Activity, caller: Account) -> Earning:
        """Give somebody the points for what they did; the same `event_id` of a platform again gives nothing more.

        Raises: UnknownPerson; UnknownCommunity; NotAllowed for another platform or community; Invalid for the
        platform's own number without the platform.
        """
        platform = _platform_of(activity, caller)
        community_id, user_id = self._community_of(activity, caller), self._user_of(activity, platform, caller)
        field = AMOUNT_IN.get(activity.activity, "")
        # No entity is named, so what counts is what is set for the whole community.
        worth = self._points | self._lookups.catalogue(community_id).config_of(ROUTER, None)["points"]
        score, amount = points_for(worth, activity.activity, platform, {field: activity.amount})
        source = str(uuid.uuid5(REPORTED, f"{platform}:{activity.event_id}")) if activity.event_id else new_id()
        rows = self._db.statement(
            EARN,
            {
                "source": source,
                "community": community_id,
                "user": user_id,
                "entity": "",
                "event": activity.activity.value,
                "score": score,
                "amount": amount,
            },
        )
        if not rows:
            return self._earned_before(source, caller)
        self._people.join([(community_id, user_id)])
        balance = rows[0]["current_score"]
        self._log.audit(
            "points_reported",
            community=community_id,
            user=user_id,
            event_name=activity.activity.value,
            score=score,
            by=caller.name,
        )
        return Earning(
            user_id=user_id,
            community_id=community_id,
            event_name=activity.activity.value,
            event_score=score,
            previous_score=balance - score,
            new_score=balance,
            total_events=rows[0]["total_events"],
            duplicate=False,
        )

    def _standings(self, sql: str, community_id: int, platforms: Collection[str], **values: Any) -> list[Standing]:
        here = "true" if self._is_global(community_id) else "r.community_id = %(community)s"
        visible = f" AND EXISTS ({ON_PLATFORMS} AND i.user_id = r.user_id)" if platforms else ""
        with self._db.lookup() as db:
            rows = fetch(
                db,
                sql.format(totals=TOTALS.format(here=here, visible=visible)),
                {"community": community_id, "platforms": list(platforms), **values},
            )
        return [Standing(**row) for row in rows]

    def _is_global(self, community_id: int) -> bool:
        if self._global_id is None:
            with self._db.lookup() as db:
                row = fetch_one(db, "SELECT id FROM communities WHERE is_global")
            assert row is not None, "the first migration makes the global community"
            self._global_id = row["id"]
        return community_id == self._global_id

    def _find_by_name(self, community_id: int, name: str, platform: str) -> int | None:
        """Who of a community's people bears that name now."""
        members_of = None if self._is_global(community_id) else community_id
        with self._db.lookup() as db:
            return find_by_name(db, name, platform=platform, community_id=members_of)

    def _community_of(self, activity: Activity, caller: Account) -> int:
        reference = activity.namespace if activity.namespaceid is None else activity.namespaceid
        if reference is None and caller.community_id is None:
            reference = GLOBAL
        return get_community(self._db, caller, reference)

    def _user_of(self, activity: Activity, platform: str, caller: Account) -> int:
        if isinstance(activity.userid, int):
            self._get_name(activity.userid, caller)
            return activity.userid
        if not platform:
            raise Invalid("platform is missing; only a userid of ours, a number, goes without.", field="platform")
        if "collectors" in caller.groups:
            # Whom a collector meets first by what they do, not by what they say, is added as in any event.
            identity = (platform, activity.userid)
            return self._people.who({identity: EventUser(platform_user_id=activity.userid)})[identity].own_id
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "SELECT user_id FROM platform_identities WHERE platform = %s AND platform_user_id = %s",
                (platform, activity.userid),
            )
        if row is None:
            raise UnknownPerson(f"There is no user {activity.userid} of {platform}.")
        return int(row["user_id"])

    def _get_name(self, user_id: int, caller: Account) -> str:
        """Raises: UnknownPerson, also for people of other platforms than the caller's."""
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "SELECT display_name FROM users u WHERE u.id = %(user)s AND u.is_active"
                f" AND (%(platforms)s::text[] = '{{}}' OR EXISTS ({ON_PLATFORMS} AND i.user_id = u.id))",
                {"user": user_id, "platforms": sorted(caller.platforms)},
            )
        if row is None:
            raise UnknownPerson(f"There is no user {user_id}.")
        return str(row["display_name"])

    def _earned_before(self, source: str, caller: Account) -> Earning:
        """Raises: NotAllowed for what was reported of another community, and is not the caller's to know."""
        row = self._db.statement(EARNED_BEFORE, (source,))[0]
        caller.check_community(row["community_id"])
        score = row["current_score"]
        return Earning(
            user_id=row["user_id"],
            community_id=row["community_id"],
            event_name=row["event_name"],
            event_score=row["event_score"],
            previous_score=score,
            new_score=score,
            total_events=row["total_events"],
            duplicate=True,
        )


def correct_in(db: DAL, community_id: int, user_id: int, points: int, reason: str) -> int:
    """Add points by hand to whoever it is, in a transaction; returns what they are then."""
    earned = fetch_one(
        db,
        EARN,
        {
            "source": new_id(),
            "community": community_id,
            "user": user_id,
            "entity": "",
            "event": CORRECTION,
            "score": points,
            "amount": None,
        },
    )
    assert earned is not None
    score = int(earned["current_score"])
    path = f"/router/reputation/{community_id}/{user_id}/corrections"
    audit.record(
        db,
        ROUTER,
        "points_corrected",
        f"points/{user_id}",
        community_id=community_id,
        before={"points": score - points},
        after={"points": score, "reason": reason},
        undo=Undo("POST", path, {"points": -points, "reason": f"Undone: {reason}"[:200]}),
    )
    return score


def _platform_of(activity: Activity, caller: Account) -> str:
    """The platform that an activity is of. Empty if none is known: of somebody named by our number it is the only one
    that the key is for.

    Raises: NotAllowed for one that the key is not for.
    """
    if activity.platform is not None:
        caller.check_platform(activity.platform)
        return activity.platform
    is_ours = isinstance(activity.userid, int)
    return next(iter(caller.platforms)) if is_ours and len(caller.platforms) == 1 else ""


def _name(standing: Standing) -> str:
    return shorten(standing.display_name or "somebody", MAX_NAME_CHARS)


def _standing(standing: Standing) -> str:
    points = "1 point" if standing.current_score == 1 else f"{standing.current_score} points"
    return f"{points} here, place {standing.rank} of {standing.total}."


def _how_many(words: list[str]) -> int:
    if not words:
        return DEFAULT_LEADERS
    number = int(words[0]) if is_number(words[0], digits=3) else 0
    if len(words) > 1 or not 1 <= number <= MAX_LEADERS_IN_CHAT:
        raise UsageError(f"Say !leaderboard, or add a number up to {MAX_LEADERS_IN_CHAT}.")
    return number
