"""Roles and permissions of many people at once.

Work is cut into chunks, each one statement on one of RBAC_MAX_WORKERS threads: all of a chunk is done or none of it,
and everybody is told what became of them. Every statement takes its rows in the order of the people's numbers, so that
chunks, of one call or of several, wait for each other and never in a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pydantic import Field
from waddlebot.base.contracts import ErrorInfo, Level, Wire
from waddlebot.base.errors import WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.text import fold
from waddlebot.community.people import PEOPLE
from waddlebot.data.audit import Acting, Change, Undo, record_all, who_acts
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, DatabaseUnavailable, fetch

# Large enough that round trips do not matter, small enough that a chunk never holds its rows for long.
CHUNK = 500
# Beyond this it is cheaper for the other processes to forget everybody than to read the names.
MAX_TOLD = 500

KNOWN = """known AS (
    SELECT u.id FROM users u WHERE u.id = ANY(%(users)s::bigint[]) AND u.is_active ORDER BY u.id FOR KEY SHARE
)"""
# Every number of the people who are asked about: whoever is one person with them, and they.
ALL_NUMBERS = """all_numbers AS (
    SELECT me.id AS user_id, each.id AS own FROM users me CROSS JOIN LATERAL (
        SELECT coalesce(me.head_id, me.id) AS id
        UNION SELECT o.id FROM users o WHERE o.head_id = coalesce(me.head_id, me.id)
    ) AS each WHERE me.id = ANY(%(users)s::bigint[])
)"""
ASSIGN = f"""
WITH {KNOWN}, assigned AS (
    INSERT INTO community_rbac (community_id, user_id, role, assigned_by)
    SELECT %(community)s, known.id, asked.role, %(by)s
    FROM known JOIN unnest(%(users)s::bigint[], %(roles)s::text[]) AS asked (id, role) USING (id)
    WHERE known.id <> ALL(%(above)s::bigint[]) ORDER BY known.id
    ON CONFLICT (community_id, user_id) DO UPDATE
    SET role = excluded.role, assigned_by = excluded.assigned_by, assigned_at = now()
    WHERE community_rbac.role = ANY(%(replaceable)s)
    RETURNING user_id
)
SELECT known.id AS user_id, assigned.user_id IS NOT NULL AS is_assigned
FROM known LEFT JOIN assigned ON assigned.user_id = known.id
"""
JOIN = f"""
WITH {KNOWN}, joined AS (
    INSERT INTO community_memberships (community_id, user_id)
    SELECT c.id, known.id FROM known CROSS JOIN communities c WHERE c.is_global OR c.id = %(community)s
    ORDER BY c.id, known.id
    ON CONFLICT (community_id, user_id) DO UPDATE SET is_active = true WHERE NOT community_memberships.is_active
    RETURNING user_id
)
SELECT known.id AS user_id, EXISTS (SELECT 1 FROM joined WHERE joined.user_id = known.id) AS joined FROM known
"""
# Before a role is given, so that the audit log has the ones that it replaces: those of all of somebody's numbers.
REPLACED = f"""
WITH {ALL_NUMBERS}
SELECT r.user_id, r.role FROM community_rbac r
WHERE r.community_id = %(community)s AND r.user_id IN (SELECT own FROM all_numbers) ORDER BY r.user_id FOR UPDATE
"""
NUMBERS = f"WITH {ALL_NUMBERS} SELECT user_id, array_agg(own) AS together FROM all_numbers GROUP BY user_id"
# A person has the highest role of all their numbers, so that a lower one has to reach the others.
LOWER = """
UPDATE community_rbac r SET role = lowered.role, assigned_by = %(by)s, assigned_at = now()
FROM unnest(%(lowered)s::bigint[], %(lowered_to)s::text[]) AS lowered (id, role)
WHERE r.community_id = %(community)s AND r.user_id = lowered.id
"""
ROLES = """
SELECT me.id AS user_id, coalesce((
    -- The highest of all accounts that are one person with this one.
    SELECT r.role FROM community_rbac r WHERE r.community_id = %(community)s AND r.user_id IN (
        SELECT coalesce(me.head_id, me.id) UNION SELECT o.id FROM users o WHERE o.head_id = coalesce(me.head_id, me.id))
    ORDER BY array_position(%(levels)s::text[], r.role) DESC LIMIT 1
), 'member') AS role FROM users me
WHERE me.id = ANY(%(users)s::bigint[]) AND me.is_active
"""


class RoleResult(Wire):
    """Which role somebody has or was given."""

    user_id: int
    success: bool
    role: str | None = None
    error: ErrorInfo | None = None
    # The numbers that the caches know the person by; not for the caller.
    together: list[int] = Field(default_factory=list, exclude=True)


class PermissionResult(Wire):
    """Whether somebody has the level that was asked for; `level` is the one that they have."""

    user_id: int
    success: bool
    allowed: bool = False
    level: str | None = None
    error: ErrorInfo | None = None


class MemberResult(Wire):
    """Whether somebody is a member now; `joined` if they were none before."""

    user_id: int
    success: bool
    joined: bool = False
    error: ErrorInfo | None = None


Result = TypeVar("Result", RoleResult, MemberResult)


class RolesService:
    def __init__(self, db: Database, bus: Bus, log: AAALog, *, max_workers: int) -> None:
        self._db = db
        self._bus = bus
        self._log = log
        self._workers = ThreadPoolExecutor(max_workers, thread_name_prefix="rbac")

    def get_user_roles_bulk(self, community_id: int, user_ids: Sequence[int]) -> list[RoleResult]:
        """Each person's role in a community; who was given none is a member."""
        roles = self._in_chunks(RoleResult, user_ids, lambda chunk: self._read_roles(community_id, chunk))
        return [roles[user_id] for user_id in user_ids]

    def check_permissions_bulk(self, community_id: int, asked: Sequence[tuple[int, str]]) -> list[PermissionResult]:
        """Whether each person has at least that level in a community, by the role there. Badges count only in chat."""
        roles = self.get_user_roles_bulk(community_id, [user_id for user_id, _ in asked])
        return [_permission(has, needed) for has, (_, needed) in zip(roles, asked, strict=True)]

    def assign_roles_bulk(
        self, community_id: int, asked: Sequence[tuple[int, str]], *, by: str, ceiling: Level
    ) -> list[RoleResult]:
        """Give each person a role in a community, in the name of somebody who may give roles up to `ceiling`.

        A role above the ceiling is refused, and so is another role for somebody who is above it. Who is named twice
        gets the first role. Roles count at once, in all processes.
        """
        wanted: dict[int, Level] = {}
        refused: dict[int, RoleResult] = {}
        for n, (user_id, role) in enumerate(asked):
            level = find_level(role)
            error = _why_not(level, role, ceiling) or (NAMED_TWICE if user_id in wanted else None)
            if level is None or error:
                refused[n] = RoleResult(user_id=user_id, success=False, error=error)
            else:
                wanted[user_id] = level
        who = who_acts() or Acting(by)
        done = self._in_chunks(
            RoleResult, wanted, lambda chunk: self._assign(community_id, chunk, wanted, by=who, ceiling=ceiling)
        )
        self._forget(done.values())
        results = [refused.get(n) or done[user_id] for n, (user_id, _) in enumerate(asked)]
        self._record(community_id, results, by)
        return results

    def ensure_users_in_global_community_bulk(
        self, user_ids: Sequence[int], *, also_in: int | None = None
    ) -> list[MemberResult]:
        """Make each person a member of the global community, and of one more if it is named."""
        done = self._in_chunks(MemberResult, user_ids, lambda chunk: self._join(also_in, chunk))
        joined = [each.user_id for each in done.values() if each.joined]
        for some in _chunks(joined):
            self._log.audit("members_joined", community=also_in, users=_numbers(some))
        return [done[user_id] for user_id in user_ids]

    def _in_chunks(
        self, kind: type[Result], user_ids: Iterable[int], run: Callable[[list[int]], list[Result]]
    ) -> dict[int, Result]:
        """Run each chunk on a worker. One that fails is a failure for each person in it and for nobody else."""

        def run_or_say_why(chunk: list[int]) -> list[Result]:
            try:
                found = {each.user_id: each for each in run(chunk)}
            except WaddleBotError as err:
                error = ErrorInfo(code=err.code, message=err.message)
                return [kind(user_id=user_id, success=False, error=error) for user_id in chunk]
            return [
                found.get(user_id) or kind(user_id=user_id, success=False, error=_unknown(user_id)) for user_id in chunk
            ]

        done = self._workers.map(run_or_say_why, _chunks(sorted(set(user_ids))))
        return {each.user_id: each for results in done for each in results}

    def _read_roles(self, community_id: int, user_ids: list[int]) -> list[RoleResult]:
        # On the primary, which knows the roles that were given a moment ago.
        rows = self._db.statement(ROLES, {"community": community_id, "users": user_ids, "levels": list(LEVELS)})
        return [RoleResult(user_id=row["user_id"], success=True, role=row["role"]) for row in rows]

    def _assign(
        self, community_id: int, user_ids: list[int], wanted: dict[int, Level], *, by: Acting, ceiling: Level
    ) -> list[RoleResult]:
        parameters = {
            "community": community_id,
            "users": user_ids,
            "roles": [wanted[user_id].label for user_id in user_ids],
            "by": by.account,
            "replaceable": [level.label for level in Level if level <= ceiling],
        }
        with self._db.transaction() as db:
            had = {row["user_id"]: row["role"] for row in fetch(db, REPLACED, parameters)}
            numbers = {row["user_id"]: row["together"] for row in fetch(db, NUMBERS, parameters)}
            above = [
                own
                for own, together in numbers.items()
                if any(LEVELS[had.get(each, "member")] > ceiling for each in together)
            ]
            rows = fetch(db, ASSIGN, {**parameters, "above": above})
            given = {row["user_id"]: wanted[row["user_id"]] for row in rows if row["is_assigned"]}
            lowered = {
                other: level
                for own, level in given.items()
                for other in numbers[own]
                if other not in wanted and LEVELS[had.get(other, "member")] > level
            }
            levels = [level.label for level in lowered.values()]
            fetch(db, LOWER, {**parameters, "lowered": list(lowered), "lowered_to": levels})
            changes = [
                role_change(
                    community_id,
                    {each: had.get(each, "member") for each in (own, *(set(numbers.get(own, [])) & set(lowered)))},
                    level.label,
                )
                for own, level in (given | lowered).items()
            ]
            changes = [each for each in changes if each.before != each.after]
            record_all(db, "router", "role_assigned", changes, community_id=community_id, by=by)
        refusal = ErrorInfo(code="not_allowed", message=f"This person is above {ceiling.label}.")
        return [
            RoleResult(
                user_id=row["user_id"],
                success=row["is_assigned"],
                role=wanted[row["user_id"]].label if row["is_assigned"] else None,
                error=None if row["is_assigned"] else refusal,
                together=numbers[row["user_id"]],
            )
            for row in rows
        ]

    def _join(self, community_id: int | None, user_ids: list[int]) -> list[MemberResult]:
        rows = self._db.statement(JOIN, {"community": community_id, "users": user_ids})
        return [MemberResult(user_id=row["user_id"], success=True, joined=row["joined"]) for row in rows]

    def _forget(self, done: Iterable[RoleResult]) -> None:
        """Have every process read these people anew. A statement whose end is not known may have been carried out."""
        results = list(done)
        numbers = [number for each in results if each.success for number in each.together]
        is_certain = not any(each.error and each.error.code == DatabaseUnavailable.code for each in results)
        if not is_certain or len(numbers) > MAX_TOLD:
            self._bus.invalidate(PEOPLE)
        elif numbers:
            self._bus.invalidate(PEOPLE, *numbers)

    def _record(self, community_id: int, results: Sequence[RoleResult], by: str) -> None:
        """AUDIT who was given which role, some hundred people a line, and who was not."""
        by_role: dict[str | None, list[int]] = {}
        for each in results:
            by_role.setdefault(each.role, []).append(each.user_id)
        refused = by_role.pop(None, [])
        for role, users in by_role.items():
            for some in _chunks(users):
                self._log.audit("roles_assigned", community=community_id, role=role, users=_numbers(some), by=by)
        for some in _chunks(refused):
            self._log.audit("roles_refused", result="FAILED", community=community_id, users=_numbers(some), by=by)


