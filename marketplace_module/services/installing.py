"""Having a module in a place. What is to be done is on record before the router is asked, so that a crash leaves
something that is finished or taken back:

installing ─► the router has it ─► installed          uninstalling ─► the router has forgotten it ─► no row
     └► the router refuses ─► as it was
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from pydal import DAL
from waddlebot import __version__
from waddlebot.base.errors import Busy, Conflict, Invalid, NotAllowed, NotFound, UpstreamError, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.base.manifest import find_manifest
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import Database, Session, fetch, fetch_one
from waddlebot.module.package import ModuleManifest, Version, in_words

from .publishing import MODULE, Publishing, UnknownModule, UnknownVersion
from .router_calls import RouterCalls, Where
from .subscriptions import find_paid_until

LATEST = "latest"
# What nobody has finished after this was left by a process that died.
LEFT_AFTER = "10 seconds"
AT_ONCE = 20
TURN_WITHIN_S = 10.0
TURN_EVERY_S = 0.05
LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%(it)s, 0)) AS is_mine"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%(it)s, 0))"


class ConsentRequired(Conflict):
    """This version may do more than was agreed to. Look at what it asks for, and say consent: true."""

    code = "consent_required"


class SubscriptionRequired(NotAllowed):
    """This module costs something. Subscribe first."""

    code = "subscription_required"


class NotInstalled(NotFound):
    """That module is not installed there."""

    code = "not_installed"


class TakenDown(Conflict):
    """The fleet's operators have taken this module down."""

    code = "taken_down"


class NeedsNewer(Conflict):
    """That version is for a newer WaddleBot."""

    code = "needs_newer"


