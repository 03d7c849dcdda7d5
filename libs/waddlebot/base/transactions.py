"""Which transactions a thread has open, so that nothing calls out of the house in the middle of one.

Apart from the database, so that a process without one does not load it for its HTTP client's sake.
"""

from __future__ import annotations

import threading

_here = threading.local()


class OpenTransaction(AssertionError):
    """Something is called while this thread holds a transaction open: a bug in the caller."""


def open_units() -> set[int]:
    """What this thread has open, for the database to add to and take from."""
    units: set[int] = _here.__dict__.setdefault("units", set())
    return units


def check_no_transaction() -> None:
    """Raises: OpenTransaction. Called before anything leaves this thread (contracts §3)."""
    if getattr(_here, "units", None):
        raise OpenTransaction("close the transaction before calling another service")
