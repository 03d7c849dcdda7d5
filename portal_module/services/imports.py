"""What another bot had, brought into a community: planned, agreed to, done by the modules' own imports, and taken back.

Each module's part is one transaction. What one of them refuses in the end is taken back from those that were first, so
that an import is there as a whole or not at all.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import redis
from pydal import DAL
from waddlebot.base.errors import Conflict, NotFound, WaddleBotError
from waddlebot.base.ids import new_id
from waddlebot.base.manifest import find_manifest
from waddlebot.data.audit import UNDO_HEADER, Acting, Change, Undo, check_undoable, record_all
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.module.foreign import SOURCES, BadFile, File, Remark, Translation
from waddlebot.web.auth import Account

from .carrying import KEPT_S
from .fleet_api import FleetAPI
from .quotes import add_quotes
from .undoing import area_of

# Thousands of people's points take their time.
TIMEOUT_S = 60.0
MODULE = "portal"
KEY = "waddlebot:portal:foreign"
# Aliases first: who may use one is said of what is there.
ORDER = ("alias", "router", "labels_core", "inventory", "marketplace")
CHANGES = ("create", "update")
# What is told of fields that a module does not know; "" where something else stands in for it.
DROPPED = {
    "cooldown_s": "It comes without its cooldown of {} s for everybody.",
    "cooldown_person_s": "It comes without its cooldown of {} s for each person.",
    "level": "",
    "label": "It is for VIPs and above; regulars below them may not use it here.",
    "only_live": "It works whether or not the stream is live.",
    "escalation": "The line is removed; there it could mean a time-out.",
}
NAMES = ("alias", "name", "command", "string", "item_name", "label", "person", "key")
BY_NAME = """
SELECT DISTINCT ON (asked.platform, asked.name) asked.platform, asked.name, i.platform_user_id
FROM unnest(%(platforms)s::text[], %(names)s::text[]) AS asked (platform, name)
JOIN platform_identities i ON i.platform = asked.platform AND name_key(i.name) = name_key(asked.name)
ORDER BY asked.platform, asked.name, i.named_at DESC, i.id DESC
"""


class NotWhole(Conflict):
    """Something changed in the meantime, so nothing was imported. Look at the plan again."""

    code = "not_whole"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who imports, as the modules are told: somebody of whom it was made sure that they may."""

    fleet: FleetAPI
    community_id: int
    login_id: int | str
    own_id: int | None
    right: str

    def ask(self, area: str, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        actor = {
            "login_id": self.login_id,
            "own_id": self.own_id,
            "community_id": self.community_id,
            "right": self.right,
            "area": area,
        }
        answer: dict[str, Any] = self.fleet.ask_signed(actor, method, path, body, timeout_s=TIMEOUT_S, **more)
        return answer

    @property
    def acting(self) -> Acting:
        return Acting(MODULE, self.login_id if isinstance(self.login_id, int) else None, self.own_id)


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one thing. `name` is what people call it."""

    module: str
    kind: str
    name: str
    action: str
    why: str


@dataclass(slots=True)
class Planned:
    """What would become of everything in some files, and the items that it takes, by module."""

    source: str
    steps: list[Step] = field(default_factory=list)
    left: list[Remark] = field(default_factory=list)
    differs: list[Remark] = field(default_factory=list)
    agreed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    import_id: str = ""

    @property
    def counts(self) -> Counter[str]:
        return Counter(step.action for step in self.steps)

    @property
    def changes(self) -> int:
        return sum(map(len, self.agreed.values()))

    def as_answer(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "success": True,
            "source": self.source,
            "import_id": self.import_id or None,
            "applied": bool(self.import_id),
            "counts": {action: counts[action] for action in ("create", "update", "skip")} | {"left": len(self.left)},
            "steps": [asdict(each) for each in self.steps],
            "left": [asdict(each) for each in self.left],
            "differs": [asdict(each) for each in self.differs],
        }


class ImportService:
    def __init__(self, database: Database, client: redis.Redis) -> None:
        self._db = database
        self._client = client

    def read(self, source: str, files: Sequence[File]) -> Translation:
        """Raises: BadFile, naming file, entry or line, and field."""
        if source not in SOURCES:
            raise BadFile(f"Nothing is imported from {source[:40]!r}; from {', '.join(SOURCES)} it is.")
        return SOURCES[source](files)

    def plan(self, asker: Asker, translation: Translation) -> Planned:
        """What would become of it; nothing is changed.

        Raises: WaddleBotError where a module does not answer, for a plan without it would promise too much.
        """
        planned = Planned(translation.source, left=list(translation.left), differs=list(translation.differs))
        items = self._with_people(translation, planned)
        if translation.quotes:
            notes = asker.ask("settings", "GET", "/marketplace/export", query={"community_id": asker.community_id})[
                "items"
            ]
            items["marketplace"] = add_quotes(notes, translation.quotes, planned.left)
        for module in ORDER:
            if items.get(module):
                self._plan_part(asker, planned, module, items)
        gone = {each.what for each in planned.left}
        planned.differs = [each for each in planned.differs if each.what not in gone]
        return planned

    def apply(self, asker: Asker, planned: Planned) -> Planned:
        """Do what was planned, as a whole. Raises: NotWhole, and whatever a module says; nothing is imported then."""
        if not planned.changes:
            return planned
        entries: list[int] = []
        try:
            for module in filter(planned.agreed.get, ORDER):
                answer = self._import(asker, module, planned.agreed[module], apply=True)
                entries += answer["entries"]
                if not answer["applied"]:
                    why = next(step["why"] for step in answer["plan"] if step["action"] == "conflict")
                    raise NotWhole(f"{NotWhole.__doc__} {why}")
        except WaddleBotError:
            self._take_back(asker, entries)
            raise
        planned.import_id = new_id()
        self._record(asker, planned, entries)
        return planned

    def community_of(self, import_id: str, caller: Account) -> int:
        """Where an import was made. Raises: NotFound, also for another community's."""
        with self._db.transaction() as db:
            row = self._find(db, caller.community_id, import_id)
        return int(row["community_id"])

    def undo(self, asker: Asker, import_id: str) -> int:
        """Take an import back, the newest change first. Returns how many changes there were.

        Raises: NotFound; ChangedSince when something of it was changed since.
        """
        with self._db.transaction() as db:
            row = self._find(db, asker.community_id, import_id)
            entries: list[int] = row["after"]["entries"]
            newest = fetch(
                db,
                "SELECT max(id) AS id FROM audit WHERE id = ANY(%s) AND community_id = %s GROUP BY module, subject",
                (entries, asker.community_id),
            )
            for each in newest:
                check_undoable(db, each["id"])
        self._take_back(asker, entries)
        with self._db.transaction() as db:
            before = {name: row["after"][name] for name in ("source", "made", "changed")}
            change = Change(f"import/{import_id}", before, None)
            record_all(db, MODULE, "import_taken_back", [change], community_id=asker.community_id)
        return len(entries)

    def keep(self, asker: Asker, planned: Planned) -> str:
        """Keep a plan until somebody agrees to it. Returns what it is found by, for this login and community."""
        token = secrets.token_urlsafe(24)
        content = json.dumps({"source": planned.source, "agreed": planned.agreed}, default=str)
        self._client.set(_key(asker, token), zlib.compress(content.encode()).hex(), ex=KEPT_S)
        return token

    def find_kept(self, asker: Asker, token: str) -> Planned:
        """Raises: NotFound when it has waited too long."""
        packed = self._client.get(_key(asker, token))
        if packed is None:
            raise NotFound("That file has waited too long. Choose it again.")
        kept = json.loads(zlib.decompress(bytes.fromhex(str(packed))))
        return Planned(kept["source"], agreed=kept["agreed"])

    def _plan_part(self, asker: Asker, planned: Planned, module: str, items: dict[str, list[dict[str, Any]]]) -> None:
        answer = self._import(asker, module, items[module], apply=False)
        refused: set[str] = set()
        # Aliases that say themselves who may use them.
        guarded: set[str] = set()
        for step in answer["plan"]:
            item = items[module][step["index"]]
            name = _name_of(item)
            if module == "alias" and _first_word(item) in refused:
                step = {
                    **step,
                    "action": "conflict",
                    "why": f"It stands for {_first_word(item)}, which is not carried.",
                }
            if step["action"] == "conflict":
                refused.add(name)
                planned.left.append(Remark(name, step["why"]))
                continue
            planned.steps.append(Step(module, step["kind"], name, step["action"], step["why"]))
            told = [_without(item, each) for each in step["dropped"]]
            planned.differs += [Remark(name, each) for each in told if each]
            if module == "alias" and not {"level", "label"} & set(step["dropped"]):
                guarded.add(name)
            if step["action"] in CHANGES:
                planned.agreed.setdefault(module, []).append(item)
        if module == "alias":
            items["router"] = [
                each
                for each in items.get("router", [])
                if not (each["kind"] == "permission" and each["command"] in refused | guarded)
            ]

    def _import(self, asker: Asker, module: str, items: Sequence[Mapping[str, Any]], *, apply: bool) -> dict[str, Any]:
        manifest = find_manifest(module)
        if manifest is None:
            raise NotFound(f"This fleet has no module {module}.")
        body = {
            "items": items,
            "apply": apply,
            "whole": apply,
            "foreign": True,
            "community_id": asker.community_id,
        }
        return asker.ask("settings", "POST", f"{manifest.prefix}/import", body)

    def _with_people(self, translation: Translation, planned: Planned) -> dict[str, list[dict[str, Any]]]:
        """The items with people by what their platform calls them; whom nobody has seen is left out, by name."""
        items = {module: list(each) for module, each in translation.items.items()}
        named = {each["person"] for rows in items.values() for each in rows if ":@" in str(each.get("person", ""))}
        if not named:
            return items
        known = self._find_people(sorted(named))
        seen: set[tuple[str, str, str]] = set()
        for module, rows in items.items():
            kept = []
            for each in rows:
                person = each.get("person")
                if person is None or person not in named:
                    kept.append(each)
                elif person not in known:
                    name = person.partition(":@")[2]
                    why = "Nobody of that name has been seen here yet; import the file again once they were."
                    planned.left.append(Remark(name, why))
                elif (slot := (each["kind"], each.get("label", ""), known[person])) in seen:
                    planned.left.append(
                        Remark(person.partition(":@")[2], "It is in there twice; the first one counts.")
                    )
                else:
                    seen.add(slot)
                    kept.append({**each, "person": known[person]})
            items[module] = kept
        return items

    def _find_people(self, named: Sequence[str]) -> dict[str, str]:
        parts = [each.partition(":@") for each in named]
        with self._db.lookup() as db:
            parameters = {"platforms": [platform for platform, _, _ in parts], "names": [name for _, _, name in parts]}
            rows = fetch(db, BY_NAME, parameters)
        return {f"{row['platform']}:@{row['name']}": f"{row['platform']}:{row['platform_user_id']}" for row in rows}

    def _take_back(self, asker: Asker, entries: Sequence[int]) -> None:
        """Make the calls that entries of the audit log name for taking them back, the newest first."""
        with self._db.transaction() as db:
            rows = fetch(
                db,
                "SELECT id, undo FROM audit WHERE id = ANY(%s) AND community_id = %s AND undo IS NOT NULL"
                " AND undone_by IS NULL ORDER BY id DESC",
                (list(entries), asker.community_id),
            )
        for row in rows:
            undo = row["undo"]
            path, _, query = undo["path"].partition("?")
            area = area_of(undo["method"], path)
            if area is not None:
                more = {"headers": {UNDO_HEADER: str(row["id"])}, "query": dict(parse_qsl(query))}
                asker.ask(area, undo["method"], path, undo["body"], **more)

    def _record(self, asker: Asker, planned: Planned, entries: Sequence[int]) -> None:
        counts = planned.counts
        after = {"source": planned.source, "made": counts["create"], "changed": counts["update"]}
        undo = Undo("POST", "/portal/imports/undo", {"import_id": planned.import_id})
        change = Change(f"import/{planned.import_id}", None, {**after, "entries": list(entries)}, undo)
        with self._db.transaction() as db:
            record_all(db, MODULE, "imported", [change], community_id=asker.community_id, by=asker.acting)

    @staticmethod
    def _find(db: DAL, community_id: int | None, import_id: str) -> dict[str, Any]:
        row = fetch_one(
            db,
            "SELECT id, community_id, after FROM audit WHERE module = %(module)s AND action = 'imported'"
            " AND subject = %(subject)s AND undone_by IS NULL"
            " AND (%(community)s::bigint IS NULL OR community_id = %(community)s)",
            {"module": MODULE, "subject": f"import/{import_id}", "community": community_id},
        )
        if row is None:
            raise NotFound("There is no such import here, or it was taken back already.")
        return row


def _key(asker: Asker, token: str) -> str:
    return f"{KEY}:{asker.login_id}:{asker.community_id}:{token}"


def _name_of(item: Mapping[str, Any]) -> str:
    return next((str(item[name]) for name in NAMES if item.get(name)), str(item["kind"]))


def _first_word(item: Mapping[str, Any]) -> str:
    return str(item.get("command", "")).split(" ", 1)[0]


def _without(item: Mapping[str, Any], name: str) -> str:
    return DROPPED.get(name, f"It comes without its {name.replace('_', ' ')}.").format(item[name])
