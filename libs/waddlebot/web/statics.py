"""Files that never change under their address: the folders' content is part of it, so browsers keep them for good."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ..base.errors import NotFound
from .auth import ANYBODY
from .endpoint import Raw, RawRequest, endpoint

# The look that all pages share; what in it is not ours is in its VENDORED.md.
LOOK = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
# What is compressed already gains nothing.
COMPRESSED = (".css", ".js", ".svg")
IMMUTABLE = "public, max-age=31536000, immutable"
VERSION_LENGTH = 12


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file with its compressed forms, by the name that Accept-Encoding has for each; the best one first."""

    body: bytes
    content_type: str
    etag: str
    encodings: Mapping[str, bytes] = field(default_factory=dict)

    def encoded_for(self, accept_encoding: str) -> tuple[bytes, str]:
        """The smallest form that a client takes, and its encoding's name; none for the file as it is."""
        taken = _taken(accept_encoding)
        for name, body in self.encodings.items():
            if taken.get(name, taken.get("*", 0.0)) > 0:
                return body, name
        return self.body, ""


# Every file that this process serves for good, by its URL. Whoever is in front of the WSGI app may answer from here.
SERVED: dict[str, StaticFile] = {}


class StaticFiles:
    """The files of folders under `<prefix>/static/<version>/<name>`; a later folder's files hide an earlier one's.

    One version stands for all of them, so that they may name each other and no cache can mix two versions.
    """

    def __init__(self, prefix: str, *folders: Path) -> None:
        self._files: dict[str, StaticFile] = {}
        for folder in folders:
            self._files |= _read_folder(folder)
        whole = "\0".join(f"{name}\0{file.etag}" for name, file in sorted(self._files.items()))
        self.version = hashlib.sha256(whole.encode()).hexdigest()[:VERSION_LENGTH]
        self._root = f"{prefix}/static"
        self.base = f"{self._root}/{self.version}"
        SERVED.update(self.by_url)

    @property
    def by_url(self) -> dict[str, StaticFile]:
        return {self.url(name): file for name, file in self._files.items()}

    def url(self, name: str) -> str:
        return f"{self.base}/{name}"

    @property
    def serve(self) -> Callable[..., Raw]:
        """The endpoint to mount."""

        @endpoint("GET", f"{self._root}/<version>/<name:path>", caller=ANYBODY)
        def static_file(version: str, name: str, request: RawRequest) -> Raw:
            """Serve a stylesheet, script, picture or font of the pages."""
            return self._answer(version, name, request.headers)

        return static_file

    def _answer(self, version: str, name: str, asked: Mapping[str, str]) -> Raw:
        """The file of now, kept for good under the version of now; under another, a page's of before, not at all."""
        file = self._files.get(name)
        if file is None:
            raise NotFound("There is no such file.")
        headers = static_headers(file)
        if version != self.version:
            headers["Cache-Control"] = "no-store"
        if file.etag in asked.get("if-none-match", ""):
            return Raw("", file.content_type, 304, headers)
        body, encoding = file.encoded_for(asked.get("accept-encoding", ""))
        return Raw(body, file.content_type, headers=headers | ({"Content-Encoding": encoding} if encoding else {}))


def static_headers(file: StaticFile) -> dict[str, str]:
    """What goes with a file, whichever form of it is sent. Overlays are sandboxed, so even ours are foreign to them."""
    return {
        "Cache-Control": IMMUTABLE,
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        "Access-Control-Allow-Origin": "*",
    }


@lru_cache
def _read_folder(folder: Path) -> dict[str, StaticFile]:
    """Every file of a kind that browsers know; modules of one process share the look's."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in TYPES)
    return {path.relative_to(folder).as_posix(): _read(path) for path in found}


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return StaticFile(body, TYPES[path.suffix], etag, _compress(body) if path.suffix in COMPRESSED else {})


def _compress(body: bytes) -> dict[str, bytes]:
    forms = {"gzip": gzip.compress(body, 9, mtime=0)}
    try:
        import brotli
    except ImportError:
        return forms
    return {"br": brotli.compress(body), **forms}


def _taken(accept_encoding: str) -> dict[str, float]:
    """How much a client wants each encoding, 0 for not at all."""
    wanted: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, _, quality = part.partition(";")
        try:
            wanted[name.strip()] = float(quality.partition("=")[2] or 1)
        except ValueError:
            wanted[name.strip()] = 0.0
    return wanted
