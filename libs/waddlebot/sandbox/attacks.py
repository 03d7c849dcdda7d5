"""What a stranger would try, as a module that tries it: `handler` makes one attack and tells what came of it.

The host packs this file as a module's `handler.py` and has it run behind its fence at each start, and so do the tests.
An attack returns what it got hold of, and raises where it was refused. Only the standard library is there.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from functools import partial
from platform import machine
from typing import Any

GB = 1024**3
# What attacks call, by its numbers on x86_64 and aarch64.
NUMBERS: dict[str, tuple[int, int | None]] = {
    "accept": (43, 202), "clone": (56, 220), "clone3": (435, 435), "execveat": (322, 281), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "mq_open": (240, 180), "msgget": (68, 186), "pidfd_getfd": (438, 438),
    "prlimit64": (302, 261), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117),
    "rt_sigqueueinfo": (129, 138), "semget": (64, 190), "shmget": (29, 194), "tgkill": (234, 131), "tkill": (200, 130),
    "umask": (95, 166), "vfork": (58, None),
}  # fmt: skip
# On x86_64 uretprobe and uprobe: no filter is asked about them, and whoever is no probe of the kernel's is killed.
KILLS_ITS_CALLER = {335, 336}
# As many files as there could be by default, and more than a fence lets be open.
MANY_FILES = 1024
Targets = dict[str, Any]
libc = ctypes.CDLL(None, use_errno=True)
ATTACKS: dict[str, Callable[[Targets], Any]] = {}
# These end the process, or make it fail, and must not be answered.
ENDS: dict[str, Callable[[Targets], Any]] = {}


class Through(Exception):
    """An attack was not refused."""


def attack(function: Callable[[Targets], Any]) -> Callable[[Targets], Any]:
    ATTACKS[function.__name__] = function
    return function


def ends(function: Callable[[Targets], Any]) -> Callable[[Targets], Any]:
    ENDS[function.__name__] = function
    return function


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    name = event["attack"]
    if name == "survive":
        return {"held": True, "how": "alive"}
    try:
        got = (ATTACKS.get(name) or ENDS[name])(event["targets"])
    except Through as err:
        return {"held": False, "how": str(err)[:500]}
    except (OSError, RuntimeError, MemoryError, ValueError, EOFError, ImportError) as err:
        return {"held": True, "how": f"{type(err).__name__}: {err}"[:200]}
    return {"held": False, "how": got if name == "answer_too_much" else repr(got)[:500]}


def each_refused(tries: dict[str, Callable[[], Any]]) -> None:
    """Raises: Through, naming what was not refused; PermissionError when all were."""
    got = {}
    for name, attempt in tries.items():
        try:
            got[name] = repr(attempt())[:100]
        except (OSError, RuntimeError, ValueError):
            continue
    if got:
        raise Through(str(got))
    raise PermissionError("all refused")


def with_each(attempt: Callable[..., Any], values: Iterable[Any]) -> dict[str, Callable[[], Any]]:
    """The same with each of these values; one with several is a tuple."""
    return {repr(each): partial(attempt, *(each if isinstance(each, tuple) else (each,))) for each in values}


def call(name: str, *arguments: Any) -> int:
    """A system call by its number here. Raises: OSError, also where there is none."""
    number = NUMBERS[name][machine() == "aarch64"]
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(200).decode(errors="replace")


# Files


@attack
def read_the_passwords(_targets: Targets) -> None:
    paths = ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
    each_refused(with_each(read, paths))


@attack
def read_a_file_that_all_may_read(targets: Targets) -> None:
    each_refused({"read": lambda: read(targets["file"]), "list": lambda: os.listdir(os.path.dirname(targets["file"]))})


@attack
def read_the_home(targets: Targets) -> None:
    folders = ("/root", "/home", targets["home"], "/", "/var", "/tmp", "/srv")
    each_refused(with_each(os.listdir, folders))


@attack
def see_what_is_in_a_closed_folder(targets: Targets) -> None:
    if not targets["is_dropped"]:
        raise PermissionError("whoever runs this fleet sees the names of their own files, and no more than that")
    each_refused({"stat": lambda: os.stat(targets["closed"])})


@attack
def read_other_processes(_targets: Targets) -> None:
    pids, files = ("self", os.getppid(), 1), ("environ", "maps", "mem", "cmdline", "root/etc/passwd")
    paths = [f"/proc/{pid}/{name}" for pid in pids for name in files]
    each_refused(with_each(read, [*paths, "/proc/net/tcp", "/proc/version"]))


@attack
def read_the_environment(_targets: Targets) -> Any:
    known = {"AWS_LAMBDA_FUNCTION_NAME", "LAMBDA_TASK_ROOT", "HOME", "TMPDIR", "LC_CTYPE", "PWD"}
    found = {name: value for name, value in os.environ.items() if name not in known}
    if not found:
        raise PermissionError("there is nothing in it")
    return found


@attack
def fill_the_disk(_targets: Targets) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    folders = (here, "/tmp", "/var/tmp", "/dev/shm", "/run", ".")
    each_refused(with_each(lambda folder: open(f"{folder}/full", "wb").write(b"x" * 4096), folders))


@attack
def change_files(targets: Targets) -> None:
    here, file = os.path.abspath(__file__), targets["file"]
    each_refused(
        {
            "append": lambda: open(here, "ab"),
            "chmod": lambda: os.chmod(here, 0o777),
            "link": lambda: os.link(here, "/tmp/linked"),
            "symlink": lambda: os.symlink(here, "/tmp/linked"),
            "rename": lambda: os.rename(here, "/tmp/moved"),
            "remove": lambda: os.remove(file),
            "utime": lambda: os.utime(file),
            "truncate": lambda: os.truncate(file, 0),
            "setxattr": lambda: os.setxattr(file, "user.x", b"x"),
            "mkdir": lambda: os.mkdir("/tmp/attacked"),
            "mkfifo": lambda: os.mkfifo("/tmp/attacked"),
            "chdir": lambda: os.chdir("/tmp"),
            "chroot": lambda: os.chroot("/tmp"),
            "memfd": lambda: os.memfd_create("x"),
            "umask": lambda: call("umask", 0),
        }
    )


# The network


@attack
def connect_without_the_broker(targets: Targets) -> None:
    """To the router, PostgreSQL, whatever listens here, and a cloud's metadata service."""

    def raw(host: str, port: int) -> None:
        connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        connection.settimeout(1)
        connection.connect((host, port))

    each_refused(with_each(raw, map(tuple, targets["tcp"])))


