"""What became of tracks on overlays (contracts §8): the module whose track it is hears of it, each state once.

It is called as for an event, but nothing happened in a channel: there are no points, no rules and no person. What it
answers is said as an announcement is.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from pydal import DAL
from waddlebot.base.background import TargetPools
from waddlebot.base.contracts import (
    CONSOLE,
    CallCommunity,
    CallEntity,
    CallUser,
    ExecutionStatus,
    Level,
    ModuleCall,
    Playback,
    Trigger,
)
from waddlebot.base.errors import NotFound
from waddlebot.base.ids import new_id, new_traceparent
from waddlebot.base.logs import AAALog, log_context
from waddlebot.base.manifest import find_manifest
from waddlebot.data.database import Database, fetch_one

from ..catalogue.cache_manager import CacheManager
from ..catalogue.catalogue import Catalogue, Command
from ..engines.execution_engine import Engine, Result
from ..rules.quoted import has_quotes, is_against_rules, within_rules
from ..rules.rule_book import RuleBook
from .announcement_service import list_channels, outbox_rows, put_into_outbox

TRIGGER = "playback"
BATCH = 50
LEASE = timedelta(seconds=60)
TIMEOUT_S = 10.0
# A module that is away for longer has forgotten what it played.
ASKED_AT_MOST = 20
PLACE = """
SELECT c.id AS community_id, c.name AS community_name, e.entity_id, e.platform, e.server_id, e.channel_id
FROM communities c LEFT JOIN LATERAL (
    SELECT * FROM entities WHERE community_id = c.id AND is_active ORDER BY id LIMIT 1
) AS e ON true
WHERE c.id = %(community)s AND c.is_active
"""


class UnknownTrack(NotFound):
    """That is no track of a module's."""

    code = "unknown_track"


@dataclass(frozen=True, slots=True)
class _Task:
    command: Command
    call: ModuleCall
    payload: str


