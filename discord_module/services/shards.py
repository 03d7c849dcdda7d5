"""The gateway's connections of the shards that this container has claimed, each supervised by what it does.

A connection counts as alive by the age of its last acknowledged heartbeat. One that is silent is broken off so that it
resumes; one that stays silent, ends or never begins is made anew, after a pause that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from waddlebot.base.bridge import Bridge
from waddlebot.base.contracts import ClaimedEntity
from waddlebot.base.errors import Busy, UpstreamError
from waddlebot.base.logs import AAALog
from waddlebot.base.watched import Watched
from waddlebot.collecting.collector import Collector
from waddlebot.collecting.event_store import Holding
from waddlebot.data.database import Database

from ..dataclasses import GuildSeen, Session, Sighting, VoiceState
from .identify import IdentifyPace
from .inbox import Inbox
from .interaction_service import InteractionService
from .interactions import Interaction

if TYPE_CHECKING:
    import discord

    from .pycord import ShardBot

WATCH_EVERY_S = 0.5
# So many heartbeats may stay unanswered; the second covers the one that is on its way.
BEATS_MISSED = 2
LATE_S = 1.0
# py-cord tries to connect for ever; somebody has to notice that it does not get there.
CONNECT_WITHIN_S = 90.0
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 60.0
REFUSED_PAUSE_S = 60.0
INTENTS_EVERY_S = 15.0
# A connection that lasted this long begins again without a pause.
GOOD_AFTER_S = 60.0
STOP_WITHIN_S = 2.0
REPORT_EVERY_S = 5.0
STALE_AFTER = timedelta(seconds=30)
NO_INTENTS = (
    "Message Content Intent and Server Members Intent are switched off: the bot hears slash commands and reactions, but"
    " no messages, joins or leaves. Switch both on at https://discord.com/developers/applications → Bot, it is noticed"
    " within a minute."
)
REFUSED = "Discord refuses DISCORD_BOT_TOKEN. Reset it in the Developer Portal → Bot, set it, and start again."
NO_ANSWER = "WaddleBot cannot take that right now. Try again in a moment."
NO_IDENTIFIES = "Discord lets this bot begin no more connections until {until:%H:%M} UTC; it began too many today."
CONTENT_FLAGS = (1 << 18) | (1 << 19)
MEMBERS_FLAGS = (1 << 14) | (1 << 15)

REPORT = """
INSERT INTO discord_shards (shard_id, shard_count, container_id, state, detail, guilds, latency_ms)
VALUES (%(shard)s, %(count)s, %(container)s, %(state)s, %(detail)s, %(guilds)s, %(latency)s)
ON CONFLICT (shard_id) DO UPDATE SET
    session_id = CASE WHEN discord_shards.shard_count = excluded.shard_count THEN discord_shards.session_id END,
    shard_count = excluded.shard_count, container_id = excluded.container_id,
    state = excluded.state, detail = excluded.detail, guilds = excluded.guilds, latency_ms = excluded.latency_ms,
    updated_at = now()
"""
# Not by who does not hold the shard any more.
SAVE_SESSION = """
UPDATE discord_shards SET session_id = %(id)s, sequence = %(sequence)s, resume_url = %(url)s,
    privileged = %(privileged)s
WHERE shard_id = %(shard)s AND EXISTS (SELECT FROM coordination c WHERE c.entity_id = %(entity)s
    AND c.epoch = %(epoch)s AND c.claimed_by IS NOT NULL)
"""
FIND_SESSION = """
SELECT session_id, sequence, resume_url, privileged, (SELECT coalesce(array_agg(guild_id), '{}') FROM discord_guilds
    WHERE left_at IS NULL AND (guild_id::bigint >> 22) %% shard_count = shard_id) AS guild_ids
FROM discord_shards WHERE shard_id = %s AND shard_count = %s AND session_id IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Left:
    """What whoever held a shard before has left of it."""

    heard_at: datetime | None = None
    session: Session | None = None
    privileged: bool = True
    guild_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a shard's connection is made with."""

    token: SecretStr
    api_base_url: str
    pace: IdentifyPace
    inbox: Inbox
    interactions: InteractionService
    collector: Collector
    log: AAALog


