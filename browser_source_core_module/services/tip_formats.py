"""What services that take tips post: Ko-fi, Buy Me a Coffee, and anything else as plain JSON. Pure."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from waddlebot.base.errors import BadRequest, Invalid
from waddlebot.base.wire import clean, invalid, parse_json

MAX_AMOUNT = 1_000_000
MAX_NAME_CHARS, MAX_MESSAGE_CHARS = 100, 500


@dataclass(frozen=True, slots=True)
class Tip:
    """A tip. `tip_id` begins with the service that it came by."""

    tip_id: str
    name: str
    message: str
    amount: float
    currency: str

    @property
    def person_id(self) -> str:
        """Somebody who is known by a name only: the same name by the same service is the same person."""
        service = self.tip_id.partition(":")[0]
        return f"tip-{service}-{hashlib.sha256(self.name.casefold().encode()).hexdigest()[:16]}"


class Sent(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class KofiTip(Sent):
    """Source: https://ko-fi.com/manage/webhooks, "What we send"."""

    kofi_transaction_id: str = ""
    message_id: str = ""
    from_name: str | None = None
    message: str | None = None
    amount: float
    currency: str | None = None
    # Whether the name and the message may be shown.
    is_public: bool = True

    def tip(self) -> Tip:
        name = self.from_name if self.is_public else ""
        message = self.message if self.is_public else ""
        return _tip("kofi", self.kofi_transaction_id or self.message_id, name, message, self.amount, self.currency)


class CoffeeData(Sent):
    id: str = ""
    transaction_id: str | None = None
    supporter_name: str | None = None
    support_note: str | None = None
    note_hidden: bool | None = False
    amount: float
    currency: str | None = None


class Coffee(Sent):
    """Source: https://help.buymeacoffee.com/en/articles/7836926, webhooks."""

    type: str
    live_mode: bool = True
    data: CoffeeData

    def tip(self) -> Tip:
        data = self.data
        message = "" if data.note_hidden else data.support_note
        return _tip("coffee", data.transaction_id or data.id, data.supporter_name, message, data.amount, data.currency)


class PlainTip(Sent):
    id: str = Field(min_length=1, max_length=200)
    name: str | None = None
    message: str | None = None
    amount: float
    currency: str | None = None

    def tip(self) -> Tip:
        return _tip("plain", self.id, self.name, self.message, self.amount, self.currency)


def read_tip(body: bytes, content_type: str) -> Tip | None:
    """The tip in a request, or None where it tells of something else, such as a refund.

    Raises: BadRequest; Invalid, naming the field.
    """
    is_form = content_type.lower().startswith("application/x-www-form-urlencoded")
    sent = _form_data(body) if is_form else parse_json(body)
    if not isinstance(sent, dict):
        raise Invalid("The body must be an object.", field="body")
    try:
        if is_form or "kofi_transaction_id" in sent:
            return KofiTip.model_validate(sent).tip()
        if isinstance(sent.get("data"), dict) and isinstance(sent.get("type"), str):
            kind = sent["type"]
            return Coffee.model_validate(sent).tip() if kind.endswith((".created", ".started")) else None
        return PlainTip.model_validate(sent).tip()
    except ValidationError as err:
        raise invalid(err) from err


def _form_data(body: bytes) -> Any:
    """Ko-fi posts a form with one field that is JSON."""
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=20)
    except ValueError as err:
        raise BadRequest("The form cannot be read.") from err
    if "data" not in fields:
        raise Invalid("data is missing.", field="data")
    return parse_json(fields["data"][0].encode())


def _tip(service: str, own_id: str, name: str | None, message: str | None, amount: float, currency: str | None) -> Tip:
    if not own_id:
        raise Invalid("The tip has no id.", field="id")
    if not math.isfinite(amount) or not 0 < amount <= MAX_AMOUNT:
        raise Invalid(f"amount: more than 0 and at most {MAX_AMOUNT}.", field="amount")
    return Tip(
        tip_id=f"{service}:{hashlib.sha256(own_id.encode()).hexdigest()}",
        name=_line(name, MAX_NAME_CHARS) or "Somebody",
        message=_line(message, MAX_MESSAGE_CHARS),
        amount=round(amount, 2),
        currency=_line(currency, 8).upper(),
    )


def _line(text: str | None, limit: int) -> str:
    return " ".join(str(clean(text or "")).split())[:limit]