@attack
def connect_by_the_broker(targets: Targets) -> None:
    """To the same places as any program would, and to hosts that were not declared, by name and by address."""

    def ask(host: str, port: int) -> None:
        socket.create_connection((host, port), timeout=2)

    places = [*targets["tcp"], ("undeclared.example.org", 443), ("localhost", targets["tcp"][0][1])]
    port = targets["tcp"][0][1]
    places += [(host, port) for host in ("2130706433", "0x7f.1", "127.1", "::1", "::ffff:127.0.0.1", "0.0.0.0")]
    places += [(f"{'a' * 60}.{'b' * 60}.example.org", 53)]
    each_refused(with_each(ask, map(tuple, places)))


@attack
def fetch_a_page(targets: Targets) -> None:
    host, port = targets["tcp"][0]
    urls = (f"http://{host}:{port}/", "http://169.254.169.254/latest/meta-data/", "http://example.org/")
    each_refused(with_each(lambda url: urllib.request.urlopen(url, timeout=2), urls))


@attack
def open_other_sockets(_targets: Targets) -> None:
    """DNS over UDP, netlink, packets, the kernel's own crypto, and other ways to talk."""
    datagrams, stream, raw = socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_RAW
    kinds = [
        *((socket.AF_INET, kind) for kind in (datagrams, stream, raw)),
        *((socket.AF_INET6, kind) for kind in (datagrams, stream, raw)),
        *((socket.AF_UNIX, kind) for kind in (datagrams, stream, socket.SOCK_SEQPACKET)),
        *((socket.AF_NETLINK, raw), (socket.AF_PACKET, raw), (38, socket.SOCK_SEQPACKET), (40, stream)),
    ]
    each_refused(with_each(_socket.socket, kinds))


@attack
def look_up_a_name(targets: Targets) -> None:
    """Names are asked for by nobody: a name that is looked up would tell somebody something."""
    libc.gethostbyname.restype = ctypes.c_void_p
    if libc.gethostbyname(targets["name"].encode()):
        raise Through("it was looked up")
    raise PermissionError("not known")


