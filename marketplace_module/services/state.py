"""What community modules remember: at most 100 notes of 8 KB, of each module in each community."""

from __future__ import annotations

import re
from typing import Any

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.base.errors import Conflict, Invalid, NotAllowed, NotFound, TooLarge
from waddlebot.base.wire import to_json
from waddlebot.data.database import fetch, fetch_one
from waddlebot.web.callback import CallToken

KEY = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
MAX_KEYS = 100
MAX_VALUE_BYTES = 8 * 1024


class NoSuchNote(NotFound):
    """Nothing is kept under that key."""

    code = "no_such_key"


class TooManyNotes(Conflict):
    """A module keeps at most 100 notes in a community. Delete one first."""

    code = "too_many_keys"


class ChangedMeanwhile(Conflict):
    """Somebody else has changed that since. Read it again."""

    code = "changed_meanwhile"


def check_call(db: DAL, call: CallToken) -> None:
    """Whether a call may still remember anything: the module may have been taken away while it ran.

    Raises: NotAllowed.
    """
    call.check_may("state")
    if not call.version:
        return
    found = fetch(
        db,
        "SELECT FROM module_installations WHERE community_id = %s AND module_id = %s AND state <> 'uninstalling'"
        " LIMIT 1",
        (call.community_id, call.module_name),
    )
    if not found:
        raise NotAllowed(f"{call.module_name} is not installed there any more.")


def list_notes(db: DAL, call: CallToken) -> list[dict[str, Any]]:
    return fetch(
        db,
        "SELECT key, version, updated_at FROM module_state WHERE module_id = %s AND community_id = %s ORDER BY key",
        (call.module_name, call.community_id),
    )


def get_note(db: DAL, call: CallToken, key: str) -> dict[str, Any]:
    """Raises: NoSuchNote; Invalid."""
    row = fetch_one(
        db,
        "SELECT key, value, version, updated_at FROM module_state"
        " WHERE module_id = %s AND community_id = %s AND key = %s",
        (call.module_name, call.community_id, check_key(key)),
    )
    if row is None:
        raise NoSuchNote()
    return row


def put_note(db: DAL, call: CallToken, key: str, value: Any, expected: int | None) -> int:
    """Keep a value, if the note still has the version that is expected: 0 is none. Returns its new version.

    Raises: ChangedMeanwhile; TooManyNotes; TooLarge; Invalid.
    """
    text = to_json(value)
    if len(text.encode()) > MAX_VALUE_BYTES:
        raise TooLarge(f"A value has at most {MAX_VALUE_BYTES // 1024} KB of JSON.", field="value")
    place = call.module_name, call.community_id
    fetch(db, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"state {place[0]} {place[1]}",))
    known = fetch_one(
        db,
        "SELECT version FROM module_state WHERE module_id = %s AND community_id = %s AND key = %s",
        (*place, check_key(key)),
    )
    version = known["version"] if known else 0
    if expected is not None and expected != version:
        raise ChangedMeanwhile(version=version)
    if known is None:
        count = fetch_one(
            db, "SELECT count(*) AS n FROM module_state WHERE module_id = %s AND community_id = %s", place
        )
        if count and count["n"] >= MAX_KEYS:
            raise TooManyNotes()
    row = fetch_one(
        db,
        "INSERT INTO module_state AS s (module_id, community_id, key, value) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (module_id, community_id, key) DO UPDATE SET value = excluded.value, version = s.version + 1,"
        " updated_at = now() RETURNING version",
        (*place, key, Json(value, dumps=to_json)),
    )
    assert row is not None
    return int(row["version"])


def delete_note(db: DAL, call: CallToken, key: str) -> None:
    """One that is not there is gone. Raises: Invalid."""
    fetch(
        db,
        "DELETE FROM module_state WHERE module_id = %s AND community_id = %s AND key = %s",
        (call.module_name, call.community_id, check_key(key)),
    )


def check_key(key: str) -> str:
    if not KEY.fullmatch(key):
        raise Invalid("A key has 1 to 100 of A-Z a-z 0-9 _ . : -", field="key")
    return key
