"""Where the application's subscriptions deliver: our webhook, or our conduit. Either way the other is ours too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from .conduit_service import ConduitService

# Whether a subscription's transport is such a one.
Fits = Callable[[Mapping[str, str]], bool]


class Place(Protocol):
    """Threads may wait in any of these."""

    @property
    def name(self) -> Literal["webhook", "conduit"]: ...

    @property
    def not_reached(self) -> str:
        """Why nothing arrives, in words."""

    def transport(self) -> dict[str, str]:
        """What a new subscription is made with."""

    def here(self) -> Fits:
        """Which subscriptions deliver here."""

    def former(self) -> Fits:
        """Which deliver where this fleet had them before it changed its transport."""

    def note_costs(self, total: int, at_most: int) -> None:
        """What all of the application's subscriptions cost, and may cost."""


@dataclass(frozen=True, slots=True)
class WebhookPlace:
    callback: str
    secret: str
    conduit: ConduitService
    name: Literal["webhook"] = "webhook"

    @property
    def not_reached(self) -> str:
        return f"Twitch does not reach {self.callback}"

    def transport(self) -> dict[str, str]:
        return {"method": "webhook", "callback": self.callback, "secret": self.secret}

    def here(self) -> Fits:
        return lambda transport: transport.get("callback") == self.callback

    def former(self) -> Fits:
        own = self.conduit.own_ids()
        return lambda transport: transport.get("conduit_id") in own

    def note_costs(self, total: int, at_most: int) -> None:
        """Nobody asks for them here."""


@dataclass(frozen=True, slots=True)
class ConduitPlace:
    callback: str
    conduit: ConduitService
    name: Literal["conduit"] = "conduit"

    @property
    def not_reached(self) -> str:
        return "Twitch does not deliver to the conduit"

    def transport(self) -> dict[str, str]:
        return {"method": "conduit", "conduit_id": self.conduit.get().id}

    def here(self) -> Fits:
        conduit_id = self.conduit.get().id
        return lambda transport: transport.get("conduit_id") == conduit_id

    def former(self) -> Fits:
        return lambda transport: transport.get("callback") == self.callback

    def note_costs(self, total: int, at_most: int) -> None:
        self.conduit.save_costs(total, at_most)