@attack
def send_to_a_socket_of_the_host(targets: Targets) -> None:
    """By a datagram pair, which is connected to itself and may be sent to any other address."""

    def pair(kind: int, address: Any) -> None:
        one, _other = _socket.socketpair(_socket.AF_UNIX, kind)
        one.sendto(b"attack", address)

    kinds = (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM)
    addresses = (targets["unix"], targets["abstract"])
    each_refused(with_each(pair, [(kind, address) for kind in kinds for address in addresses]))


@attack
def connect_a_socket_that_it_has(targets: Targets) -> None:
    """What was handed out, connected to elsewhere."""
    one, _other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    each_refused(
        {
            "abstract": lambda: one.connect(targets["abstract"]),
            "the network's": lambda: _socket.socket(fileno=os.dup(4)).connect(targets["abstract"]),
            "bind": lambda: one.bind("\0attack"),
            "listen": lambda: one.listen(),
            "accept": lambda: call("accept", one.fileno(), None, None),
        }
    )


# Processes


@attack
def start_processes(_targets: Targets) -> None:
    def spawn() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        return pid

    flags = signal.SIGCHLD
    each_refused(
        {
            "fork": spawn,
            "vfork": lambda: call("vfork"),
            "clone": lambda: call("clone", flags, None, None, None, None),
            "clone into namespaces": lambda: call("clone", flags | 0x10000000, None, None, None, None),
            "clone3": lambda: call("clone3", None, 0),
            "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
            "execveat": lambda: call("execveat", -100, b"/bin/true", None, None, 0),
            "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
            "subprocess": lambda: subprocess.run(["/bin/true"], check=False),
            "shell": shell,
        }
    )


def shell() -> None:
    if libc.system(b"true") != 0:
        raise PermissionError("no shell")


@attack
def bomb_with_processes(_targets: Targets) -> None:
    each_refused({str(n): os.fork for n in range(100)})


@attack
def send_signals(_targets: Targets) -> None:
    """The signal that nobody feels: where the fence has a hole, nobody shall be ended by those who look for it."""
    parent = os.getppid()
    each_refused(
        {
            **with_each(os.kill, [(pid, 0) for pid in (parent, -1, 0, 1)]),
            "tgkill": lambda: call("tgkill", parent, parent, 0),
            "tkill": lambda: call("tkill", parent, 0),
            "queue": lambda: call("rt_sigqueueinfo", parent, 0, ctypes.create_string_buffer(128)),
            "pidfd": lambda: os.pidfd_open(parent),
            "pidfd_getfd": lambda: call("pidfd_getfd", 3, 0, 0),
        }
    )


@attack
def reach_into_other_processes(_targets: Targets) -> None:
    parent, memory = os.getppid(), ctypes.create_string_buffer(64)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    each_refused(
        {
            "ptrace": lambda: call("ptrace", 16, parent, None, None),
            "seize": lambda: call("ptrace", 0x4206, parent, None, None),
            "trace me": lambda: call("ptrace", 0, 0, None, None),
            "read": lambda: call("process_vm_readv", parent, memory, 1, memory, 1, 0),
            "write": lambda: call("process_vm_writev", parent, memory, 1, memory, 1, 0),
            "limits": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE, limits),
            "see limits": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
            "priority": lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, 0)),
            "processors": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(0)),
            "scheduler": lambda: os.sched_setscheduler(parent, os.SCHED_OTHER, os.sched_param(0)),
        }
    )


@attack
def raise_its_limits(_targets: Targets) -> None:
    more = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)
    each_refused(
        {
            **with_each(resource.setrlimit, [(kind, more) for kind in kinds]),
            "by number": lambda: call("prlimit64", 0, resource.RLIMIT_AS, ctypes.create_string_buffer(16), None),
            "nice": lambda: os.nice(-5),
            "uid": lambda: os.setuid(0),
            "uids": lambda: os.setresuid(0, 0, 0),
            "groups": lambda: os.setgroups([0]),
            "session": lambda: os.setsid(),
        }
    )


# The kernel


