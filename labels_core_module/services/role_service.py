"""Roles on platforms follow labels. What should be is worked out from labels and rules; what is was said by platforms.

A label brings a role and never the other way round, so nothing goes in a circle: what a collector tells of a role only
corrects what is known here. We take what we gave and nothing else. What a person takes by hand comes back, three times;
then it stays as they want it until the label is given anew or somebody asks for it.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from waddlebot.base.errors import UpstreamError
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import is_number
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch
from waddlebot.module.call import say
from waddlebot.web.clients import FleetClient, RouterClient

from .label_service import CHANGES

MAX_TIMES_TAKEN = 3
AT_ONCE = 100
# What is right is looked at again so often, for what nobody told of; and that many of it at once.
RECHECK_AFTER = "24 hours"
RECHECKED = 50

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('label roles of ' || %s, 0))"
# Who should have which role: everybody with the label, by each of their accounts on the rule's platform.
WANTED = """
SELECT DISTINCT r.platform, r.server_id, r.role_id, i.platform_user_id, i.user_id AS own_id
FROM label_groups g JOIN label_group_rules r ON r.group_id = g.id
JOIN labels_of_people l ON l.community_id = g.community_id AND l.name = r.label
    AND (l.expires_at IS NULL OR l.expires_at > now())
JOIN users bearer ON bearer.id = l.own_id
CROSS JOIN LATERAL (
    SELECT coalesce(bearer.head_id, bearer.id) AS id
    UNION ALL SELECT o.id FROM users o WHERE o.head_id = coalesce(bearer.head_id, bearer.id)
) AS account
JOIN platform_identities i ON i.user_id = account.id AND i.platform = r.platform
WHERE g.community_id = %(community)s
"""
WANT = f"""
INSERT INTO label_roles AS k (community_id, platform, server_id, role_id, platform_user_id, own_id)
SELECT %(community)s, platform, server_id, role_id, platform_user_id, own_id FROM ({WANTED}) AS wanted
ON CONFLICT (community_id, platform, server_id, role_id, platform_user_id) DO UPDATE
SET is_wanted = true, tries = 0, times_taken = 0, next_try_at = now(), error_code = '', error_message = '',
    changed_at = now()
WHERE NOT k.is_wanted
"""
UNWANT = f"""
UPDATE label_roles k SET is_wanted = false, tries = 0, next_try_at = now(), error_code = '', error_message = '',
    changed_at = now()
WHERE k.community_id = %(community)s AND k.is_wanted
    AND (k.platform, k.server_id, k.role_id, k.platform_user_id) NOT IN (
        SELECT platform, server_id, role_id, platform_user_id FROM ({WANTED}) AS wanted)
