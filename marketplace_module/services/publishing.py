"""Publishing: a version is looked through, kept for good, and in the store once it is approved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg2
from psycopg2.extras import Json, execute_values
from pydal import DAL
from waddlebot.base.contracts import VersionRegistration
from waddlebot.base.errors import Conflict, Invalid, NotFound, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.data import audit
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.module.package import ModuleManifest, Package, Version, read_package
from waddlebot.web.auth import Account

from .names import check_names, look_of
from .router_calls import RouterCalls

MODULE = "marketplace"


class VersionExists(Conflict):
    """That version is published with other content, and a version is for good. Publish a higher one."""

    code = "version_immutable"


class VersionGoesBack(Conflict):
    """A new version has to be higher than those before it."""

    code = "version_goes_back"


class NotYours(Conflict):
    """Somebody else published that name first, and so it is theirs."""

    code = "not_yours"


class UnknownModule(NotFound):
    """There is no such module in the marketplace."""

    code = "unknown_module"


class UnknownVersion(NotFound):
    """That module has no such version."""

    code = "unknown_version"


def publisher_of(caller: Account) -> str:
    """Who owns what they publish: a login of the portal, or an account."""
    return f"login:{caller.actor.login_id}" if caller.actor else f"account:{caller.id}"


def rules_all(caller: Account) -> bool:
    """Whether a caller speaks for the whole fleet."""
    return caller.is_admin and caller.community_id is None


class Publishing:
    def __init__(self, db: Database, router: RouterCalls, log: AAALog, *, run: str) -> None:
        self._db = db
        self._router = router
        self._log = log
        self._run = run

    def publish(self, package: Package, caller: Account) -> dict[str, Any]:
        """Keep a version. The same one again changes nothing.

        An admin's is approved by that, and so is one of a verified module that asks for no more than the approved
        version. Raises: NameTaken, Imitates, NotYours, VersionExists, VersionGoesBack; Invalid; UpstreamError.
        """
        manifest, publisher = package.manifest, publisher_of(caller)
        with self._db.transaction() as db:
            is_new = self._keep(db, package, publisher, by=caller.name)
        secret = self._register(package, rotate=False)
        with self._db.transaction() as db:
            if _approves_itself(db, manifest, caller):
                decide(db, manifest.name, manifest.version, "approved", "")
            state = _get_version(db, manifest.name, manifest.version)["state"]
        self._log.audit("module_published", module_name=manifest.name, version=manifest.version, result="SUCCESS")
        answer = {
            "success": True,
            "module_id": manifest.name,
            "version": manifest.version,
            "sha256": package.sha256,
            "state": state,
            "duplicate": not is_new,
            "asks": manifest.asks,
        }
        return answer | ({"webhook_secret": secret} if secret else {})

    def renew_secret(self, module_id: str, caller: Account) -> str:
        """Another secret for a module's webhooks. Raises: UnknownModule, also of others; Invalid without webhooks."""
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "SELECT m.publisher, v.sha256, p.content FROM marketplace_modules m"
                " JOIN module_versions v USING (module_id) JOIN marketplace_packages p USING (sha256)"
                " WHERE m.module_id = %s ORDER BY v.id DESC LIMIT 1",
                (module_id,),
            )
        if row is None or (row["publisher"] != publisher_of(caller) and not rules_all(caller)):
            raise UnknownModule(f"You have published no module {module_id[:64]}.")
        secret = self._register(read_package(bytes(row["content"])), rotate=True)
        if secret is None:
            raise Invalid(f"{module_id} is no webhook, so nothing is signed for it.", field="module_id")
        return secret

    def get_package(self, sha256: str) -> bytes:
        """Raises: NotFound."""
        rows = self._db.statement("SELECT content FROM marketplace_packages WHERE sha256 = %s", (sha256,))
        if not rows:
            raise NotFound("There is no such package.")
        return bytes(rows[0]["content"])

    def registration(self, manifest: ModuleManifest, sha256: str, *, rotate: bool = False) -> VersionRegistration:
        """A version as the router keeps it."""
        kind, location = self._location(manifest, sha256)
        return VersionRegistration(
            commands=[each.spec(kind, location, manifest.limits.timeout_s) for each in manifest.commands],
            permissions=list(manifest.permissions),
            settings=list(manifest.settings),
            rotate_webhook_secret=rotate,
        )

    def _location(self, manifest: ModuleManifest, sha256: str) -> tuple[str, str]:
        runtime = manifest.runtime
        if runtime.type == "webhook":
            return runtime.type, runtime.url
        if runtime.type == "lambda":
            return runtime.type, str(runtime.function)
        if runtime.type == "openwhisk":
            return runtime.type, str(runtime.action)
        if self._run == "local":
            return "local", f"{manifest.name}:{manifest.version}:{sha256}"
        return self._run, f"{manifest.name}-{manifest.version.replace('.', '_')}"

    def _register(self, package: Package, *, rotate: bool) -> str | None:
        manifest = package.manifest
        try:
            answer = self._router.register(
                manifest.name, manifest.version, self.registration(manifest, package.sha256, rotate=rotate)
            )
        except WaddleBotError:
            # Nobody has it and nobody will: whoever published it changes it, or tries again.
            with self._db.transaction() as db:
                _forget_unregistered(db, manifest)
            raise
        secret = answer.get("webhook_secret")
        return str(secret) if secret else None

    @staticmethod
    def _keep(db: DAL, package: Package, publisher: str, *, by: str) -> bool:
        """True when it was not there."""
        manifest = package.manifest
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('publish', 0))")
        _check_owner(db, manifest, publisher)
        known = fetch_one(
            db,
            "SELECT sha256 FROM module_versions WHERE module_id = %s AND version = %s",
            (manifest.name, manifest.version),
        )
        if known is not None:
            if known["sha256"] != package.sha256:
                raise VersionExists(
                    f"{manifest.name} {manifest.version} is published already, with other content. A version"
                    " is for good, so give module.toml a higher one."
                )
            return False
        check_names(db, manifest, publisher)
        _check_higher(db, manifest)
        if not fetch(db, "SELECT FROM module_categories WHERE name = %s", (manifest.category,)):
            raise Invalid(f"There is no category {manifest.category}; see /marketplace/categories.", field="category")
        _add_module(db, manifest, publisher)
        _add_version(db, package, by=by)
        return True


