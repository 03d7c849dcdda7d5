"""What of Kong is not as the database has it, and putting it right. The database decides; a key that is gone from Kong
cannot be put back by anybody who has only its hash, so that asks for a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from waddlebot.base.errors import WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, fetch

from .audit_log import ITSELF, AuditLog, By
from .kong_client import TAG, Consumer, Credential, KongClient, credential_id
from .progress import Progress
from .user_manager import LAPSES_S, User, UserManager

# A key may end so much later in Kong than here: both count seconds of their own.
SLACK_S = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be, and what is done about it; None where only a person can do something."""

    username: str
    what: str
    fix: str | None

    @property
    def shown(self) -> dict[str, Any]:
        return {"username": self.username, "what": self.what, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Mending:
    difference: Difference
    user_id: int | None
    # What Kong is asked for.
    call: Callable[[], object] | None


@dataclass(frozen=True, slots=True)
class _Kong:
    """What Kong has, by consumer."""

    consumers: Mapping[str, Consumer]
    keys: Mapping[str, Sequence[Credential]]
    groups: Mapping[str, Sequence[str]]


class Reconciliation:
    def __init__(self, database: Database, kong: KongClient, users: UserManager, audit: AuditLog, log: AAALog) -> None:
        self._database = database
        self._kong = kong
        self._users = users
        self._audit = audit
        self._log = log

    def find(self) -> list[Difference]:
        """Everything that differs. Raises: KongUnavailable."""
        return [each.difference for each in self._look(self._all_users())]

    def mend(self, by: By) -> dict[str, Any]:
        """Put everything right that can be. Raises: KongUnavailable."""
        with Progress("what differs").step():
            found = list(self._look(self._all_users()))
        return self._mend(found, by)

    def finish_changes(self) -> None:
        """Go on with changes that Kong did not hear to their end, and take back what was never finished."""
        if not self._kong.is_there:
            return
        with self._database.transaction() as db:
            rows = fetch(db, LEFT, {"lapses": LAPSES_S})
        if not rows:
            return
        users = [User.read(row) for row in rows]
        for user in users:
            if user.state == "making":
                self._users.forget_unfinished(user, ITSELF)
        left = [user for user in users if user.state != "making"]
        refused = self._mend(list(self._look(left, strangers=False)), ITSELF)["left"]
        again = {each["username"] for each in refused if "error" in each}
        for user in left:
            if user.username not in again:
                self._users.settle(user)
        self._log.system("kong_reconciled", users=len(users))

    def _all_users(self) -> list[User]:
        with self._database.transaction() as db:
            return [User.read(row) for row in fetch(db, "SELECT * FROM kong_admin_users WHERE state <> 'making'")]

    def _mend(self, found: Sequence[Mending], by: By) -> dict[str, Any]:
        done, left = [], []
        for each in found:
            if each.call is None:
                left.append(each.difference.shown)
                continue
            try:
                each.call()
            except WaddleBotError as err:
                left.append({**each.difference.shown, "error": err.message})
                continue
            done.append(each.difference.shown)
            with self._database.transaction() as db:
                after = {"what": each.difference.what, "fix": each.difference.fix}
                self._audit.record(db, by, "reconciled", each.user_id, after=after)
        return {"mended": done, "left": left}

    def _look(self, users: Sequence[User], *, strangers: bool = True) -> Iterator[Mending]:
        kong = self._read_kong()
        keys = self._live_keys(users)
        for user in users:
            yield from self._look_at(user, keys.get(user.account_id, {}), kong)
        if strangers:
            ours = {user.custom_id for user in users} | self._being_made()
            for each in kong.consumers.values():
                if each.custom_id not in ours:
                    difference = Difference(each.username, "a consumer of the broker that is not here", "removed")
                    yield Mending(difference, None, partial(self._kong.remove_consumer, each.id))

    def _look_at(self, user: User, live: Mapping[str, datetime | None], kong: _Kong) -> Iterator[Mending]:
        consumer = next((each for each in kong.consumers.values() if each.custom_id == user.custom_id), None)
        opens = user.state == "active"
        if consumer is None:
            if opens:
                what = "its consumer is not in Kong, so its key opens nothing there"
                made = Difference(user.username, what, "made again; regenerate-key gives it a key")
                yield Mending(made, user.id, partial(self._users.ensure_consumer, user))
            return
        wanted = {self._users.kong_group(user.tier)} if opens else set()
        has = set(kong.groups.get(consumer.id, ()))
        for group in sorted(wanted - has):
            difference = Difference(user.username, f"it is not in group {group}", "put in")
            yield Mending(difference, user.id, partial(self._kong.put_group, consumer.id, group))
        for group in sorted(has - wanted):
            difference = Difference(user.username, f"it is in group {group}", "taken out")
            yield Mending(difference, user.id, partial(self._kong.remove_group, consumer.id, group))
        yield from self._look_at_keys(user, live, consumer, kong.keys.get(consumer.id, ()))

    def _look_at_keys(
        self, user: User, live: Mapping[str, datetime | None], consumer: Consumer, found: Sequence[Credential]
    ) -> Iterator[Mending]:
        wanted = (
            {credential_id(key_id): ends_at for key_id, ends_at in live.items()} if user.state != "inactive" else {}
        )
        for each in found:
            if each.id not in wanted:
                difference = Difference(user.username, "it has a key in Kong that is none here", "ended")
                yield Mending(difference, user.id, partial(self._kong.end_key, consumer.id, each.id))
            elif (left_s := _left_s(wanted[each.id])) is not None and (
                each.ttl_s is None or each.ttl_s > left_s + SLACK_S
            ):
                difference = Difference(user.username, "a key ends later in Kong than here", f"ends in {left_s} s")
                yield Mending(difference, user.id, partial(self._kong.end_key, consumer.id, each.id, after_s=left_s))
        for credential in sorted(set(wanted) - {each.id for each in found}):
            if _left_s(wanted[credential]) is None:
                what = "its key is not in Kong; only whoever has it knows it"
                yield Mending(Difference(user.username, what, None), user.id, None)

    def _read_kong(self) -> _Kong:
        keys: dict[str, list[Credential]] = {}
        groups: dict[str, list[str]] = {}
        consumers = {each.id: each for each in self._kong.all_consumers(tag=TAG)}
        for each in self._kong.all_credentials():
            keys.setdefault(each.consumer_id, []).append(each)
        for consumer_id, group in self._kong.all_groups():
            groups.setdefault(consumer_id, []).append(group)
        return _Kong(consumers, keys, groups)

    def _being_made(self) -> set[str]:
        with self._database.transaction() as db:
            return {row["custom_id"] for row in fetch(db, "SELECT custom_id FROM kong_admin_users")}

    def _live_keys(self, users: Sequence[User]) -> dict[int | None, dict[str, datetime | None]]:
        accounts = [user.account_id for user in users if user.account_id is not None]
        with self._database.transaction() as db:
            rows = fetch(db, LIVE, {"accounts": accounts})
        found: dict[int | None, dict[str, datetime | None]] = {}
        for row in rows:
            found.setdefault(row["account_id"], {})[row["key_id"]] = row["expires_at"]
        return found


def _left_s(ends_at: datetime | None) -> int | None:
    return None if ends_at is None else max(1, int((ends_at - datetime.now(UTC)).total_seconds()))


LEFT = """
SELECT * FROM kong_admin_users
WHERE is_unfinished
    OR (doing IS NOT NULL AND doing_since < now() - %(lapses)s * interval '1 second')
ORDER BY id LIMIT 100
"""
LIVE = """
SELECT account_id, key_id, expires_at FROM service_account_keys
WHERE account_id = ANY(%(accounts)s) AND is_active AND (expires_at IS NULL OR expires_at > now())
"""