class NotApproved(Conflict):
    """Nobody has approved that yet."""

    code = "not_approved"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A version that can be had."""

    module_id: str
    version: str
    sha256: str
    asks: Sequence[str]
    manifest: ModuleManifest


class Installing:
    def __init__(self, db: Database, router: RouterCalls, publishing: Publishing, log: AAALog) -> None:
        self._db = db
        self._router = router
        self._publishing = publishing
        self._log = log

    def choose(self, module_id: str, version: str) -> Chosen:
        """Raises: UnknownModule; UnknownVersion; NotApproved; NeedsNewer; TakenDown."""
        with self._db.transaction() as db:
            return _choose(db, module_id, version)

    def install(
        self, where: Where, module_id: str, version: str, *, replaced_by: str | None, consent: bool, by: str
    ) -> dict[str, Any]:
        """Have a version in a place, or another one than before: the next line of chat is answered by it.

        Raises: SubscriptionRequired; ConsentRequired; Refused as `command_taken` by the module that is in the way,
        unless `replaced_by` says that this one takes its place; UpstreamError, and then it is finished or taken back
        later.
        """
        with self._alone(where, module_id):
            with self._db.transaction() as db:
                chosen = _choose(db, module_id, version)
                _check_paid(db, where.community_id, chosen)
                before = _find(db, where, module_id)
                _check_consent(before, chosen, consent=consent)
                replaces = _replaced(before, chosen, replaced_by)
                _begin(db, where, chosen, replaces, by=by)
            self._carry_out(where, module_id)
            with self._db.transaction() as db:
                done = _find(db, where, module_id)
        assert done is not None
        self._log.audit("module_installed", module_name=module_id, version=chosen.version, result="SUCCESS")
        return {**done, "before": before["version"] if before else None, "asks_in_words": in_words(chosen.asks)}

    def uninstall(self, where: Where, module_id: str) -> dict[str, Any]:
        """Take a module away, and what it remembers with it. Raises: NotInstalled; UpstreamError."""
        with self._alone(where, module_id):
            with self._db.transaction() as db:
                before = _find(db, where, module_id)
                if before is None:
                    raise NotInstalled(f"{module_id[:64]} is not installed there.")
                fetch(
                    db,
                    "UPDATE module_installations SET state = 'uninstalling', updated_at = now() WHERE id = %s",
                    (before["id"],),
                )
            self._take_away(where, module_id, before)
        self._log.audit("module_uninstalled", module_name=module_id, result="SUCCESS")
        return before

    def toggle(self, where: Where, module_id: str, *, enabled: bool) -> None:
        """Turn a module on or off in a place: one that is installed there or around it, or a core module.

        Raises: NotInstalled; UpstreamError.
        """
        with self._alone(where, module_id):
            with self._db.transaction() as db:
                installed = _find(db, where, module_id)
                around = installed or _find(db, Where(where.community_id), module_id)
            if around is None and find_manifest(module_id) is None:
                raise NotInstalled(f"{module_id[:64]} is not installed there.")
            self._router.switch(where, module_id, enabled=enabled)
            if installed is None:
                return
            with self._db.transaction() as db:
                fetch(
                    db,
                    "UPDATE module_installations SET is_enabled = %s, updated_at = now() WHERE id = %s",
                    (enabled, installed["id"]),
                )
                if installed["is_enabled"] != enabled:
                    _record(db, where, module_id, "module_toggled", {**installed, "is_enabled": enabled}, installed)

    def answer_to_both(self, where: Where, module_id: str, *, both: bool) -> None:
        """Have the commands of a module that is installed in a place answer to `!`, too, or no more.

        Raises: NotInstalled; Invalid for one that stands in for a core module; UpstreamError.
        """
        with self._alone(where, module_id):
            with self._db.transaction() as db:
                before = _find(db, where, module_id)
                if before is None:
                    raise NotInstalled(f"{module_id[:64]} is not installed there.")
                if before["replaces"] not in ([], [module_id]):
                    raise Invalid(f"{module_id} stands in for {before['replaces'][0]}.", field="answers_to_both")
                after = fetch_one(
                    db,
                    "UPDATE module_installations SET replaces = %s, updated_at = now() WHERE id = %s RETURNING *",
                    ([module_id] if both else [], before["id"]),
                )
                if after and after["replaces"] != before["replaces"]:
                    _record(db, where, module_id, "module_toggled", after, before)
            # It is as it was, and the router reads its modules anew.
            self._router.switch(where, module_id, enabled=before["is_enabled"])

    def finish_what_was_left(self) -> bool:
        """Finish, or take back, what a crash left half done. True when there may be more."""
        rows = self._db.statement(
            "SELECT community_id, entity_id, module_id FROM module_installations WHERE state <> 'installed'"
            f" AND updated_at < now() - interval '{LEFT_AFTER}' ORDER BY updated_at LIMIT %s",
            (AT_ONCE,),
        )
        for row in rows:
            self._finish(Where(row["community_id"], row["entity_id"]), row["module_id"])
        return len(rows) == AT_ONCE

    def _finish(self, where: Where, module_id: str) -> None:
        try:
            with self._alone(where, module_id):
                with self._db.transaction() as db:
                    row = _find(db, where, module_id)
                if row is None or row["state"] == "installed":
                    return
                if row["state"] == "uninstalling":
                    self._take_away(where, module_id, row)
                else:
                    self._carry_out(where, module_id)
                self._log.system("installation_finished", module_name=module_id, community=where.community_id)
        except UpstreamError:
            raise  # The router is away; all of it waits.
        except WaddleBotError as err:
            self._log.error("installation_taken_back", module_name=module_id, code=err.code, message=err.message)

    def _carry_out(self, where: Where, module_id: str) -> None:
        """Have the router do what is on record, and put that on record; or put it back as it was."""
        with self._db.transaction() as db:
            row = _find(db, where, module_id)
            assert row is not None, "what is carried out is on record"
            chosen = _choose(db, module_id, row["target_version"])
        try:
            self._router.register(
                module_id, chosen.version, self._publishing.registration(chosen.manifest, chosen.sha256)
            )
            replaces = [each for each in row["replaces"] if each != module_id]
            self._router.choose(where, module_id, chosen.version, replaces, enabled=row["is_enabled"])
            if row["target_config"]:
                self._router.configure(where, module_id, row["target_config"])
        except (Conflict, NotFound, Invalid):
            with self._db.transaction() as db:
                _put_back(db, row)
            raise
        with self._db.transaction() as db:
            _end(db, where, row, chosen)

    def _take_away(self, where: Where, module_id: str, before: dict[str, Any]) -> None:
        self._router.remove(where, module_id)
        with self._db.transaction() as db:
            fetch(db, "DELETE FROM module_installations WHERE id = %s", (before["id"],))
            left = fetch(
                db,
                "SELECT FROM module_installations WHERE community_id = %s AND module_id = %s LIMIT 1",
                (where.community_id, module_id),
            )
            if not left:
                fetch(
                    db,
                    "DELETE FROM module_state WHERE community_id = %s AND module_id = %s",
                    (where.community_id, module_id),
                )
            _record(db, where, module_id, "module_uninstalled", None, before)

    @contextmanager
    def _alone(self, where: Where, module_id: str) -> Iterator[None]:
        """One at a time of a module in a community, over all processes: raced installs go one after the other.

        Raises: Busy.
        """
        it = {"it": f"install {where.community_id} {module_id}"}
        until = time.monotonic() + TURN_WITHIN_S
        with self._db.session() as session:
            while not session.run(LOCK, it)[0]["is_mine"]:
                if time.monotonic() > until:
                    raise Busy(f"{module_id[:64]} is being installed there right now. Try again in a moment.")
                time.sleep(TURN_EVERY_S)
            try:
                yield
            finally:
                _let_go(session, it)


def _let_go(session: Session, it: dict[str, str]) -> None:
    try:
        session.run(UNLOCK, it)
    except psycopg2.Error:
        session.connection.close()  # And with it the lock goes.


def _choose(db: DAL, module_id: str, version: str) -> Chosen:
    module = fetch_one(
        db,
        "SELECT latest_version, taken_down_at, taken_down_why FROM marketplace_modules WHERE module_id = %s",
        (module_id,),
    )
    if module is None:
        raise UnknownModule(f"There is no module {module_id[:64]}.")
    if module["taken_down_at"] is not None:
        raise TakenDown(f"The marketplace has taken down {module_id}: {module['taken_down_why']}")
    wanted = module["latest_version"] if version == LATEST else version
    if wanted is None:
        raise NotApproved(f"No version of {module_id} is approved yet.")
    row = fetch_one(
        db,
        "SELECT version, sha256, asks, manifest, state FROM module_versions WHERE module_id = %s AND version = %s",
        (module_id, wanted),
    )
    if row is None:
        raise UnknownVersion(f"There is no version {version[:40]} of {module_id}.")
    if row["state"] != "approved":
        raise NotApproved(f"{module_id} {row['version']} is {row['state']}.")
    manifest = ModuleManifest.model_validate(row["manifest"])
    least = manifest.min_waddlebot_version
    if least is not None and Version.parse(least) > Version.parse(__version__):
        raise NeedsNewer(f"{module_id} {row['version']} is for WaddleBot {least} or newer; this is {__version__}.")
    return Chosen(module_id, row["version"], row["sha256"], row["asks"], manifest)


def _check_paid(db: DAL, community_id: int, chosen: Chosen) -> None:
    manifest = chosen.manifest
    if manifest.price <= 0:
        return
    until, status = find_paid_until(db, community_id, chosen.module_id)
    if status in ("active", "expiring", "grace"):
        return
    raise SubscriptionRequired(
        f"{manifest.title} costs {manifest.price:g} {manifest.currency} a month. Subscribe first.",
        module_price=manifest.price,
        price=manifest.price,
        currency=manifest.currency,
        subscription_status=status,
        upgrade_required=True,
        paid_until=until,
    )


def _check_consent(before: dict[str, Any] | None, chosen: Chosen, *, consent: bool) -> None:
    if before is None or consent or before["version"] is None:
        return
    more = [each for each in chosen.asks if each not in before["asks"]]
    if more:
        raise ConsentRequired(
            f"{chosen.module_id} {chosen.version} wants more than was agreed to: {'; '.join(in_words(more))}."
            " Say consent: true to agree.",
            asks=more,
            asks_in_words=in_words(more),
        )


def _replaced(before: dict[str, Any] | None, chosen: Chosen, replaced_by: str | None) -> list[str]:
    """The core modules that step aside; the module itself where it answers to `!` too because no core one does, which
    stays so with another version. Raises: Invalid."""
    own = chosen.module_id
    if replaced_by is None:
        return [own] if before and own in before["replaces"] else []
    if chosen.manifest.replaces is None and replaced_by == own:
        return [own]
    if chosen.manifest.replaces is None or replaced_by not in (own, chosen.manifest.replaces):
        raise Invalid(
            f"replaced_by: {chosen.module_id} says in its manifest that it replaces"
            f" {chosen.manifest.replaces or 'nothing'}.",
            field="replaced_by",
        )
    return [chosen.manifest.replaces]


def _find(db: DAL, where: Where, module_id: str) -> dict[str, Any] | None:
    return fetch_one(
        db,
        "SELECT * FROM module_installations WHERE community_id = %s AND entity_id IS NOT DISTINCT FROM %s"
        " AND module_id = %s FOR UPDATE",
        (where.community_id, where.entity_id, module_id),
    )


def _begin(db: DAL, where: Where, chosen: Chosen, replaces: Sequence[str], *, by: str) -> None:
    fetch(
        db,
        "INSERT INTO module_installations (community_id, entity_id, module_id, state, target_version, target_asks,"
        " replaces, installed_by) VALUES (%s, %s, %s, 'installing', %s, %s, %s, %s)"
        " ON CONFLICT (community_id, entity_id, module_id) DO UPDATE SET state = 'installing',"
        " target_version = excluded.target_version, target_asks = excluded.target_asks, replaces = excluded.replaces,"
        " updated_at = now()",
        (
            where.community_id,
            where.entity_id,
            chosen.module_id,
            chosen.version,
            list(chosen.asks),
            list(replaces),
            by,
        ),
    )


def _put_back(db: DAL, row: dict[str, Any]) -> None:
    if row["version"] is None:
        fetch(db, "DELETE FROM module_installations WHERE id = %s", (row["id"],))
        return
    fetch(
        db,
        "UPDATE module_installations SET state = 'installed', target_version = NULL, target_asks = '{}',"
        " target_config = NULL, updated_at = now() WHERE id = %s",
        (row["id"],),
    )


def _end(db: DAL, where: Where, row: dict[str, Any], chosen: Chosen) -> None:
    done = fetch_one(
        db,
        "UPDATE module_installations SET state = 'installed', version = target_version, asks = target_asks,"
        " target_version = NULL, target_asks = '{}', target_config = NULL, updated_at = now(),"
        " installed_at = CASE WHEN version IS NULL THEN now() ELSE installed_at END WHERE id = %s RETURNING *",
        (row["id"],),
    )
    assert done is not None
    if row["version"] is None:
        fetch(
            db,
            "UPDATE marketplace_modules SET download_count = download_count + 1 WHERE module_id = %s",
            (chosen.module_id,),
        )
    if row["version"] != done["version"]:
        fetch(
            db,
            "UPDATE module_versions SET download_count = download_count + 1 WHERE module_id = %s AND version = %s",
            (chosen.module_id, chosen.version),
        )
        _record(db, where, chosen.module_id, "module_installed", done, row if row["version"] else None)


def _record(
    db: DAL,
    where: Where,
    module_id: str,
    action: str,
    after: dict[str, Any] | None,
    before: dict[str, Any] | None,
) -> None:
    """Write a change of an installation into the audit log, with the call that takes it back."""
    place = {"community_id": where.community_id} if where.entity_id is None else {"entity_id": where.entity_id}
    body = {**place, "module_id": module_id}
    if before is None:
        undo = Undo("POST", "/marketplace/uninstall", body)
    elif after is not None and after["version"] == before["version"]:
        toggle = {"module_id": module_id, "enabled": before["is_enabled"]}
        if after["replaces"] != before["replaces"]:
            toggle = {"module_id": module_id, "answers_to_both": module_id in before["replaces"]}
        undo = Undo("POST", f"/marketplace/entity/{where.entity_id or where.community_id}/toggle", toggle)
    else:
        body |= {"replaced_by": before["replaces"][0]} if before["replaces"] else {}
        undo = Undo("POST", "/marketplace/install", {**body, "version": before["version"], "consent": True})
    suffix = f"@{where.entity_id}" if where.entity_id else ""
    audit.record(
        db,
        MODULE,
        action,
        f"module/{module_id}{suffix}",
        community_id=where.community_id,
        before=_as_recorded(before),
        after=_as_recorded(after),
        undo=undo,
    )


def _as_recorded(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    both = {"answers_to_both": True} if row["module_id"] in row["replaces"] else {}
    return {"version": row["version"], "enabled": row["is_enabled"], **both}


def list_installed(db: DAL, where: Where) -> list[dict[str, Any]]:
    """Everything that a place has: what is installed in it or in all of its community, and the core modules."""
    place = {"community": where.community_id, "entity": where.entity_id}
    installed = fetch(
        db,
        "SELECT DISTINCT ON (i.module_id) i.module_id, i.module_id AS name, m.display_name, m.description, m.category,"
        " m.icon_url, m.rating_average, m.is_verified, m.latest_version, m.taken_down_why, v.price,"
        " v.currency, 'community' AS kind, v.version, v.permissions, v.asks, i.entity_id, i.state, i.installed_at,"
        " coalesce(here.enabled, around.enabled, false) AS enabled,"
        " coalesce(nullif(here.parked_why, ''), around.parked_why, '') AS parked_why,"
        " i.module_id = ANY(i.replaces) AS answers_to_both, coalesce(u.n, 0) AS usage_count, u.last_used"
        " FROM module_installations i JOIN marketplace_modules m USING (module_id)"
        " LEFT JOIN module_versions v ON v.module_id = i.module_id"
        "  AND v.version = coalesce(i.version, i.target_version)"
        " LEFT JOIN module_switches here ON here.community_id = i.community_id AND here.module_name = i.module_id"
        "  AND here.entity_id = %(entity)s"
        " LEFT JOIN module_switches around ON around.community_id = i.community_id"
        "  AND around.module_name = i.module_id AND around.entity_id IS NULL"
        " LEFT JOIN LATERAL (SELECT sum(usage_count)::bigint AS n, max(last_used) AS last_used"
        "  FROM module_usage_stats s WHERE s.module_id = i.module_id AND s.community_id = i.community_id) u ON true"
        " WHERE i.community_id = %(community)s AND (i.entity_id IS NULL OR i.entity_id = %(entity)s)"
        " ORDER BY i.module_id, i.entity_id NULLS LAST",
        place,
    )
    core = fetch(
        db,
        "SELECT c.module_name AS module_id, c.module_name AS name, c.version, 'core' AS kind,"
        " coalesce(here.enabled, around.enabled, true) AS enabled, coalesce(here.replaced_by, around.replaced_by)"
        "  AS replaced_by FROM (SELECT module_name, max(version) AS version FROM commands"
        "  WHERE is_active AND module_type = 'core' GROUP BY 1) c"
        " LEFT JOIN module_switches here ON here.community_id = %(community)s AND here.module_name = c.module_name"
        "  AND here.entity_id = %(entity)s"
        " LEFT JOIN module_switches around ON around.community_id = %(community)s"
        "  AND around.module_name = c.module_name AND around.entity_id IS NULL ORDER BY 1",
        place,
    )
    titles = {row["module_id"]: manifest.title for row in core if (manifest := find_manifest(row["module_id"]))}
    core = [{**row, "display_name": titles.get(row["module_id"], row["module_id"])} for row in core]
    return [_listed(row) for row in [*installed, *core]]


INSTALLATION = ("version", "enabled", "installed_at", "usage_count", "last_used", "state", "entity_id", "parked_why")


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    """What the earlier API called `installation` stands beside the module's own."""
    return {**row, "installation": {name: row[name] for name in INSTALLATION if name in row}}
