"""The fence around a stranger's code: what the kernel refuses a process from here on, for good.

Only the standard library is imported, because this is loaded by the template that strangers' processes are forked from.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1024 * 1024
OPEN_FILES = 64

# Sources: linux/prctl.h, seccomp.h, filter.h, audit.h, landlock.h, sched.h, mount.h.
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
X32 = 0x40000000
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
KILL, ALLOW, REFUSE, NO_SUCH_CALL = 0x80000000, 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CLONE3 = 435
RULE_PATH_BENEATH, RULESET_VERSION = 1, 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
# What Landlock knows of files, the network and reaching others, by the version (ABI) in which it came.
FILE_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
NET_RIGHTS, SCOPES = 0x3, 0x3
NET_SINCE, SCOPES_SINCE = 4, 6

NEW_MOUNTS, NEW_HOSTNAME, NEW_IPC, NEW_USERS, NEW_NETWORK = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x40000000
READ_ONLY, NO_SET_ID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
MOUNT_SET_ATTRIBUTES, AT_RECURSIVE, DETACH = 442, 0x8000, 2
CAPABILITY_VERSION = 0x20080522
# Where the new root is put together: nothing that may be read lies below it.
NEW_ROOT = "/proc"

# What Python, its threads, asyncio and TLS over sockets that were handed in need, and nothing else; by the numbers of
# asm/unistd_64.h.
X86_64 = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getpid": 39,
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "getsockname": 51, "getpeername": 52,
    "getsockopt": 55, "exit": 60, "uname": 63, "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrlimit": 97,
    "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108,
    "getppid": 110, "sigaltstack": 131, "arch_prctl": 158, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "epoll_create": 213, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233,
    "openat": 257, "open": 2, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271,
    "set_robust_list": 273, "epoll_pwait": 281, "eventfd2": 290, "epoll_create1": 291, "dup3": 292, "pipe2": 293,
    "getcpu": 309, "getrandom": 318, "membarrier": 324, "statx": 332, "rseq": 334, "close_range": 436,
    "faccessat2": 439,
}  # fmt: skip
# The same by those of asm-generic/unistd.h, which has no calls that newer ones stand for.
AARCH64 = {
    "getcwd": 17, "eventfd2": 19, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "dup": 23, "dup3": 24,
    "faccessat": 48, "openat": 56, "close": 57, "pipe2": 59, "getdents64": 61, "lseek": 62, "read": 63, "write": 64,
    "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "pselect6": 72, "ppoll": 73, "readlinkat": 78,
    "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "set_tid_address": 96, "futex": 98,
    "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
    "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160, "getrlimit": 163, "getrusage": 165,
    "getcpu": 168, "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176,
    "getegid": 177, "gettid": 178, "sysinfo": 179, "getsockname": 204, "getpeername": 205, "sendto": 206,
    "recvfrom": 207, "getsockopt": 209, "shutdown": 210, "sendmsg": 211, "recvmsg": 212, "brk": 214, "munmap": 215,
    "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278, "membarrier": 283, "statx": 291,
    "rseq": 293, "close_range": 436, "faccessat2": 439,
}  # fmt: skip
THREAD = 0x00010100  # CLONE_VM | CLONE_THREAD
NEW_NAMESPACES = 0x7E020000 | 0x80


@dataclass(frozen=True, slots=True)
class Argument:
    """What one argument of a system call must be, after the mask; its upper half only where it is asked for."""

    index: int
    value: int
    mask: int = 0xFFFFFFFF
    upper: bool = False


# What is allowed in some forms only: any of these, in each of which all has to hold.
FORMS: dict[str, list[list[Argument]]] = {
    "ioctl": [[Argument(1, request)] for request in (0x5421, 0x5451, 0x5450, 0x541B)],  # FIONBIO, FIOCLEX, …
    "socketpair": [[Argument(0, 1), Argument(1, 1, 0xF)]],  # A datagram one could be sent to any path.
    "setsockopt": [  # TCP_NODELAY and keep-alive
        *([Argument(1, 6), Argument(2, option)] for option in (1, 4, 5, 6)),
        *([Argument(1, 1), Argument(2, option)] for option in (9, 20, 21)),
    ],
    "clone": [[Argument(0, THREAD, THREAD | NEW_NAMESPACES)]],  # threads only
    "fcntl": [[Argument(1, command)] for command in (0, 1, 2, 3, 4, 1030)],  # A grown pipe would pin kernel memory.
    "prlimit64": [[Argument(0, 0), Argument(2, 0), Argument(2, 0, upper=True)]],  # one's own, to read
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of processor: how the kernel calls it, and its numbers of system calls."""

    audit: int
    calls: dict[str, int]
    forms: dict[str, int]
    pivot_root: int

    @property
    def conditions(self) -> dict[int, list[list[Argument]]]:
        return {number: FORMS[name] for name, number in self.forms.items()}


MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        X86_64,
        {"ioctl": 16, "socketpair": 53, "setsockopt": 54, "clone": 56, "fcntl": 72, "prlimit64": 302},
        155,
    ),
    "aarch64": Machine(
        0xC00000B7,
        AARCH64,
        {"ioctl": 29, "socketpair": 199, "setsockopt": 208, "clone": 220, "fcntl": 25, "prlimit64": 261},
        41,
    ),
}

_libc = ctypes.CDLL(None, use_errno=True)


class CannotFence(Exception):
    """This kernel has no fence for strangers' code."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a process may use. `memory_mb` counts on top of what the template has."""

    memory_mb: int
    readable: Sequence[str]
    # As whom it runs; None leaves it who it is.
    uid: int | None = None
    gid: int | None = None


def landlock_version() -> int:
    """The ABI of this kernel's Landlock, 0 without one."""
    return max(0, int(_libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), RULESET_VERSION)))


def find_machine() -> Machine:
    """Raises: CannotFence."""
    machine = MACHINES.get(platform.machine()) if platform.system() == "Linux" else None
    if machine is None:
        kinds = " and ".join(MACHINES)
        raise CannotFence(f"only Linux on {kinds} is fenced, this is {platform.system()} on {platform.machine()}")
    return machine


def check_kernel() -> str:
    """What fences here, in words. Raises: CannotFence, with the reason."""
    machine = find_machine()
    version = landlock_version()
    files = f"Landlock {version}" if version else _check_namespaces()
    return f"{files}, seccomp with {len(machine.calls) + len(machine.forms)} system calls, rlimits"


def _check_namespaces() -> str:
    """Raises: CannotFence."""
    script = "from waddlebot.sandbox import fence; fence.fence_in(fence.Bounds(64, []))"
    tried = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        why = tried.stderr.strip().rpartition("CannotFence: ")[2].splitlines()
        raise CannotFence(
            "this kernel has no Landlock, or the container's profile hides it, and no namespaces either"
            f" ({why[-1] if why else 'no reason given'})"
        )
    return "namespaces"


def fence_in(bounds: Bounds, *, is_required: bool = True) -> None:
    """Fence this process in. There is no way back, and no other thread may run yet.

    Raises: CannotFence when the kernel refuses a part of it; without `is_required` that part is left out.
    """
    os.nice(10)
    os.setsid()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")
    _limit(bounds.memory_mb)
    ruleset = _make_ruleset(bounds.readable) if landlock_version() else None
    if ruleset is None:
        with contextlib.nullcontext() if is_required else contextlib.suppress(CannotFence):
            _enclose(bounds)
    _become(bounds)
    # Whoever made namespaces could do all in them.
    _check("capabilities", _libc.capset(struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)))
    die_with_parent()
    _check("no new privileges", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if ruleset is not None:
        _check("Landlock", _libc.syscall(RESTRICT_SELF, ruleset, 0))
        os.close(ruleset)
    if is_required or platform.machine() in MACHINES:
        machine = find_machine()
        install_filter(compile_filter(machine.calls.values(), machine.conditions, audit=machine.audit))


def _become(bounds: Bounds) -> None:
    """Be nobody in particular, where root runs this."""
    if bounds.uid is None or bounds.gid is None or os.getuid() == bounds.uid:
        return
    os.setgroups([])
    os.setresgid(bounds.gid, bounds.gid, bounds.gid)
    os.setresuid(bounds.uid, bounds.uid, bounds.uid)


def _enclose(bounds: Bounds) -> None:
    """Have nothing but what may be read: a root of its own, and no network, where there is no Landlock.

    Raises: CannotFence.
    """
    apart = NEW_MOUNTS | NEW_HOSTNAME | NEW_IPC | NEW_NETWORK
    if os.geteuid() != 0 or _libc.unshare(apart) < 0:  # Root in a container may not do that either.
        _become(bounds)
        _check("dumpable", _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))  # Else its own maps are root's.
        uid, gid = os.getuid(), os.getgid()
        _check("namespaces", _libc.unshare(apart | NEW_USERS))
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            _write(f"/proc/self/{name}", text)
    _mount("nothing to the outside", None, "/", None, RECURSIVE | SLAVE)
    _mount("a new root", "tmpfs", NEW_ROOT, "tmpfs", NO_SET_ID | NO_DEVICES, "size=1m,mode=111")
    mask = os.umask(0o666)  # Folders on the way to what may be read are passed through and never listed.
    for path in bounds.readable:
        _show(path)
    _move_root()
    os.umask(mask)


