"""What the collector saw on Discord, apart from how it saw it.

The specification gives this file its name. Where Python is started inside this folder, `import dataclasses` finds it
before the standard library's; then it makes way.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

if __name__ == "dataclasses":
    _spec = spec_from_file_location(__name__, os.path.join(os.path.dirname(os.__file__), "dataclasses.py"))
    assert _spec is not None
    assert _spec.loader is not None
    # Importing ends with whatever is in sys.modules under the name that was asked for.
    sys.modules[__name__] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Person:
    """Who did something. `badges` are those that count in the channel where they did it."""

    id: str
    name: str
    display_name: str = ""
    badges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something that happened in a server, or in one channel of it.

    `event_id` is the same however often and on whichever way Discord tells it; empty where Discord gives it no name.
    """

    message_type: str
    dispatch: str
    guild_id: str
    channel_id: str
    person: Person
    event_id: str = ""
    text: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    occurred_at: datetime | None = None

    def as_data(self) -> dict[str, Any]:
        """As it is stored; `translate` reads it."""
        return {
            "message_type": self.message_type,
            "guild_id": self.guild_id,
            "person": asdict(self.person),
            "text": self.text,
            "details": self.details,
        }


@dataclass(slots=True)
class Session:
    """What Discord wants to see again from who resumes. `resume_url` is empty once nobody answered there."""

    id: str
    sequence: int
    resume_url: str


@dataclass(frozen=True, slots=True)
class VoiceState:
    """Where somebody is in voice; no channel is nowhere."""

    guild_id: str
    person: Person
    channel_id: str


@dataclass(frozen=True, slots=True)
class GuildSeen:
    """A server as the gateway describes it; `voices` is None where it did not say who is in voice."""

    id: str
    name: str
    owner_id: str
    member_count: int | None
    system_channel_id: str = ""
    voices: tuple[VoiceState, ...] | None = None


@dataclass(frozen=True, slots=True)
class CommandUsed:
    """A slash command: its name as Discord knows it, the subcommands below it, and the options that were filled in."""

    interaction_id: str
    token: str
    guild_id: str
    channel_id: str
    person: Person
    permissions: int
    name: str
    path: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
