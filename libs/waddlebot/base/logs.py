"""Authentication, authorization and audit lines: one format, off the request's path, never a secret in them.

    [2026-11-22T18:04:11.113Z] INFO inventory:1.0.0 AUDIT community=1 user=7 action=item_added result=SUCCESS item_id=3

A request only puts a record into a queue; one thread per process formats and writes. Files rotate at 10 MB and
keep 5 (the spec's "Comprehensive Logging Requirements").
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import logging.handlers
import math
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TextIO, TypeVar

from .settings import Settings
from .watched import Watched
from .wire import NOT_IN_LOGS, for_log

P = ParamSpec("P")
R = TypeVar("R")

FILE_BYTES = 10 * 1024 * 1024
FILE_BACKUPS = 5
# A full queue drops lines rather than stopping the fleet; ten thousand lines are many seconds of the heaviest load.
QUEUE_LINES = 10_000
AUDITED = frozenset({"AUTH", "AUTHZ", "AUDIT"})
WRITE_EVERY_S = 0.05
# A console that nobody reads may hold the writer up for ever; the process does not wait for that.
STOP_WITHIN_S = 5.0
SYSLOG_RESTS_S = 60.0
# What any server takes in one datagram, with room for what it adds.
SYSLOG_BYTES = 2000
SECRET_WORDS = ("token", "secret", "password", "apikey", "api_key", "authorization", "signature")
SECRET_NAMES = re.compile("|".join(SECRET_WORDS), re.IGNORECASE)
SECRET_TEXT = re.compile(
    r"wbot_\w{8,}|oauth:\w+|Bearer\s+\S+"
    r"|(?:access_token|refresh_token|client_secret|code|token|api_?key|key|password)=[^&\s\"']+"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    # Of overlays and forms: who has such an address may open it.
    r"|(?<=/source/)[\w-]{32,}|(?<=/form/)[\w-]{32,}|(?<=/ws/)[\w-]{32,}",
    re.IGNORECASE,
)
BARE = re.compile(r"[^\s\"=]+")
# Most values are ids and names like these, which can hold no secret and need no quotes.
PLAIN = re.compile(r"(?!wbot_)[\w.:/-]{1,40}", re.ASCII)


@dataclass(slots=True)
class LogContext:
    """What every line of the current request carries."""

    session_id: str | None = None
    traceparent: str | None = None
    community: int | str | None = None
    user: int | str | None = None
    # The account that asks, or the person in whose name it does.
    actor: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


_context: ContextVar[LogContext | None] = ContextVar("log_context", default=None)


def log_context() -> LogContext:
    """The current request's context; set its fields as they become known."""
    context = _context.get()
    if context is None:
        context = LogContext()
        _context.set(context)
    return context


def new_log_context() -> LogContext:
    context = LogContext()
    _context.set(context)
    return context


def redact(text: str) -> str:
    return SECRET_TEXT.sub("***", text)


