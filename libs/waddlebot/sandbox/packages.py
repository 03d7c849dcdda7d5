"""The code of modules: fetched from the marketplace by its checksum, looked through, and unpacked where its process may
read it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import NotFound, UpstreamError, WaddleBotError
from ..module.package import MAX_PACKAGE_BYTES, ModuleManifest, read_package
from ..web.http import HTTPClient

# `<module>:<version>:<sha256>`
FUNCTION = re.compile(r"([a-z][a-z0-9_]{0,62}):([0-9A-Za-z.-]{1,32}):([0-9a-f]{64})")
FETCH_TIMEOUT_S = 5.0
FETCHES = 4


class NoSuchFunction(NotFound):
    """No module of that name, version and checksum is published."""


class BadFunction(WaddleBotError):
    """The package is not what its name says."""


@dataclass(frozen=True, slots=True)
class Function:
    """A version of a module whose code lies in `folder`."""

    name: str
    folder: Path
    manifest: ModuleManifest

    @property
    def module_name(self) -> str:
        return self.name.partition(":")[0]


class Packages:
    """Functions by name. What was fetched once stays, because what is behind a checksum never changes."""

    def __init__(self, folder: Path, url: str, api_key: str) -> None:
        self._folder = folder
        self._url = url
        self._headers = {"X-API-Key": api_key}
        self._http = HTTPClient(max_response_bytes=MAX_PACKAGE_BYTES)
        self._threads = ThreadPoolExecutor(FETCHES, "packages")
        self._known: dict[str, Function] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, name: str) -> Function:
        """Raises: NoSuchFunction, BadFunction, UpstreamError when the marketplace is not reached."""
        known = self._known.get(name)
        if known:
            return known
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._known:
                loop = asyncio.get_running_loop()
                self._known[name] = await loop.run_in_executor(self._threads, self._fetch, name)
        self._locks.pop(name, None)
        return self._known[name]

    def _fetch(self, name: str) -> Function:
        parts = FUNCTION.fullmatch(name)
        if not parts:
            raise NoSuchFunction()
        response = self._http.request(
            "GET", f"{self._url}/{parts[3]}", headers=self._headers, timeout_s=FETCH_TIMEOUT_S
        )
        if response.status == 404:
            raise NoSuchFunction()
        if response.status != 200:
            raise UpstreamError(f"The marketplace answered HTTP {response.status}.")
        return self.unpack(name, response.body)

    def unpack(self, name: str, content: bytes) -> Function:
        """Raises: BadFunction."""
        module_name, version, sha256 = name.split(":")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise BadFunction("The package has another checksum than its name.")
        try:
            package = read_package(content)
        except WaddleBotError as err:
            raise BadFunction(err.message) from err
        if (package.manifest.name, package.manifest.version) != (module_name, version):
            raise BadFunction("The package is of another module or version than its name.")
        folder = self._folder / f"{module_name}-{version}-{sha256[:16]}"
        for path, data in package.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for each in (folder, *folder.rglob("*")):  # Whoever it runs as reads it; the fence lets nobody change it.
            each.chmod(0o755 if each.is_dir() else 0o644)
        return Function(name, folder, package.manifest)
