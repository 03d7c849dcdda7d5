"""Files that never change, from memory: found by a path with the folder's version in it, compressed beforehand."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..base.errors import NotFound

# The look that all pages share; what in it is not ours is in its VENDORED.md.
LOOK = Path(__file__).parent / "static"
# The present version never changes; what a page of an older or newer one asks for may be other than it is here.
FOR_GOOD = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
# Compressing less than this saves no packet.
WORTH_COMPRESSING = 1024
# Each start does it anew: at 11 it takes fifteen times as long, for a tenth less of a page that is loaded once.
QUALITY = 7
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
}
COMPRESSED_ALREADY = ("image/png", "image/jpeg", "image/webp", "image/gif", "font/woff2", "audio/", "video/")


@dataclass(frozen=True, slots=True)
class StaticAnswer:
    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _File:
    content_type: str
    etag: str
    # By Content-Encoding, smallest first; "" is the file as it is.
    encodings: Mapping[str, bytes]


class StaticFiles:
    """The files of folders as they were at the start, below `<prefix><version>/`; a later folder's files hide an
    earlier one's. One version stands for all of them, so that they may name each other and no cache can mix two."""

    def __init__(self, prefix: str, *folders: Path) -> None:
        self.prefix = prefix
        self._files: dict[str, _File] = {}
        for folder in folders:
            self._files |= _read_folder(folder)
        whole = "\0".join(f"{name}\0{file.etag}" for name, file in sorted(self._files.items()))
        self.version = hashlib.sha256(whole.encode()).hexdigest()[:16]

    @property
    def base(self) -> str:
        """What the paths of all files of the present version begin with."""
        return f"{self.prefix}{self.version}"

    def url(self, name: str) -> str:
        """The path of a file under the present version. Raises: KeyError when there is none."""
        self._files[name]
        return f"{self.base}/{name}"

    def answer(self, path: str, headers: Mapping[str, str]) -> StaticAnswer:
        """Answer a GET of a path below the prefix; names of the request's headers are in lower case.

        Raises: NotFound.
        """
        version, _, name = path.removeprefix(self.prefix).partition("/")
        file = self._files.get(name)
        if file is None:
            raise NotFound("There is no such file.")
        encoding = _choose(file, headers.get("accept-encoding", ""))
        etag = f'"{file.etag}{"-" + encoding if encoding else ""}"'
        common = {
            "Cache-Control": FOR_GOOD if version == self.version else ASK_AGAIN,
            "ETag": etag,
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
            # Overlays are sandboxed, so even ours are foreign to them.
            "Access-Control-Allow-Origin": "*",
        }
        if _matches(etag, headers.get("if-none-match", "")):
            return StaticAnswer(304, common)
        body_of_it = file.encodings[encoding]
        more = {"Content-Type": file.content_type, "Content-Length": str(len(body_of_it))}
        if encoding:
            more["Content-Encoding"] = encoding
        return StaticAnswer(200, {**common, **more}, body_of_it)


@lru_cache
def _read_folder(folder: Path) -> dict[str, _File]:
    """Every file of a folder; modules of one process share the look's."""
    paths = sorted(path for path in folder.rglob("*") if _is_served(path.relative_to(folder)) and path.is_file())
    return {name: _prepare(name, path.read_bytes()) for path in paths if (name := path.relative_to(folder).as_posix())}


def _is_served(path: Path) -> bool:
    """What is beside the files for whoever reads the code is not for browsers."""
    is_ours = path.suffix == ".md" or path.name.startswith("LICENSE")
    return not is_ours and not any(part.startswith((".", "__")) for part in path.parts)


def _prepare(name: str, content: bytes) -> _File:
    suffix = Path(name).suffix.lower()
    content_type = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    found = {"": content}
    if len(content) >= WORTH_COMPRESSING and not content_type.startswith(COMPRESSED_ALREADY):
        found["gzip"] = gzip.compress(content, 9, mtime=0)
        with contextlib.suppress(ImportError):  # An option: without it gzip does.
            found["br"] = importlib.import_module("brotli").compress(content, quality=QUALITY)
    by_size = dict(sorted(found.items(), key=lambda each: len(each[1])))
    return _File(content_type, hashlib.sha256(content).hexdigest()[:24], by_size)


def _choose(file: _File, accept_encoding: str) -> str:
    """The smallest encoding that the client takes."""
    accepted: dict[str, bool] = {}
    for part in accept_encoding.lower().split(","):
        name, _, weight = part.partition(";")
        accepted[name.strip()] = weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return next(each for each in file.encodings if not each or accepted.get(each, accepted.get("*", False)))


def _matches(etag: str, if_none_match: str) -> bool:
    tags = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