class Shard:
    """One claimed shard. Its coroutines and `Ears` belong to the gateway's loop."""

    def __init__(
        self,
        gateway: Gateway,
        entity: ClaimedEntity,
        *,
        left: Left,
        changed: Callable[[], None],
        save: Callable[[Shard, Session], None],
    ) -> None:
        self.id = int(entity.channel_id)
        self.count = int(entity.config.get("shard_count") or 1)
        self.holding = Holding(entity.entity_id, entity.epoch)
        self.state, self.detail = "starting", ""
        self._gateway = gateway
        self._changed = changed
        self._save = save
        self._marked: Session | None = None
        self._bot: ShardBot | None = None
        self.is_privileged = left.privileged
        self._heard_at = left.heard_at
        self._session = left.session
        self._guild_ids = left.guild_ids
        self._broken_at = 0.0
        self._began_at = 0.0
        self._max_concurrency = 1
        self._is_lost = False
        # For its turn to identify, which may take as long as there are others.
        self._is_waiting = False
        self._breaking: asyncio.Future[None] | None = None
        self.closed = threading.Event()

    @property
    def is_connected(self) -> bool:
        return self.state in ("connected", "limited")

    @property
    def guilds(self) -> int:
        return len(self._bot.guilds) if self._bot is not None else 0

    @property
    def latency_ms(self) -> float | None:
        latency_s = self._bot.latency if self._bot is not None and self.is_connected else None
        return latency_s * 1000 if latency_s is not None and 0 <= latency_s < 1e6 else None

    async def run(self) -> None:
        """Keep the shard connected until this is cancelled."""
        self.closed.clear()
        try:
            await self._supervise()
        finally:
            self.closed.set()

    async def _supervise(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            pause_s = await self._connection()
            failures = 0 if time.monotonic() - began > GOOD_AFTER_S else failures + 1
            if pause_s is None:
                pause_s = min(FIRST_PAUSE_S * 2 ** min(failures, 10), MAX_PAUSE_S) * random.uniform(0.8, 1.2)  # noqa: S311
            self._gateway.log.system(
                "gateway_ended", result="FAILED", shard=self.id, detail=self.detail, again_in_s=round(pause_s, 1)
            )
            await asyncio.sleep(pause_s)

    def lose(self) -> None:
        """Another container has it from now on: nothing of what is still heard counts."""
        self._is_lost = True

    async def _connection(self) -> float | None:
        """Hold one connection for as long as it lasts. Returns how long to pause, if that is special."""
        import aiohttp
        import discord

        from .pycord import ShardBot, point_at

        point_at(self._gateway.api_base_url)
        bot = self._bot = ShardBot(
            self.id,
            self.count,
            ears=self,
            privileged=self.is_privileged,
            before_identify=self._turn,
            session=self._session,
            guild_ids=self._guild_ids,
        )
        self._began_at, self._broken_at = time.monotonic(), 0.0
        self._become("connecting")
        task = asyncio.ensure_future(self._start(bot))  # not watched: it is waited for here
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=WATCH_EVERY_S)
                self._watch(bot, task)
            task.result()
            self._become("ended", "The connection was closed.")
        except asyncio.CancelledError:
            if not task.cancelled() or self._is_lost:
                raise  # It is this shard that ends, not its connection.
        except NoIdentifies as err:
            self._become("waiting", str(err))
            return err.pause_s
        except discord.LoginFailure:
            self._become("refused", REFUSED)
            return REFUSED_PAUSE_S
        except discord.PrivilegedIntentsRequired:
            self.is_privileged = False
            bot.forget_session()
            self._become("connecting", NO_INTENTS)
            return 0.0
        except IntentsBack:
            self.is_privileged = True
            bot.forget_session()
            return 0.0
        except (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError) as err:
            self._become("ended", f"{type(err).__name__}: {str(err)[:200]}")
        except Exception as err:
            self._gateway.log.error("gateway_failed", exc_info=True, shard=self.id)
            bot.forget_session()  # It may be what is replayed that fails.
            self._become("ended", f"{type(err).__name__} in the gateway's client; the log has it whole.")
        finally:
            self._bot = None
            self._session, self._guild_ids = bot.session, [str(each.id) for each in bot.guilds]
            await _close(bot, task)
        return None

    async def mark(self) -> None:
        """Have it put down from where to resume, once all that came before is stored."""
        session = await self._bot.mark() if self._bot is not None and self.is_connected else None
        if session is not None and session != self._marked:
            self._marked = session
            self._gateway.inbox.when_stored(partial(self._save, self, session))

    async def _start(self, bot: ShardBot) -> None:
        from discord.http import Route

        await bot.login(self._gateway.token.get_secret_value())
        limits = (await bot.http.request(Route("GET", "/gateway/bot")))["session_start_limit"]
        self._max_concurrency = max(1, int(limits.get("max_concurrency", 1)))
        if int(limits.get("remaining", 1)) <= 0:
            raise NoIdentifies(int(limits.get("reset_after", 60_000)) / 1000)
        if self.is_privileged:
            await bot.connect()
            return
        connection = asyncio.ensure_future(bot.connect())  # not watched: it is waited for here
        try:
            while not connection.done():
                await asyncio.wait({connection}, timeout=INTENTS_EVERY_S)
                application = await bot.http.request(Route("GET", "/oauth2/applications/@me"))
                flags = int(application.get("flags") or 0)
                if flags & CONTENT_FLAGS and flags & MEMBERS_FLAGS:
                    raise IntentsBack()
            connection.result()
        finally:
            connection.cancel()

    async def _turn(self) -> None:
        self._is_waiting = True
        try:
            await self._gateway.pace.turn(self.id % self._max_concurrency)
        finally:
            self._is_waiting, self._began_at = False, time.monotonic()

    def _watch(self, bot: ShardBot, task: asyncio.Task[None]) -> None:
        """Judge the connection by its heartbeats."""
        now = time.monotonic()
        beat = bot.heartbeat()
        if not self.is_connected or beat is None:
            if not self._is_waiting and now - max(self._began_at, self._broken_at) > CONNECT_WITHIN_S:
                self._become("ended", f"No connection after {CONNECT_WITHIN_S:.0f} s.")
                task.cancel()
            return
        interval_s, age_s = beat
        allowed_s = interval_s * BEATS_MISSED + LATE_S
        if age_s <= interval_s + LATE_S:
            self._gateway.collector.liveness.heard(self.holding.entity_id)
            self._heard_at = datetime.now(UTC)
        if age_s > allowed_s and not self._broken_at:
            self._broken_at = now
            self._gateway.log.system("gateway_silent", result="FAILED", shard=self.id, silent_s=round(age_s, 1))
            self._become("silent", f"Discord has not answered a heartbeat for {age_s:.0f} s; connecting anew.")
            # not watched: the loop tells of its error, and the next look breaks what still stands
            self._breaking = asyncio.ensure_future(bot.break_connection())

    def _become(self, state: str, detail: str = "") -> None:
        self.state, self.detail = state, detail
        self._changed()

    # Ears

    def connected(self, *, resumed: bool) -> None:
        bot, collector = self._bot, self._gateway.collector
        beat = bot.heartbeat() if bot is not None else None
        if beat is not None:
            silent_after = timedelta(seconds=beat[0] * BEATS_MISSED + 15)
            collector.liveness.expect(self.holding.entity_id, silent_after=silent_after)
        if not resumed and self._heard_at is not None:
            why = "The connection to Discord was lost or passed on, and could not be resumed."
            self._gateway.inbox.note_gap(self.holding.entity_id, since=self._heard_at, why=why)
        self._heard_at, self._broken_at = datetime.now(UTC), 0.0
        self._became_connected()
        self._gateway.log.system("gateway_connected", shard=self.id, resumed=resumed)

    def _became_connected(self) -> None:
        self._become("connected") if self.is_privileged else self._become("limited", NO_INTENTS)

    def saw(self, sighting: Sighting, delivery_id: str) -> None:
        if not self._is_lost:
            self._gateway.inbox.saw(sighting, delivery_id, self.holding)

    def saw_voice(self, state: VoiceState) -> None:
        if not self._is_lost:
            self._gateway.inbox.saw_voice(state, self.holding)

    def saw_roles(self, guild_id: str, user_id: str, role_ids: frozenset[str]) -> None:
        if not self._is_lost:
            self._gateway.inbox.saw_roles(guild_id, user_id, role_ids)

    def saw_guild(self, guild: GuildSeen) -> None:
        if not self._is_lost:
            self._gateway.inbox.saw_guild(guild, self.holding)

    def lost_guild(self, guild_id: str, *, gone: bool) -> None:
        if not self._is_lost:
            self._gateway.inbox.lost_guild(guild_id, gone=gone)

    def saw_own(self) -> None:
        self._gateway.collector.liveness.heard(self.holding.entity_id)

    def saw_nonsense(self, event: str, error: Exception) -> None:
        self._gateway.collector.count(event, "malformed")
        self._gateway.log.error("dispatch_not_understood", dispatch=event, at=_where(error), error=type(error).__name__)

    async def interacted(self, interaction: discord.Interaction, payload: dict[str, Any]) -> None:
        """Tell Discord first, within its three seconds, then keep the command."""
        import aiohttp
        import discord

        service = self._gateway.interactions
        wanted = Interaction.model_validate(payload)
        if not wanted.is_command:
            return
        try:
            refusal = await asyncio.to_thread(service.refusal, wanted)
        except Busy:
            refusal = NO_ANSWER
        try:
            if refusal:
                await interaction.response.send_message(refusal, ephemeral=True)
                return
            await interaction.response.defer()
        except discord.HTTPException as err:
            self._gateway.collector.count("INTERACTION_CREATE", f"not acknowledged: {err.code}")
            # A first try may have been taken and its answer lost; what came over HTTP too is taken once all the same.
            if err.code != ACKNOWLEDGED:
                return
        except (aiohttp.ClientError, TimeoutError) as err:
            self._gateway.collector.count("INTERACTION_CREATE", f"perhaps acknowledged: {type(err).__name__}")
        try:
            await asyncio.to_thread(service.take, wanted, holding=self.holding)
        except Busy:
            with contextlib.suppress(discord.HTTPException):
                await interaction.edit_original_response(content=NO_ANSWER)