def role_change(community_id: int, had: Mapping[int, str], has: str) -> Change:
    """That the first of these numbers has a role from now on. Taking it back gives each of them the one that it had."""
    user_id, role = next(iter(had.items()))
    assignments = [{"user_id": number, "role": each} for number, each in had.items()]
    undo = Undo("POST", "/router/roles/assign", {"community_id": community_id, "assignments": assignments})
    return Change(f"role/{user_id}", {"user_id": user_id, "role": role}, {"user_id": user_id, "role": has}, undo)


LEVELS = {level.label: level for level in Level}
NAMED_TWICE = ErrorInfo(code="named_twice", message="This person was given a role earlier in the same call.")


def find_level(name: str) -> Level | None:
    return LEVELS.get(fold(name))


def _why_not(level: Level | None, name: str, ceiling: Level) -> ErrorInfo | None:
    if level is None:
        return _no_role(name)
    if level > ceiling:
        return ErrorInfo(code="not_allowed", message=f"You may hand out roles up to {ceiling.label}.")
    return None


def _permission(has: RoleResult, needed: str) -> PermissionResult:
    level = find_level(needed)
    error = has.error or (None if level is not None else _no_role(needed))
    if error or level is None or has.role is None:
        return PermissionResult(user_id=has.user_id, success=False, error=error)
    return PermissionResult(user_id=has.user_id, success=True, allowed=Level.named(has.role) >= level, level=has.role)


def _no_role(name: str) -> ErrorInfo:
    return ErrorInfo(code="unknown_role", message=f"{name[:40]!r} is not one of the roles {', '.join(LEVELS)}.")


def _unknown(user_id: int) -> ErrorInfo:
    return ErrorInfo(code="unknown_user", message=f"There is no user {user_id}.")


def _chunks(items: Sequence[int]) -> list[list[int]]:
    return [list(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK)]


def _numbers(user_ids: Sequence[int]) -> str:
    return ",".join(str(user_id) for user_id in user_ids)
