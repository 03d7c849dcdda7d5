"""What the controllers share: one-button forms, a key that shows that a button was on a page of ours, and how a
module's refusal gets into a form."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager
from html import escape
from typing import Any

from py4web import request
from waddlebot.base.errors import UserError
from waddlebot.data.audit import Acting, acting_as
from waddlebot.web.auth import PORTAL
from waddlebot.web.endpoint import Raw
from waddlebot.web.forms import STALE, PageForm
from waddlebot.web.sessions import PageSession
from waddlebot.web.signin import Login
from yatl.helpers import XML

from ..services.carrying import as_file
from ..services.fleet_api import FleetRefused

KEY = "act_key_hex"
KEY_BYTES = 32
MAX_VALUE_CHARS = 40_000


class StalePage(UserError):
    __doc__ = STALE

    code = "stale_page"


def value(name: str) -> str:
    """What a request's form says, trimmed."""
    return _plain(request.forms.get(name))[:MAX_VALUE_CHARS]


def asked(name: str) -> str:
    """What a request's address says, trimmed."""
    return _plain(request.query.get(name))[:255]


def _plain(said: Any) -> str:
    """A text as the database can take it, which has no NUL."""
    return str(said or "").replace("\0", "").strip()


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
        self._hidden_key = _hidden("_key", self.key)

    def __call__(self, where: str, label: str, /, *, icon: Any = "", kind: str = "small", **values: Any) -> XML:
        """A button that says what it does; `values` go along."""
        return self._form(where, f'<button class="btn {escape(kind)}">{icon}{escape(label)}</button>', values)

    def switch(self, where: str, label: str, /, *, is_on: bool, **values: Any) -> XML:
        """A switch that shows how something is; pressing it asks for the other."""
        state = f'aria-checked="{"true" if is_on else "false"}" aria-label="{escape(label)}"'
        button = f'<button class="toggle" role="switch" {state}><span></span></button>'
        return self._form(where, button, {**values, "on": "" if is_on else "1"})

    def _form(self, action: str, button: str, values: Mapping[str, Any]) -> XML:
        """Text, not py4web's helpers: a page may have a hundred of them."""
        hidden = "".join([_hidden(name, each) for name, each in values.items()])
        return XML(
            f'<form method="post" action="{escape(action)}" class="act">{self._hidden_key}{hidden}{button}</form>'
        )


def _hidden(name: str, value: Any) -> str:
    return f'<input type="hidden" name="{escape(name)}" value="{escape(str(value))}">'


def acting_for(login: Login) -> AbstractContextManager[None]:
    """Whatever the portal itself changes in the block is changed by who is signed in."""
    return acting_as(Acting(PORTAL, login_id=login.id, own_id=login.more["waddlebot_user_id"]))


def as_download(name: str, content: Mapping[str, Any]) -> Raw:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Raw(as_file(content), "application/json; charset=utf-8", headers=headers)


def refuse(form: PageForm, err: FleetRefused, **names: str) -> None:
    """Show a module's refusal where it belongs; `names` say which of the form's fields one of the request's is."""
    problems = {names.get(field.replace(".", "_"), field): said for field, said in err.problems.items()}
    if problems and problems.keys() <= form.custom.widgets.keys():
        form.refuse(**problems)
    else:
        form.refuse(err.message)


__all__ = ["Buttons", "StalePage", "act_key", "acting_for", "asked", "check_act", "refuse", "value"]
