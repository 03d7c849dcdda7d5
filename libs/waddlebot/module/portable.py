"""What a community can carry to another fleet: GET <prefix>/export and POST <prefix>/import for every module.

A module says of each kind of item what it looks like, how to read a community's, and how to put one in. The plan is not
a guess: it is made by doing everything in a transaction that is rolled back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, Union

from pydal import DAL
from pydantic import Field, PrivateAttr, create_model

from ..base.contracts import Strict, Wire
from ..base.errors import Invalid, UserError
from ..base.wire import validate
from ..community.communities import Reference, community_of
from ..data.audit import listed_entries
from ..data.database import Database, fetch
from ..web.auth import Account

# More are imported in several requests. Each costs some statements of one transaction.
MAX_ITEMS = 20_000
CHANGES = ("create", "update")


class Item(Strict):
    """One thing that a community has. Its class has a `kind`, and no number of this fleet's in it."""

    kind: str
    # The row that it was exported from; goes nowhere.
    _row_id: int = PrivateAttr(0)

    def of_row(self, row_id: int) -> Self:
        self._row_id = row_id
        return self

    @property
    def row_id(self) -> int:
        return self._row_id


T = TypeVar("T", bound=Item)


class Unchanged(UserError):
    """It is there already, just so."""

    code = "unchanged"


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One kind of item.

    `key` says which items are the same thing; `export` lists a community's; `put` makes one, or makes the one that it
    is given change, and raises UserError or Invalid with the reason if that cannot be, Unchanged if there is nothing to
    do. It may return a remark. `tables` are those whose rows the items are. `unfilled` names what in an item's text
    stands in braces and is filled in by nobody. `settle` is called after the last of those that were put.
    """

    model: type[T]
    key: Callable[[T], Hashable]
    export: Callable[[DAL, int], Sequence[T]]
    put: Callable[[DAL, int, T, T | None], str | None]
    tables: tuple[str, ...] = ()
    unfilled: Callable[[T], Sequence[str]] | None = None
    settle: Callable[[DAL, int, Sequence[T]], None] | None = None

    @property
    def kind(self) -> str:
        return str(self.model.model_fields["kind"].default)


class ExportQuery(Strict):
    community_id: str


class ImportQuery(Strict):
    community_id: str | None = None


class ImportRequest(Strict):
    """Items as an export lists them; `module`, `version` and `success` may come along. Nothing is changed unless
    `apply` is true, and with `whole` nothing if there is any conflict.

    `foreign` are another bot's: fields that are not known here are left out and named, and a text with something in
    braces that nobody fills in is a conflict.
    """

    items: list[dict[str, Any]] = Field(max_length=MAX_ITEMS)
    apply: bool = False
    whole: bool = False
    foreign: bool = False
    community_id: Reference | None = None
    module: str | None = None
    version: int | None = None
    success: bool | None = None


class Step(Wire):
    """What becomes of one item of an import, by its place in the request. `dropped` are its fields that are not known
    here."""

    index: int
    kind: str
    action: Literal["create", "update", "skip", "conflict"]
    why: str
    dropped: list[str] = Field(default_factory=list)


class Plan(Wire):
    """`entries` are what the import wrote into the audit log, in order."""

    success: bool = True
    module: str
    version: int
    community_id: int
    applied: bool
    plan: list[Step]
    counts: dict[str, int]
    entries: list[int] = Field(default_factory=list)


class _PlanOnly(Exception):
    """Rolls an import back that nobody asked to apply."""


@dataclass(slots=True)
class Portable:
    """A module's parts, and what it forgets when they have changed."""

    module: str
    version: int
    parts: Sequence[Part[Any]]
    database: Database
    changed: Callable[[int], None]
    _checked: Any = field(init=False)

    def __post_init__(self) -> None:
        if not self.parts:
            return
        kinds: Any = Union[tuple(part.model for part in self.parts)]  # noqa: UP007
        item: Any = Annotated[kinds, Field(discriminator="kind")] if len(self.parts) > 1 else kinds
        self._checked = create_model("Items", items=(list[item], ...))

    def export(self, community: str, caller: Account) -> dict[str, Any]:
        """Everything of a community that is this module's."""
        with self.database.transaction() as db:
            community_id = community_of(db, caller, community)
            items = [item for part in self.parts for item in part.export(db, community_id)]
        return {"success": True, "module": self.module, "version": self.version, "items": items}

    def import_items(self, request: ImportRequest, community: str | None, caller: Account) -> Plan:
        """Put items into a community, or say what would become of them. What conflicts is left out.

        Raises: Invalid, naming the items that are broken by their index, or another module's export.
        """
        dropped = self._drop_unknown(request) if request.foreign else {}
        items = self._read(request)
        steps: list[Step] = []
        applied = request.apply
        with self.database.transaction() as db:
            reference = request.community_id if request.community_id is not None else community
            community_id = community_of(db, caller, reference)
        with listed_entries() as entries:
            try:
                with self.database.transaction() as db:
                    steps = self._put_all(db, community_id, items, is_foreign=request.foreign)
                    applied = request.apply and not (request.whole and _conflicts(steps))
                    if not applied:
                        raise _PlanOnly
            except _PlanOnly:
                entries.clear()
            else:
                self.changed(community_id)
        steps = [step.model_copy(update={"dropped": dropped.get(step.index, [])}) for step in steps]
        counts = Counter(step.action for step in steps)
        return Plan(
            module=self.module,
            version=self.version,
            community_id=community_id,
            applied=applied,
            plan=steps,
            counts={action: counts[action] for action in ("create", "update", "skip", "conflict")},
            entries=entries,
        )

    def _drop_unknown(self, request: ImportRequest) -> dict[int, list[str]]:
        """Take from items what their kind has no field for. Returns the names, by index."""
        known = {part.kind: set(part.model.model_fields) for part in self.parts}
        dropped = {}
        for index, item in enumerate(request.items):
            names = sorted(set(item) - known.get(str(item.get("kind")), set(item)))
            if names:
                dropped[index] = names
                request.items[index] = {name: value for name, value in item.items() if name not in names}
        return dropped

    def _read(self, request: ImportRequest) -> list[Item]:
        if request.module not in (None, self.module):
            raise Invalid(f"This is an export of {request.module}, not of {self.module}.", field="module")
        if request.version is not None and request.version > self.version:
            raise Invalid(f"This export is of version {request.version}; known is {self.version}.", field="version")
        if request.items and not self.parts:
            raise Invalid(f"{self.module} has nothing that a community could bring.", field="items.0")
        if not request.items:
            return []
        return list(validate(self._checked.model_validate, {"items": request.items}).items)

    def _put_all(self, db: DAL, community_id: int, items: Sequence[Item], *, is_foreign: bool) -> list[Step]:
        by_kind = {part.kind: part for part in self.parts}
        wanted = {item.kind for item in items}
        there: dict[Hashable, Item] = {}
        seen: Counter[Hashable] = Counter()
        for part in self.parts:
            if part.kind in wanted:
                for item in part.export(db, community_id):
                    there[_slot(part, item, seen)] = item
        seen.clear()
        steps = []
        for index, item in enumerate(items):
            part = by_kind[item.kind]
            known = there.get(_slot(part, item, seen))
            unfilled = part.unfilled(item) if is_foreign and part.unfilled else ()
            steps.append(_put(db, community_id, part, index, item, known, unfilled))
        self._settle(db, community_id, items, steps)
        return steps

    def _settle(self, db: DAL, community_id: int, items: Sequence[Item], steps: Sequence[Step]) -> None:
        for part in self.parts:
            put = [items[step.index] for step in steps if step.kind == part.kind and step.action in CHANGES]
            if put and part.settle:
                part.settle(db, community_id, put)