class AAALog:
    """One module's log. `action` is a constant, everything that varies is a field."""

    def __init__(self, module: str, version: str) -> None:
        self.module = module
        self.version = version
        self._logger = logging.getLogger(f"waddlebot.{module}")

    def auth(self, action: str, *, result: str = "SUCCESS", **fields: Any) -> None:
        """Who somebody is."""
        self._write("AUTH", action, result, fields)

    def authz(self, action: str, *, result: str = "SUCCESS", **fields: Any) -> None:
        """Whether they may."""
        self._write("AUTHZ", action, result, fields)

    def audit(self, action: str, *, result: str = "SUCCESS", **fields: Any) -> None:
        """What changed."""
        self._write("AUDIT", action, result, fields)

    def system(self, action: str, *, result: str = "SUCCESS", level: int = logging.INFO, **fields: Any) -> None:
        """What the service itself did."""
        self._write("SYSTEM", action, result, fields, level=level)

    @property
    def tells_debug(self) -> bool:
        """Whether a `debug` line is written at all, where putting it together costs something."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def debug(self, action: str, **fields: Any) -> None:
        """What helps to follow a request or an event, with LOG_LEVEL=DEBUG only."""
        self._write("SYSTEM", action, "SUCCESS", fields, level=logging.DEBUG)

    def error(self, action: str, *, exc_info: bool | BaseException = False, **fields: Any) -> None:
        """What failed. With exc_info the traceback of that or the current exception is one field, escaped."""
        self._write("ERROR", action, "FAILED", fields, level=logging.ERROR, exc_info=exc_info)

    def _write(
        self,
        category: str,
        action: str,
        result: str,
        fields: dict[str, Any],
        *,
        level: int | None = None,
        exc_info: bool | BaseException = False,
    ) -> None:
        level = level or (logging.INFO if result == "SUCCESS" else logging.WARNING)
        if not self._logger.isEnabledFor(level):
            return
        context = _context.get()
        line = {
            "module": self.module,
            "version": self.version,
            "category": category,
            "community": fields.pop("community", context and context.community),
            "user": fields.pop("user", context and context.user),
            "result": result,
            "session_id": context and context.session_id,
            "fields": {"actor": context.actor, **fields} if context and context.actor else fields,
        }
        self._logger.log(level, action, exc_info=exc_info, extra={"aaa": line})

    def audited(self, action: str, *, telling: Sequence[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Write one AUDIT line for each call of a function: its result, how long it took, and those of its keyword
        arguments that `telling` names.

        A WaddleBotError is written as its code, any other exception as a FAILED line; both go on to the caller.
        """

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            @functools.wraps(function)
            def audited(*args: P.args, **kwargs: P.kwargs) -> R:
                started = time.perf_counter()
                result = "FAILED"
                try:
                    value = function(*args, **kwargs)
                    result = "SUCCESS"
                    return value
                except Exception as err:
                    result = getattr(err, "code", "failed").upper()
                    raise
                finally:
                    told = {name: kwargs[name] for name in telling if name in kwargs}
                    took_ms = round((time.perf_counter() - started) * 1e3, 2)
                    self.audit(action, result=result, execution_time_ms=took_ms, **told)

            return audited

        return decorate


class AAAFormatter(logging.Formatter):
    """The spec's line, for our records and for those of the libraries."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, put together once for all handlers."""
        line = record.__dict__.get("line")
        if line is None:
            line = record.__dict__["line"] = self._line(record)
        return str(line)

    def _line(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = getattr(record, "aaa", None) or {
            "module": record.name.split(".")[0],
            "version": "-",
            "category": "ERROR" if record.levelno >= logging.ERROR else "SYSTEM",
            "result": "FAILED" if record.levelno >= logging.ERROR else "SUCCESS",
            "fields": {"message": record.getMessage()},
        }
        action = record.getMessage() if hasattr(record, "aaa") else "library_message"
        parts = [
            f"[{_second(int(record.created))}.{int(record.msecs):03d}Z]",
            record.levelname,
            f"{line['module']}:{line['version']}",
            line["category"],
            f"community={_value(line.get('community'))}",
            f"user={_value(line.get('user'))}",
            f"action={_value(action)}",
            f"result={line['result']}",
        ]
        if line.get("session_id"):
            parts.append(f"session_id={line['session_id']}")
        parts += [f"{name}={'***' if _is_secret(name) else _value(value)}" for name, value in line["fields"].items()]
        if record.exc_info:
            parts.append(f"traceback={_value(self.formatException(record.exc_info))}")
        return " ".join(parts)


@functools.lru_cache(maxsize=8)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


@functools.lru_cache(maxsize=1000)
def _is_secret(name: str) -> bool:
    return SECRET_NAMES.search(name) is not None


def _value(value: Any) -> str:
    """A field's value on one line: what could break the line is quoted as JSON, what looks secret is starred."""
    if value is None:
        return "-"
    if type(value) is int or type(value) is float:
        return str(value)
    text = str(value)
    if PLAIN.fullmatch(text):
        return text
    text = redact(text)
    return text if BARE.fullmatch(text) and not NOT_IN_LOGS.search(text) else for_log(text)


class _QueueHandler(logging.handlers.QueueHandler):
    """Puts records where the writer takes them. A full queue drops the line and counts it."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # The listener runs in this process, so the record needs no flattening here.

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
        self.dropped += 1


class _Outage:
    """Lines that cannot be written where they belong: told once when it begins, and once when it is over."""

    def __init__(self, what: str, *, level: int, place: str = "") -> None:
        self.watched = Watched(what)
        self._place = place
        self._what = what
        self._level = level
        self._lost = 0
        self._why = ""

    def lose(self, lines: int, err: BaseException | None) -> None:
        if err is not None:
            self._why = ": ".join(filter(None, [self._place, getattr(err, "strerror", None) or str(err)]))
        self.watched.note(f"cannot be written: {self._why}", count=lines, is_logged=False)
        if not self._lost:
            self._tell("log_not_written", self._level, why=self._why)
        self._lost += lines

    def be_over(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            self._tell("log_written_again", logging.WARNING, lines_lost=lost)

    def _tell(self, action: str, level: int, **fields: Any) -> None:
        fields = {"what": self._what, **fields}
        line = {"module": "process", "version": "-", "category": "SYSTEM", "result": "FAILED", "fields": fields}
        logging.getLogger("waddlebot.process").log(level, action, extra={"aaa": line})


class _File:
    """One module's file. Lines gather until they are written together; what did not fit is known to the line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._descriptor: int | None = None
        self._size = 0
        # The last line that is in the file is not all there.
        self._is_torn = False

    def add(self, line: str) -> None:
        self._lines.append(line.encode("utf-8", "backslashreplace") + b"\n")

    def write(self) -> int:
        """Write what has gathered, however little. Returns how many lines. Raises: OSError; the rest is
        still here then."""
        before = len(self._lines)
        try:
            while self._lines:
                del self._lines[: self._write_some()]
        except OSError:
            self.close()  # It is opened anew the next time: by then it may be another file.
            raise
        return before

    def forget(self) -> int:
        """Give up what could not be written. Returns how many lines."""
        lost, self._lines = len(self._lines), []
        return lost

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write_some(self) -> int:
        """Write as many lines as the file has room for. Returns how many are in it as a whole. Raises: OSError."""
        descriptor = self._open()
        if self._size and self._size + len(self._lines[0]) > FILE_BYTES:
            self._roll()
            descriptor = self._open()
        end, size = 0, self._size
        while end < len(self._lines) and (end == 0 or size + len(self._lines[end]) <= FILE_BYTES):
            size += len(self._lines[end])
            end += 1
        if self._is_torn:
            os.write(descriptor, b"\n")
            self._is_torn = False
        data = b"".join(self._lines[:end])
        written = data[: os.write(descriptor, data)]
        self._size += len(written)
        self._is_torn = not written.endswith(b"\n")
        return written.count(b"\n")

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _roll(self) -> None:
        self.close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, FILE_BACKUPS + 1))]
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            if newer.exists():
                newer.replace(older)


