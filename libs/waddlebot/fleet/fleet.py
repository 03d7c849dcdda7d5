"""`waddlebot up`: the whole fleet on one machine, as supervised children of one process.

PostgreSQL, Valkey, migrations, then the modules: all in one `web` process and one `collectors` process, or each on a
port of its own (--per-module), exactly as its container runs it; and a `hub` for the overlays' sockets. What dies is
started again.
"""

from __future__ import annotations

import contextlib
import getpass
import http.client
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO

from ..base.contracts import MODULE_HOST
from ..base.errors import ConfigError
from ..base.manifest import Manifest, all_manifests, modules_dir
from ..data.redis_users import user_of
from ..web.actor import ActorKey
from .accounts import make_missing_keys
from .embedded import PostgresServer, ValkeyServer, dying_with_us, stop_process
from .home import SAID, Home, Running, Secrets

READY_TIMEOUT_S = 60.0
POLL_S = 0.1
# A process that keeps dying is started again after 0.2, 0.4, … at most 5 s.
FIRST_RESTART_S = 0.2
MAX_SERVER_STARTS = 5
MAX_RESTART_S = 5.0
STOP_TIMEOUT_S = 15.0
BASE_PORT = 8000
PORTAL, MARKETPLACE = "portal", "marketplace"
# Where the local host of community modules is by itself; here it is as far above --port as that is above 8000.
MODULES_PORT = 8030
WAITING_FOR_MODULES = 1024
# All that it is told of this environment: it runs strangers' code, and shall have nothing that those could want.
TOLD_TO_MODULES = ("PATH", "LANG", "TZ", "LOG_LEVEL", "METRICS_PUBLIC", "PYTHONPATH", "LD_LIBRARY_PATH")
# The demo's page is so many ports above the fleet's, its platforms and providers on the ports after it.
DEMO_OFFSET = 90
DEMO_PORTS = 6
# Every port that a fleet may use is fewer than so many above its own.
FLEET_PORTS = DEMO_OFFSET + DEMO_PORTS
# What would make a demo part of a fleet that is not one.
OF_REAL_FLEETS = (
    *("DATABASE_URL", "READ_REPLICA_URL", "BASE_URL", "LOG_DIR", "REDIS_", "BROWSER_SOURCE_", "WEBSOCKET_"),
    "YOUTUBE_",
)


@dataclass(frozen=True, slots=True)
class Options:
    home: Path
    port: int = BASE_PORT
    ws_port: int | None = None
    per_module: bool = False
    verbose: bool = False
    demo: bool = False


@dataclass(slots=True)
class Child:
    """One process of ours and how often it had to be started."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    ready_urls: list[str]
    # Whether it has what this process's environment has.
    inherits: bool = True
    # It is started when somebody connects here for the first time, and takes this over.
    listening: socket.socket | None = None
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started_at: float = 0
    restart_at: float = 0

    def start(self) -> None:
        self.started_at = time.monotonic()
        handed = {} if self.listening is None else {"WADDLEBOT_LISTEN_FD": str(self.listening.fileno())}
        self.process = subprocess.Popen(
            dying_with_us(signal.SIGTERM, [sys.executable, "-m", *self.command]),
            env={**(os.environ if self.inherits else {}), **self.environment, **handed},
            pass_fds=[] if self.listening is None else [self.listening.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it to be started."""
        return (
            self.process is None and self.listening is not None and bool(select.select([self.listening], [], [], 0)[0])
        )

    def stop(self) -> None:
        if self.listening is not None:
            self.listening.close()
        stop_process(self.process, signal.SIGTERM, STOP_TIMEOUT_S)


class Preparation:
    """Has the settings checked and the database prepared by a process of its own: what that imports would stay in the
    supervisor's memory for good, and is loaded while the servers start."""

    def __init__(self, home: Path, manifests: Sequence[Manifest]) -> None:
        names = ",".join(manifest.name for manifest in manifests)
        command = [sys.executable, "-m", "waddlebot.fleet.prepare", str(home), names]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # Told of no database, it ends.

    def wait_for_checks(self) -> None:
        """Raises: ConfigError when every process of this fleet would refuse the settings."""
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self.finish()

    def finish(self, *urls: str) -> None:
        """Prepare the database at the first URL, whose superuser has the second. Raises: ConfigError."""
        _, stderr = self._process.communicate("".join(f"{url}\n" for url in urls))
        if self._process.returncode != 0:
            lines = stderr.strip().splitlines()
            raise ConfigError(
                (lines[-1] if lines else "the database could not be prepared").removeprefix("waddlebot: ")
            )