def decide(db: DAL, module_id: str, version: str, state: str, reason: str) -> None:
    """Approve or reject a version; the highest approved one is what the store shows. Raises: UnknownVersion."""
    before = _get_version(db, module_id, version)
    if before["state"] == state:
        return
    fetch(
        db,
        "UPDATE module_versions SET state = %s, reason = %s, decided_at = now() WHERE module_id = %s AND version = %s",
        (state, reason, module_id, version),
    )
    show_newest(db, module_id)
    audit.record(
        db,
        MODULE,
        f"version_{state}",
        f"version/{module_id}@{version}",
        community_id=None,
        before={"state": before["state"]},
        after={"state": state, "reason": reason},
    )


def newest_pending(db: DAL, module_id: str) -> str:
    """The version that waits longest for nobody's word but an admin's. Raises: UnknownVersion."""
    row = fetch_one(
        db,
        "SELECT version FROM module_versions WHERE module_id = %s ORDER BY state = 'pending' DESC, id DESC LIMIT 1",
        (module_id,),
    )
    if row is None:
        raise UnknownModule(f"There is no module {module_id[:64]}.")
    return str(row["version"])


def _get_version(db: DAL, module_id: str, version: str) -> dict[str, Any]:
    row = fetch_one(
        db,
        "SELECT state, asks FROM module_versions WHERE module_id = %s AND version = %s FOR UPDATE",
        (module_id, version),
    )
    if row is None:
        raise UnknownVersion(f"There is no version {version[:40]} of {module_id[:64]}.")
    return row


def _approves_itself(db: DAL, manifest: ModuleManifest, caller: Account) -> bool:
    if rules_all(caller):
        return True
    row = fetch_one(
        db,
        "SELECT v.asks FROM marketplace_modules m JOIN module_versions v"
        " ON v.module_id = m.module_id AND v.version = m.latest_version"
        " WHERE m.module_id = %s AND m.is_verified",
        (manifest.name,),
    )
    return row is not None and set(manifest.asks) <= set(row["asks"])


def _check_owner(db: DAL, manifest: ModuleManifest, publisher: str) -> None:
    row = fetch_one(db, "SELECT publisher FROM marketplace_modules WHERE module_id = %s", (manifest.name,))
    if row is not None and row["publisher"] != publisher:
        raise NotYours(f"{manifest.name} was published by somebody else first.")


def _check_higher(db: DAL, manifest: ModuleManifest) -> None:
    rows = fetch(db, "SELECT version FROM module_versions WHERE module_id = %s", (manifest.name,))
    highest = max((Version.parse(row["version"]) for row in rows), default=None)
    if highest is not None and Version.parse(manifest.version) <= highest:
        raise VersionGoesBack(f"{manifest.version} is not higher than {highest}, which is published.")