@attack
def share_memory(_targets: Targets) -> None:
    def map_shared() -> Any:
        descriptor = os.open("/dev/shm/attack", os.O_CREAT | os.O_RDWR)
        return mmap.mmap(descriptor, 4096)

    each_refused(
        {
            "/dev/shm": map_shared,
            "shmget": lambda: call("shmget", 0x5744, 4096, 0o1600),
            "semget": lambda: call("semget", 0x5744, 1, 0o1600),
            "msgget": lambda: call("msgget", 0x5744, 0o1600),
            "mq_open": lambda: call("mq_open", b"attack", os.O_CREAT | os.O_RDWR, 0o600, None),
            "memfd_create": lambda: call("memfd_create", b"x", 0),
            "memfd_secret": lambda: call("memfd_secret", 0),
        }
    )


@attack
def call_the_kernel(targets: Targets) -> Any:
    """Every system call that is not allowed, with nothing in it: the kernel must not even look at it."""
    through = []
    for number in set(range(470)) - set(targets["allowed"]) - KILLS_ITS_CALLER:
        for shown in (number, number | 0x40000000):
            result = libc.syscall(ctypes.c_long(shown), 0, 0, 0, 0, 0, 0)
            if result != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
                through.append(f"{shown}: {result} {errno.errorcode.get(ctypes.get_errno())}")
    if not through:
        raise PermissionError("all refused")
    return through


@attack
def grow_a_pipe(_targets: Targets) -> None:
    pipes = os.pipe()
    try:
        each_refused(with_each(lambda pipe: fcntl.fcntl(pipe, 1031, 1024 * 1024), (1, 2, *pipes)))
    finally:
        for each in pipes:
            os.close(each)


@attack
def find_open_files(_targets: Targets) -> Any:
    """Descriptors that somebody forgot to close."""
    found = {}
    for each in range(5, 1024):
        try:
            found[each] = os.fstat(each)
        except OSError:
            continue
    if not found:
        raise PermissionError("there are none")
    return found


@attack
def open_files_without_end(_targets: Targets) -> None:
    """Pipes, sockets and copies, of which the kernel has only so many for all."""
    opened: list[int] = []
    try:
        while len(opened) < MANY_FILES:
            opened += os.pipe()
            opened += [each.detach() for each in _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)]
            opened.append(os.dup(opened[-1]))
    finally:
        for each in opened:
            os.close(each)
    raise Through(f"{MANY_FILES} files")


@attack
def take_ten_gigabytes(_targets: Targets) -> int:
    return len(bytearray(10 * GB))


@attack
def map_ten_gigabytes(_targets: Targets) -> Any:
    return mmap.mmap(-1, 10 * GB)


# What ends it


@ends
def start_many_threads(_targets: Targets) -> None:
    for _ in range(300):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()  # not watched: an attack
    raise PermissionError("they are ended with it")


@ends
def loop_for_ever(_targets: Targets) -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass


@ends
def sleep_for_ever(_targets: Targets) -> None:
    while True:
        time.sleep(60)


@ends
def say_without_end(_targets: Targets) -> None:
    while True:
        os.write(1, b"x" * 65536)


@ends
def answer_too_much(_targets: Targets) -> str:
    return "x" * (7 * 1024 * 1024)


@ends
def answer_before_it_is_asked(_targets: Targets) -> None:
    """Frames that the host would take for answers to what it asks next."""
    forged = json.dumps({"held": False, "how": "forged"}).encode()
    head = b"R" + bytes(16) + len(forged).to_bytes(4, "big")
    for _ in range(3):
        os.write(3, head + forged)
    raise PermissionError("written")


@ends
def break_the_frames(_targets: Targets) -> None:
    os.write(3, b"R" + bytes(16) + b"\xff\xff\xff\xff" + b"x" * 1000)
    time.sleep(30)


@ends
def answer_nonsense_for_state(_targets: Targets) -> None:
    os.write(3, b"s" + bytes(16) + (4).to_bytes(4, "big") + b"[[[[")
    time.sleep(30)


@ends
def crash(_targets: Targets) -> None:
    ctypes.string_at(8)


@ends
def leave(_targets: Targets) -> None:
    os._exit(0)


@ends
def call_the_kernel_as_32_bit_programs_do(_targets: Targets) -> int:
    """`int 0x80` has other numbers; a filter that only looks at numbers would let them through."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