@dataclass(slots=True)
class Fleet:
    """The fleet of one home."""

    options: Options
    home: Home
    postgres: PostgresServer | None = None
    valkey: ValkeyServer | None = None
    children: list[Child] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    admin_key: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.options.port}"

    @property
    def demo_port(self) -> int:
        return self.options.port + DEMO_OFFSET

    @property
    def demo_url(self) -> str:
        return f"http://127.0.0.1:{self.demo_port}"

    @property
    def _modules_port(self) -> int:
        return self.options.port + MODULES_PORT - BASE_PORT

    def _hub_port(self, manifest: Manifest) -> int:
        assert manifest.hub_port is not None
        named = int(os.environ.get("WEBSOCKET_PORT") or 0)
        return self.options.ws_port or named or self.options.port + manifest.hub_port - BASE_PORT

    def run(self) -> int:
        """Bring everything up, keep it up until a signal, take it down in order. Returns the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stopping.set())
        started = time.monotonic()
        if self.options.demo:
            forget_real_fleets()
        try:
            self._bring_up()
            if not self.stopping.is_set():
                self._greet(time.monotonic() - started)
            while not self.stopping.is_set():
                self._wait_for_callers()
                self._restart_what_died()
            say("Stopping …")
            return 0
        except (ConfigError, OSError) as err:
            # Whatever fails for want of room says something else, or nothing of use.
            reason = self.home.find_want_of_room() or (err.message if isinstance(err, ConfigError) else "")
            if not reason:
                raise
            print(f"waddlebot: {reason}", file=sys.stderr, flush=True)
            return 1
        finally:
            self._take_down()

    def _bring_up(self) -> None:
        manifests = all_manifests()
        with Preparation(self.home.path, manifests) as preparation:
            preparation.wait_for_checks()
            self.home.open()
            self._check_ports(manifests)
            made, is_new = self.home.load_secrets()
            make_missing_keys(made, manifests)
            self.home.save_secrets(made)
            if is_new:
                self.admin_key = made.keys["admin"]
            environment = self._start_servers(made)
            with step("schema"):
                preparation.finish(environment["DATABASE_URL"], self.postgres.url if self.postgres else "")
        environment |= self._overlay_urls(manifests) | self._state_url(manifests) | self._consent_urls(manifests)
        environment |= self._broker_url(manifests)
        if portal := next((each for each in manifests if each.name == PORTAL), None):
            environment["PORTAL_URL"] = os.environ.get("PORTAL_URL") or self._base_url_of(portal)
        self.environment = environment
        if self.options.demo:
            environment |= self._start_demo(manifests, environment)
        modules = self._plan(manifests, environment, made)
        self.children += modules
        (self.home.path / "run" / SAID).unlink(missing_ok=True)
        with step("modules: " + ", ".join(manifest.name for manifest in manifests)):
            for child in modules:
                if child.listening is None:
                    child.start()
            self._wait_until_ready()
        # Whoever replays what a platform once sent has to sign as it does.
        names = [name for manifest in manifests for name in manifest.replay_environment]
        signed_with = {name: os.environ[name] for name in names if os.environ.get(name)}
        where = {manifest.name: self._base_url_of(manifest) for manifest in manifests}
        self.home.announce(Running(os.getpid(), self.url, {**signed_with, **environment}, where))
        self._forget_anew(manifests, made.keys.get(PORTAL, ""))

    def _forget_anew(self, manifests: Sequence[Manifest], key: str) -> None:
        """Have everybody forgotten whom a restored backup has brought back. What fails is tried at the next start."""
        owed = self.home.path / "erasures.json"
        if not owed.exists():
            return
        requests = json.loads(owed.read_text())
        # The router still finds names in what was said to others, so it comes last.
        last = sorted(manifests, key=lambda each: (each.name == "router", each.port))
        done = [
            bool(post(f"{self._base_url_of(each)}{each.prefix}/people/erase", request, key))
            for request in requests
            for each in last
            if each.prefix
        ]
        if all(done):
            owed.unlink()
            say(f"Forgot anew what a backup had brought back: {len(requests)} requests.")

    def _check_ports(self, manifests: Sequence[Manifest]) -> None:
        """Raises: ConfigError for the first port that somebody else listens on."""
        wanted = {self.options.port: "--port"}
        if self.options.per_module:
            wanted |= {self._port_of(manifest): "--port" for manifest in manifests}
        wanted |= {self._hub_port(manifest): "--ws-port" for manifest in manifests if manifest.hub_port}
        if runs_modules_here():
            wanted[self._modules_port] = "--port"
        if self.options.demo:
            wanted |= {self.demo_port + n: "--port" for n in range(DEMO_PORTS)}
        for port, option in wanted.items():
            if not 1 <= port <= 65535:
                raise ConfigError(f"Port {port} is not a port; choose a lower {option}.")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as err:
                    raise ConfigError(f"Port {port} is in use ({err.strerror}). Choose another with {option}.") from err

    def _port_of(self, manifest: Manifest) -> int:
        named = os.environ.get(f"{manifest.settings_prefix}_MODULE_PORT")
        return int(named) if named else self.options.port + manifest.port - BASE_PORT

    def _start_servers(self, made: Secrets) -> dict[str, str]:
        """Start what the environment does not name, and return how to reach both."""
        environment = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_HOST") if os.environ.get(name)}
        if "DATABASE_URL" not in environment:
            with step("PostgreSQL"):
                self.postgres = PostgresServer(
                    self.home.path / "postgres", made.database_password, owner_password=made.database_owner_password
                )
                self.postgres.start()
            environment["DATABASE_URL"] = self.postgres.owner_url
        if "REDIS_HOST" in environment:
            _warn_without_redis(environment["REDIS_HOST"], int(os.environ.get("REDIS_PORT", "6379")))
        else:
            with step("Valkey"):
                self.valkey = ValkeyServer(self.home.path / "valkey", made.redis_password, made.redis_passwords)
                self.valkey.start()
            environment |= {
                "REDIS_HOST": "127.0.0.1",
                "REDIS_PORT": str(self.valkey.port),
                "REDIS_USERNAME": "",
                "REDIS_PASSWORD": made.redis_password,
            }
        _warn_without_syslog()
        return environment

    def _overlay_urls(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Where the overlays' module and its sockets are."""
        module = next((each for each in manifests if each.hub_port), None)
        if module is None:
            return {}
        base = self._base_url_of(module)
        sockets = f"ws://127.0.0.1:{self._hub_port(module)}"
        return {
            "BROWSER_SOURCE_API_URL": os.environ.get("BROWSER_SOURCE_API_URL") or f"{base}{module.prefix}/source",
            "WEBSOCKET_HOST": os.environ.get("WEBSOCKET_HOST") or "127.0.0.1",
            "WEBSOCKET_PORT": str(self._hub_port(module)),
            "WEBSOCKET_PUBLIC_URL": os.environ.get("WEBSOCKET_PUBLIC_URL") or sockets,
            f"{module.settings_prefix}_BASE_URL": os.environ.get("BASE_URL") or base,
            # The same however the modules run, for OBS has it for good; see _elsewhere.
            "OVERLAYS_URL": os.environ.get("BASE_URL") or self.url,
            f"{PORTAL.upper()}_OVERLAYS_URL": os.environ.get("BASE_URL") or f"{self.url},{base}",
        }

    def _broker_url(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Where Kong is told of new keys, if there is one."""
        broker = next((each for each in manifests if each.kind == "admin"), None)
        return {"BROKER_URL": self._base_url_of(broker)} if broker and os.environ.get("KONG_ADMIN_URL") else {}

    def _consent_urls(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Where people consent, and come back to, if each module has an address of its own."""
        if not self.options.per_module or os.environ.get("BASE_URL"):
            return {}
        asking = [each for each in manifests if any(row.open == "oauth" for row in each.callers)]
        urls = {each.name: self._base_url_of(each) for each in asking}
        own = {f"{each.settings_prefix}_BASE_URL": urls[each.name] for each in asking}
        return {**own, "CONSENT_URLS": ",".join(f"{name}={url}" for name, url in urls.items())}

    def _state_url(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Where modules of others remember things, if that is not below BASE_URL."""
        store = next((each for each in manifests if each.name == "marketplace"), None)
        if store is None or not self.options.per_module or os.environ.get("BASE_URL"):
            return {}
        return {"MODULE_STATE_URL": f"{self._base_url_of(store)}{store.prefix}/state"}

    def _start_demo(self, manifests: Sequence[Manifest], environment: dict[str, str]) -> dict[str, str]:
        """Start the platforms of the demo. Returns what points the modules at them."""
        if not (modules_dir() / "simulators" / "demo").is_dir():
            raise ConfigError("There are no simulators here, which --demo needs; start it in a whole checkout.")
        collectors = [
            f"--{each.name}={self._base_url_of(each)}{each.prefix}" for each in manifests if each.kind == "collector"
        ]
        without_redis = {name: value for name, value in environment.items() if not name.startswith("REDIS_")}
        child = Child(
            "demo",
            [
                "simulators.demo",
                f"--home={self.home.path}",
                f"--port={self.demo_port}",
                f"--fleet={self.url}",
                *collectors,
            ],
            {**without_redis, "PYTHONPATH": os.pathsep.join([str(modules_dir()), os.environ.get("PYTHONPATH", "")])},
            [f"{self.demo_url}/healthz"],
        )
        self.children = [child]
        with step("simulators: " + ", ".join(each.name for each in manifests if each.kind == "collector")):
            child.start()
            self._wait_until_ready()
        if self.stopping.is_set():
            return {}
        return {
            **json.loads((self.home.path / "demo.json").read_text())["settings"],
            "EGRESS_ALLOW": f"127.0.0.1:{self.demo_port}",
            "OVERLAY_FRAME_ANCESTORS": f"{self.demo_url},http://localhost:{self.demo_port}",
        }

    def _base_url_of(self, manifest: Manifest) -> str:
        return f"http://127.0.0.1:{self._port_of(manifest)}" if self.options.per_module else self.url

    def _plan(self, manifests: Sequence[Manifest], environment: dict[str, str], made: Secrets) -> list[Child]:
        common = {
            **environment,
            "WADDLEBOT_ENCRYPTION_KEYS": os.environ.get("WADDLEBOT_ENCRYPTION_KEYS") or made.encryption_keys,
            "CORE_API_URL": self.url,
            "BASE_URL": os.environ.get("BASE_URL") or self.url,
            "LOG_DIR": os.environ.get("LOG_DIR") or str(self.home.logs),
            "LOG_CONSOLE_LEVEL": "INFO" if self.options.verbose else "ERROR",
        }
        if runs_modules_here():
            environment["MODULE_HOST_URL"] = f"http://127.0.0.1:{self._modules_port}"
            common |= {"MODULE_HOST_URL": environment["MODULE_HOST_URL"], "MODULE_HOST_KEY": made.module_host_key}
        actor_key = ActorKey.parse(os.environ.get("WADDLEBOT_ACTOR_KEY") or made.actor_key)
        common["WADDLEBOT_ACTOR_KEY"] = actor_key.public_text
        common |= {f"{manifest.settings_prefix}_WADDLEBOT_API_KEY": made.keys[manifest.name] for manifest in manifests}
        beside = [self._modules_process(manifests, common, made)] if runs_modules_here() else []
        to_hub = common | self._redis_as("hub")
        hubs = [self._hub_process(manifest, to_hub) for manifest in manifests if manifest.hub_port]
        if self.options.per_module:
            signs = {PORTAL: signing(actor_key)}
            first = {each.name: self._elsewhere(manifests) for each in manifests if self._base_url_of(each) == self.url}
            return [
                *(
                    self._module_process(
                        each,
                        common | self._redis_as(user_of(each)) | signs.get(each.name, {}) | first.get(each.name, {}),
                    )
                    for each in manifests
                ),
                *hubs,
                *beside,
            ]
        packages = ",".join(manifest.package for manifest in manifests)
        one_process = {**common, "MODULE_URL": self.url}
        has_portal = any(manifest.name == PORTAL for manifest in manifests)
        web = Child(
            "web",
            ["waddlebot.fleet.serve", "web"],
            {
                **one_process,
                **self._redis_as("web"),
                **(signing(actor_key) if has_portal else {}),
                "WADDLEBOT_MODULES": packages,
                "WADDLEBOT_ROLE": "web",
                "WADDLEBOT_PORT": str(self.options.port),
                "WADDLEBOT_OWN_URL": self.url,
                "WADDLEBOT_RUN_DIR": self._run_dir("web"),
            },
            [f"{self.url}{manifest.prefix}/ready" for manifest in manifests],
        )
        collecting = [manifest.package for manifest in manifests if manifest.kind == "collector"]
        collectors = Child(
            "collectors",
            ["waddlebot.fleet.serve", "collectors"],
            {
                **one_process,
                **self._redis_as("collectors"),
                "WADDLEBOT_MODULES": ",".join(collecting),
                "WADDLEBOT_ROLE": "collectors",
                "WADDLEBOT_RUN_DIR": self._run_dir("collectors"),
                "LOG_ROLE": "collectors",
            },
            [],
        )
        return [web, *([collectors] if collecting else []), *hubs, *beside]

    def _modules_process(self, manifests: Sequence[Manifest], common: dict[str, str], made: Secrets) -> Child:
        """The local host of community modules. A fleet that has none does without the process."""
        own = ("CORE_API_URL", "LOG_DIR", "LOG_CONSOLE_LEVEL", "MODULE_HOST_KEY")
        told = {name: value for name, value in os.environ.items() if name in TOLD_TO_MODULES}
        ours = ("MODULES_", "COMMUNITY_MODULES_")
        chosen = {name: value for name, value in os.environ.items() if name.startswith(ours)}
        store = next((each for each in manifests if each.name == MARKETPLACE), None)
        if store is not None:
            chosen.setdefault("MODULES_PACKAGES_URL", f"{self._base_url_of(store)}{store.prefix}/packages")
        environment = {
            **told,
            **chosen,
            **{name: common[name] for name in own},
            "WADDLEBOT_PORT": str(self._modules_port),
            "WADDLEBOT_API_KEY": made.keys[MODULE_HOST],
            "LOG_ROLE": "modules",
        }
        listening = socket.create_server(("127.0.0.1", self._modules_port), backlog=WAITING_FOR_MODULES)
        return Child("modules", ["waddlebot.sandbox.host"], environment, [], inherits=False, listening=listening)

    def _hub_process(self, manifest: Manifest, common: dict[str, str]) -> Child:
        environment = {**common, "WADDLEBOT_MODULES": manifest.package, "LOG_ROLE": "hub"}
        healthz = f"http://127.0.0.1:{self._hub_port(manifest)}/healthz"
        return Child("hub", ["waddlebot.fleet.serve", "hub"], environment, [healthz])

    def _module_process(self, manifest: Manifest, common: dict[str, str]) -> Child:
        port = self._port_of(manifest)
        url = f"http://127.0.0.1:{port}"
        environment = {
            **common,
            "WADDLEBOT_MODULES": manifest.package,
            "WADDLEBOT_PORT": str(port),
            "WADDLEBOT_OWN_URL": url,
            "MODULE_URL": url,
            "WADDLEBOT_RUN_DIR": self._run_dir(manifest.package),
        }
        return Child(manifest.name, ["waddlebot.fleet.serve", "web"], environment, [f"{url}{manifest.prefix}/ready"])

    def _elsewhere(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Where the modules are whose addresses people know by this fleet's own."""
        others = [each for each in manifests if each.prefix and self._base_url_of(each) != self.url]
        return {"WADDLEBOT_ELSEWHERE": ",".join(f"{each.prefix[1:]}={self._base_url_of(each)}" for each in others)}

    def _redis_as(self, kind: str) -> dict[str, str]:
        """Who a process is to this fleet's own Valkey; to somebody else's it is who REDIS_USERNAME says."""
        return self.valkey.environment(kind) if self.valkey else {}

    def _run_dir(self, name: str) -> str:
        return str(self.home.path / "run" / name)

    def _wait_until_ready(self) -> None:
        """Raises: ConfigError when a process ends before it can serve, or none of it comes in time."""
        until = time.monotonic() + READY_TIMEOUT_S
        waiting = [url for child in self.children for url in child.ready_urls]
        while waiting and not self.stopping.is_set():
            for child in self.children:
                if child.process is not None and child.process.poll() is not None:
                    raise ConfigError(f"{child.name} does not start; the reason is above and in {self.home.logs}.")
            waiting = [url for url in waiting if not answers_200(url)]
            if waiting and time.monotonic() > until:
                raise ConfigError(f"Not ready after {READY_TIMEOUT_S:.0f} s: {waiting[0]}; see {self.home.logs}.")
            self.stopping.wait(POLL_S)

    def _wait_for_callers(self) -> None:
        """Wait until it is time to look again, or somebody calls what is not started yet."""
        listening = [child.listening for child in self.children if child.listening and child.process is None]
        select.select(listening, [], [], POLL_S)

    def _restart_what_died(self) -> None:
        now = time.monotonic()
        for server in (self.postgres, self.valkey):
            if server is not None and server.process is not None and server.process.poll() is not None:
                say(f"{type(server).__name__.removesuffix('Server')} ended, starting it again")
                self._start_again(server)
        for child in self.children:
            if child.is_wanted:
                child.start()
            if child.process is None or child.process.poll() is None:
                continue
            if not child.restart_at:
                child.failures = 0 if now - child.started_at > MAX_RESTART_S * 2 else child.failures + 1
                child.restart_at = now + min(FIRST_RESTART_S * 2**child.failures, MAX_RESTART_S)
                say(f"{child.name} {how_it_ended(child.process.returncode)}, starting it again")
                stop_process(child.process, signal.SIGKILL)  # Workers that outlived it would keep its port.
            elif now >= child.restart_at:
                child.restart_at = 0
                child.start()

    def _start_again(self, server: PostgresServer | ValkeyServer) -> None:
        """Whatever ended it may end it once more while it starts. Raises: ConfigError when that goes on."""
        for failures in range(1, MAX_SERVER_STARTS + 1):
            try:
                server.start()
                return
            except ConfigError as err:
                if failures == MAX_SERVER_STARTS:
                    raise
                say(f"{err.message}; trying again")
                self.stopping.wait(FIRST_RESTART_S * 2**failures)

    def _take_down(self) -> None:
        for child in reversed(self.children):
            child.stop()
        for server in (self.valkey, self.postgres):
            if server is not None:
                server.stop()
        if self.children:
            self.home.withdraw()

    def _greet(self, took_s: float) -> None:
        command = how_to_call()
        at = "" if self.home.path == Home(default_home_of_this_user()).path else f" --home {self.options.home}"
        if self.options.demo:
            print(f"See it: {self.demo_url}")
        print(f"WaddleBot is ready: {self.url} (after {took_s:.1f} s, home {self.home.path})")
        overlays = self._demo_overlays()
        if is_kept(sys.stdout):
            print("  The overlays' addresses and the admin key are secrets, so a log does not have them.")
            print(f"  The portal shows the addresses: {command} portal login{at} EMAIL")
            print(f"  A key for programs: {command} keys create{at} --name NAME --group admins")
        else:
            self._greet_with_secrets(overlays)
            if not self.admin_key:  # Sessions end with the fleet's own Redis, so this is needed at each start.
                print(f"  A link into the portal: {command} portal login{at} {self._operator_address()}")
        print("Try next, in another terminal:")
        print(f"  {command} chat{at}")
        print(f"  {command} say{at} '!help'")
        print(f'  {command} say{at} \'!inventory add "Blue Sword" "A shiny sword" weapons,rare\'')
        print(f"  {command} simulate{at} ticker 'hello'")
        print("Ctrl-C stops it.", flush=True)

    def _greet_with_secrets(self, overlays: Mapping[str, str]) -> None:
        for source_type, url in overlays.items():
            print(f"  {source_type + ' overlay':<16}  {url}")
        if self.admin_key:
            print(f"\n  Admin key, shown only this once:  {self.admin_key}\n")
            if sys.stdout.isatty() and (link := self._portal_link()):
                print(f"  Look after it in your browser, by this link, once, within ten minutes:\n  {link}\n")

    def _portal_link(self) -> str:
        """What signs this computer's user in to the portal, as its operator; empty where there is none."""
        url = self.environment.get("PORTAL_URL")
        made = (
            post(f"{url}/portal/links", {"email": self._operator_address()}, self.home.console_key() or "")
            if url
            else {}
        )
        return str(made.get("url", ""))

    @staticmethod
    def _operator_address() -> str:
        return f"{getpass.getuser()}@localhost"

    def _demo_overlays(self) -> dict[str, str]:
        """The URLs for OBS, made at the first start."""
        url = self.environment.get("BROWSER_SOURCE_API_URL")
        made = post(f"{url}/admin/tokens", {"community_id": "demo"}, self.home.console_key() or "") if url else {}
        return {source_type: each["url"] for source_type, each in made.get("tokens", {}).items()}


def runs_modules_here() -> bool:
    """Whether what communities install is run by this fleet itself: COMMUNITY_MODULES_RUN is local, or not set."""
    where = os.environ.get("COMMUNITY_MODULES_RUN") or "local"
    if where not in ("local", "lambda", "openwhisk"):
        raise ConfigError(f"COMMUNITY_MODULES_RUN is local, lambda or openwhisk, not {where!r}.")
    return where == "local"


def signing(key: ActorKey) -> dict[str, str]:
    """What lets the portal sign for people; nobody else is given the private half."""
    return {f"{PORTAL.upper()}_WADDLEBOT_ACTOR_KEY": key.private_text} if key.private else {}


def _warn_without_redis(host: str, port: int) -> None:
    """A fleet works without it, but each process then counts limits and keeps caches for itself."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError as err:
        why = err.strerror or "no answer"
        say(f"  ! REDIS_HOST, REDIS_PORT: cannot reach {host}:{port} ({why}). Each process counts limits by itself.")


def _warn_without_syslog() -> None:
    """A fleet works without it; its lines are in its files alone then."""
    host = os.environ.get("SYSLOG_HOST") or "localhost"
    if os.environ.get("ENABLE_SYSLOG", "").lower() not in ("1", "true", "yes", "on"):
        return
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as err:
        why = getattr(err, "strerror", None) or "no name of a host"
        say(f"  ! SYSLOG_HOST: cannot find {host} ({why}). Log lines are in the files alone.")


def forget_real_fleets() -> None:
    """Keep what this environment says of servers and platforms away from a demo and its children."""
    platforms = [f"{each.settings_prefix}_" for each in all_manifests() if each.kind == "collector"]
    for name in [name for name in os.environ if name.startswith((*OF_REAL_FLEETS, *platforms))]:
        del os.environ[name]


def default_home_of_this_user() -> Path:
    from .home import default_home

    return default_home()


def how_to_call() -> str:
    """What to type for this very program: its name where the PATH finds it, else its path."""
    found = shutil.which("waddlebot")
    here = Path(sys.argv[0]).absolute()
    if found and Path(found).absolute() == here:
        return "waddlebot"
    with contextlib.suppress(ValueError):
        return str(here.relative_to(Path.cwd()))
    return str(here)


def is_kept(stream: TextIO) -> bool:
    """Whether what is written there stays: in a log file, or in the system's journal."""
    mode = os.fstat(stream.fileno()).st_mode
    return stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Show one step of the start and how long it took."""
    started = time.monotonic()
    if sys.stdout.isatty():
        print(f"  … {what}", end="", flush=True)
    yield
    if sys.stdout.isatty():
        print("\r", end="")
    print(f"  ✓ {what} ({time.monotonic() - started:.1f} s)", flush=True)


def say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, flush=True)


def how_it_ended(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"


def answers_200(url: str) -> bool:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=2)
    try:
        connection.request("GET", "/" + path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def post(url: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    """Make a request of the fleet itself; what it refuses is empty."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        connection.request("POST", "/" + path, json.dumps(body), headers)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        return answer if response.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