"""
# What is not ours to take, and was not perhaps given a moment ago, is over.
FORGET = """
DELETE FROM label_roles
WHERE community_id = %(community)s AND NOT is_wanted AND NOT is_asked AND NOT (has_it AND is_ours)
"""
DUE = """
WITH due AS (
    SELECT community_id, platform, server_id, role_id, platform_user_id FROM label_roles
    WHERE (is_wanted <> has_it OR is_asked) AND next_try_at <= now()
    ORDER BY next_try_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
-- Nobody else asks for the same meanwhile; if whoever asks dies, somebody does after that.
UPDATE label_roles k SET is_asked = true, next_try_at = now() + interval '1 minute' FROM due
WHERE (k.community_id, k.platform, k.server_id, k.role_id, k.platform_user_id)
    = (due.community_id, due.platform, due.server_id, due.role_id, due.platform_user_id)
RETURNING k.*, (SELECT old.is_asked FROM label_roles old WHERE (old.community_id, old.platform, old.server_id,
    old.role_id, old.platform_user_id) = (k.community_id, k.platform, k.server_id, k.role_id, k.platform_user_id)
    ) AS was_asked
"""
IS_IT = """
community_id = %(community_id)s AND platform = %(platform)s AND server_id = %(server_id)s AND role_id = %(role_id)s
    AND platform_user_id = %(platform_user_id)s
"""
DONE = f"""
UPDATE label_roles SET has_it = %(add)s, is_asked = false, is_ours = %(add)s AND (is_ours OR %(is_ours)s), tries = 0,
    error_code = '', error_message = '', changed_at = now(), next_try_at = now() WHERE {IS_IT}
"""
# Later each time, up to a day.
REFUSED = f"""
UPDATE label_roles SET is_asked = %(is_unclear)s, tries = tries + 1, error_code = %(code)s, error_message = %(message)s,
    changed_at = now(), next_try_at = now() + least(interval '1 day', interval '5 seconds' * power(4, least(tries, 8)))
WHERE {IS_IT} RETURNING tries
"""
TOLD = f"""
UPDATE label_roles SET has_it = %(has)s, is_asked = false, changed_at = now(),
    is_ours = is_ours AND %(has)s,
    times_taken = times_taken + CASE WHEN has_it AND is_wanted AND NOT %(has)s THEN 1 ELSE 0 END,
    error_code = CASE WHEN has_it AND is_wanted AND NOT %(has)s AND times_taken + 1 >= {MAX_TIMES_TAKEN}
        THEN 'taken_by_hand' ELSE '' END,
    error_message = CASE WHEN has_it AND is_wanted AND NOT %(has)s AND times_taken + 1 >= {MAX_TIMES_TAKEN}
        THEN 'It was taken by hand again and again, so it is left alone.' ELSE '' END,
    next_try_at = CASE WHEN has_it AND is_wanted AND NOT %(has)s AND times_taken + 1 >= {MAX_TIMES_TAKEN}
        THEN 'infinity' ELSE now() END
WHERE platform = %(platform)s AND server_id = %(server_id)s AND role_id = %(role_id)s
    AND platform_user_id = %(platform_user_id)s AND has_it <> %(has)s
RETURNING community_id
"""
RECHECK = f"""
UPDATE label_roles SET is_asked = true, next_try_at = now()
WHERE (community_id, platform, server_id, role_id, platform_user_id) IN (
    SELECT community_id, platform, server_id, role_id, platform_user_id FROM label_roles
    WHERE is_wanted AND has_it AND NOT is_asked AND changed_at < now() - interval '{RECHECK_AFTER}'
    LIMIT {RECHECKED} FOR UPDATE SKIP LOCKED)
"""
# A collector with commands has registered where these are executed.
COLLECTORS = """
SELECT module_name, substring(endpoint_url FROM '^[a-z]+://[^/]+') AS url FROM collector_modules
WHERE platform = module_name
"""
WITH_RULES = "SELECT DISTINCT g.community_id FROM label_groups g"
# Whether a community has anything to do with roles; most have not, and labels may come to them by the thousand.
HAS_ROLES = """
SELECT EXISTS (SELECT FROM label_groups WHERE community_id = %(community)s)
    OR EXISTS (SELECT FROM label_roles WHERE community_id = %(community)s) AS has_roles
"""
# How each collector is asked.
PATHS = {"twitch": "/twitch/api/roles", "discord": "/discord/api/roles", "slack": "/slack/api/groups"}
# What a platform will go on refusing until somebody does something about it.
FOR_THE_OWNER = ("hierarchy", "missing_scope", "full", "paid_only", "administrators_role")


class RoleService:
    """`follow` works out what should be, `step` has collectors do what is missing. Both may run anywhere, at once."""

    def __init__(
        self, db: Database, bus: Bus, client: FleetClient, router: RouterClient, log: AAALog, *, max_workers: int
    ) -> None:
        self._db = db
        self._client = client
        self._router = router
        self._log = log
        self._workers = ThreadPoolExecutor(max_workers, thread_name_prefix="label-roles")
        self._changed: set[int] = set()
        self._lock = threading.Lock()
        self.wake = threading.Event()
        bus.listen(CHANGES, self._note)

    def _note(self, *community_ids: str) -> None:
        known = [int(each) for each in community_ids if is_number(each)]
        if known:
            with self._lock:
                self._changed.update(known)
            self.wake.set()

    def follow_changes(self) -> bool:
        """What a change of labels, rules or accounts asks for, at once."""
        with self._lock:
            changed, self._changed = self._changed, set()
        try:
            while changed:
                community_id = next(iter(changed))
                self.follow(community_id)
                changed.discard(community_id)
        finally:
            with self._lock:
                self._changed |= changed
        return self.step()

    def follow_all(self) -> None:
        """The same for every community, for what nobody noticed: labels that ended, a process that died."""
        for row in self._db.statement(WITH_RULES):
            self.follow(row["community_id"])
        self._db.statement(RECHECK)
        self.wake.set()

    def follow(self, community_id: int) -> None:
        (row,) = self._db.statement(HAS_ROLES, {"community": community_id})
        if not row["has_roles"]:
            return
        with self._db.transaction() as db:
            fetch(db, LOCK, (str(community_id),))
            fetch(db, WANT, {"community": community_id})
            fetch(db, UNWANT, {"community": community_id})
            fetch(db, FORGET, {"community": community_id})

    def step(self) -> bool:
        """Have some roles given and taken. Returns whether there may be more."""
        due = self._db.statement(DUE, {"most": AT_ONCE})
        if not due:
            return False
        urls = {row["module_name"]: row["url"] for row in self._db.statement(COLLECTORS)}
        list(self._workers.map(lambda row: self._ask(row, urls.get(row["platform"])), due))
        return len(due) == AT_ONCE

    def note_told(self, told: dict[str, Any]) -> bool:
        """What a collector saw of a role. What we caused is on record by its answer already. Returns whether that was
        news."""
        if told["cause_id"] is not None:
            return False
        rows = self._db.statement(TOLD, told)
        if rows:
            where = {key: told[key] for key in ("platform", "server_id", "role_id", "has")}
            self._log.audit("role_changed_by_hand", **where)
            self.wake.set()
        return bool(rows)

    def counts(self) -> dict[str, int]:
        (row,) = self._db.statement(
            "SELECT count(*) FILTER (WHERE is_wanted AND has_it) AS given, count(*) FILTER (WHERE is_wanted <> has_it)"
            " AS waiting, count(*) FILTER (WHERE error_code <> '') AS refused FROM label_roles"
        )
        return row

    def _ask(self, row: dict[str, Any], url: str | None) -> None:
        add = bool(row["is_wanted"])
        if not add and not (row["is_ours"] or row["was_asked"]):
            self._db.statement(f"DELETE FROM label_roles WHERE {IS_IT} AND NOT is_wanted", row)
            return
        if url is None:
            self._refuse(row, "no_collector", f"{row['platform'].title()} is not set up here.")
            return
        body = {"user_id": row["platform_user_id"], "action": "add" if add else "remove", "cause_id": new_id()}
        try:
            answer = self._client.post(
                url + PATHS[row["platform"]], json.dumps({**_place(row), **body}).encode(), timeout_s=20
            )
            said = answer.json()
        except (UpstreamError, ValueError) as err:
            self._refuse(row, "unclear", str(err)[:300], is_unclear=True)
            return
        if answer.status == 200 and said.get("success"):
            # Who died before they put down that they gave it, gave it.
            is_ours = bool(said.get("changed")) or (row["was_asked"] and not row["has_it"])
            self._db.statement(DONE, {**row, "add": add, "is_ours": is_ours})
            return
        error = said.get("error") or {}
        code = str(error.get("code", "refused"))
        if not add and code == "not_there":
            self._db.statement(DONE, {**row, "add": False, "is_ours": False})
            return
        self._refuse(row, code, str(error.get("message", ""))[:300], is_unclear=answer.status >= 500)

    def _refuse(self, row: dict[str, Any], code: str, message: str, *, is_unclear: bool = False) -> None:
        refused = {**row, "code": code, "message": message, "is_unclear": is_unclear}
        tries = self._db.statement(REFUSED, refused)
        self._log.audit("role_refused", result="FAILED", platform=row["platform"], role_id=row["role_id"], code=code)
        if tries and tries[0]["tries"] == 1 and code in FOR_THE_OWNER:
            self._tell_owner(row, code, message)

    def _tell_owner(self, row: dict[str, Any], code: str, message: str) -> None:
        """Once for a role and a reason, not for each person who waits for it."""
        place = f"{row['platform']}:{row['server_id']}:{row['role_id']}"
        text = f"The role {row['role_id']} on {row['platform'].title()} cannot be given or taken: {message}"
        try:
            name = f"role-{place}-{code}"[:200]
            self._router.announce(name, [say(text)], community_id=row["community_id"], to="owner")
        except UpstreamError as err:
            self._log.system("owner_not_told", result="FAILED", error=err.code)


def _place(row: dict[str, Any]) -> dict[str, str]:
    if row["platform"] == "twitch":
        return {"channel_id": row["server_id"], "role": row["role_id"]}
    if row["platform"] == "slack":
        return {"team_id": row["server_id"], "group_id": row["role_id"]}
    return {"guild_id": row["server_id"], "role_id": row["role_id"]}
