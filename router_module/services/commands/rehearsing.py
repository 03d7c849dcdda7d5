"""Changes that a command of the router's own makes: by whoever typed it, and taken back where it is only simulated."""

from __future__ import annotations

from collections.abc import Callable

from pydal import DAL
from waddlebot.base.contracts import ModuleCall
from waddlebot.data.audit import Acting, acting_as
from waddlebot.data.database import Database


class _Rehearsed(Exception):
    """Takes what a simulated command did back, and brings what it said."""

    def __init__(self, said: str) -> None:
        self.said = said


def changing(database: Database, call: ModuleCall, change: Callable[[DAL], str]) -> str:
    """Make a change in one transaction, and return what there is to say of it."""
    try:
        # Whoever typed it changes what it changes.
        with acting_as(Acting("router", own_id=call.user.own_id)), database.transaction() as db:
            said = change(db)
            if call.mode == "simulate":
                raise _Rehearsed(said)
    except _Rehearsed as rehearsed:
        return rehearsed.said
    return said