def _slot(part: Part[Any], item: Item, seen: Counter[Hashable]) -> Hashable:
    """What an item goes by: of several that are the same thing, the first, the second and so on."""
    key = (part.kind, part.key(item))
    seen[key] += 1
    return key, seen[key]


def _put(
    db: DAL,
    community_id: int,
    part: Part[Any],
    index: int,
    item: Item,
    known: Item | None,
    unfilled: Sequence[str],
) -> Step:
    if known is not None and item.model_dump() == known.model_dump():
        return Step(index=index, kind=part.kind, action="skip", why="It is there already, just so.")
    if unfilled:
        why = f"{' and '.join(dict.fromkeys(unfilled))} would be said as it stands: nothing here fills that in."
        return Step(index=index, kind=part.kind, action="conflict", why=why)
    fetch(db, "SAVEPOINT item")
    try:
        remark = part.put(db, community_id, item, known)
    except (UserError, Invalid) as err:
        fetch(db, "ROLLBACK TO SAVEPOINT item")
        action: Literal["skip", "conflict"] = "skip" if isinstance(err, Unchanged) else "conflict"
        return Step(index=index, kind=part.kind, action=action, why=err.message)
    fetch(db, "RELEASE SAVEPOINT item")
    why = remark or (f"It is there with another {_difference(item, known)}." if known else "It is not there yet.")
    return Step(index=index, kind=part.kind, action="update" if known else "create", why=why)


def _conflicts(steps: Sequence[Step]) -> bool:
    return any(step.action == "conflict" for step in steps)


def _difference(item: Item, known: Item) -> str:
    ours, theirs = known.model_dump(), item.model_dump()
    return ", ".join(name for name, value in theirs.items() if ours.get(name) != value)
