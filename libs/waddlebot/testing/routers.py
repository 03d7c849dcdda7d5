"""Several router processes on one database and one Valkey, started as a fleet starts them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ..base.ids import new_id
from ..base.manifest import Manifest, all_manifests
from ..community.communities import ensure_community
from ..data.database import Database
from ..fleet.embedded import free_port, stop_process
from ..fleet.fleet import Child, answers_200
from ..fleet.home import make_encryption_key
from ..web.auth import create_account
from ..web.http import HTTPClient, HTTPResponse
from .fleet import Bot, Stack
from .plugin import eventually

READY_WITHIN_S = 60


def module_process(manifest: Manifest, *, port: int, environment: Mapping[str, str], run_dir: Path) -> Child:
    """A module in a process and on a port of its own, not started yet."""
    url = f"http://127.0.0.1:{port}"
    own = {
        "WADDLEBOT_MODULES": manifest.package,
        "WADDLEBOT_PORT": str(port),
        "WADDLEBOT_OWN_URL": url,
        "MODULE_URL": url,
        "WADDLEBOT_RUN_DIR": str(run_dir),
    }
    return Child(
        manifest.name, ["waddlebot.fleet.serve", "web"], {**environment, **own}, [f"{url}{manifest.prefix}/ready"]
    )


@dataclass(slots=True)
class Router:
    """One router process. For a Bot and a ModuleStub it is the fleet."""

    process: Child
    url: str
    keys: dict[str, str]
    http: HTTPClient

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str = "console",
        query: Mapping[str, Any] | None = None,
    ) -> HTTPResponse:
        """Make a request with an account's key. Raises: UpstreamError and its kinds when the process is not there."""
        headers = {"X-API-Key": self.keys[key], "Content-Type": "application/json"}
        url = self.url + path + (f"?{urlencode(query)}" if query else "")
        raw = None if body is None else json.dumps(body).encode()
        return self.http.request(method, url, body=raw, headers=headers)

    @property
    def is_ready(self) -> bool:
        return all(answers_200(url) for url in self.process.ready_urls)

    def start(self) -> None:
        self.process.start()
        eventually(lambda: self.is_ready, within_s=READY_WITHIN_S, what=f"{self.url} is ready")

    def signal(self, number: int) -> None:
        """Send a signal to the process and its worker."""
        assert self.process.process is not None
        os.killpg(self.process.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        stop_process(self.process.process, signal.SIGKILL)


@dataclass(slots=True)
class Routers:
    """The routers, with the inventory in a process of its own, and the keys of who calls them."""

    routers: list[Router]
    database: Database
    keys: dict[str, str]

    @classmethod
    @contextmanager
    def running(
        cls, stack: Stack, folder: Path, environment: Mapping[str, str], *, count: int = 3
    ) -> Iterator[Routers]:
        """So many, with these settings beside those of the stack, until the end of the block."""
        manifests = {manifest.name: manifest for manifest in all_manifests()}
        ports, inventory_port = [free_port() for _ in range(count)], free_port()
        common = {
            **stack.environment(),
            "CORE_API_URL": f"http://127.0.0.1:{ports[0]}",
            "WADDLEBOT_ENCRYPTION_KEYS": make_encryption_key("test"),
            "LOG_DIR": str(folder / "logs"),
            "LOG_CONSOLE_LEVEL": "ERROR",
            **environment,
            # A fleet's modules have fixed places beside the router; this one has not.
            "MODULE_URLS": f"{environment.get('MODULE_URLS', '')},inventory=http://127.0.0.1:{inventory_port}",
        }
        database = Database(stack.postgres.owner_url)
        keys = {}
        with database.transaction() as db:
            console = create_account(db, name="console", groups=["collectors", "admins"], platforms=["console"])
            for name in ("router", "inventory"):
                keys[name] = create_account(db, name=name, groups=["services"], module_name=name).api_key
                common[f"{manifests[name].settings_prefix}_WADDLEBOT_API_KEY"] = keys[name]
        keys["console"] = console.api_key
        http = HTTPClient()
        routers = []
        for n, port in enumerate(ports):
            own = {**common, "LOG_ROLE": str(n)}
            child = module_process(manifests["router"], port=port, environment=own, run_dir=folder / f"router{n}")
            routers.append(Router(child, f"http://127.0.0.1:{port}", keys, http))
        inventory = module_process(
            manifests["inventory"], port=inventory_port, environment=common, run_dir=folder / "inventory"
        )
        children = [*(router.process for router in routers), inventory]
        try:
            for child in children:
                child.start()
            urls = [url for child in children for url in child.ready_urls]
            eventually(lambda: all(answers_200(url) for url in urls), within_s=READY_WITHIN_S, what="all are ready")
            yield cls(routers, database, keys)
        finally:
            for child in children:
                child.stop()
            database.close()

    def __getitem__(self, at: int) -> Router:
        return self.routers[at]

    def __len__(self) -> int:
        return len(self.routers)

    def bots(self) -> list[Bot]:
        """Somebody to talk to in a community of its own, at each of the routers."""
        slug = "t" + new_id().replace("-", "")
        with self.database.transaction() as db:
            community_id = ensure_community(db, slug, slug)
        return [Bot(router, slug, community_id) for router in self.routers]  # type: ignore[arg-type]