class PlaybackService:
    def __init__(
        self,
        db: Database,
        lookups: CacheManager,
        engines: Mapping[str, Engine],
        pools: TargetPools,
        book: RuleBook,
        log: AAALog,
    ) -> None:
        self._db = db
        self._lookups = lookups
        self._engines = engines
        self._pools = pools
        self._book = book
        self._log = log
        self.wake = threading.Event()

    def accept(self, said: Playback) -> bool:
        """Put it on record, for the module to be told. False when it was known. Raises: UnknownTrack."""
        with self._db.transaction() as db:
            item = _find_item(db, said)
            if item is None:
                raise UnknownTrack()
            row = fetch_one(
                db,
                "INSERT INTO playbacks (community_id, track_id, state, module_name, execution_id, session_id, report)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id",
                (
                    item["community_id"],
                    said.track_id,
                    said.state,
                    item["module_name"],
                    new_id(),
                    item["session_id"],
                    said.model_dump_json(),
                ),
            )
        if row is not None:
            self.wake.set()
        return row is not None

    def step(self) -> bool:
        """Have modules told of what they do not know yet. True when there may be more."""
        rows = self._db.statement(
            "UPDATE playbacks SET lease_until = now() + %s, attempts = attempts + 1 WHERE id IN ("
            "SELECT id FROM playbacks WHERE status = 'pending' AND (lease_until IS NULL OR lease_until <= now())"
            " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING *",
            (LEASE, BATCH),
        )
        # One community's in their order, communities beside each other.
        rows.sort(key=lambda row: (row["community_id"], row["module_name"], row["id"]))
        for (_, module), told in groupby(rows, key=lambda row: (row["community_id"], row["module_name"])):
            self._pools.submit(module, self._tell, list(told))
        return len(rows) == BATCH

    def _tell(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            log_context().session_id = str(row["session_id"])
            task = self._task(row)
            result = self._engines[task.command.spec.type].execute(task) if task else None
            if result and row["attempts"] < ASKED_AT_MOST and _may_repeat(result):
                self._put_back(row["id"], row["attempts"])
            else:
                self._record(row, result)

    def _task(self, row: dict[str, Any]) -> _Task | None:
        """What the module is called with; None where it is not on any more."""
        catalogue = self._lookups.catalogue(row["community_id"])
        command = _command_of(catalogue, row["module_name"])
        places = self._db.statement(PLACE, {"community": row["community_id"]})
        is_core = find_manifest(row["module_name"]) is not None
        if command is None or not places or not catalogue.is_module_on(row["module_name"], None, is_core=is_core):
            return None
        place = places[0]
        call = ModuleCall(
            session_id=str(row["session_id"]),
            execution_id=str(row["execution_id"]),
            community=CallCommunity(id=place["community_id"], name=place["community_name"]),
            entity=CallEntity(
                entity_id=place["entity_id"] or "",
                platform=place["platform"] or CONSOLE,
                server_id=place["server_id"] or "",
                channel_id=place["channel_id"] or "",
            ),
            # Nobody asked.
            user=CallUser(id=0, platform_user_id="overlay", name="", display_name="", level=Level.MEMBER.label),
            trigger=Trigger(type="event", command=TRIGGER, data=row["report"]),
            settings=dict(catalogue.config_of(row["module_name"], place["entity_id"])),
            deadline=datetime.now(UTC) + timedelta(seconds=TIMEOUT_S),
            timeout_ms=int(TIMEOUT_S * 1000),
            traceparent=new_traceparent(),
        )
        return _Task(command, call, call.model_dump_json())

    def _record(self, row: dict[str, Any], result: Result | None) -> None:
        """Put what came of it on record, with what is said, once."""
        status = result.status.value if result else "off"
        responses = result.responses if result and result.status is ExecutionStatus.SUCCESS else []
        if has_quotes(row["module_name"]):
            responses = within_rules(
                responses, lambda text: is_against_rules(self._book, row["community_id"], "", text)
            )
        with self._db.transaction() as db:
            done = fetch_one(
                db,
                "UPDATE playbacks SET status = %s WHERE id = %s AND status = 'pending' RETURNING id",
                (status, row["id"]),
            )
            if done is None:
                return
            channels = list_channels(db, row["community_id"]) if responses else []
            said = list(outbox_rows(responses, channels, shows_overlays=True))
            if said:
                put_into_outbox(db, said, row["community_id"], row["module_name"])
        report = row["report"]
        self._log.audit(
            "playback_told",
            result=status.upper(),
            community=row["community_id"],
            module_name=row["module_name"],
            track_id=row["track_id"],
            state=row["state"],
            code=report["code"],
            execution_id=str(row["execution_id"]),
        )

    def _put_back(self, playback_id: int, attempts: int) -> None:
        self._db.statement(
            "UPDATE playbacks SET lease_until = now() + %s WHERE id = %s AND status = 'pending'",
            (timedelta(seconds=min(attempts, 10)), playback_id),
        )


def _find_item(db: DAL, said: Playback) -> dict[str, Any] | None:
    """The reply that the track came with, by the id that the router shows it with."""
    number = said.item_id.removeprefix("outbox-")
    if number == said.item_id or not number.isascii() or not number.isdigit() or len(number) > 18:
        return None
    return fetch_one(
        db,
        "SELECT community_id, module_name, session_id FROM outbox"
        " WHERE id = %s AND response_action = 'media' AND response_data->>'track_id' = %s",
        (int(number), said.track_id),
    )


def _command_of(catalogue: Catalogue, module_name: str) -> Command | None:
    """The module's command of that name, or any other: all that is wanted is where it is."""
    own = catalogue.commands.by_module.get(module_name, [])
    return next((each for each in own if each.spec.command == TRIGGER), own[0] if own else None)


def _may_repeat(result: Result) -> bool:
    """Whether the module has not answered: it answers a repeat the same."""
    has_failed = result.status in (ExecutionStatus.TIMEOUT, ExecutionStatus.FAILED)
    return has_failed and result.error is not None and result.error.code != "module"
