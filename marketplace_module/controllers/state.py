"""What modules remember, by the token of a call."""

from __future__ import annotations

from typing import Any

from pydal import DAL
from pydantic import Field
from waddlebot.base.contracts import Strict
from waddlebot.base.errors import NotAuthenticated
from waddlebot.web.auth import MODULE_IN_CALL, Account
from waddlebot.web.callback import CallToken
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import whole_list_answer

from ..services import state

MAX_BODY_BYTES = 64 * 1024


class Note(Strict):
    """A value. With `version` it is kept only if the note has that version still; 0: if there is none."""

    value: Any
    version: int | None = Field(None, ge=0)


@endpoint("GET", "/marketplace/state", caller=MODULE_IN_CALL, in_call=True)
def list_notes(caller: Account, db: DAL) -> dict[str, Any]:
    """List the keys that a module has in this community."""
    return whole_list_answer("keys", state.list_notes(db, _call(db, caller)))


@endpoint("GET", "/marketplace/state/<key>", caller=MODULE_IN_CALL, in_call=True)
def read_note(key: str, caller: Account, db: DAL) -> dict[str, Any]:
    """Read a value and its version."""
    return {"success": True, **state.get_note(db, _call(db, caller), key)}


@endpoint(
    "PUT", "/marketplace/state/<key>", caller=MODULE_IN_CALL, in_call=True, body=Note, max_body_bytes=MAX_BODY_BYTES
)
def write_note(key: str, note: Note, caller: Account, db: DAL) -> dict[str, Any]:
    """Keep a value."""
    version = state.put_note(db, _call(db, caller), key, note.value, note.version)
    return {"success": True, "key": key, "version": version}


@endpoint("DELETE", "/marketplace/state/<key>", caller=MODULE_IN_CALL, in_call=True)
def forget_note(key: str, caller: Account, db: DAL) -> dict[str, Any]:
    """Forget a value."""
    state.delete_note(db, _call(db, caller), key)
    return {"success": True, "key": key}


def _call(db: DAL, caller: Account) -> CallToken:
    if caller.call is None:
        raise NotAuthenticated("This needs the token of a call.")
    state.check_call(db, caller.call)
    return caller.call
