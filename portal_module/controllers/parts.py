"""What the controllers share: one-button forms, a key that shows that a button was on a page of ours, and how a
module's refusal gets into a form."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from py4web import request
from waddlebot.base.errors import UserError
from waddlebot.web.forms import STALE, PageForm
from waddlebot.web.sessions import PageSession
from yatl.helpers import BUTTON, FORM, INPUT, SPAN

from ..services.fleet_api import FleetRefused

KEY = "act_key_hex"
KEY_BYTES = 32
MAX_VALUE_CHARS = 40_000


class StalePage(UserError):
    __doc__ = STALE

    code = "stale_page"


def value(name: str) -> str:
    """What a request's form says, trimmed."""
    return str(request.forms.get(name) or "").strip()[:MAX_VALUE_CHARS]


def asked(name: str) -> str:
    """What a request's address says, trimmed."""
    return str(request.query.get(name) or "").strip()[:255]


def act_key(session: PageSession) -> str:
    """What the buttons of a session's pages bring along: its key, looking different on each page, so that the size of a
    compressed page tells nothing of it."""
    if not session.get(KEY):
        session[KEY] = secrets.token_hex(KEY_BYTES)
    pad = secrets.token_bytes(KEY_BYTES)
    return (pad + _xor(pad, bytes.fromhex(session[KEY]))).hex()


def check_act(session: PageSession) -> None:
    """Raises: StalePage for a request that no button of this session's pages made."""
    try:
        brought = bytes.fromhex(value("_key"))
    except ValueError as err:
        raise StalePage() from err
    key = _xor(brought[:KEY_BYTES], brought[KEY_BYTES:])
    if not session.get(KEY) or not hmac.compare_digest(key, bytes.fromhex(session[KEY])):
        raise StalePage()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=False))


class Buttons:
    """The buttons of one page, each a form of its own that works without script."""

    def __init__(self, session: PageSession) -> None:
        self.key = act_key(session)

    def __call__(self, where: str, label: str, /, *, icon: Any = "", kind: str = "small", **values: Any) -> FORM:
        """A button that says what it does; `values` go along."""
        return self._form(where, BUTTON(icon, label, _class=f"btn {kind}"), values)

    def switch(self, where: str, label: str, /, *, is_on: bool, **values: Any) -> FORM:
        """A switch that shows how something is; pressing it asks for the other."""
        states = {"_role": "switch", "_aria-checked": "true" if is_on else "false", "_aria-label": label}
        return self._form(where, BUTTON(SPAN(), _class="toggle", **states), {**values, "on": "" if is_on else "1"})

    def _form(self, action: str, button: BUTTON, values: Mapping[str, Any]) -> FORM:
        hidden = [
            INPUT(_type="hidden", _name=name, _value=str(each)) for name, each in {"_key": self.key, **values}.items()
        ]
        return FORM(*hidden, button, _method="post", _action=action, _class="act")


def refuse(form: PageForm, err: FleetRefused, **names: str) -> None:
    """Show a module's refusal where it belongs; `names` say which of the form's fields one of the request's is."""
    field = names.get(err.field.replace(".", "_"), err.field)
    if field in form.custom.widgets:
        form.refuse(**{field: err.message})
    else:
        form.refuse(err.message)


__all__ = ["Buttons", "StalePage", "act_key", "asked", "check_act", "refuse", "value"]
