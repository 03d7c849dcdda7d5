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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MB = 1024 * 1024
OPEN_FILES = 64

# Sources: linux/prctl.h, seccomp.h, filter.h, landlock.h, sched.h; numbers of x86_64 from asm/unistd_64.h.
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2
AUDIT_ARCH_X86_64 = 0xC000003E
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

# What Python, its threads, asyncio and TLS over sockets that were handed in need, and nothing else.
CALLS = {
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
CONDITIONS: dict[int, list[list[Argument]]] = {
    16: [[Argument(1, request)] for request in (0x5421, 0x5451, 0x5450, 0x541B)],  # ioctl: FIONBIO, FIOCLEX, …
    53: [[Argument(0, 1), Argument(1, 1, 0xF)]],  # socketpair: a datagram one could be sent to any path.
    54: [  # setsockopt: TCP_NODELAY and keep-alive
        *([Argument(1, 6), Argument(2, option)] for option in (1, 4, 5, 6)),
        *([Argument(1, 1), Argument(2, option)] for option in (9, 20, 21)),
    ],
    56: [[Argument(0, THREAD, THREAD | NEW_NAMESPACES)]],  # clone: threads only
    72: [[Argument(1, command)] for command in (0, 1, 2, 3, 4, 1030)],  # fcntl: a grown pipe would pin kernel memory.
    302: [[Argument(0, 0), Argument(2, 0), Argument(2, 0, upper=True)]],  # prlimit64: one's own, to read
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


def check_kernel() -> str:
    """What fences here, in words. Raises: CannotFence, with the reason."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise CannotFence(f"only Linux on x86_64 is fenced, this is {platform.system()} on {platform.machine()}")
    version = landlock_version()
    if not version:
        raise CannotFence("this kernel has no Landlock, or the container's profile hides it")
    return f"Landlock {version}, seccomp with {len(CALLS) + len(CONDITIONS)} system calls, rlimits"


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
    if bounds.uid is not None and bounds.gid is not None:
        os.setgroups([])
        os.setresgid(bounds.gid, bounds.gid, bounds.gid)
        os.setresuid(bounds.uid, bounds.uid, bounds.uid)
    die_with_parent()
    _check("no new privileges", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if ruleset is not None:
        _check("Landlock", _libc.syscall(RESTRICT_SELF, ruleset, 0))
        os.close(ruleset)
    elif is_required:
        raise CannotFence("this kernel has no Landlock")
    if platform.machine() == "x86_64":
        _filter_calls()
    elif is_required:
        raise CannotFence("system calls are filtered on x86_64 only")


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


def _filter_calls() -> None:
    install_filter(compile_filter(CALLS.values(), CONDITIONS))


def compile_filter(allowed: Any, conditions: dict[int, list[list[Argument]]], *, otherwise: int = REFUSE) -> bytes:
    """A program for the kernel: these calls, those in the forms that they may have, and `otherwise` for any other."""
    program = [_step(LOAD, 4), _step(JUMP_EQUAL, AUDIT_ARCH_X86_64, 1, 0), _step(RETURN, KILL), _step(LOAD, 0)]
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
