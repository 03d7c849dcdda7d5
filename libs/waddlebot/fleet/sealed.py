"""A file that only a passphrase opens: AES-256-GCM in pieces, each of which says its place and whether it is the last,
so that nothing can be cut off, left out or swapped unseen. The key is scrypt's of the passphrase."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
from collections.abc import Iterator
from typing import IO, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ..base.errors import ConfigError

MAGIC = b"WADDLEBOT BACKUP 1\n"
PIECE_BYTES = 1 << 20
TAG_BYTES = 16
# 128 MB and about half a second: RFC 7914 recommends 2^20 for files; 2^17 runs on small machines too.
SCRYPT_N = 1 << 17
MAX_SCRYPT_N = 1 << 20
MIN_PASSPHRASE_CHARS = 8


class Sealing(io.RawIOBase):
    """Writes what it is given, sealed, to a file. Close it, or the file is not whole."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        if len(passphrase) < MIN_PASSPHRASE_CHARS:
            raise ConfigError(f"A backup has keys in it; give it a passphrase of {MIN_PASSPHRASE_CHARS} or more.")
        salt = os.urandom(16)
        self._head = (
            MAGIC + json.dumps({"scrypt_n": SCRYPT_N, "salt": base64.b64encode(salt).decode()}).encode() + b"\n"
        )
        self._key = _key(passphrase, salt, SCRYPT_N)
        self._file = file
        self._waiting = bytearray()
        self._place = 0
        file.write(self._head)

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._waiting += content
        while len(self._waiting) > PIECE_BYTES:
            self._seal(bytes(self._waiting[:PIECE_BYTES]), is_last=False)
            del self._waiting[:PIECE_BYTES]
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._seal(bytes(self._waiting), is_last=True)
        super().close()

    def _seal(self, piece: bytes, *, is_last: bool) -> None:
        sealed = self._key.encrypt(_nonce(self._place, is_last=is_last), piece, self._head)
        self._file.write(struct.pack(">?I", is_last, len(sealed)) + sealed)
        self._place += 1


def opened(file: IO[bytes], passphrase: str) -> Iterator[bytes]:
    """What was sealed, piece by piece. Raises: ConfigError for another passphrase, and for a file that is not whole."""
    head = file.readline(64) + file.readline(1024)
    try:
        if not head.startswith(MAGIC):
            raise ValueError("no backup")
        said = json.loads(head[len(MAGIC) :])
        salt, n = base64.b64decode(said["salt"]), int(said["scrypt_n"])
        if not 2 <= n <= MAX_SCRYPT_N:
            raise ValueError("too much work")
        key = _key(passphrase, salt, n)
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError("That is not a backup of WaddleBot's.") from err
    place, is_last = 0, False
    while not is_last:
        lead = file.read(5)
        if len(lead) < 5:
            raise ConfigError("The backup is not whole: its end is missing.")
        is_last, length = struct.unpack(">?I", lead)
        sealed = file.read(min(length, PIECE_BYTES + TAG_BYTES))
        try:
            yield key.decrypt(_nonce(place, is_last=is_last), sealed, head)
        except InvalidTag as err:
            why = "The backup is damaged." if place else "That passphrase does not open it, or the backup is damaged."
            raise ConfigError(why) from err
        place += 1


def _key(passphrase: str, salt: bytes, n: int) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=n, r=8, p=1).derive(passphrase.encode()))


def _nonce(place: int, *, is_last: bool) -> bytes:
    # A key is used for one file, so a count is a nonce.
    return struct.pack(">IQ", is_last, place)