def _show(path: str) -> None:
    """Have a path in the new root, where it is and only to be read."""
    target = NEW_ROOT + path
    if not os.path.exists(path) or os.path.exists(target):
        return
    if os.path.isdir(path):
        os.makedirs(target)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    _mount(path, path, target, None, BIND | RECURSIVE)
    attributes = struct.pack("QQQQ", READ_ONLY | NO_SET_ID, 0, 0, 0)
    size = ctypes.c_size_t(len(attributes))
    if _libc.syscall(MOUNT_SET_ATTRIBUTES, -100, target.encode(), AT_RECURSIVE, attributes, size) < 0:
        _mount(f"{path}, only to be read", None, target, None, BIND | REMOUNT | READ_ONLY | NO_SET_ID)


def _move_root() -> None:
    old = f"{NEW_ROOT}/.old"
    os.mkdir(old)
    _check("the new root", _libc.syscall(find_machine().pivot_root, NEW_ROOT.encode(), old.encode()))
    os.chdir("/")
    _check("the old root", _libc.umount2(b"/.old", DETACH))
    os.rmdir("/.old")
    _mount("the new root, only to be read", None, "/", None, BIND | REMOUNT | READ_ONLY | NO_SET_ID | NO_DEVICES)


def _mount(what: str, source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    encoded = [each and each.encode() for each in (source, target, kind)]
    _check(f"mounting {what}", _libc.mount(*encoded, ctypes.c_ulong(flags), options.encode() or None))


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="ascii")
    except OSError as err:
        raise CannotFence(f"{path}: {err.strerror}") from err


def die_with_parent() -> None:
    """A change of user forgets this, so it is said after it."""
    _check("the parent's death", _libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0))
    if os.getppid() == 1:
        os._exit(1)


def install_filter(program: bytes) -> None:
    """Raises: CannotFence."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _check("seccomp", _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0))


def _check(what: str, result: int) -> None:
    if result < 0:
        raise CannotFence(f"{what}: {os.strerror(ctypes.get_errno())}")


def _limit(memory_mb: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * resource.getpagesize() + memory_mb * MB
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 64),
    ):
        resource.setrlimit(what, (most, most))


def _make_ruleset(readable: Sequence[str]) -> int:
    """A ruleset that refuses everything but to read below these paths."""
    version = landlock_version()
    files = max(rights for since, rights in FILE_RIGHTS.items() if since <= version)
    attributes = struct.pack("Q", files)
    if version >= NET_SINCE:
        attributes += struct.pack("Q", NET_RIGHTS)
    if version >= SCOPES_SINCE:
        attributes += struct.pack("Q", SCOPES)
    ruleset = int(_libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    _check("Landlock", ruleset)
    for path in readable:
        with _opened(path) as (descriptor, is_folder):
            if descriptor is None:
                continue
            rights = READ_FILE | (READ_DIR if is_folder else 0)
            rule = struct.pack("=Qi", rights, descriptor)
            _check(f"Landlock for {path}", _libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0))
    return ruleset


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[int | None, bool]]:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        yield None, False  # What is not there need not be read.
        return
    try:
        yield descriptor, os.path.isdir(path)
    finally:
        os.close(descriptor)


def compile_filter(
    allowed: Iterable[int],
    conditions: dict[int, list[list[Argument]]],
    *,
    audit: int,
    otherwise: int = REFUSE,
) -> bytes:
    """A program for the kernel: these calls, those in the forms that they may have, and `otherwise` for any other."""
    program = [_step(LOAD, 4), _step(JUMP_EQUAL, audit, 1, 0), _step(RETURN, KILL), _step(LOAD, 0)]
    program += [_step(JUMP_AT_LEAST, X32, 0, 1), _step(RETURN, REFUSE)]
    for number in sorted(allowed):
        program += [_step(JUMP_EQUAL, number, 0, 1), _step(RETURN, ALLOW)]
    for number, forms in conditions.items():
        checks = [step for form in forms for step in _form(form)] + [_step(RETURN, REFUSE)]
        program += [_step(JUMP_EQUAL, number, 0, len(checks)), *checks]
    # glibc makes threads by the older call when this one is not there, whose flags a filter can see.
    program += [_step(JUMP_EQUAL, CLONE3, 0, 1), _step(RETURN, NO_SUCH_CALL), _step(RETURN, otherwise)]
    return b"".join(program)


def _form(form: list[Argument]) -> Iterator[bytes]:
    """Allow if all of this holds, else go on behind it."""
    for n, each in enumerate(form):
        yield _step(LOAD, 16 + 8 * each.index + (4 if each.upper else 0))
        yield _step(AND, each.mask)
        yield _step(JUMP_EQUAL, each.value, 0, 3 * (len(form) - n - 1) + 1)
    yield _step(RETURN, ALLOW)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
