"""The hub: holds the overlays' sockets, and nothing that could not be lost.

What is to be shown is in PostgreSQL; Redis says so at once, and the hub looks by itself every second, so that either
may be away for a while. A page joins its room by saying what it has seen; from then on it gets every item in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis.asyncio
import redis.exceptions
from waddlebot.base import watched
from waddlebot.base.errors import ConfigError
from waddlebot.base.ids import new_id
from waddlebot.base.logs import AAALog
from waddlebot.base.strangers import PerMinute
from waddlebot.base.watched import Watched, tell_of_lost_errors
from waddlebot.community.screens import PRESENCE
from waddlebot.data.cache import read_invalidation
from waddlebot.data.database import DatabaseUnavailable
from waddlebot.data.processes import SAVE_EVERY_S as REPORT_EVERY_S
from waddlebot.data.processes import ProcessReports
from waddlebot.data.redis_users import INVALIDATIONS, WAKE
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State

from .admission import Admission
from .frames import ITEMS, PLAYBACK, QUEUES, TOKENS, Source, as_text, read_item
from .hub_store import ACK_RANKS, Candidate, HubStore, Playing, QueueState

T = TypeVar("T")

PATH = re.compile(r"/ws/([^/]+)/(ticker|media|general)")
TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
HEALTH = "/healthz"
# A page that says nothing of what it has seen gets what comes from now on; until then it is waited for.
HELLO_WITHIN_S = 1.0
# A new overlay URL is tried again and again by whoever has it; a wrong one should not cost a query each time.
ADMISSION_KEPT_S = 2.0
MAX_FRAME_BYTES = 4096
SHED_EVERY_S = 1.0
MAX_FRAMES_PER_S = 1500
MAX_BAD_FRAMES = 20
# Lines about errors of the pages of one overlay.
TROUBLES_PER_MINUTE = 20
# What a page has not read by then; one that is so far behind does better to come back and ask for the rest.
MAX_UNREAD_BYTES = 1024 * 1024
PING_EVERY_S = 20.0
SAVE_ACKS_EVERY_S = 0.1
# A third of a lease, so that two renewals may fail.
ELECT_EVERY_S = 2.0
MEDIA = "media"
PAGE_STATES = frozenset({"started", "paused", "ended", "failed"})
MAX_TRACK_ID_CHARS = 64
PAGE_ID = re.compile(r"[A-Za-z0-9-]{16,64}", re.ASCII)
# A day of music, and more than any player's error.
MOST_MS, MAX_CODE = 24 * 3600 * 1000, 1_000_000
PRESENCE_EVERY_S = 1.0
PRESENCE_KEPT_S = 5
LAST_SEEN_EVERY_S = 15.0
RECONNECT_S = 0.5
FINISH_WITHIN_S = 4.0

# Close codes. Sources: RFC 6455 §7.4.1, https://www.iana.org/assignments/websocket; from 4000 on they are ours.
UNSUPPORTED, MISBEHAVED, RESTARTING, TRY_LATER, REVOKED = 1003, 1008, 1012, 1013, 4403


class Page(ServerConnection):
    """One page's socket."""

    admission: Admission
    source: Source
    is_hidden = False
    # Whether it is the one that is heard and that says what it plays; None until it has been told.
    leads: bool | None = None
    # What it is leased by: its own word, so that it is the same after a line that was cut.
    key = ""
    frames_this_second = 0
    bad_frames = 0

    @property
    def counted_as(self) -> tuple[int, str]:
        return self.admission.token_id, self.source.source_type


@dataclass(frozen=True, slots=True)
class Hello:
    """A page says what it has seen: the last item and, unless it is new, the last control."""

    last_seq: int
    control: int | None
    is_hidden: bool
    page: str


