"""Where the application's subscriptions deliver: our webhook, or our conduit. Either way the other is ours too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from .conduit_service import ConduitService


class Place(Protocol):
    """Threads may wait in any of these."""

    @property
    def name(self) -> Literal["webhook", "conduit"]: ...

    @property
    def not_reached(self) -> str:
        """Why nothing arrives, in words."""

    def transport(self) -> dict[str, str]:
        """What a new subscription is made with."""

    def is_here(self, transport: Mapping[str, str]) -> bool:
        """Whether a subscription delivers here."""

    def is_former(self, transport: Mapping[str, str]) -> bool:
        """Whether it delivers where this fleet had it before it changed its transport."""

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

    def is_here(self, transport: Mapping[str, str]) -> bool:
        return transport.get("callback") == self.callback

    def is_former(self, transport: Mapping[str, str]) -> bool:
        conduit_id = transport.get("conduit_id")
        return bool(conduit_id) and conduit_id in self.conduit.own_ids()

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

    def is_here(self, transport: Mapping[str, str]) -> bool:
        return transport.get("conduit_id") == self.conduit.get().id

    def is_former(self, transport: Mapping[str, str]) -> bool:
        return transport.get("callback") == self.callback

    def note_costs(self, total: int, at_most: int) -> None:
        self.conduit.save_costs(total, at_most)