# "Interaction has already been acknowledged."
ACKNOWLEDGED = 40060


class NoIdentifies(Exception):
    """Discord allows so many connections to begin in a day."""

    def __init__(self, pause_s: float) -> None:
        until = datetime.now(UTC) + timedelta(seconds=pause_s)
        super().__init__(NO_IDENTIFIES.format(until=until))
        self.pause_s = pause_s


class IntentsBack(Exception):
    """What was switched off for the application is switched on now."""


class Shards:
    """The shards of this container, in a loop and thread of their own."""

    def __init__(self, gateway: Gateway, *, db: Database, container_id: str) -> None:
        self._gateway = gateway
        self._db = db
        self._container = container_id
        self._bridge = Bridge()
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Shard, Future[None]]] = {}
        self.changed = threading.Event()

    def gained(self, entity: ClaimedEntity) -> None:
        shard = Shard(self._gateway, entity, left=self._find_left(entity), changed=self.changed.set, save=self._save)
        with self._lock:
            watched = Watched("shard", self._gateway.log.module)
            self._running[entity.entity_id] = shard, self._bridge.keep(watched, shard.run)

    def _find_left(self, entity: ClaimedEntity) -> Left:
        shard = int(entity.channel_id), entity.config.get("shard_count") or 1
        heard = "SELECT heard_at FROM channel_liveness WHERE entity_id = %s"
        try:
            rows = self._db.statement(heard, (entity.entity_id,))
            sessions = self._db.statement(FIND_SESSION, shard)
        except Busy:
            return Left()  # The shard is ours all the same.
        left = Left(rows[0]["heard_at"] if rows else None)
        for row in sessions:
            session = Session(row["session_id"], row["sequence"], row["resume_url"])
            return replace(left, session=session, privileged=row["privileged"], guild_ids=row["guild_ids"])
        return left

    def _save(self, shard: Shard, session: Session) -> None:
        self._db.statement(
            SAVE_SESSION,
            {
                "id": session.id,
                "sequence": session.sequence,
                "url": session.resume_url,
                "privileged": shard.is_privileged,
                "shard": shard.id,
                "entity": shard.holding.entity_id,
                "epoch": shard.holding.epoch,
            },
        )

    def lost(self, entity: ClaimedEntity) -> None:
        with self._lock:
            shard, running = self._running.pop(entity.entity_id, (None, None))
        if shard is None or running is None:
            return
        shard.lose()
        running.cancel()
        shard.closed.wait(STOP_WITHIN_S)

    def entity_of(self, guild_id: int) -> str:
        """The shard that a server's events come through, as far as is known here."""
        count = next((shard.count for shard in self.held), 1)
        return f"discord:shard:{(guild_id >> 22) % count}"

    @property
    def held(self) -> list[Shard]:
        with self._lock:
            return [shard for shard, _ in self._running.values()]

    def report(self) -> None:
        """Write down how each shard is, for health in another process, and forget those that are no more."""
        shards = self.held
        count = max((shard.count for shard in shards), default=0)
        gone = "DELETE FROM discord_shards WHERE shard_id >= %s AND %s > 0 RETURNING shard_id"
        forgotten = [f"discord:shard:{row['shard_id']}" for row in self._db.statement(gone, (count, count))]
        if forgotten:
            self._gateway.collector.liveness.forget(forgotten)
        for shard in shards:
            self._db.statement(
                REPORT,
                {
                    "shard": shard.id,
                    "count": shard.count,
                    "container": self._container,
                    "state": shard.state,
                    "detail": shard.detail,
                    "guilds": shard.guilds,
                    "latency": shard.latency_ms,
                },
            )
            self._bridge.start(shard.mark())

    def count_voice(self) -> None:
        """Count the minutes of everybody in voice, where we can see them."""
        for shard in self.held:
            if shard.is_connected:
                self._gateway.inbox.count_voice(shard.id, shard.count, shard.holding)


