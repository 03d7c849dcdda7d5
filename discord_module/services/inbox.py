"""What the gateway's loop heard, worked off in its order by one thread that may wait for the database."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from waddlebot.base.logs import AAALog
from waddlebot.base.watched import Watched
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Delivery, Holding
from waddlebot.data.database import DatabaseUnavailable

from ..dataclasses import GuildSeen, Sighting, VoiceState
from .guild_service import GuildService
from .translation import with_fleet_prefix
from .voice_service import VoiceService

# What may wait while the database is away; beyond it the oldest is lost. The collector keeps as many again.
MAX_WAITING = 20_000
ID_CHARS = 255
AT_ONCE = 200

Job = Callable[[], None]


class Inbox:
    """Takes what a shard hears, from its loop, and turns it into deliveries, servers and voice sessions."""

    def __init__(
        self,
        collector: Collector,
        guilds: GuildService,
        voice: VoiceService,
        *,
        saw_roles: Callable[[str, str, frozenset[str]], None],
        command_prefix: str,
        log: AAALog,
    ) -> None:
        # Told all roles that somebody has in a server.
        self.saw_roles = saw_roles
        self._collector = collector
        self._guilds = guilds
        self._voice = voice
        self._prefix = command_prefix
        self._log = log
        self._lost = Watched("gateway-inbox-room", log.module)
        self._jobs: deque[Job] = deque()
        self._is_ending = False
        self.wake = threading.Event()
        # Set when somebody joined voice.
        self.voice_changed = threading.Event()

    def put(self, job: Job) -> None:
        """Have something done after all that came before. Never blocks."""
        if len(self._jobs) >= MAX_WAITING:
            self._jobs.popleft()
            self._collector.count("gateway", "lost")
            self._lost.note("what a shard hears is lost: the database has been away for too long")
        self._jobs.append(job)
        self.wake.set()

    def step(self) -> bool:
        """Do what waits. True when there is more. Raises: DatabaseUnavailable; what it happened to is done again."""
        for _ in range(AT_ONCE):
            if not self._jobs:
                return False
            job = self._jobs[0]
            try:
                job()
            except DatabaseUnavailable:
                raise
            except Exception:  # noqa: BLE001 - one that fails must not keep the ones behind it waiting for good
                self._log.error("gateway_job_failed", exc_info=True)
            if self._jobs and self._jobs[0] is job:
                self._jobs.popleft()
        return True

    def finish(self) -> None:
        """Before the process ends: work off what was heard, and store it at once."""
        self._is_ending = True
        while self.step():
            pass

    def saw(self, sighting: Sighting, delivery_id: str, holding: Holding) -> None:
        self.put(lambda: self._keep(sighting, delivery_id, holding))

    def when_stored(self, tell: Callable[[], None]) -> None:
        """Call that once all that was heard until now is stored."""
        self.put(lambda: self._collector.when_stored(tell))

    def saw_voice(self, state: VoiceState, holding: Holding) -> None:
        self.put(lambda: self._note_voice(state, holding))

    def saw_guild(self, guild: GuildSeen, holding: Holding) -> None:
        def note() -> None:
            self._guilds.note(guild)
            if guild.voices is not None and self._collector.served.serves("", guild.id):
                for sighting in self._voice.become(guild.id, guild.voices):
                    self._deliver(sighting, sighting.event_id, holding)

        self.put(note)

    def lost_guild(self, guild_id: str, *, gone: bool) -> None:
        def note() -> None:
            self._guilds.note_lost(guild_id, gone=gone)
            if gone:
                self._voice.become(guild_id, ())

        self.put(note)

    def note_gap(self, entity_id: str, *, since: datetime, why: str) -> None:
        until = datetime.now(UTC)
        self.put(lambda: self._collector.liveness.note_gap(entity_id, since=since, until=until, why=why))

    def count_voice(self, shard: int, shard_count: int, holding: Holding) -> None:
        """Put down who joined voice, and the minutes that people have been in it."""
        for moment in self._voice.due(shard, shard_count):
            self._collector.take(self._delivery(moment, moment.event_id, holding))
            self._voice.count(moment)

    def _note_voice(self, state: VoiceState, holding: Holding) -> None:
        if self._collector.served.serves("", state.guild_id):
            for left in self._voice.note(state):
                self._deliver(left, left.event_id, holding)
            self.voice_changed.set()

    def _keep(self, sighting: Sighting, delivery_id: str, holding: Holding) -> None:
        parent = str(sighting.details.get("parent_channel_id", ""))
        served = self._collector.served
        if not served.serves(sighting.channel_id, sighting.guild_id) and not (
            parent and served.serves(parent, sighting.guild_id)
        ):
            # Nobody asked us to listen there, so nothing of it is written down.
            self._collector.count(sighting.dispatch, "channel not served")
            return
        # One dispatch may tell of several things. Whoever holds the shard next may hear it again, and has to keep it
        # where we were not allowed to any more.
        once = f"{delivery_id}:{sighting.message_type}"
        named = replace(sighting, event_id=sighting.event_id or once)
        self._deliver(named, f"{once}:{holding.epoch}", holding)

    def _deliver(self, sighting: Sighting, delivery_id: str, holding: Holding) -> None:
        delivery = self._delivery(sighting, delivery_id, holding)
        if self._is_ending:  # Nobody may be left to store what is only kept.
            self._collector.take(delivery)
        else:
            self._collector.keep(delivery)

    def _delivery(self, sighting: Sighting, delivery_id: str, holding: Holding) -> Delivery:
        data = sighting.as_data()
        if sighting.dispatch == "MESSAGE_CREATE":
            data["text"], may_be_command = with_fleet_prefix(sighting.text, self._prefix)
            if not may_be_command:
                data["details"] = {**sighting.details, "no_command": True}
        return Delivery(
            delivery_id=delivery_id[:ID_CHARS],
            event_id=sighting.event_id[:ID_CHARS],
            type=sighting.dispatch,
            channel_id=sighting.channel_id,
            person_id=sighting.person.id,
            data=data,
            occurred_at=sighting.occurred_at or datetime.now(UTC),
            holding=holding,
        )
