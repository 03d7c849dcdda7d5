"""Executions whose call may not be made twice: the call is on record before it is made."""

from __future__ import annotations

from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import UpstreamRefused
from waddlebot.data.database import Database


class BegunBefore(UpstreamRefused):
    """It was begun by a router that did not see its end, so it is not begun again."""

    code = "begun_before"


class Starts:
    """For functions elsewhere, which may do their work again when they are called again (contracts §3).

    A router that dies while one runs leaves a pending execution. Whoever takes that over finds the mark.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def begin(self, call: ModuleCall) -> None:
        """Mark an execution as begun. Raises: BegunBefore."""
        if call.mode == "simulate":  # Not on record, and lost with its router.
            return
        marked = self._db.statement(
            "UPDATE command_executions SET started_at = now() WHERE execution_id = %s AND started_at IS NULL"
            " RETURNING execution_id",
            (call.execution_id,),
        )
        if not marked:
            raise BegunBefore()
