"""A community's alerts: rows that take the place of the built-in ones, event by event."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pydal import DAL
from waddlebot.base.contracts import RENEWALS, RENEWED_WITHIN, ModuleCall
from waddlebot.base.errors import Conflict, Invalid, NotFound
from waddlebot.base.ids import first_id_at
from waddlebot.base.logs import AAALog
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import Prepared, fetch, fetch_one
from waddlebot.web.auth import Account

from .alerts import DEFAULTS, Alert, default_for
from .safe_content import MediaPolicy, is_own

MAX_ALERTS = 200
# What a request sets, and the columns of the same names.
FIELDS = tuple(each.name for each in dataclasses.fields(Alert) if each.name not in ("is_video", "id", "shown_count"))
SHOWN = f"id, version, {', '.join(FIELDS)}"
PATH = "/browser/source/admin/alerts"
ALERTS = Prepared(
    "browser_source_alerts",
    f"SELECT {SHOWN} FROM browser_source_alerts WHERE community_id = %(community)s"
    f" ORDER BY event, id LIMIT {MAX_ALERTS}",
)
# The last one, with what this module has answered to it.
OTHER_HALF = """
SELECT e.session_id::text, coalesce(e.event -> 'data', '{}') AS data,
    coalesce(json_array_length(r.reply -> 'responses'), 0) > 0 AS was_told,
    r.id IS NULL AND EXISTS (SELECT FROM router_work w WHERE w.session_id = e.session_id) AS is_coming
FROM router_events e
    LEFT JOIN command_executions x ON x.session_id = e.session_id AND x.command = '!celebrate'
        AND x.module_name = 'browser_source_core'
    LEFT JOIN module_replies r ON r.module_name = x.module_name AND r.execution_id = x.execution_id
WHERE e.entity_id = %(entity)s AND e.user_id = ANY(%(people)s) AND e.session_id >= %(since)s
    AND e.message_type = ANY(%(others)s) AND coalesce(e.event -> 'data' ->> 'is_gift', '') <> 'true'
