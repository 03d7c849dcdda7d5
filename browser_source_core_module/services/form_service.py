"""Forms: one viewer answers, once, by a signed link; we check it and hand it to the module that asked.

A viewer never reaches the address that a module gave, and our key goes to the fleet's own modules only.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from pydal import DAL
from waddlebot.base.contracts import FormData
from waddlebot.base.encryption import CannotOpen, Keyring
from waddlebot.base.errors import Conflict, NotFound, UpstreamError, UpstreamRefused
from waddlebot.base.logs import AAALog
from waddlebot.base.manifest import Manifest
from waddlebot.data.database import Database, fetch
from waddlebot.web.clients import FleetClient
from waddlebot.web.http import HTTPClient, HTTPResponse, has_dot_segments, is_below

from .browser_source_service import BrowserSourceService
from .form_fields import Answer
from .frames import Source

PURPOSE = "overlay-form"
SUBMIT_TIMEOUT_S = 10.0
# A submission whose process died in the middle may be made again after this.
SUBMIT_LEASE = timedelta(seconds=30)
MAX_ANSWER_BYTES = 64 * 1024
FORM_SOURCE = "general"


class UnknownForm(NotFound):
    """This link is not valid any more."""

    code = "unknown_form"


class FormAnswered(Conflict):
    """This form was answered already."""

    code = "form_answered"


@dataclass(frozen=True, slots=True)
class OpenForm:
    id: int
    community_id: int
    session_id: str
    seq: int
    form: FormData


class ModuleGateway:
    """Hands submissions to modules: with our key to the fleet's own, behind the guard to all others."""

    def __init__(self, client: FleetClient, guarded: HTTPClient, fleet_bases: Sequence[str]) -> None:
        self._client = client
        self._guarded = guarded
        self._fleet_bases = tuple(fleet_bases)
        # The web framework keeps the request in its thread, so a call within the process needs another one.
        self._threads = ThreadPoolExecutor(4, "forms")

    def submit(self, method: str, url: str, body: dict[str, Any], *, key: str) -> None:
        """Raises: UpstreamError and its kinds, unless the module took it."""
        if has_dot_segments(url):
            raise UpstreamRefused("A form's address has no . or .. in its path.")
        raw, headers = json.dumps(body).encode(), {"Idempotency-Key": key}
        send = self._to_fleet if method == "POST" and is_below(url, self._fleet_bases) else self._to_others
        response = self._threads.submit(send, method, url, raw, headers).result()
        if not 200 <= response.status < 300:
            raise UpstreamError(f"The module answered HTTP {response.status}.")

    def _to_fleet(self, _method: str, url: str, raw: bytes, headers: dict[str, str]) -> HTTPResponse:
        return self._client.post(url, raw, timeout_s=SUBMIT_TIMEOUT_S, headers=headers)

    def _to_others(self, method: str, url: str, raw: bytes, headers: dict[str, str]) -> HTTPResponse:
        headers = {"Content-Type": "application/json", **headers}
        return self._guarded.request(method, url, body=raw, headers=headers, timeout_s=SUBMIT_TIMEOUT_S)