def _forget_unregistered(db: DAL, manifest: ModuleManifest) -> None:
    """Take back a version that the router did not take, unless it has it from before."""
    gone = fetch(
        db,
        "DELETE FROM module_versions v WHERE module_id = %s AND version = %s AND state = 'pending'"
        " AND NOT EXISTS (SELECT FROM registered_versions r"
        "  WHERE r.module_name = v.module_id AND r.version = v.version)"
        " RETURNING sha256",
        (manifest.name, manifest.version),
    )
    if gone and not fetch(db, "SELECT FROM module_versions WHERE module_id = %s LIMIT 1", (manifest.name,)):
        fetch(db, "DELETE FROM module_commands WHERE module_id = %s", (manifest.name,))
        fetch(db, "DELETE FROM marketplace_modules WHERE module_id = %s", (manifest.name,))
    for row in gone:
        fetch(
            db,
            "DELETE FROM marketplace_packages p WHERE sha256 = %(it)s"
            " AND NOT EXISTS (SELECT FROM module_versions v WHERE v.sha256 = p.sha256)",
            {"it": row["sha256"]},
        )


def _add_module(db: DAL, manifest: ModuleManifest, publisher: str) -> None:
    fetch(
        db,
        "INSERT INTO marketplace_modules (module_id, skeleton, publisher, display_name, description, category)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (module_id) DO NOTHING",
        (
            manifest.name,
            look_of(manifest.name),
            publisher,
            manifest.title,
            manifest.description,
            manifest.category,
        ),
    )


def _add_version(db: DAL, package: Package, *, by: str) -> None:
    manifest = package.manifest
    fetch(
        db,
        "INSERT INTO marketplace_packages (sha256, content) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (package.sha256, psycopg2.Binary(package.content)),
    )
    fetch(
        db,
        "INSERT INTO module_versions (module_id, version, sha256, file_size, manifest, changelog, permissions, hosts,"
        " limits, asks, price, currency, is_stable, published_by)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            manifest.name,
            manifest.version,
            package.sha256,
            len(package.content),
            Json(manifest.model_dump(mode="json")),
            manifest.changelog,
            list(manifest.permissions),
            list(manifest.hosts),
            Json(manifest.limits.model_dump()),
            manifest.asks,
            manifest.price,
            manifest.currency,
            Version.parse(manifest.version).is_stable,
            by,
        ),
    )
    execute_values(
        db._adapter.cursor,
        "INSERT INTO module_commands (module_id, command, skeleton) VALUES %s ON CONFLICT DO NOTHING",
        [(manifest.name, each.command, look_of(each.command)) for each in manifest.commands],
    )


def show_newest(db: DAL, module_id: str) -> None:
    """Have the store show the highest approved version, a stable one if there is any; nothing of what is taken down."""
    rows = fetch(
        db,
        "SELECT version, v.manifest FROM module_versions v JOIN marketplace_modules m USING (module_id)"
        " WHERE module_id = %s AND state = 'approved' AND m.taken_down_at IS NULL",
        (module_id,),
    )
    if not rows:
        fetch(db, "UPDATE marketplace_modules SET latest_version = NULL WHERE module_id = %s", (module_id,))
        return
    newest = max(rows, key=lambda row: _rank(row["version"]))
    show(db, ModuleManifest.model_validate(newest["manifest"]))


def _rank(version: str) -> tuple[bool, Version]:
    parsed = Version.parse(version)
    return parsed.is_stable, parsed


def words_of(manifest: ModuleManifest) -> Sequence[str]:
    """What a module is found by: the most telling first."""
    names = " ".join([manifest.name.replace("_", " "), manifest.title, *(each.command for each in manifest.commands)])
    return names, " ".join([*manifest.tags, manifest.category, manifest.author]), manifest.description


def show(db: DAL, manifest: ModuleManifest) -> None:
    """Have the store show a module as this manifest says."""
    names, tags, description = words_of(manifest)
    fetch(
        db,
        "UPDATE marketplace_modules SET display_name = %(title)s, description = %(description)s,"
        " long_description = %(long_description)s, author = %(author)s, author_email = %(author_email)s,"
        " website = %(website)s, repository = %(repository)s, license = %(license)s, category = %(category)s,"
        " tags = %(tags)s, icon_url = %(icon_url)s, screenshots = %(screenshots)s, latest_version = %(version)s,"
        " price = %(price)s, currency = %(currency)s, updated_at = now(),"
        " words = setweight(to_tsvector('simple', %(words_a)s), 'A') || setweight(to_tsvector('simple', %(words_b)s),"
        "  'B') || setweight(to_tsvector('simple', %(description)s), 'C') WHERE module_id = %(name)s",
        {**manifest.model_dump(mode="json"), "words_a": names, "words_b": tags, "description": description},
    )
