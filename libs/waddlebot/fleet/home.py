"""WADDLEBOT_HOME: the secrets, the lock, and where the running fleet can be reached."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from ..base.errors import ConfigError, NotFound
from ..data.redis_users import make_passwords

ROOT_HOME = Path("/var/lib/waddlebot")
ASKED_WITHIN_S = 0.5
# What an empty database takes while it is made; with less, things fail in many ways.
NEEDED_MB = 64
# In the folder of what runs: what its processes have refused to start for.
SAID = "said"


def default_home() -> Path:
    """$WADDLEBOT_HOME, else ~/.local/share/waddlebot, for root /var/lib/waddlebot (contracts §10)."""
    named = os.environ.get("WADDLEBOT_HOME")
    if named:
        return Path(named)
    return ROOT_HOME if os.geteuid() == 0 else Path.home() / ".local/share/waddlebot"


def demo_home() -> Path:
    """Where `up --demo` keeps its own, apart from the fleet that somebody may have: $WADDLEBOT_HOME if that is set."""
    return default_home() if os.environ.get("WADDLEBOT_HOME") else default_home() / "demo"


def make_encryption_key(key_id: str) -> str:
    """One entry for WADDLEBOT_ENCRYPTION_KEYS."""
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}"


def make_actor_key() -> str:
    """The private half of a pair for WADDLEBOT_ACTOR_KEY."""
    from ..web.actor import ActorKey  # Late, for what only reads a home to start sooner.

    return ActorKey.make().private_text


@dataclass(slots=True)
class Secrets:
    """Made at the first start, kept with mode 0600, never shown but for the admin's key, once."""

    database_password: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    # Whom the fleet works as; the one above is the superuser's.
    database_owner_password: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    redis_password: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    # Of each kind of process; the one above is the operator's.
    redis_passwords: dict[str, str] = field(default_factory=make_passwords)
    encryption_keys: str = field(default_factory=lambda: make_encryption_key("1"))
    # The private half of WADDLEBOT_ACTOR_KEY.
    actor_key: str = field(default_factory=lambda: make_actor_key())
    # What the router shows to the local host of community modules.
    module_host_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    keys: dict[str, str] = field(default_factory=dict)


class NoFleet(NotFound):
    """No fleet is running."""

    code = "no_fleet"


@dataclass(frozen=True, slots=True)
class Running:
    """Where the fleet of a home is, while it runs; `modules` are the base URLs of its modules, by name."""

    pid: int
    url: str
    environment: dict[str, str]
    modules: dict[str, str] = field(default_factory=dict)


