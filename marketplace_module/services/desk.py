"""What the fleet's operators see and decide: submissions, and modules that are taken down."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydal import DAL
from waddlebot.base.errors import UpstreamRefused
from waddlebot.base.logs import AAALog
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.module.call import say
from waddlebot.module.package import in_words, read_package
from waddlebot.web.auth import Account
from waddlebot.web.clients import RouterClient
from waddlebot.web.lists import Listed, Page, fetch_page

from .publishing import MODULE, UnknownModule, UnknownVersion, publisher_of, rules_all, show_newest

# The router's cache of what can be called.
COMMANDS = "commands"
MAX_SHOWN_BYTES = 64 * 1024
SUBMISSION = """
SELECT v.module_id, v.version, v.state, v.reason, v.created_at, v.decided_at, v.published_by, m.publisher,
    v.manifest->>'title' AS display_name, v.manifest->>'description' AS description,
    v.manifest->>'category' AS category, v.manifest->'runtime' AS runtime, v.manifest->>'replaces' AS replaces,
    v.manifest->'commands' AS commands,
    v.changelog, v.sha256 AS checksum, v.file_size, v.permissions, v.hosts, v.limits, v.asks, v.price, v.currency,
    m.is_verified, m.taken_down_at, latest.version AS approved_version, coalesce(latest.asks, '{}') AS approved_asks,
    count(*) OVER () AS total
FROM module_versions v JOIN marketplace_modules m USING (module_id)
LEFT JOIN module_versions latest ON latest.module_id = v.module_id AND latest.version = m.latest_version
WHERE (%(publisher)s::text IS NULL OR m.publisher = %(publisher)s)
    AND (%(state)s::text IS NULL OR v.state = %(state)s) AND (%(module)s::text IS NULL OR v.module_id = %(module)s)
    AND (%(version)s::text IS NULL OR v.version = %(version)s)
"""


def list_submissions(
    db: DAL, caller: Account, page: Page, *, state: str | None, module_id: str | None
) -> Listed[dict[str, Any]]:
    """Versions and what became of them, those that wait longest first: operators see all, others their own."""
    found = fetch_page(
        partial(fetch, db),
        f"{SUBMISSION} ORDER BY v.state <> 'pending', v.id LIMIT %(limit)s OFFSET %(offset)s",
        {"publisher": _confined_to(caller), "state": state, "module": module_id, "version": None},
        page,
    )
    return found.map(_submission)


def get_submission(db: DAL, caller: Account, module_id: str, version: str) -> dict[str, Any]:
    """One version with its code, as whoever decides about it has to read it. Raises: UnknownVersion."""
    row = fetch_one(
        db,
        SUBMISSION,
        {"publisher": _confined_to(caller), "state": None, "module": module_id, "version": version},
    )
    if row is None:
        raise UnknownVersion(f"There is no version {version[:40]} of {module_id[:64]}.")
    package = fetch_one(db, "SELECT content FROM marketplace_packages WHERE sha256 = %s", (row["checksum"],))
    assert package is not None, "a version has a package"
    files = read_package(bytes(package["content"])).files
    return {**_submission(row), "files": [_file(path, content) for path, content in sorted(files.items())]}


def _confined_to(caller: Account) -> str | None:
    return None if rules_all(caller) else publisher_of(caller)


def _submission(row: dict[str, Any]) -> dict[str, Any]:
    before = row.pop("approved_asks")
    row.pop("total", None)
    more = [each for each in row["asks"] if each not in before]
    return {**row, "asks_in_words": in_words(row["asks"]), "asks_more": more}


def _file(path: str, content: bytes) -> dict[str, Any]:
    """A file as text, or without any where it is none or long."""
    try:
        text = content.decode() if len(content) <= MAX_SHOWN_BYTES and b"\0" not in content else None
    except UnicodeDecodeError:
        text = None
    return {"path": path, "size": len(content), "text": text}


def take_down(db: DAL, module_id: str, why: str) -> dict[str, Any]:
    """Have a module answer nobody any more and be had by nobody, from the next line of chat on; who has it is told.

    Raises: UnknownModule.
    """
    return _set_taken_down(db, module_id, why)


def restore(db: DAL, module_id: str) -> dict[str, Any]:
    """Let a module that was taken down answer again where it is installed. Raises: UnknownModule."""
    return _set_taken_down(db, module_id, None)


def _set_taken_down(db: DAL, module_id: str, why: str | None) -> dict[str, Any]:
    before = fetch_one(
        db,
        "SELECT taken_down_at IS NOT NULL AS is_down, taken_down_why AS reason FROM marketplace_modules"
        " WHERE module_id = %s FOR UPDATE",
        (module_id,),
    )
    if before is None:
        raise UnknownModule(f"There is no module {module_id[:64]}.")
    after = {"is_down": why is not None, "reason": why or ""}
    if before == after:
        return after
    fetch(
        db,
        "UPDATE marketplace_modules SET taken_down_why = %(why)s, taken_down_told = NOT %(down)s,"
        " taken_down_at = CASE WHEN %(down)s THEN coalesce(taken_down_at, now()) END WHERE module_id = %(module)s",
        {"why": why or "", "down": why is not None, "module": module_id},
    )
    show_newest(db, module_id)
    path = f"/marketplace/module/{module_id}"
    undo = Undo("POST", f"{path}/takedown", {"reason": before["reason"]}) if before["is_down"] else None
    audit.record(
        db,
        MODULE,
        "module_taken_down" if why is not None else "module_restored",
        f"store/{module_id}",
        community_id=None,
        before=before,
        after=after,
        undo=undo or Undo("POST", f"{path}/restore"),
    )
    return after


def tell_owners(db: Database, router: RouterClient, log: AAALog) -> bool:
    """Tell the owners who have a module that it was taken down, once each. True when there may be more."""
    rows = db.statement(
        "SELECT m.module_id, m.display_name, m.taken_down_why, m.taken_down_at, c.ids FROM marketplace_modules m,"
        " LATERAL (SELECT coalesce(array_agg(DISTINCT community_id), '{}') AS ids FROM module_installations i"
        "  WHERE i.module_id = m.module_id) c WHERE NOT m.taken_down_told ORDER BY m.id LIMIT 1"
    )
    if not rows:
        return False
    (row,) = rows
    announcement_id = f"taken-down-{row['module_id']}-{row['taken_down_at']:%Y%m%d%H%M%S}"
    words = f"The marketplace has taken down {row['display_name']}, so it answers nobody any more"
    message = say(f"{words}: {row['taken_down_why']}"[:500])
    for community_id in row["ids"]:
        try:
            router.announce(announcement_id, [message], community_id=community_id, to="owner")
        except UpstreamRefused as err:
            log.error("owner_not_told", community=community_id, message=err.message)
    db.statement(
        "UPDATE marketplace_modules SET taken_down_told = true WHERE module_id = %s AND taken_down_at = %s"
        " RETURNING id",
        (row["module_id"], row["taken_down_at"]),
    )
    return True