@dataclass(frozen=True, slots=True)
class Ack:
    seq: int
    rank: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a page plays, and how far it is."""

    seq: int
    track_id: str
    state: str
    position_ms: int
    code: int


@dataclass(frozen=True, slots=True)
class Ping:
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    message: str


@dataclass(eq=False, slots=True)
class Room:
    """The pages of one overlay that this hub holds, and how far they are."""

    source: Source
    members: set[Page] = field(default_factory=set)
    # Pages that have not said yet what they have seen, with what came meanwhile.
    joining: dict[Page, list[str]] = field(default_factory=dict)
    pages: set[Page] = field(default_factory=set)
    sent_seq: int = 0
    sent_control: int = 0
    is_paused: bool = False
    theme: dict[str, str] = field(default_factory=dict)
    loaded: asyncio.Future[None] | None = None
    is_looking: bool = False
    look_again: bool = False

    def candidate(self) -> Page | None:
        """Who should lead here: who does, unless it is hidden and another one is not."""
        pages = [page for page in self.pages if not page.admission.is_preview]
        return min(pages, key=lambda page: (page.is_hidden, not page.leads, page.key), default=None)

    def deliver(self, frame: str) -> int:
        """Send a frame to every page, to those that are joining later. Never waits for any of them."""
        fan_out(self.members, frame)
        for waiting in self.joining.values():
            waiting.append(frame)
        return len(self.members)


def fan_out(pages: Iterable[Page], text: str) -> None:
    """Send a text to many pages; what one of them does not read is the sweep's business.

    The same as the library's `broadcast`, but the frame is made once and not for each page, which halves the time.
    Sound as long as no page is ever sent a message in fragments.
    """
    frame = Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
    for page in pages:
        if page.state is State.OPEN:
            page.transport.write(frame)


class Hub:
    """One process's sockets. Any number of hubs serve the same overlays side by side."""

    def __init__(
        self,
        store: HubStore,
        bus: redis.asyncio.Redis,
        log: AAALog,
        *,
        max_connections: int,
        max_workers: int,
        look_every_s: float,
        role: str,
    ) -> None:
        self.id = new_id()
        self._store = store
        self._bus = bus
        self._log = log
        self._max_connections = max_connections
        self._threads = ThreadPoolExecutor(max_workers, "hub-db")
        self._look_every_s = look_every_s
        self._rooms: dict[Source, Room] = {}
        self._admissions: dict[tuple[str, str], tuple[float, Admission | None]] = {}
        # Pages by token and source: a page with all three has one of each.
        self._by_token: Counter[tuple[int, str]] = Counter()
        self._troubles = PerMinute(TROUBLES_PER_MINUTE)
        self._held = 0
        self._acks: dict[tuple[Source, int], int] = {}
        # Newest last; what was said of one state of a track before is said anew.
        self._playing: dict[tuple[int, str, str], Playing] = {}
        # Where somebody has to be found to lead, and who leads no more.
        self._unled: set[Room] = set()
        self._gone: list[str] = []
        self._saving = asyncio.Lock()
        self._counts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reports = ProcessReports(store.run, role)
        self._listener = Watched("hub-listener")
        self._bugs = Watched("hub")

    async def run(self, host: str, port: int) -> None:
        """Serve until SIGTERM, then tell every page to come back and record what they said."""
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        try:
            server = await serve(
                self._handle,  # type: ignore[arg-type]  # Connections are Pages, as create_connection says.
                host,
                port,
                create_connection=Page,
                process_request=self._admit,  # type: ignore[arg-type]
                compression=None,  # It would cost three times the memory and processor time (docs/adr/0015).
                max_size=MAX_FRAME_BYTES,
                ping_interval=PING_EVERY_S,
                ping_timeout=PING_EVERY_S,
                close_timeout=2,
                server_header=None,
                logger=_silent_logger(),
            )
        except OSError as err:
            raise ConfigError(f"The hub cannot listen on {host}:{port}: {err.strerror}.") from err
        tell_of_lost_errors(asyncio.get_running_loop(), "hub-loop")
        loops = [self._listener.start_task(self._hear), *self._start_loops()]
        self._log.system("hub_started", hub=self.id, port=port)
        await stopping.wait()
        server.close(code=RESTARTING, reason="restarting")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), FINISH_WITHIN_S)
        for loop in loops:
            loop.cancel()
        with contextlib.suppress(DatabaseUnavailable):
            await self._save_acks()
            await self._save_playing()
            await self._save_last_seen()
            await self._elect_soon()
            await self._ask(self._reports.withdraw)
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await self._bus.delete(PRESENCE + self.id)
        self._store.close()

    def _start_loops(self) -> list[asyncio.Task[None]]:
        steps = {
            "hub-look": (self._look, self._look_every_s),
            "hub-shed": (self._shed, SHED_EVERY_S),
            "hub-acks": (self._save_acks, SAVE_ACKS_EVERY_S),
            "hub-playing": (self._save_playing, SAVE_ACKS_EVERY_S),
            "hub-elect": (self._elect, ELECT_EVERY_S),
            "hub-elect-soon": (self._elect_soon, SAVE_ACKS_EVERY_S),
            "hub-presence": (self._tell_presence, PRESENCE_EVERY_S),
            "hub-last-seen": (self._save_last_seen, LAST_SEEN_EVERY_S),
            "hub-report": (self._report, REPORT_EVERY_S),
        }
        return [
            Watched(name).start_task(functools.partial(self._repeat, step, every_s))
            for name, (step, every_s) in steps.items()
        ]

    # A page comes and goes

    async def _admit(self, page: Page, request: Request) -> Response | None:
        """Let in who has a token for what they ask for. Everything else is refused before there is a socket."""
        path = request.path.partition("?")[0]
        if path == HEALTH:
            return _answer(200, "OK", self._answer_health())
        asked = PATH.fullmatch(path)
        if asked is None:
            return _answer(404, "Not Found", {"success": False})
        if self._held >= self._max_connections:
            self._counts["full"] += 1
            return _answer(503, "Service Unavailable", {"success": False}, retry_after="5")
        try:
            admission = await self._admission(asked[1], asked[2])
        except DatabaseUnavailable:
            return _answer(503, "Service Unavailable", {"success": False}, retry_after="1")
        except Exception as err:  # noqa: BLE001 - the library would answer the same, and tell nobody
            self._note_bug("page_not_admitted", err)
            return _answer(500, "Internal Server Error", {"success": False})
        if admission is None:
            self._counts["refused"] += 1
            return _answer(403, "Forbidden", {"success": False})
        page.admission, page.source = admission, Source(admission.community_id, asked[2])
        page.key = new_id()
        return None

    async def _admission(self, token: str, source_type: str) -> Admission | None:
        if TOKEN.fullmatch(token) is None:
            return None
        now = time.monotonic()
        until, admission = self._admissions.get((token, source_type), (0.0, None))
        if until > now:
            return admission
        admission = await self._ask(self._store.find_admission, token, source_type)
        if len(self._admissions) > 10_000:
            self._admissions.clear()
        self._admissions[token, source_type] = now + ADMISSION_KEPT_S, admission
        return admission

    async def _handle(self, page: Page) -> None:
        room = self._rooms.setdefault(page.source, Room(page.source))
        self._held += 1
        if not page.admission.is_preview:
            self._by_token[page.counted_as] += 1
        room.pages.add(page)
        room.joining[page] = []
        try:
            await self._converse(room, page)
        except ConnectionClosed:
            pass
        except DatabaseUnavailable:
            await page.close(TRY_LATER, "the database is away")
        except Exception as err:  # noqa: BLE001 - the library would close the socket, and tell nobody
            self._note_bug("page_failed", err)
            await page.close(TRY_LATER, "a bug on our side")
        finally:
            self._held -= 1
            if not page.admission.is_preview:
                self._by_token[page.counted_as] -= 1
            room.pages.discard(page)
            room.members.discard(page)
            room.joining.pop(page, None)
            if not room.pages and self._rooms.get(room.source) is room:
                del self._rooms[room.source]
            if page.leads:
                self._gone.append(page.key)
                self._unled.add(room)

    async def _converse(self, room: Room, page: Page) -> None:
        await self._load(room)
        await page.send(self._hello(room, page))
        silent = asyncio.get_running_loop().call_later(HELLO_WITHIN_S, self._join, room, page)
        try:
            async for message in page:
                refusal = self._refusal(page, message)
                if refusal:
                    await page.close(*refusal)
                    return
                await self._hear_page(room, page, message)
        finally:
            silent.cancel()

    async def _load(self, room: Room) -> None:
        """Find out how far the queue is, once for all pages that come at the same time."""
        if room.loaded is None:
            # not watched: whoever waits for it has its error
            room.loaded = asyncio.ensure_future(self._read_state(room))
        try:
            await asyncio.shield(room.loaded)
        except Exception:
            room.loaded = None  # Whoever comes next tries again.
            raise

    async def _read_state(self, room: Room) -> None:
        queues = await self._ask(self._store.list_queues, [room.source])
        room.theme = await self._ask(self._store.find_theme, room.source.community_id)
        state = queues.get(room.source, QueueState())
        room.sent_seq, room.sent_control, room.is_paused = state.last_seq, state.last_control, state.is_paused

    def _hello(self, room: Room, page: Page) -> str:
        return as_text(
            {
                "type": "hello",
                "resume_from": room.sent_seq,
                "control": room.sent_control,
                "paused": room.is_paused,
                "pages": self._by_token[page.counted_as],
                "theme": room.theme,
            }
        )

    # What a page says

    def _refusal(self, page: Page, message: str | bytes) -> tuple[int, str] | None:
        page.frames_this_second += 1
        if isinstance(message, bytes):
            return UNSUPPORTED, "text frames only"
        if page.frames_this_second > MAX_FRAMES_PER_S or page.bad_frames > MAX_BAD_FRAMES:
            self._counts["misbehaved"] += 1
            return MISBEHAVED, "too much"
        return None

    async def _hear_page(self, room: Room, page: Page, message: str | bytes) -> None:
        said = _read(message)
        if isinstance(said, Hello):
            page.is_hidden, page.key = said.is_hidden, said.page or page.key
            await self._resume(room, page, said)
            self._unled.add(room)
        elif isinstance(said, Ack):
            if not page.admission.is_preview:
                self._note_ack(room, said)
        elif isinstance(said, Report):
            self._note_playing(room, page, said)
        elif isinstance(said, Ping):
            page.is_hidden = said.is_hidden
            fan_out([page], as_text({"type": "pong", "pages": self._by_token[page.counted_as]}))
        elif isinstance(said, Trouble):
            if self._troubles.lets(f"token {page.admission.token_id}"):
                left_out = self._troubles.take_left_out()
                source = str(room.source)
                self._log.error("overlay_page_failed", source=source, message=said.message, left_out=left_out)
        else:
            page.bad_frames += 1

    def _note_ack(self, room: Room, ack: Ack) -> None:
        if 0 < ack.seq <= room.sent_seq:
            key = room.source, ack.seq
            self._acks[key] = max(ack.rank, self._acks.get(key, 0))
            self._counts["acks"] += 1

    def _note_playing(self, room: Room, page: Page, report: Report) -> None:
        """What the page that leads plays; the others are muted and are not believed."""
        if not page.leads or report.seq > room.sent_seq:
            self._counts["reports_not_taken"] += 1
            return
        community_id = page.source.community_id
        key = community_id, report.track_id, report.state
        self._playing.pop(key, None)
        self._playing[key] = Playing(community_id, report.track_id, report.state, report.position_ms, report.code)

    async def _resume(self, room: Room, page: Page, hello: Hello) -> None:
        """Send a page what it has missed, then everything else as it comes.

        While the database is asked, new frames gather for this page; what was sent to the room before that is in the
        database's answer, because items are committed before they are told of.
        """
        room.members.discard(page)
        room.joining.setdefault(page, [])
        known_seq, known_control = room.sent_seq, room.sent_control
        # What this hub was told of a moment ago must not be asked for again: it is on record that it was shown.
        await self._save_acks()
        backlog = await self._ask(self._store.list_backlog, room.source, after=hello.last_seq, until=known_seq)
        if hello.control is not None and hello.control < known_control:
            backlog += await self._ask(self._store.list_controls, room.source, after=hello.control, until=known_control)
        for each in backlog:
            fan_out([page], each.frame)
        self._counts["resumed"] += len(backlog)
        self._join(room, page)

    def _join(self, room: Room, page: Page) -> None:
        """Make a page a member; what came while it was joining goes out first."""
        waiting = room.joining.pop(page, None)
        if waiting is None:
            return
        for frame in waiting:
            fan_out([page], frame)
        room.members.add(page)

    # What there is to show

    async def _hear(self) -> None:
        """Pass on what Redis says, and after an interruption look for what it said meanwhile."""
        while True:
            try:
                async with self._bus.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.psubscribe(ITEMS + "*")
                    await subscription.subscribe(INVALIDATIONS + QUEUES, INVALIDATIONS + TOKENS)
                    await self._look()
                    while True:
                        message = await subscription.get_message(timeout=5.0)
                        if message:
                            self._hear_message(message["channel"], message["data"])
            except (redis.exceptions.RedisError, OSError, DatabaseUnavailable):
                await asyncio.sleep(RECONNECT_S)

    def _hear_message(self, channel: str, message: str) -> None:
        try:
            if channel.startswith(INVALIDATIONS):
                self._told_to_look(channel.removeprefix(INVALIDATIONS), read_invalidation(message))
            else:
                self._told_of_item(Source.parse(channel.removeprefix(ITEMS)), *read_item(message))
        except ValueError as err:
            self._listener.note(f"cannot read what {channel[:100]} says: {err}")

    def _told_to_look(self, name: str, keys: list[str]) -> None:
        if name == TOKENS:
            self._admissions.clear()
            self._start(self._close_revoked())
        elif name == QUEUES:
            for room in self._rooms.values() if "*" in keys else self._rooms_of(keys):
                self._start(self._catch_up(room))

    def _rooms_of(self, keys: list[str]) -> list[Room]:
        sources = [Source.parse(key) for key in keys]
        return [self._rooms[source] for source in sources if source in self._rooms]

    def _told_of_item(self, source: Source, number: int, frame: str) -> None:
        room = self._rooms.get(source)
        if room is None or room.loaded is None or not room.loaded.done():
            return
        if number == room.sent_seq + 1:
            room.sent_seq += 1
            self._counts["sent"] += room.deliver(frame)
        elif number > room.sent_seq:
            self._start(self._catch_up(room))

    async def _catch_up(self, room: Room) -> None:
        """Bring a room up to date from the database. One at a time; a call meanwhile makes it look again."""
        if room.is_looking:
            room.look_again = True
            return
        room.is_looking = True
        try:
            await self._load(room)
            while True:
                room.look_again = False
                state = (await self._ask(self._store.list_queues, [room.source])).get(room.source, QueueState())
                await self._send_new_items(room, state)
                await self._send_new_controls(room, state)
                if not room.look_again:
                    return
        except DatabaseUnavailable:
            return  # It is looked for again in a second.
        finally:
            room.is_looking = False

    async def _send_new_items(self, room: Room, state: QueueState) -> None:
        if state.last_seq <= room.sent_seq:
            return
        items = await self._ask(self._store.list_items, room.source, after=room.sent_seq, until=state.last_seq)
        for each in items:
            if each.number > room.sent_seq:
                room.sent_seq = each.number
                self._counts["sent"] += room.deliver(each.frame)
        room.sent_seq = max(room.sent_seq, state.last_seq)

    async def _send_new_controls(self, room: Room, state: QueueState) -> None:
        if state.last_control <= room.sent_control:
            return
        controls = await self._ask(
            self._store.list_controls, room.source, after=room.sent_control, until=state.last_control
        )
        room.is_paused = state.is_paused
        room.sent_control = state.last_control
        for each in controls:
            if each.action == "theme":
                room.theme = await self._ask(self._store.find_theme, room.source.community_id)
                room.deliver(as_text({**json.loads(each.frame), "variables": room.theme}))
            else:
                room.deliver(each.frame)

    async def _look(self) -> None:
        """Look for what nobody told of, and for tokens that ended."""
        if not self._rooms:
            return
        for source, state in (await self._ask(self._store.list_queues, list(self._rooms))).items():
            room = self._rooms.get(source)
            if room and (state.last_seq > room.sent_seq or state.last_control > room.sent_control):
                self._start(self._catch_up(room))
        await self._close_revoked()

    async def _shed(self) -> None:
        """Drop pages that do not read, so that what they do not read does not pile up."""
        for page in [page for room in self._rooms.values() for page in room.pages]:
            page.frames_this_second = 0
            if page.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                self._counts["too_slow"] += 1
                page.transport.abort()

    async def _close_revoked(self) -> None:
        held = list({page.admission.token_id for room in self._rooms.values() for page in room.pages})
        if not held:
            return
        working = await self._ask(self._store.list_working_tokens, held)
        for room in list(self._rooms.values()):
            for page in list(room.pages):
                if page.admission.token_id not in working:
                    self._start(page.close(REVOKED, "this URL was replaced"))

    # What becomes of it

    async def _save_acks(self) -> None:
        """Record what pages said until now. Raises: DatabaseUnavailable; what they said is kept then, as it is if
        anything else is in the way."""
        async with self._saving:
            if not self._acks:
                return
            acks, self._acks = self._acks, {}
            try:
                shown = await self._ask(self._store.save_acks, acks)
            except BaseException:
                for key, rank in acks.items():
                    self._acks[key] = max(rank, self._acks.get(key, 0))
                raise
        for each in shown:
            self._log.system("item_shown", community=each.pop("community_id"), **each)

    async def _save_playing(self) -> None:
        """Record what pages play, and ring for what is to be told. Raises: DatabaseUnavailable; it is kept then."""
        if not self._playing:
            return
        said, self._playing = self._playing, {}
        try:
            is_news = await self._ask(self._store.save_playing, list(said.values()))
        except BaseException:
            self._playing = {**said, **self._playing}
            raise
        if is_news:
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                await self._bus.publish(WAKE + PLAYBACK, "")

    # Who leads

    async def _elect(self, rooms: Iterable[Room] | None = None) -> None:
        """Lease one page of each media overlay that this hub holds, and tell those for whom that changes something.

        Raises: DatabaseUnavailable; who led goes on then, and where two hubs are a page is told as soon as it can be.
        """
        where = [
            room for room in (self._rooms.values() if rooms is None else rooms) if room.source.source_type == MEDIA
        ]
        wanted = {page.key: page for room in where if (page := room.candidate())}
        if not wanted:
            return
        candidates = [Candidate(page.source.community_id, key, page.is_hidden) for key, page in wanted.items()]
        leading = await self._ask(self._store.lease_leaders, candidates)
        for room in where:
            for page in room.pages:
                self._tell_lead(page, leads=page.key in leading and not page.admission.is_preview)

    def _tell_lead(self, page: Page, *, leads: bool) -> None:
        if page.leads is not leads:
            page.leads = leads
            fan_out([page], as_text({"type": "lead", "leads": leads}))

    async def _elect_soon(self) -> None:
        """Find somebody to lead where a page has come, or where the one that led has gone; all of them at once."""
        gone, self._gone = self._gone, []
        rooms, self._unled = self._unled, set()
        if gone:
            await self._ask(self._store.end_leases, gone)
        if rooms:
            await self._elect(rooms)

    async def _save_last_seen(self) -> None:
        # Those too that were open for a moment since the last time.
        held = list({token_id for token_id, _ in self._by_token})
        self._by_token = +self._by_token
        if held:
            await self._ask(self._store.save_last_seen, held)

    async def _tell_presence(self) -> None:
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await self._bus.set(PRESENCE + self.id, as_text(self._presence()), ex=PRESENCE_KEPT_S)

    def _presence(self) -> dict[str, Any]:
        return {
            **self._health(),
            "sources": {
                str(source): {"connections": len(pages), "hidden": sum(page.is_hidden for page in pages)}
                for source, room in self._rooms.items()
                if (pages := [page for page in room.pages if not page.admission.is_preview])
            },
        }

    def _health(self) -> dict[str, Any]:
        return {
            "success": True,
            "hub": self.id,
            "connections": self._held,
            "max_connections": self._max_connections,
            "overlays": len(self._rooms),
            "counts": dict(self._counts),
        }

    def _answer_health(self) -> dict[str, Any]:
        """What it holds, with what has ended unasked of late or cannot be done."""
        troubles = [f"{each.name} {each.trouble}" for each in watched.states() if each.trouble]
        return {**self._health(), "status": "degraded" if troubles else "healthy", "troubles": troubles}

    async def _report(self) -> None:
        await self._ask(self._reports.save, [self._log.module])

    # Small print

    async def _ask(self, question: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Ask the database in a thread. Raises: DatabaseUnavailable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: question(*arguments, **named))

    async def _repeat(self, step: Callable[[], Any], every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            with contextlib.suppress(DatabaseUnavailable):
                await step()

    def _start(self, work: Any) -> None:
        """Run something beside; the loop alone would not keep it from being collected."""
        task = asyncio.ensure_future(work)  # not watched: `_ended` tells of its error
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (err := task.exception()) is None or isinstance(err, DatabaseUnavailable):
            return
        self._note_bug("hub_task_failed", err)

    def _note_bug(self, action: str, err: BaseException) -> None:
        self._counts["bugs"] += 1
        self._bugs.note(f"{action}: {type(err).__name__}", is_logged=False)
        self._log.error(action, error=repr(err))


def _read(message: str | bytes) -> Hello | Ack | Report | Ping | Trouble | None:
    """What a page says, or None where it makes no sense."""
    try:
        said = json.loads(message)
        is_hidden = said.get("hidden") is True
        kind = said["type"]
        if kind == "hello":
            control = said.get("control")
            known = None if control is None else _number(control)
            return Hello(_number(said.get("last_seq", 0)), known, is_hidden, _page_id(said.get("page")))
        if kind == "ack":
            return Ack(_number(said["seq"]), ACK_RANKS[said["state"]])
        if kind == "playing":
            return _read_report(said)
        if kind == "ping":
            return Ping(is_hidden)
        return Trouble(str(said.get("message"))[:300]) if kind == "error" else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _page_id(value: object) -> str:
    return value if isinstance(value, str) and PAGE_ID.fullmatch(value) else ""


def _read_report(said: dict[str, Any]) -> Report | None:
    track_id, state, code = said["track_id"], said["state"], said.get("code")
    if not isinstance(track_id, str) or not 0 < len(track_id) <= MAX_TRACK_ID_CHARS or state not in PAGE_STATES:
        return None
    position_ms, code = _number(said.get("position_ms") or 0), _number(code or 0)
    return Report(_number(said["seq"]), track_id, state, min(position_ms, MOST_MS), min(code, MAX_CODE))


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("not a number")
    return value


def _answer(status: int, reason: str, body: dict[str, Any], *, retry_after: str = "") -> Response:
    text = as_text(body).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(text)), "Connection": "close"})
    if retry_after:
        headers["Retry-After"] = retry_after
    return Response(status, reason, headers, text)


def _silent_logger() -> logging.Logger:
    """The library writes a traceback for each page that goes away in the middle of something."""
    logger = logging.getLogger("waddlebot.sockets")
    logger.setLevel(logging.CRITICAL)
    return logger
