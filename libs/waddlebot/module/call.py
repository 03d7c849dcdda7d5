"""What a handler is given, and what it may return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydal import DAL

from ..base.contracts import PRIVATE_PLATFORMS, Level, ModuleCall, ModuleResponse

Said = str | ModuleResponse | Sequence[ModuleResponse] | None


def say(
    message: str,
    *,
    reply: bool = False,
    private: bool = False,
    markup: bool | None = False,
    said: Sequence[str] = (),
) -> ModuleResponse:
    """Something to say in chat; `reply` threads it to the message that asked.

    What is `private` only the caller reads. Where that cannot be it is refused: ask `can_say_privately` first.
    The message is read as it stands here, also where its platform knows markup. Pass `markup=True` for a template that
    somebody made for their chat, filled with words that `as_written` has escaped for `call.platform`; None to have that
    done with the names and words of whoever asks, and with what is `said` beside.
    """
    data: dict[str, Any] = {"message": message, "reply": reply, "markup": markup}
    data |= ({"private": True} if private else {}) | ({"said": list(said)} if said else {})
    return ModuleResponse(response_action="chat", response_data=data)


def run_command(prefix: str, command: str, args: Sequence[str]) -> ModuleResponse:
    """Another command for the router to run, for the same caller and at the caller's own level."""
    return ModuleResponse(
        response_action="command", response_data={"prefix": prefix, "command": command, "args": list(args)}
    )


class MustWrite(Exception):
    """A handler that only reads as a rule writes this time: it is run again, in a transaction."""


@dataclass(slots=True)
class Asked:
    """One call of a module: who asks for what, and where."""

    payload: ModuleCall
    # The manifest's settings, for a router that does not know of settings yet.
    defaults: Mapping[str, Any]
    invalidations: list[tuple[str, str]] = field(default_factory=list, kw_only=True)
    counts: list[Callable[[], None]] = field(default_factory=list, kw_only=True)

    def invalidate(self, cache: str, key: object) -> None:
        """Make every process forget a cached value once the writes of this call are committed.

        Kept with the reply, so that a crash in between only delays it until the call is repeated.
        """
        self.invalidations.append((cache, str(key)))

    def count(self, count: Callable[[], None]) -> None:
        """Have this counted once the reply is kept: not in a simulation, nor by another run of the same call.

        It may be lost in a crash, so what is counted is no more than how often something is used.
        """
        self.counts.append(count)

    @property
    def community_id(self) -> int:
        return self.payload.community.id

    @property
    def entity_id(self) -> str:
        return self.payload.entity.entity_id

    @property
    def platform(self) -> str:
        return self.payload.entity.platform

    @property
    def user_name(self) -> str:
        user = self.payload.user
        return user.display_name or user.name or user.platform_user_id

    @property
    def level(self) -> Level:
        return Level.named(self.payload.user.level)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What is set for the module here, by the names in its manifest, defaults filled in."""
        return {**self.defaults, **self.payload.settings}

    @property
    def args(self) -> list[str]:
        return self.payload.trigger.args

    @property
    def can_say_privately(self) -> bool:
        """Whether the caller can be told something here that nobody else reads; on Twitch nobody can."""
        return self.payload.entity.platform in PRIVATE_PLATFORMS

    @property
    def is_simulated(self) -> bool:
        return self.payload.mode == "simulate"


@dataclass(slots=True)
class Call(Asked):
    """One call of a module, with the transaction that its writes belong to."""

    db: DAL
    only_reads: bool = field(default=False, kw_only=True)

    def must_write(self) -> None:
        """Raises: MustWrite, where the transaction takes no writes."""
        if self.only_reads:
            raise MustWrite
