"""Super-admins over HTTP: made, changed, ended, let in again, given other keys; and the log of all that."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator
from waddlebot.base.contracts import Attributed
from waddlebot.base.encryption import Keyring
from waddlebot.base.errors import Conflict, Invalid, WaddleBotError
from waddlebot.base.text import fold
from waddlebot.base.wire import shaped
from waddlebot.data.chain import verify
from waddlebot.data.database import Database
from waddlebot.web.auth import Account
from waddlebot.web.endpoint import RawRequest
from waddlebot.web.lists import Page, list_answer

from ..config import BrokerSettings
from ..services.audit_log import AuditLog
from ..services.sessions import Sessions
from ..services.user_manager import Made, State, Tier, User, UserManager
from ..services.verification import Verification
from .doors import Desk, at_both_doors

DAY_S = 86_400
# A key that is replaced is to end some day.
MAX_OVERLAP_S = 30 * DAY_S
# Whatever it is, a mail server decides; what would write a header or an address of its own is none.
Email = Annotated[str, shaped(r"^[^@\s<>,;:\"]+@[^@\s<>,;:\"]+\.[^@\s<>,;:\"]+$", "an e-mail address", max_length=254)]
ShortText = Annotated[str, StringConstraints(max_length=200)]
Notes = Annotated[str, StringConstraints(max_length=4000)]
Username = Annotated[str, StringConstraints(max_length=20_000)]


def _tier(value: Any) -> Any:
    return fold(value).replace("_", "-") if isinstance(value, str) else value


class _Person(Attributed):
    email: Email | None = None
    full_name: ShortText | None = None
    notes: Notes | None = None


class NewSuperAdmin(_Person):
    """`tier` says what the key opens: super-admin the broker, admin and service what accounts of those groups may."""

    username: Username
    tier: Tier = "super-admin"

    _known = field_validator("tier", mode="before")(_tier)


class ChangedSuperAdmin(_Person):
    """What is named is changed, and null empties it. A username stays."""

    username: Username | None = None
    tier: Tier | None = None

    _known = field_validator("tier", mode="before")(_tier)


class KeyChange(Attributed):
    """`overlap_s`: the key before works on for so long, 24 hours unless it is said; 0 ends it at once."""

    overlap_s: int = Field(DAY_S, ge=0, le=MAX_OVERLAP_S)


class UserQuery(Page):
    tier: Tier | None = None
    state: State | None = None

    _known = field_validator("tier", mode="before")(_tier)


class AuditQuery(Page):
    """`actor` is who did it, `username` to whom it was done."""

    username: ShortText | None = None
    actor: ShortText | None = None
    action: ShortText | None = None
    since: datetime | None = None
    until: datetime | None = None


class SessionQuery(Page):
    username: ShortText | None = None


@at_both_doors("POST", "/super-admins", body=NewSuperAdmin, status=201)
def create_super_admin(
    new: NewSuperAdmin,
    caller: Account,
    request: RawRequest,
    desk: Desk,
    users: UserManager,
    verification: Verification,
    settings: BrokerSettings,
) -> dict[str, Any]:
    """Make an account and its key, which is shown now and never again; with REQUIRE_EMAIL_VERIFICATION it opens nothing
    until the link in a mail to it is used."""
    by = desk.enter(caller, request)
    nonce = None
    if settings.require_email_verification:
        if new.email is None:
            raise Invalid("email: an address is needed, because it has to be verified.", field="email")
        nonce = verification.make()
    made = users.create(
        new.username,
        by,
        tier=new.tier,
        email=new.email,
        full_name=new.full_name,
        notes=new.notes,
        verification=nonce,
    )
    mail = {"verification_mail": _send(verification, made.user)} if nonce else {}
    return {"success": True, **_with_key(users, made), **mail}


@at_both_doors("GET", "/super-admins", query=UserQuery)
def list_super_admins(
    query: UserQuery, caller: Account, request: RawRequest, desk: Desk, users: UserManager
) -> dict[str, Any]:
    """All accounts by name, with the ids of their keys."""
    desk.enter(caller, request)
    return list_answer("super_admins", users.read_page(query, **query.filters()), query)


@at_both_doors("GET", "/super-admins/<username>")
def read_super_admin(
    username: str, caller: Account, request: RawRequest, desk: Desk, users: UserManager
) -> dict[str, Any]:
    """One account, with the ids of its keys."""
    desk.enter(caller, request)
    return {"success": True, "super_admin": users.get(username)}


@at_both_doors("PUT", "/super-admins/<username>", body=ChangedSuperAdmin)
def update_super_admin(
    username: str, change: ChangedSuperAdmin, caller: Account, request: RawRequest, desk: Desk, users: UserManager
) -> dict[str, Any]:
    """Change what is named of an account; another tier changes what its keys open, here and at Kong."""
    by = desk.enter(caller, request)
    named = change.model_fields_set - set(Attributed.model_fields)
    return {"success": True, "super_admin": users.update(username, by, {n: getattr(change, n) for n in named})}


@at_both_doors("POST", "/super-admins/<username>/deactivate", body=Attributed | None)
def deactivate_super_admin(
    username: str,
    _said: Attributed | None,
    caller: Account,
    request: RawRequest,
    desk: Desk,
    users: UserManager,
) -> dict[str, Any]:
    """End an account's keys and rights; its name and its consumer at Kong stay."""
    by = desk.enter(caller, request)
    return {"success": True, "super_admin": users.deactivate(username, by)}