class FormService:
    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        overlays: BrowserSourceService,
        gateway: ModuleGateway,
        log: AAALog,
        *,
        base_url: str,
        expires_after_s: float,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._overlays = overlays
        self._gateway = gateway
        self._log = log
        self._base_url = base_url.rstrip("/")
        self._expires_after = timedelta(seconds=expires_after_s)

    def open(self, db: DAL, form: FormData, *, community_id: int, history_id: int, session_id: str) -> None:
        """Let a form be answered that is being shown, in the same transaction; once, however often it comes."""
        fetch(
            db,
            "INSERT INTO browser_source_forms (community_id, history_id, session_id, form, expires_at)"
            " VALUES (%s, %s, %s, %s, now() + %s) ON CONFLICT (history_id) DO NOTHING",
            (community_id, history_id, session_id, form.model_dump_json(), self._expires_after),
        )

    def url_of(self, history_id: int) -> str:
        """The viewer's link to a form that was opened for this item."""
        rows = self._database.statement("SELECT id FROM browser_source_forms WHERE history_id = %s", (history_id,))
        sealed = self._keyring.seal(str(rows[0]["id"]), purpose=PURPOSE)
        return f"{self._base_url}/browser/form/{base64.urlsafe_b64encode(sealed.encode()).decode().rstrip('=')}"

    def find(self, link: str) -> OpenForm:
        """Raises: UnknownForm for what we did not sign or is too old; FormAnswered."""
        rows = self._database.statement(
            "SELECT f.id, f.community_id, f.session_id, f.form, f.state, h.seq FROM browser_source_forms f"
            " JOIN browser_source_history h ON h.id = f.history_id WHERE f.id = %s AND f.expires_at > now()",
            (self._id_in(link),),
        )
        if not rows:
            raise UnknownForm()
        return self._read(rows[0])

    def submit(self, link: str, answers: dict[str, Answer]) -> OpenForm:
        """Hand a viewer's answers to the module. Whoever is first wins.

        Raises: UnknownForm; FormAnswered; UpstreamError when the module did not take it, and the form stays open.
        """
        form = self._take(self.find(link))
        state = "open"
        try:
            self._gateway.submit(
                form.form.form_submit_method,
                form.form.form_submit_url,
                {
                    "form_id": form.id,
                    "session_id": form.session_id,
                    "community_id": form.community_id,
                    "submitted_at": datetime.now(UTC).isoformat(),
                    "fields": answers,
                },
                key=f"form-{form.id}",
            )
            state = "submitted"
        finally:
            self._end(form, state)
        self._log.audit("form_submitted", community=form.community_id, form_id=form.id, session=form.session_id)
        return form

    def _take(self, form: OpenForm) -> OpenForm:
        rows = self._database.statement(
            "UPDATE browser_source_forms SET state = 'sending', lease_until = now() + %s WHERE id = %s"
            " AND (state = 'open' OR (state = 'sending' AND lease_until <= now())) RETURNING id",
            (SUBMIT_LEASE, form.id),
        )
        if not rows:
            raise FormAnswered()
        return form

    def _end(self, form: OpenForm, state: str) -> None:
        source = Source(form.community_id, FORM_SOURCE)
        with self._database.transaction() as db:
            fetch(
                db,
                "UPDATE browser_source_forms SET state = %(state)s, lease_until = NULL,"
                " submitted_at = CASE WHEN %(state)s = 'submitted' THEN now() END WHERE id = %(id)s",
                {"state": state, "id": form.id},
            )
            if state == "submitted":
                fetch(
                    db,
                    "UPDATE browser_source_history SET state = 'done', done_at = now()"
                    " WHERE community_id = %s AND source_type = %s AND seq = %s AND state IN ('queued', 'shown')",
                    (source.community_id, source.source_type, form.seq),
                )
                self._overlays.add_control(db, source, "skip", seq=form.seq, note="answered")
        if state == "submitted":
            self._overlays.announce(source)

    def _id_in(self, link: str) -> int:
        try:
            sealed = base64.urlsafe_b64decode(link + "=" * (-len(link) % 4)).decode()
            return int(self._keyring.open(sealed, purpose=PURPOSE))
        except (CannotOpen, binascii.Error, ValueError) as err:
            raise UnknownForm() from err

    @staticmethod
    def _read(row: dict[str, Any]) -> OpenForm:
        if row["state"] == "submitted":
            raise FormAnswered()
        return OpenForm(
            row["id"], row["community_id"], row["session_id"], row["seq"], FormData.model_validate(row["form"])
        )


def fleet_bases(manifests: Sequence[Manifest], own: Manifest, own_url: str) -> list[str]:
    """Where this fleet's modules are: in this process, beside it, or in their own containers."""
    shift = (urlsplit(own_url).port or own.port) - own.port
    bases = []
    for each in manifests:
        addresses = {own_url, f"http://127.0.0.1:{each.port + shift}", f"http://{each.host}:{each.port}"}
        bases += [f"{address}{each.prefix}" for address in sorted(addresses)]
    return bases