class Home:
    """A fleet's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.secrets_path = self.path / "secrets.json"
        self.console_key_path = self.path / "console.key"
        self.running_path = self.path / "running.json"
        self.lock_path = self.path / "lock"
        self.logs = self.path / "logs"
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Make the folder and take its lock. Raises: ConfigError, one line that says what is in the way."""
        try:
            # The database's user passes through this folder; what is secret in it has its own mode.
            self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
            for folder in (self.logs, self.path / "run"):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)  # Homes of long ago had others.
            for file in (*self.logs.glob("*.log*"), *(self.path / "run").rglob("session.secret")):
                file.chmod(0o600)
            self._lock = self.lock_path.open("w")
        except OSError as err:
            in_the_way = next((each for each in (self.path, *self.path.parents) if each.is_file()), None)
            why = f"{in_the_way} is a file, not a folder" if in_the_way else err.strerror
            raise ConfigError(f"Cannot write to the home {self.path}: {why}.") from err
        # Somebody who only asks whether a fleet runs has the lock for a moment.
        until = time.monotonic() + ASKED_WITHIN_S
        while not _try_lock(self._lock, fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise ConfigError(f"A fleet already runs in {self.path}. Give this one another --home.")
            time.sleep(0.01)

    def find_want_of_room(self) -> str | None:
        """What to do about a disk that is full, if this home's is."""
        existing = next(each for each in (self.path, *self.path.absolute().parents) if each.exists())
        left_mb = shutil.disk_usage(existing).free // 1_000_000
        if left_mb >= NEEDED_MB:
            return None
        return (
            f"No room for the home {self.path}: {left_mb} MB are left on its disk. Free some, or give another --home."
        )

    def close(self) -> None:
        """Let the lock go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load_secrets(self) -> tuple[Secrets, bool]:
        """The secrets, and whether they were made just now. Raises: ConfigError when the file is damaged."""
        try:
            return Secrets(**json.loads(self.secrets_path.read_text())), False
        except FileNotFoundError:
            return Secrets(), True
        except (ValueError, TypeError) as err:
            raise ConfigError(f"{self.secrets_path} is damaged; restore it from a backup.") from err

    def save_secrets(self, made: Secrets) -> None:
        write_private(self.secrets_path, json.dumps(asdict(made), indent=1))
        if "console" in made.keys:
            write_private(self.console_key_path, made.keys["console"] + "\n")

    def replace_key(self, name: str, api_key: str) -> bool:
        """Keep another key for one of the home's own accounts. False where the account is none of these."""
        made, is_new = self.load_secrets()
        if is_new or name not in made.keys:
            return False
        made.keys[name] = api_key
        self.save_secrets(made)
        return True

    def forget_keys(self, key_ids: Sequence[str]) -> None:
        """Have the home make new ones, at its next start, for those that were revoked."""
        made, is_new = self.load_secrets()
        kept = {name: key for name, key in made.keys.items() if key.split("_")[1] not in key_ids}
        if not is_new and kept != made.keys:
            made.keys = kept
            self.save_secrets(made)

    def announce(self, running: Running) -> None:
        write_private(self.running_path, json.dumps(asdict(running)))

    def withdraw(self) -> None:
        self.running_path.unlink(missing_ok=True)

    def find_running(self) -> Running | None:
        """The fleet that runs in this home, if any."""
        try:
            running = Running(**json.loads(self.running_path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return running if self._is_locked() else None

    def _is_locked(self) -> bool:
        """Whether a fleet runs here: what its process left behind may name one that is somebody else's by now."""
        try:
            with self.lock_path.open() as lock:
                return not _try_lock(lock, fcntl.LOCK_SH)
        except OSError:
            return False

    def get_running(self) -> Running:
        """The fleet that runs in this home. Raises: NoFleet, naming what runs elsewhere."""
        running = self.find_running()
        if running is not None:
            return running
        others = sorted({str(each.path) for each in map(Home, _homes_of_others()) if each.find_running()})
        known = f" One runs in {others[0]}: say --home {others[0]}." if len(others) == 1 else ""
        if len(others) > 1:
            known = f" Fleets run in {', '.join(others)}: say --home DIR."
        raise NoFleet(f"No fleet is running in {self.path}.{known or ' Start one with: waddlebot up'}")

    def console_key(self) -> str | None:
        try:
            return self.console_key_path.read_text().strip()
        except OSError:
            return None


def _homes_of_others() -> Iterator[Path]:
    """Where fleets may run: the usual homes, and what processes were started with."""
    yield from (default_home(), demo_home())
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # Gone meanwhile, or somebody else's.
            words = (process / "cmdline").read_bytes().decode().replace("--home=", "--home\0").split("\0")
            if "up" in words and "--home" in words[:-1]:
                yield process.joinpath("cwd").resolve() / words[words.index("--home") + 1]


def _try_lock(file: IO[str], kind: int) -> bool:
    """Take a lock that is let go with the file, unless that would mean to wait."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_private(path: Path) -> IO[bytes]:
    """A file to append to, which only its owner can read from now on."""
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")
    os.fchmod(file.fileno(), 0o600)
    return file


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner can ever read it."""
    partial = path.with_name(path.name + ".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
