"""What a community or a person has in all modules: taken away, brought in, erased. Each module is asked for its own
part (contracts, "Export, import, erase"); one that is not there is named, so that nothing is missed unseen."""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import redis
from pydal import DAL
from pydantic import Field, ValidationError
from waddlebot.base.contracts import Wire
from waddlebot.base.errors import NotFound, UserError, WaddleBotError
from waddlebot.base.manifest import all_manifests
from waddlebot.base.wire import problem_of
from waddlebot.data.audit import Change, record_all
from waddlebot.data.database import fetch
from waddlebot.web.auth import PORTAL

from .fleet_api import FleetAPI
from .seats import Seat

FORMAT = 1
# The router is what still finds names in what was said to others, so it is asked last.
LAST = "router"
MAX_BYTES = 16_000_000
# How long a file waits for somebody to look at its plan.
KEPT_S = 1800
KEY = "waddlebot:portal:import"


class BadFile(UserError):
    """That is not a file that a portal has made."""

    code = "bad_file"


class ModulePart(Wire):
    """What one module exported."""

    module: str
    version: int
    items: list[dict[str, Any]]


class Document(Wire):
    """A whole community, as a file."""

    waddlebot: int
    community: str = ""
    exported_at: str = ""
    modules: list[ModulePart] = Field(max_length=200)


@dataclass(slots=True)
class Gathered:
    """What the modules answered, by name, and in its own words why one did not."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)

    def deleted(self) -> dict[str, int]:
        """How much each module has erased."""
        counts = {name: sum(each["deleted"].values()) for name, each in self.answers.items()}
        return {name: count for name, count in counts.items() if count}

    def kept(self) -> list[dict[str, str]]:
        """What is kept of somebody who was erased, and why; without the names of tables, which stand in brackets."""
        kept = [(it["what"].partition(" (")[0], it["why"]) for each in self.answers.values() for it in each["kept"]]
        return [{"what": what, "why": why} for what, why in dict.fromkeys(kept)]


class Carrying:
    def __init__(self, fleet: FleetAPI, client: redis.Redis) -> None:
        self._fleet = fleet
        self._client = client

    def export(self, seat: Seat) -> tuple[Document, dict[str, str]]:
        """A community's own, of every module; and which of them did not answer, with why."""
        query = {"community_id": seat.community_id}
        found = self._of_each(lambda prefix: self._fleet.ask(seat, "settings", "GET", f"{prefix}/export", query=query))
        parts = [ModulePart.model_validate(each) for each in found.answers.values() if each["items"]]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Document(waddlebot=FORMAT, community=seat.place.slug, exported_at=now, modules=parts), found.troubles

    def read(self, content: bytes) -> Document:
        """Raises: BadFile, saying what is wrong with it."""
        if len(content) > MAX_BYTES:
            raise BadFile("That file is larger than 16 MB, which is the most.")
        try:
            document = Document.model_validate_json(content)
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise BadFile(f"That is not a file that a portal has made: {where}: {problem_of(first)}.") from err
        if document.waddlebot != FORMAT:
            raise BadFile(f"That file is of form {document.waddlebot}; this portal reads {FORMAT}.")
        return document

    def keep(self, seat: Seat, document: Document) -> str:
        """Keep a file until its plan was looked at. Returns what it is found by, for this login and community."""
        token = secrets.token_urlsafe(24)
        self._client.set(self._key(seat, token), _packed(document), ex=KEPT_S)
        return token

    def find_kept(self, seat: Seat, token: str) -> Document:
        """Raises: NotFound when it has waited too long."""
        packed = self._client.get(self._key(seat, token))
        if packed is None:
            raise NotFound("That file has waited too long. Choose it again.")
        return Document.model_validate_json(zlib.decompress(bytes.fromhex(str(packed))))

    def bring_in(self, seat: Seat, document: Document, *, apply: bool) -> Gathered:
        """What becomes of every part in a community; nothing unless `apply`."""
        known = {each.name: each.prefix for each in all_manifests()}
        found = Gathered()
        for part in document.modules:
            if part.module not in known:
                found.troubles[part.module] = "This fleet has no such module."
                continue
            body = {"items": part.items, "apply": apply, "community_id": seat.community_id}
            ask = partial(self._fleet.ask, seat, "settings", "POST", f"{known[part.module]}/import", body)
            self._put(found, part.module, ask)
        return found

    def look_up(self, seat: Seat, identities: Sequence[str]) -> Gathered:
        """Everything that the modules have about somebody here."""
        query = {"identities": ",".join(identities), "community_id": seat.community_id}
        return self._of_each(
            lambda prefix: self._fleet.ask(seat, "settings", "GET", f"{prefix}/people/export", query=query)
        )

    def look_up_everywhere(self, identities: Sequence[str]) -> Gathered:
        """Everything that the modules have about somebody, in every community. For nobody but themselves."""
        query = {"identities": ",".join(identities)}
        return self._of_each(lambda prefix: self._fleet.ask_as_portal("GET", f"{prefix}/people/export", query=query))

    def erase(self, seat: Seat, identities: Sequence[str], request_id: str) -> Gathered:
        """Forget somebody in a community. The same request again does nothing twice, so it can be made until every
        module has answered."""
        body = {"request_id": request_id, "identities": list(identities), "community_id": seat.community_id}
        return self._of_each(lambda prefix: self._fleet.ask(seat, "settings", "POST", f"{prefix}/people/erase", body))

    def erase_everywhere(self, identities: Sequence[str], request_id: str) -> Gathered:
        """Forget somebody in every community; for nobody but themselves. Their login, by which they ask again for what
        was not forgotten, goes when everything else is gone."""
        body = {"request_id": request_id, "identities": list(identities)}

        def ask(prefix: str) -> dict[str, Any]:
            return self._fleet.ask_as_portal("POST", f"{prefix}/people/erase", body)

        found = self._of_each(ask, but=PORTAL)
        if not found.troubles:
            self._put(found, PORTAL, partial(ask, f"/{PORTAL}"))
        return found

    def _of_each(self, ask: Callable[[str], dict[str, Any]], *, but: str = "") -> Gathered:
        found = Gathered()
        for manifest in sorted(all_manifests(), key=lambda each: (each.name == LAST, each.port)):
            # The broker has nothing of communities and people, and is out of everybody's reach but operators'.
            if manifest.kind != "admin" and manifest.name != but:
                self._put(found, manifest.name, partial(ask, manifest.prefix))
        return found

    @staticmethod
    def _put(found: Gathered, name: str, ask: Callable[[], dict[str, Any]]) -> None:
        try:
            found.answers[name] = ask()
        except WaddleBotError as err:
            found.troubles[name] = err.message

    @staticmethod
    def _key(seat: Seat, token: str) -> str:
        return f"{KEY}:{seat.login.id}:{seat.community_id}:{token}"


