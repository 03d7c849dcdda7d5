"""Who may use a command. One documented order decides (design §7):

switched off → denied by name, label or role → allowed by one of these → the label that it is for → its level → on or
off by default.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from waddlebot.base.contracts import Event, Level, SubcommandSpec, badge_level
from waddlebot.base.text import fold
from waddlebot.community.people import Person
from waddlebot.module.interaction import find_subcommand

from ..catalogue.cache_manager import Place
from ..catalogue.catalogue import ALL_COMMANDS, Catalogue, Command, Terms


@dataclass(frozen=True, slots=True)
class Decision:
    """`code` names the step of the order that decided: switch, deny, allow, level or default."""

    allowed: bool
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, as permissions name them."""

    level: Level
    ids: Sequence[int] = ()
    labels: Collection[str] = ()


class RBACService:
    """Decides from what is already known about a person; it never asks the database."""

    def level_of(self, event: Event, person: Person, place: Place, *, scope: str = "entity") -> Level:
        """A badge counts for its own entity, a community role for all of the community's."""
        role = person.role_in(place.community_id)
        return role if scope == "community" else max(role, badge_level(event.platform, event.user.badges))

    def decide(
        self, command: Command, args: list[str], *, event: Event, person: Person, place: Place, catalogue: Catalogue
    ) -> Decision:
        """Whether a person may run a command, and the rule that says so."""
        level = self.level_of(event, person, place, scope=command.spec.scope)
        asking = Asking(level, person.ids, person.labels_in(place.community_id))
        return self.decide_for(asking, command, args, place.entity_id, catalogue)

    def decide_for(
        self, asking: Asking, command: Command, args: Sequence[str], entity_id: str, catalogue: Catalogue
    ) -> Decision:
        """The same for somebody of whom a call tells."""
        terms = catalogue.terms_of(command, entity_id)
        return (
            _by_settings(command, asking, entity_id, catalogue)
            or _by_label(command, asking, terms)
            or _by_level(command, args, asking.level, terms)
            or _by_default(command, entity_id, catalogue)
        )

    def decide_event(
        self, command: Command, *, event: Event, person: Person, place: Place, catalogue: Catalogue, is_line: bool
    ) -> Decision:
        """Whether a module may hear of an event that somebody caused, or a line that it listens for. Nobody asked it
        for anything, so no level."""
        terms = None if is_line else catalogue.terms_of(command, place.entity_id)
        level = self.level_of(event, person, place, scope=command.spec.scope)
        asking = Asking(level, person.ids, person.labels_in(place.community_id))
        return (
            _by_settings(command, asking, place.entity_id, catalogue)
            or _by_event_labels(command, asking, terms)
            or _by_default(command, place.entity_id, catalogue)
        )


def _by_settings(command: Command, asking: Asking, entity_id: str, catalogue: Catalogue) -> Decision | None:
    switch = catalogue.switch(command.module_name, entity_id)
    if switch is not None and not switch.enabled:
        instead = f"; {switch.replaced_by} is used instead" if switch.replaced_by else ""
        return Decision(False, "switch", f"{command.name} is switched off here{instead}.")
    if switch is not None and switch.taken_down:
        return Decision(False, "taken_down", f"The marketplace has taken down {command.module_name}.")
    if switch is not None and switch.parked:
        return Decision(False, "parked", f"{command.name} failed too often and is parked here until it is switched on.")
    if catalogue.is_unpaid(command):
        return Decision(False, "subscription_expired", f"{command.name} has to be paid for first.")
    if not catalogue.is_enabled(command, entity_id):
        return Decision(False, "switch", f"{command.name} is switched off here.")
    settings = [each for name in (command.name, ALL_COMMANDS) for each in catalogue.settings_for(name, entity_id)]
    subjects = {f"user:{own_id}": "you" for own_id in asking.ids}
    subjects |= {f"label:{fold(name)}": f"everybody labelled {name}" for name in asking.labels}
    subjects[f"role:{asking.level.label}"] = f"every {asking.level.label}"
    for subject, who in subjects.items():
        if any(subject in each.denied for each in settings):
            return Decision(False, "deny", f"{command.name} is denied to {who} here.")
    for subject, who in subjects.items():
        if any(subject in each.allowed for each in settings):
            return Decision(True, "allow", f"{command.name} is allowed to {who} here.")
    return None


def _by_label(command: Command, asking: Asking, terms: Terms | None) -> Decision | None:
    """What is for those with a label is for moderators too."""
    if terms is None or not terms.label or asking.level >= Level.MODERATOR:
        return None
    if terms.label in {fold(each) for each in asking.labels}:
        return None
    return Decision(False, "label", f"{command.name} is for everybody labelled {terms.label}.")


def _by_event_labels(command: Command, asking: Asking, terms: Terms | None) -> Decision | None:
    if terms is None or not terms.event_labels:
        return None
    if not {fold(each) for each in asking.labels}.isdisjoint(terms.event_labels):
        return None
    labels = " or ".join(terms.event_labels)
    return Decision(False, "label", f"{command.name} is told only of what those do who are labelled {labels}.")


def _by_level(command: Command, args: Sequence[str], level: Level, terms: Terms | None) -> Decision | None:
    subcommand = find_subcommand(command.spec, args[0]) if args else None
    needed = needed_level(command, subcommand, terms)
    if level >= needed:
        return None
    what = command.name + (f" {subcommand.name}" if subcommand else "")
    return Decision(False, "level", f"Only {needed.at_least} may use {what}; you are {level.one}.")


def _by_default(command: Command, entity_id: str, catalogue: Catalogue) -> Decision:
    if catalogue.is_on(command, entity_id):
        level = needed_level(command, None, catalogue.terms_of(command, entity_id))
        return Decision(True, "level", f"{command.name} is for every {level.label}.")
    return Decision(False, "default", f"{command.name} is not installed here.")


def needed_level(command: Command, subcommand: SubcommandSpec | None, terms: Terms | None = None) -> Level:
    level = terms.level if terms and terms.level is not None else Level.named(command.spec.level)
    if subcommand:
        return max(level, Level.named(subcommand.level))
    # Alone it only says how it is used, which is for whoever may use any of it. Community modules do as they like.
    forms = [Level.named(each.level) for each in command.spec.subcommands] if command.is_core else []
    return max(level, min(forms, default=level))