@at_both_doors("POST", "/super-admins/<username>/reactivate", body=Attributed | None)
def reactivate_super_admin(
    username: str,
    _said: Attributed | None,
    caller: Account,
    request: RawRequest,
    desk: Desk,
    users: UserManager,
    verification: Verification,
) -> dict[str, Any]:
    """Let an account in again, with a new key, which is shown now and never again; whose address was never verified
    waits for the link in another mail."""
    by = desk.enter(caller, request)
    made = users.reactivate(username, by, verification=verification.make())
    mail = {"verification_mail": _send(verification, made.user)} if made.user.state == "pending" else {}
    return {"success": True, **_with_key(users, made), **mail}


@at_both_doors("POST", "/super-admins/<username>/regenerate-key", body=KeyChange | None)
def regenerate_key(
    username: str, change: KeyChange | None, caller: Account, request: RawRequest, desk: Desk, users: UserManager
) -> dict[str, Any]:
    """Give an account another key, which is shown now and never again; the one before works on for `overlap_s`."""
    by = desk.enter(caller, request)
    made = users.regenerate(username, by, overlap_s=(change or KeyChange()).overlap_s)
    return {"success": True, **_with_key(users, made)}


@at_both_doors("POST", "/super-admins/<username>/verification", body=Attributed | None)
def send_verification(
    username: str,
    _said: Attributed | None,
    caller: Account,
    request: RawRequest,
    desk: Desk,
    users: UserManager,
    verification: Verification,
) -> dict[str, Any]:
    """Send the mail with the link once more."""
    desk.enter(caller, request)
    user = users.find_pending(username)
    if user is None:
        raise Conflict(f"{username[:64]} does not wait for a mail.")
    verification.send(user)
    return {"success": True, "verification_mail": "sent"}


@at_both_doors("GET", "/audit-log", query=AuditQuery)
def read_audit_log(
    query: AuditQuery, caller: Account, request: RawRequest, desk: Desk, audit: AuditLog
) -> dict[str, Any]:
    """Who did what to whom, and from where, newest first."""
    desk.enter(caller, request)
    return list_answer("entries", audit.read_page(query, **query.filters()), query)


@at_both_doors("GET", "/audit-log/verify")
def verify_audit_log(
    caller: Account, request: RawRequest, desk: Desk, database: Database, keyring: Keyring
) -> dict[str, Any]:
    """Say whether the log is as it was written, as `waddlebot audit verify` does."""
    desk.enter(caller, request)
    found = verify(database, keyring)
    return {
        "success": True,
        "holds": found.holds,
        "rows": found.rows,
        "digest": found.digest,
        "is_sealed": found.is_sealed,
        "problems": list(found.problems[:100]),
    }


@at_both_doors("GET", "/sessions", query=SessionQuery)
def list_sessions(
    query: SessionQuery, caller: Account, request: RawRequest, desk: Desk, sessions: Sessions
) -> dict[str, Any]:
    """Where keys were used from, by address and agent within each hour, of the last 90 days."""
    desk.enter(caller, request)
    return list_answer("sessions", sessions.read_page(query, **query.filters()), query)


def _with_key(users: UserManager, made: Made) -> dict[str, Any]:
    shown = users.get(made.user.username)
    left = {"not_done": list(made.not_done)} if made.not_done else {}
    return {"super_admin": shown, "key_id": made.key_id, "api_key": made.api_key, **left}


def _send(verification: Verification, user: User) -> str:
    """The account is made and its key would be lost, so a mail that is not sent is told and no error."""
    try:
        verification.send(user)
    except WaddleBotError as err:
        return f"not sent: {err.message} POST …/verification sends it again."
    return "sent"