def _packed(document: Document) -> str:
    return zlib.compress(document.model_dump_json().encode()).hex()


def record_erasure(db: DAL, own_ids: Sequence[int], done: Gathered, *, community_id: int | None) -> None:
    """Write down who was erased, by number."""
    after = {"erased": done.deleted(), "not_yet": sorted(done.troubles)}
    changes = [Change(f"person/{own_id}", after=after) for own_id in own_ids]
    record_all(db, PORTAL, "person_erased", changes, community_id=community_id)


def numbers_of(db: DAL, identities: Sequence[str]) -> list[int]:
    """Our numbers of those who were seen here."""
    rows = fetch(
        db,
        "SELECT DISTINCT p.user_id FROM unnest(%s::text[]) AS i JOIN platform_identities p"
        " ON p.platform = split_part(i, ':', 1) AND p.platform_user_id = substr(i, strpos(i, ':') + 1)",
        (list(identities),),
    )
    return [row["user_id"] for row in rows]


def about_person(identities: Sequence[str], found: Gathered) -> dict[str, Any]:
    """What is known of somebody, as their file has it."""
    modules = [{"module": name, "items": each["items"]} for name, each in found.answers.items() if each["items"]]
    content = {"waddlebot_person": 1, "identities": list(identities), "modules": modules}
    return content | ({"missing": found.troubles} if found.troubles else {})


def as_file(content: Mapping[str, Any]) -> str:
    """JSON that people can read too."""
    return json.dumps(content, indent=1, ensure_ascii=False, default=str)
