"""Authentication, authorization and audit lines: one format, off the request's path, never a secret in them.

    [2026-11-22T18:04:11.113Z] INFO inventory:1.0.0 AUDIT community=1 user=7 action=item_added result=SUCCESS item_id=3

A request only puts a record into a queue; one thread per process formats and writes. Files rotate at 10 MB and
keep 5 (the spec's "Comprehensive Logging Requirements").
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import logging.handlers
import queue
import re
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from .settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

FILE_BYTES = 10 * 1024 * 1024
FILE_BACKUPS = 5
# A full queue drops lines rather than stopping the fleet; ten thousand lines are many seconds of the heaviest load.
QUEUE_LINES = 10_000
WRITE_EVERY_S = 0.05
SECRET_NAMES = re.compile(r"token|secret|password|api_?key|authorization|signature", re.IGNORECASE)
SECRET_TEXT = re.compile(
    r"wbot_\w{8,}|oauth:\w+|Bearer\s+\S+"
    r"|(?:access_token|refresh_token|client_secret|code|token|api_?key|key|password)=[^&\s\"']+"
    r"|://[^/\s:@]+:[^/\s@]+@",
    re.IGNORECASE,
)
BARE = re.compile(r"[^\s\"=\x00-\x1f\x7f]+")
# What some programs end a line at and JSON leaves as it is.
LINE_ENDS = {0x7F: "\\u007f", 0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
# Most values are ids and names like these, which can hold no secret and need no quotes.
PLAIN = re.compile(r"(?!wbot_)[\w.:/-]{1,40}", re.ASCII)


@dataclass(slots=True)
class LogContext:
    """What every line of the current request carries."""

    session_id: str | None = None
    community: int | str | None = None
    user: int | str | None = None
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
            "fields": fields,
        }
        self._logger.log(level, action, exc_info=exc_info, extra={"aaa": line})

    def audited(self, action: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Write one AUDIT line for each call of a function: its result and how long it took.

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
                    self.audit(action, result=result, execution_time_ms=round((time.perf_counter() - started) * 1e3, 2))

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
    return text if BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False).translate(LINE_ENDS)


class _QueueHandler(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # The listener runs in this process, so the record needs no flattening here.

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full queue drops the line."""


class _File(logging.handlers.RotatingFileHandler):
    """Writes lines as they come and puts them on disk when nothing more waits."""

    size = 0

    def _open(self) -> Any:
        stream = super()._open()
        self.size = stream.tell()
        return stream

    def shouldRollover(self, record: logging.LogRecord) -> int:  # noqa: N802 - logging's name
        # Counted here, because asking the stream writes what it holds, line by line.
        self.size += len(self.format(record)) + 1
        return int(self.size >= self.maxBytes)

    def flush(self) -> None:
        pass

    def flush_now(self) -> None:
        super().flush()


class _FilePerModule(logging.Handler):
    """Write each module's lines to LOG_DIR/<module>[.<role>].log."""

    def __init__(self, folder: Path, role: str) -> None:
        super().__init__()
        self.folder = folder
        self.suffix = f".{role}.log" if role else ".log"
        self.files: dict[str, _File] = {}

    def emit(self, record: logging.LogRecord) -> None:
        module = record.aaa["module"] if hasattr(record, "aaa") else "libraries"
        if module not in self.files:
            path = self.folder / f"{module}{self.suffix}"
            self.files[module] = _File(
                path, maxBytes=FILE_BYTES, backupCount=FILE_BACKUPS, encoding="utf-8", errors="backslashreplace"
            )
            self.files[module].setFormatter(self.formatter)
        self.files[module].emit(record)

    def flush(self) -> None:
        for file in self.files.values():
            file.flush_now()

    def close(self) -> None:
        self.flush()
        for file in self.files.values():
            file.close()
        super().close()


class _Writer:
    """Writes what requests put into the queue: all of it together, a few times a second. Waking up for each line would
    cost the requests more than the line itself."""

    def __init__(self, handlers: list[logging.Handler]) -> None:
        self.lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_LINES)
        self._handlers = handlers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued and close the files."""
        self._stopping.set()
        self._thread.join()
        for handler in self._handlers:
            handler.close()

    def _run(self) -> None:
        while not self._stopping.wait(WRITE_EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        wrote = False
        with contextlib.suppress(queue.Empty):
            while True:
                record = self.lines.get_nowait()
                wrote = True
                for handler in self._handlers:
                    if record.levelno >= handler.level:
                        handler.handle(record)
        if wrote:
            for handler in self._handlers:
                handler.flush()


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
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(settings.log_console_level or settings.log_level)
    handlers: list[logging.Handler] = [console]
    unwritable = _add_files(handlers, settings)
    if settings.enable_syslog:
        facility = logging.handlers.SysLogHandler.facility_names[settings.syslog_facility.lower()]
        handlers.append(logging.handlers.SysLogHandler((settings.syslog_host, settings.syslog_port), facility=facility))
    for handler in handlers:
        handler.setFormatter(formatter)
    _writer = _Writer(handlers)
    root = logging.getLogger()
    root.handlers = [_QueueHandler(_writer.lines)]
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
