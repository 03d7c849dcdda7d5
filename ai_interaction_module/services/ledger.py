"""What was spent, and what may be spent in a day. Days are UTC's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydal import DAL
from waddlebot.base.errors import RateLimited, UserError
from waddlebot.data.database import Database, Prepared, fetch, fetch_one

from .asking import Answer, Asked

AskedAs = Literal["command", "mention", "question", "event", "api"]
KEPT = "400 days"
TODAY = "at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
ANEW = " They begin anew at midnight UTC."
TOKENS = "coalesce(sum(prompt_tokens + completion_tokens), 0)"
# Of a community, or of who asks without one; each by its index.
WHOSE = {"community": "community_id = %(community)s", "nobody": "community_id IS NULL"}
SPENT_TODAY = {
    whose: Prepared(
        f"ai_spent_today_{whose}",
        f"SELECT {TOKENS} AS community, coalesce(sum(prompt_tokens + completion_tokens)"
        f" FILTER (WHERE own_id = ANY(%(ids)s::bigint[])), 0) AS person FROM ai_usage WHERE {TODAY} AND {condition}",
    )
    for whose, condition in WHOSE.items()
}
DAYS = {
    whose: Prepared(
        f"ai_days_{whose}",
        f"""
SELECT (at AT TIME ZONE 'UTC')::date::text AS day, provider, model, asked_as, has_own_key, count(*) AS answers,
    sum(prompt_tokens)::bigint AS prompt_tokens, sum(completion_tokens)::bigint AS completion_tokens,
    bool_or(is_estimated) AS is_estimated
FROM ai_usage WHERE at > now() - %(days)s::integer * interval '1 day' AND {condition}
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1 DESC, 2, 3, 4, 5 LIMIT 10000
""",
    )
    for whose, condition in WHOSE.items()
}


class BudgetUsedUp(UserError, RateLimited):
    """Today's budget is used up."""

    code = "insufficient_quota"
    http_status = 429


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent in a day, in tokens, and by whom; None is no limit."""

    community: int | None
    person: int | None


@dataclass(frozen=True, slots=True)
class Payer:
    """Who asks, and so whose budgets it counts against. `ids` are all the numbers of one person."""

    community_id: int | None
    asked_as: AskedAs
    budget: Budget
    own_id: int | None = None
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Spent:
    """Today's tokens."""

    community: int
    person: int


class Ledger:
    def __init__(self, db: Database) -> None:
        self._db = db

    def spent_today(self, db: DAL, community_id: int | None, ids: Sequence[int]) -> Spent:
        row = fetch_one(db, SPENT_TODAY[_whose(community_id)], {"community": community_id, "ids": list(ids)})
        assert row is not None
        return Spent(int(row["community"]), int(row["person"]))

    def reserve(self, payer: Payer, asked: Asked) -> int:
        """Write down what an answer may cost at most, before anybody is asked. Returns the row to settle.

        Those of one community are reserved one after the other, so that many at once cannot spend what is left twice.
        Raises: BudgetUsedUp.
        """
        with self._db.transaction() as db:
            fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"ai_usage:{payer.community_id}",))
            self._check(payer, self.spent_today(db, payer.community_id, payer.ids))
            row = fetch_one(
                db,
                "INSERT INTO ai_usage (community_id, own_id, asked_as, prompt_tokens, completion_tokens)"
                " VALUES (%s, %s, %s, %s, %s) RETURNING id",
                (payer.community_id, payer.own_id, payer.asked_as, asked.estimated_tokens, asked.max_tokens),
            )
        assert row is not None
        return int(row["id"])

    def check(self, payer: Payer) -> None:
        """Raises: BudgetUsedUp."""
        with self._db.reading() as db:
            self._check(payer, self.spent_today(db, payer.community_id, payer.ids))

    def settle(self, row_id: int, answer: Answer, *, has_own_key: bool) -> None:
        """Write down what an answer did cost."""
        self._db.statement(
            "UPDATE ai_usage SET provider = %s, model = %s, prompt_tokens = %s, completion_tokens = %s,"
            " is_estimated = %s, has_own_key = %s WHERE id = %s",
            (
                answer.provider,
                answer.model,
                answer.usage.prompt_tokens,
                answer.usage.completion_tokens,
                answer.usage.is_estimated,
                has_own_key,
                row_id,
            ),
        )

    def take_back(self, row_id: int) -> None:
        """Nobody answered, so nothing was spent."""
        self._db.statement("DELETE FROM ai_usage WHERE id = %s", (row_id,))

    def list_days(self, db: DAL, community_id: int | None, *, days: int) -> list[dict[str, Any]]:
        """What was spent each day, by provider, model and why; the newest first."""
        return fetch(db, DAYS[_whose(community_id)], {"community": community_id, "days": days})

    def forget_old(self) -> bool:
        gone = self._db.statement(
            "DELETE FROM ai_usage WHERE id IN (SELECT id FROM ai_usage"
            f" WHERE at < now() - interval '{KEPT}' LIMIT 1000) RETURNING id",
            (),
        )
        return len(gone) == 1000

    @staticmethod
    def _check(payer: Payer, spent: Spent) -> None:
        budget, left_s = payer.budget, seconds_of_today()
        if payer.own_id is not None and budget.person is not None and spent.person >= budget.person:
            raise BudgetUsedUp(
                f"You have used up your {budget.person} AI tokens of today.{ANEW}",
                retry_after_s=left_s,
            )
        if budget.community is not None and spent.community >= budget.community:
            raise BudgetUsedUp(
                f"This community has used up its {budget.community} AI tokens of today.{ANEW}",
                retry_after_s=left_s,
            )


def seconds_of_today() -> int:
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((tomorrow - now).total_seconds()) + 1


def _whose(community_id: int | None) -> str:
    return "nobody" if community_id is None else "community"