class _FilePerModule(logging.Handler):
    """Write each module's lines to LOG_DIR/<module>[.<role>].log; those for which there is no room are counted.

    AUTH, AUTHZ and AUDIT are also in <module>.audit[.<role>].log, which nothing else can rotate away.
    """

    def __init__(self, folder: Path, role: str) -> None:
        super().__init__()
        self.folder = folder
        self.suffix = f".{role}.log" if role else ".log"
        self.files: dict[str, _File] = {}
        self._outage = _Outage("log-files", level=logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        module = record.aaa["module"] if hasattr(record, "aaa") else "libraries"
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - one that cannot be put into words is shown on the console as it is
            self.handleError(record)
            return
        names = [module, f"{module}.audit"] if _is_audit(record) else [module]
        for name in names:
            if name not in self.files:
                self.files[name] = _File(self.folder / f"{name}{self.suffix}")
            self.files[name].add(line)

    def flush(self) -> None:
        wrote, lost, why = 0, 0, None
        for file in self.files.values():
            try:
                wrote += file.write()
            except OSError as err:
                lost, why = lost + file.forget(), err
        if lost:
            self._outage.lose(lost, why)
        elif wrote:
            self._outage.be_over()

    def close(self) -> None:
        for file in self.files.values():
            file.close()
        self._outage.watched.forget()
        super().close()


def _is_audit(record: logging.LogRecord) -> bool:
    return hasattr(record, "aaa") and record.aaa["category"] in AUDITED


class _Console(logging.StreamHandler[TextIO]):
    """One that is gone, or on a disk that is full, costs its own lines."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._outage = _Outage("console", level=logging.ERROR)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        err = sys.exc_info()[1]
        if isinstance(err, OSError | ValueError):
            self._outage.lose(1, err)
        else:
            super().handleError(record)

    def close(self) -> None:
        self._outage.watched.forget()
        super().close()


class _Syslog(logging.handlers.SysLogHandler):
    """A server that cannot be found or reached costs its lines and one warning, and is looked for now and then."""

    socket: Any
    # A NUL at the end is what servers of long ago wanted, and shows as garbage in today's.
    append_nul = False

    def __init__(self, address: tuple[str, int], facility: int) -> None:
        self._outage = _Outage("syslog", level=logging.WARNING, place=f"SYSLOG_HOST {address[0]}:{address[1]}")
        self._rests_until = math.inf  # It is first looked for when there is something to tell it.
        super().__init__(address, facility=facility)
        self._rests_until = 0.0

    def format(self, record: logging.LogRecord) -> str:
        """With time, host and tag, and no longer than servers take. Source: RFC 3164"""
        at = time.strftime("%b %e %H:%M:%S", time.localtime(record.created))
        module = record.aaa["module"] if hasattr(record, "aaa") else "libraries"
        line = f"{at} {os.uname().nodename} waddlebot-{module}[{os.getpid()}]: {super().format(record)}"
        data = line.encode("utf-8", "backslashreplace")
        return line if len(data) <= SYSLOG_BYTES else data[:SYSLOG_BYTES].decode("utf-8", "ignore") + "…"

    def createSocket(self) -> None:  # noqa: N802 - logging's name
        if time.monotonic() >= self._rests_until:
            super().createSocket()

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() < self._rests_until:
            self._outage.lose(1, None)
            return
        super().emit(record)
        if self.socket is not None:
            self._outage.be_over()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
        self._rests_until = time.monotonic() + SYSLOG_RESTS_S
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        self._outage.lose(1, sys.exc_info()[1])

    def close(self) -> None:
        self._outage.watched.forget()
        super().close()


class _Writer:
    """Writes what requests put into the queue: all of it together, a few times a second. Waking up for each line would
    cost the requests more than the line itself."""

    def __init__(self, handlers: list[logging.Handler]) -> None:
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_LINES)
        self.entrance = _QueueHandler(self._lines)
        self._handlers = handlers
        self._stopping = threading.Event()
        self._watched = Watched("log-writer")
        self._thread = self._watched.start(self._run, stopping=self._stopping)

    def stop(self) -> None:
        """Write what is queued and close the files."""
        self._stopping.set()
        self._thread.join(STOP_WITHIN_S)
        self._write()
        self._write()  # What there was to say about that.
        for handler in self._handlers:
            handler.close()

    def _run(self) -> None:
        while not self._stopping.wait(WRITE_EVERY_S):
            self._write()

    def _write(self) -> None:
        records: list[logging.LogRecord] = []
        with contextlib.suppress(queue.Empty):
            while len(records) < QUEUE_LINES:
                records.append(self._lines.get_nowait())
        for handler in self._handlers if records else []:
            for record in records:
                if record.levelno >= handler.level:
                    handler.handle(record)
            # A console that is gone must not take the files with it.
            with contextlib.suppress(OSError, ValueError):
                handler.flush()
        if self.entrance.dropped:
            dropped, self.entrance.dropped = self.entrance.dropped, 0
            self._watched.note("more lines than can be written; some are lost", count=dropped)


_writer: _Writer | None = None


def configure_logging(settings: Settings) -> None:
    """Send this process's log lines to the console, to LOG_DIR and, if enabled, to syslog.

    A folder that cannot be written costs one warning and its files, nothing else.
    """
    global _writer
    stop_logging()
    # What our lines do not show need not be found out. Source: https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    formatter = AAAFormatter()
    console = _Console()
    console.setLevel(settings.log_console_level or settings.log_level)
    handlers: list[logging.Handler] = [console]
    unwritable = _add_files(handlers, settings)
    if settings.enable_syslog:
        facility = logging.handlers.SysLogHandler.facility_names[settings.syslog_facility.lower()]
        handlers.append(_Syslog((settings.syslog_host, settings.syslog_port), facility))
    for handler in handlers:
        handler.setFormatter(formatter)
    _writer = _Writer(handlers)
    root = logging.getLogger()
    root.handlers = [_writer.entrance]
    root.setLevel(logging.WARNING)
    logging.getLogger("waddlebot").setLevel(settings.log_level)
    if unwritable:
        logging.getLogger("waddlebot").warning(
            "LOG_DIR cannot be written, lines go to the console only: %s", unwritable
        )


def _add_files(handlers: list[logging.Handler], settings: Settings) -> OSError | None:
    try:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        probe = settings.log_dir / f".writable-{settings.log_role or 'probe'}"
        probe.touch()
        probe.unlink()
    except OSError as err:
        return err
    handlers.append(_FilePerModule(settings.log_dir, settings.log_role))
    return None


def stop_logging() -> None:
    """Write what is queued and close the files."""
    global _writer
    if _writer is not None:
        _writer.stop()
        _writer = None


atexit.register(stop_logging)
