"""Who may use a command. One documented order decides (design §7); today's part of it is the minimum level."""

from __future__ import annotations

from dataclasses import dataclass

from waddlebot.contracts import Event, Level, SubcommandSpec, badge_level
from waddlebot.interaction import find_subcommand

from .cache_manager import Command, Person, Place


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    code: str
    reason: str


class RBACService:
    """Decides from what is already known about a person; it never asks the database."""

    def level_of(self, event: Event, person: Person, place: Place, *, scope: str = "entity") -> Level:
        """A badge counts for its own entity, a community role for all of the community's."""
        role = person.role_in(place.community_id)
        return role if scope == "community" else max(role, badge_level(event.platform, event.user.badges))

    def decide(self, command: Command, args: list[str], *, event: Event, person: Person, place: Place) -> Decision:
        """Whether a person may run a command, and the rule that says so."""
        level = self.level_of(event, person, place, scope=command.spec.scope)
        subcommand = find_subcommand(command.spec, args[0]) if args else None
        needed = needed_level(command, subcommand)
        what = command.name + (f" {subcommand.name}" if subcommand else "")
        if level >= needed:
            return Decision(True, "level", f"{what} is for every {needed.label}; you are {_a(level)}.")
        return Decision(False, "level", f"Only {_a(needed)} or above may use {what}; you are {_a(level)}.")


def needed_level(command: Command, subcommand: SubcommandSpec | None) -> Level:
    level = Level.named(command.spec.level)
    return max(level, Level.named(subcommand.level)) if subcommand else level


def _a(level: Level) -> str:
    return f"an {level.label}" if level.label[0] in "aeiou" else f"a {level.label}"