ORDER BY e.session_id DESC LIMIT 1
"""


class UnknownAlert(NotFound):
    """There is no such alert."""

    code = "unknown_alert"


class ChangedMeanwhile(Conflict):
    """Somebody else changed this alert. Read it again, then change it."""

    code = "changed_meanwhile"


@dataclasses.dataclass(frozen=True, slots=True)
class OtherHalf:
    """What is on record of a renewal that was told as another event."""

    session_id: str
    data: dict[str, Any]
    was_told: bool
    # It is on record and not answered yet.
    is_coming: bool


class AlertService:
    def __init__(self, media: MediaPolicy, log: AAALog, *, base_url: str) -> None:
        self._media = media
        self._log = log
        self._base_url = base_url.rstrip("/")

    def list_for(self, db: DAL, community_id: int) -> list[dict[str, Any]]:
        return fetch(db, ALERTS, {"community": community_id})

    def other_half(self, db: DAL, event: str, call: ModuleCall) -> OtherHalf | None:
        """The same renewal as another event: Twitch tells of one by a subscription and, once it is shared, a resub.

        Until the end of the transaction no other renewal there is told, so that two that come together see each other.
        """
        if event not in RENEWALS:
            return None
        fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended('renewals of ' || %s, 0))", (call.entity.entity_id,))
        row = fetch_one(
            db,
            OTHER_HALF,
            {
                "entity": call.entity.entity_id,
                "people": list(call.user.ids),
                "since": first_id_at(datetime.now(UTC) - RENEWED_WITHIN),
                "others": [each for each in RENEWALS if each != event],
            },
        )
        return OtherHalf(**row) if row else None

    def alerts_of(self, db: DAL, community_id: int, event: str, *, only: int | None = None) -> list[Alert]:
        """What there is for an event: the community's own, also if it has switched them all off, else the built-in.

        With `only` it is that one alone.
        """
        rows = fetch(
            db,
            f"SELECT {', '.join('a.' + name for name in ('id', 'shown_count', *FIELDS))},"
            " coalesce(m.content_type LIKE 'video/%%', false) AS is_video FROM browser_source_alerts a"
            " LEFT JOIN browser_source_media m ON m.community_id = a.community_id"
            " AND a.image = '/browser/media/' || m.sha256"
            " WHERE a.community_id = %(community)s AND a.event = %(event)s"
            " AND (%(only)s::bigint IS NULL OR a.id = %(only)s) ORDER BY a.id",
            {"community": community_id, "event": event, "only": only},
        )
        return [Alert(**row) for row in rows] or [each for each in DEFAULTS if each.event == event]

    def count_shown(self, db: DAL, alert: Alert) -> int:
        """Note that an alert is shown. Returns how often it was, this time included."""
        row = fetch_one(
            db,
            "UPDATE browser_source_alerts SET shown_count = shown_count + 1 WHERE id = %s RETURNING shown_count",
            (alert.id,),
        )
        return int(row["shown_count"]) if row else 1

    def add(self, db: DAL, community_id: int, wanted: Mapping[str, Any], *, by: str) -> dict[str, Any]:
        """Add an alert; what is not said is as in the built-in one. Raises: Invalid; Conflict above MAX_ALERTS."""
        alert = {name: getattr(default_for(wanted["event"]), name) for name in FIELDS} | dict(wanted)
        self._check(db, community_id, alert)
        fetch(db, "SELECT id FROM communities WHERE id = %s FOR UPDATE", (community_id,))
        if len(self.list_for(db, community_id)) >= MAX_ALERTS:
            raise Conflict(f"A community has at most {MAX_ALERTS} alerts. Delete one first.")
        row = fetch_one(
            db,
            f"INSERT INTO browser_source_alerts (community_id, created_by, {', '.join(FIELDS)})"
            f" VALUES (%(community)s, %(by)s, {', '.join(f'%({name})s' for name in FIELDS)}) RETURNING {SHOWN}",
            {**_as_columns(alert), "community": community_id, "by": by},
        )
        assert row is not None
        _record(db, "alert_added", community_id, None, row)
        self._log.audit("alert_added", community=community_id, user=by, alert=row["id"], alert_event=row["event"])
        return row

    def get(self, db: DAL, alert_id: int, caller: Account, *, is_locked: bool = False) -> dict[str, Any]:
        """An alert that the caller may see, with its community. Raises: UnknownAlert."""
        row = fetch_one(
            db,
            f"SELECT community_id, {SHOWN} FROM browser_source_alerts WHERE id = %s"
            + (" FOR UPDATE" if is_locked else ""),
            (alert_id,),
        )
        if row is None or caller.community_id not in (None, row["community_id"]):
            raise UnknownAlert()
        return row

    def change(
        self, db: DAL, alert_id: int, version: int | None, wanted: Mapping[str, Any], caller: Account
    ) -> dict[str, Any]:
        """Change what is said of an alert; with a version only as it was then.

        Raises: UnknownAlert; ChangedMeanwhile; Invalid.
        """
        before = self._at_version(db, alert_id, version, caller)
        alert = {name: before[name] for name in FIELDS} | dict(wanted)
        self._check(db, before["community_id"], alert)
        row = fetch_one(
            db,
            f"UPDATE browser_source_alerts SET version = version + 1, updated_at = now(),"
            f" {', '.join(f'{name} = %({name})s' for name in FIELDS)} WHERE id = %(id)s RETURNING {SHOWN}",
            {**_as_columns(alert), "id": alert_id},
        )
        assert row is not None
        _record(db, "alert_changed", before["community_id"], before, row)
        self._log.audit("alert_changed", community=before["community_id"], user=caller.name, alert=alert_id)
        return row

    def delete(self, db: DAL, alert_id: int, version: int | None, caller: Account) -> None:
        """Raises: UnknownAlert; ChangedMeanwhile."""
        before = self._at_version(db, alert_id, version, caller)
        fetch(db, "DELETE FROM browser_source_alerts WHERE id = %s", (alert_id,))
        _record(db, "alert_deleted", before["community_id"], before, None)
        self._log.audit("alert_deleted", community=before["community_id"], user=caller.name, alert=alert_id)

    def _at_version(self, db: DAL, alert_id: int, version: int | None, caller: Account) -> dict[str, Any]:
        row = self.get(db, alert_id, caller, is_locked=True)
        if version is not None and version != row["version"]:
            raise ChangedMeanwhile(f"This alert is at version {row['version']} by now. Read it again, then change it.")
        return row

    def _check(self, db: DAL, community_id: int, alert: dict[str, Any]) -> None:
        """Raises: Invalid, naming the field. Makes addresses of uploaded files what our pages load."""
        low, high = alert["min_amount"], alert["max_amount"]
        if low is not None and high is not None and low > high:
            raise Invalid("max_amount is less than min_amount.", field="max_amount")
        for name, kinds in (("image", ("image/", "video/")), ("sound", ("audio/",))):
            if alert[name]:
                alert[name] = self._find_media(db, community_id, name, alert[name], kinds)

    def _find_media(self, db: DAL, community_id: int, name: str, said: str, kinds: tuple[str, ...]) -> str:
        own = said.removeprefix(self._base_url)
        if is_own(own):
            row = fetch_one(
                db,
                "SELECT content_type FROM browser_source_media WHERE community_id = %s AND sha256 = %s",
                (community_id, own.rpartition("/")[2]),
            )
            if row is None:
                raise Invalid(f"{name}: this community has uploaded no such file.", field=name)
            if not row["content_type"].startswith(kinds):
                raise Invalid(f"{name}: that file is {row['content_type']}.", field=name)
            return own
        if not self._media.allows(said):
            host = urlsplit(said).hostname or said[:60]
            raise Invalid(f"{name}: nothing is loaded from {host}. Upload the file first.", field=name)
        return said


def _record(
    db: DAL, action: str, community_id: int, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """Write a change into the audit log, with how it is taken back."""
    alert = after or before
    assert alert is not None
    was, now = (row and {name: row[name] for name in FIELDS} for row in (before, after))
    undo = Undo("PUT", f"{PATH}/{alert['id']}", was)
    if before is None:
        undo = Undo("DELETE", f"{PATH}/{alert['id']}")
    if after is None:
        undo = Undo("POST", PATH, {**(was or {}), "community_id": community_id})
    audit.record(
        db,
        "browser_source_core",
        action,
        f"alert/{alert['id']}",
        community_id=community_id,
        before=was,
        after=now,
        undo=undo,
    )


def _as_columns(alert: Mapping[str, Any]) -> dict[str, Any]:
    return {**alert, **{name: json.dumps(list(alert[name])) for name in ("platforms", "labels")}}
