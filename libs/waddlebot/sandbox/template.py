"""The clean process that strangers' processes are forked from: `python -I -m waddlebot.sandbox.template FD`.

It has no secrets, an empty environment and one thread, and loads once what handlers use. On each message with three
descriptors (calls, network, output) it forks a process, which fences itself in before it loads what it runs; it answers
with that process's id and a descriptor of it.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any

from . import fence, inside

MAX_ORDER_BYTES = 64 * 1024
# What handlers import most. A process has it for nothing, and has it also where it may not read where Python is.
LOADED = """
abc argparse array ast asyncio base64 bdb binascii bisect bz2 calendar cgi cmath code collections.abc colorsys
concurrent.futures.thread configparser contextlib contextvars copy csv ctypes dataclasses datetime decimal difflib
email.message email.mime.text email.parser email.policy enum fcntl fnmatch fractions functools gettext glob graphlib
gzip hashlib heapq hmac html.entities html.parser http.client http.cookiejar http.cookies importlib
importlib.resources inspect io ipaddress itertools json keyword linecache locale logging.handlers lzma math
mimetypes mmap numbers operator opcode pathlib pickle pkgutil platform pprint queue quopri random re reprlib
resource sched secrets select selectors shlex shutil signal socket sqlite3 ssl stat statistics string stringprep
struct subprocess tempfile textwrap threading time timeit token tokenize tomllib traceback types typing unicodedata
unittest.mock urllib.error urllib.parse urllib.request uuid warnings weakref xml.dom.minidom xml.etree.ElementTree
zipfile zlib zoneinfo
"""
CODECS = """
ascii cp437 cp1252 idna latin-1 punycode unicode_escape utf-8 utf-8-sig utf-16 utf-16-le utf-32
"""


def main(descriptor: int) -> None:
    fence.die_with_parent()
    readable = load()
    orders = socket.socket(fileno=descriptor)
    orders.send(b"ready")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for them: who ended is seen by its descriptor.
    while True:
        order, descriptors, _flags, _address = socket.recv_fds(orders, MAX_ORDER_BYTES, 3)
        if not order:
            return
        pid = os.fork()
        if pid == 0:
            _become(json.loads(order), descriptors, readable)
        for each in descriptors:
            os.close(each)
        _answer(orders, pid)


def load() -> list[str]:
    """Returns what handlers may read, beside their own folder."""
    for name in LOADED.split():
        with contextlib.suppress(ImportError):  # Of another version of Python.
            importlib.import_module(name)
    for name in CODECS.split():
        codecs.lookup(name)
    readable = inside.load()
    gc.collect()
    gc.freeze()
    return readable


def _answer(orders: socket.socket, pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        orders.send(b"0")
        return
    socket.send_fds(orders, [str(pid).encode()], [process])
    os.close(process)


def _become(order: dict[str, Any], descriptors: list[int], readable: list[str]) -> None:
    """From here on this is the stranger's process."""
    status = 1
    try:
        calls, network, output = descriptors
        nothing = os.open(os.devnull, os.O_RDONLY)
        # Out of the way first: what is moved must not be written over by what was moved before.
        high = [os.dup2(each, 100 + n) for n, each in enumerate((nothing, output, output, calls, network))]
        for n, each in enumerate(high):
            os.dup2(each, n)
        os.closerange(5, os.sysconf("SC_OPEN_MAX"))
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        os.chdir("/")
        may_read = [order["folder"], *readable]
        bounds = fence.Bounds(order["memory_mb"], may_read, order.get("uid"), order.get("gid"))
        fence.fence_in(bounds, is_required=order["is_required"])
        inside.run(order["folder"], order["entry"])
        status = 0
    except BaseException as err:  # noqa: BLE001 - whatever it is, this process ends here, and its output says why
        os.write(2, f"{type(err).__name__}: {err}\n".encode(errors="replace")[:4000])
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
