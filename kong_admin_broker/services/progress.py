"""How far a change got that is made of several calls of Kong, for whoever has to go on with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from waddlebot.base.errors import WaddleBotError

from .kong_client import KongUnavailable


class Progress:
    """The steps of a change, in their order: `did` after each."""

    def __init__(self, *steps: str) -> None:
        self.done: list[str] = []
        self.not_done = list(steps)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Do the next one. What was done before it stays when it fails."""
        try:
            yield
        except WaddleBotError as err:
            self.stop(err)
        self.did()

    def did(self) -> None:
        self.done.append(self.not_done.pop(0))

    def stop(self, err: WaddleBotError, *, taken_back: bool | None = None) -> NoReturn:
        """Raise the error again, with what was and was not done. `taken_back` says whether nothing of it is left; None:
        what was done stays."""
        details = {**err.details, "done": self.done, "not_done": self.not_done}
        if taken_back is True:
            details |= {"done": [], "taken_back": self.done}
            said = "Nothing was changed."
        elif taken_back is False:
            said = "What was done is taken back as soon as Kong answers."
        else:
            said = f"Done: {', '.join(self.done) or 'nothing'}. Not done: {', '.join(self.not_done)}."
        said = f"{err.message.rstrip('.')}. {said}"
        if isinstance(err, KongUnavailable):
            raise KongUnavailable(said, retry_after_s=5, **details) from err
        raise type(err)(said, **details) from err