class ShardReports:
    """How the shards are, as their containers have written it down."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def list_shards(self) -> list[dict[str, Any]]:
        return self._db.statement(
            "SELECT shard_id, shard_count, container_id, CASE WHEN updated_at < now() - %s THEN 'lost' ELSE state END"
            " AS state, detail, guilds, latency_ms, updated_at FROM discord_shards ORDER BY shard_id",
            (STALE_AFTER,),
        )

    def check(self) -> str:
        """Raises: UpstreamError in words that say what to do."""
        shards = self.list_shards()
        if not shards:
            raise UpstreamError("No container holds a shard; is the collectors' process running?")
        unwell = [each for each in shards if each["state"] != "connected"]
        if unwell:
            first = unwell[0]
            what = first["detail"] or f"It is {first['state']}."
            raise UpstreamError(f"{len(unwell)} of {len(shards)} shards; shard {first['shard_id']}: {what}")
        return f"{len(shards)} shards connected, {sum(each['guilds'] for each in shards)} servers"


def _where(error: Exception) -> str:
    """The line that stumbled; what the error says of itself may quote somebody."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""


async def _close(bot: ShardBot, task: asyncio.Task[None]) -> None:
    """End a connection whatever state it is in."""
    task.cancel()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(bot.close(), STOP_WITHIN_S)
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
    # Last, because until then it may have opened another one.
    with contextlib.suppress(Exception):
        await bot.http.close()
