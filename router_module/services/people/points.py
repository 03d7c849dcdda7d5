"""What an event is worth. Pure arithmetic over the table of the setting REPUTATION_POINTS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from waddlebot.base.contracts import MessageType

# Where the number is that some events are paid by, for each unit of it.
AMOUNT_IN: dict[str, str] = {
    MessageType.CHEER: "bits",
    MessageType.DONATION: "amount",
    MessageType.VOICE_TIME: "minutes",
}
# More than anybody gives or talks at once. One forged or mistaken event must not decide a leaderboard for good.
MAX_AMOUNT = 1_000_000.0


class Points(NamedTuple):
    score: int
    # How many bits, minutes or units of money; None for events that are paid by the piece.
    amount: float | None


NOTHING = Points(0, None)


def points_for(table: Mapping[str, float], message_type: str, platform: str, data: Mapping[str, Any]) -> Points:
    """What somebody earns by an event. `platform.type` in the table counts before `type`; part points are dropped.

    An amount that is missing, negative or no number at all earns nothing; one above MAX_AMOUNT counts as that.
    """
    if data.get("is_anonymous") is True:
        return NOTHING  # Whoever does not want to be known is in no ranking, and all of them are no one person.
    worth = table.get(f"{platform}.{message_type}", table.get(message_type, 0))
    field = AMOUNT_IN.get(message_type)
    if field is None:
        return NOTHING if _is_gift(message_type, data) else Points(math.floor(worth), None)
    amount = read_amount(data.get(field))
    # 0.29 × 100 is a little less than 29 in binary; the sixth digit puts that right before the rest is dropped.
    return Points(math.floor(round(amount * worth, 6)), amount) if amount else NOTHING


def read_amount(value: Any) -> float:
    """A number, or the text of one, between 0 and MAX_AMOUNT; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0.0
    try:
        amount = float(value)
    except OverflowError:  # An int beyond every float.
        return MAX_AMOUNT if isinstance(value, int) and value > 0 else 0.0
    except ValueError:
        return 0.0
    return min(amount, MAX_AMOUNT) if math.isfinite(amount) and amount > 0 else 0.0


def _is_gift(message_type: str, data: Mapping[str, Any]) -> bool:
    """A gift is one subgift of the giver and one subscription for each who receives it; only the first is paid."""
    return message_type == MessageType.SUBSCRIPTION and data.get("is_gift") in (True, "true")
