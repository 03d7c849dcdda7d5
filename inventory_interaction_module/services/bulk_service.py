"""Many changes in one call, a few at once, each for itself: what fails keeps none of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class BulkService:
    """`max_workers` changes are made at once. Those of one item are made in their order."""

    def __init__(self, *, max_workers: int) -> None:
        self._max_workers = max_workers

    def run(self, changes: Sequence[T], *, of: Callable[[T], str], do: Callable[[T], R]) -> list[R]:
        """What `do` made of each, in the order of the changes; `of` names the item that one is about."""
        places: dict[str, list[int]] = {}
        for place, change in enumerate(changes):
            places.setdefault(of(change), []).append(place)

        def work(mine: list[int]) -> list[tuple[int, R]]:
            return [(place, do(changes[place])) for place in mine]

        with ThreadPoolExecutor(min(self._max_workers, len(places) or 1), "inventory-bulk") as pool:
            # Each thread knows who acts, as this one does.
            done = [pool.submit(copy_context().run, work, mine) for mine in places.values()]
            made = dict(pair for each in done for pair in each.result())
        return [made[place] for place in range(len(changes))]
