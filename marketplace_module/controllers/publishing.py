"""Publishing over HTTP, the word of admins, and packages for the host that runs them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydal import DAL
from pydantic import Field, StringConstraints, TypeAdapter
from waddlebot.base.contracts import Attributed
from waddlebot.base.errors import BadRequest, Invalid, UnsupportedMediaType
from waddlebot.base.wire import parse_json, validate
from waddlebot.community.communities import get_community
from waddlebot.data import audit
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch_one
from waddlebot.module.package import MANIFEST, MAX_PACKAGE_BYTES, pack, read_package
from waddlebot.web.auth import ADMINS_OR_API_USERS, MODULE_HOST, OPERATORS, Account
from waddlebot.web.endpoint import Raw, RawRequest, endpoint

from ..services.publishing import MODULE, Publishing, UnknownModule, decide, newest_pending
from ..services.store import CACHE

ZIP_TYPES = ("application/zip", "application/x-zip-compressed", "application/octet-stream")
# As base64 in JSON it is a third longer.
MAX_UPLOAD_BYTES = MAX_PACKAGE_BYTES * 3 // 2


class Upload(Attributed):
    """A package as base64, or a manifest's text with the files that go along."""

    package: str | None = None
    manifest: str | None = None
    files: Annotated[dict[str, str], Field(max_length=200)] = Field(default_factory=dict)
    community_id: int | str | None = None


class Decision(Attributed):
    """About the version that waits, unless another one is named."""

    version: Annotated[str, StringConstraints(max_length=32)] | None = None
    reason: Annotated[str, StringConstraints(max_length=1000)] = ""


class Marks(Attributed):
    """What admins vouch for. What is left out stays."""

    verified: bool = True
    featured: bool | None = None


@endpoint(
    "POST",
    "/marketplace/modules",
    caller=ADMINS_OR_API_USERS,
    area="bot",
    max_body_bytes=MAX_UPLOAD_BYTES,
    pool="api",
)
def publish(
    request: RawRequest, caller: Account, database: Database, publishing: Publishing, bus: Bus
) -> dict[str, Any]:
    """Publish a version: its package as application/zip, or JSON {package} in base64 or {manifest, files}."""
    answer = publishing.publish(read_package(_package_in(request, caller, database)), caller)
    bus.invalidate(CACHE)
    return answer


@endpoint("POST", "/marketplace/module/<module_id>/secret", caller=ADMINS_OR_API_USERS, area="bot")
def renew_secret(module_id: str, caller: Account, publishing: Publishing) -> dict[str, Any]:
    """Get another secret for a module's webhooks; the one before is worth nothing from then on."""
    return {"success": True, "module_id": module_id, "webhook_secret": publishing.renew_secret(module_id, caller)}


@endpoint("POST", "/marketplace/module/<module_id>/approve", caller=OPERATORS, area="bot", body=Decision | None)
def approve(module_id: str, decision: Decision | None, database: Database, bus: Bus) -> dict[str, Any]:
    """Let communities have a version."""
    return _decide(database, bus, module_id, "approved", decision or Decision())


@endpoint("POST", "/marketplace/module/<module_id>/reject", caller=OPERATORS, area="bot", body=Decision | None)
def reject(module_id: str, decision: Decision | None, database: Database, bus: Bus) -> dict[str, Any]:
    """Keep a version out of the store. Who has it keeps it."""
    return _decide(database, bus, module_id, "rejected", decision or Decision())


@endpoint("POST", "/marketplace/module/<module_id>/verify", caller=OPERATORS, area="bot", body=Marks | None)
def verify(module_id: str, marks: Marks | None, database: Database, bus: Bus) -> dict[str, Any]:
    """Say that who publishes a module is known, and whether it is shown first."""
    with database.transaction() as db:
        after = _mark(db, module_id, marks or Marks())
    bus.invalidate(CACHE)
    return {"success": True, "module_id": module_id, **after}


def _mark(db: DAL, module_id: str, marks: Marks) -> dict[str, Any]:
    """Raises: UnknownModule."""
    before = fetch_one(
        db, "SELECT is_verified, is_featured FROM marketplace_modules WHERE module_id = %s FOR UPDATE", (module_id,)
    )
    if before is None:
        raise UnknownModule(f"There is no module {module_id[:64]}.")
    featured = before["is_featured"] if marks.featured is None else marks.featured
    after = {"is_verified": marks.verified, "is_featured": featured}
    fetch_one(
        db,
        "UPDATE marketplace_modules SET is_verified = %s, is_featured = %s WHERE module_id = %s RETURNING id",
        (marks.verified, featured, module_id),
    )
    audit.record(db, MODULE, "module_verified", f"store/{module_id}", community_id=None, before=before, after=after)
    return after


@endpoint("GET", "/marketplace/packages/<sha256>", caller=MODULE_HOST)
def read_package_of(sha256: str, publishing: Publishing) -> Raw:
    """A package by its address, for the host that runs it."""
    return Raw(publishing.get_package(sha256), "application/zip", headers={"Cache-Control": "private, immutable"})


def _decide(database: Database, bus: Bus, module_id: str, state: str, decision: Decision) -> dict[str, Any]:
    with database.transaction() as db:
        version = decision.version or newest_pending(db, module_id)
        decide(db, module_id, version, state, decision.reason)
    bus.invalidate(CACHE)
    return {"success": True, "module_id": module_id, "version": version, "state": state}


def _package_in(request: RawRequest, caller: Account, database: Database) -> bytes:
    """Raises: UnsupportedMediaType; BadRequest; Invalid."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ZIP_TYPES:
        return request.body
    if kind != "application/json":
        raise UnsupportedMediaType("Send the package as application/zip, or JSON with it in base64.")
    upload: Upload = validate(TypeAdapter(Upload).validate_python, parse_json(request.body))
    if upload.community_id is not None:
        get_community(database, caller, upload.community_id)
    if (upload.package is None) == (upload.manifest is None):
        raise Invalid("Send either package or manifest.", field="package")
    if upload.manifest is not None:
        files = {name: text.encode() for name, text in upload.files.items()}
        return pack({**files, MANIFEST: upload.manifest.encode()})
    try:
        return base64.b64decode(upload.package or "", validate=True)
    except (binascii.Error, ValueError) as err:
        raise BadRequest("package is not base64.") from err
