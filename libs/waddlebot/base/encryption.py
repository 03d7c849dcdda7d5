"""Secrets at rest: sealed with AES-GCM under WADDLEBOT_ENCRYPTION_KEYS, each with the id of its key for rotation."""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import ConfigError, NotConfigured, WaddleBotError
from .settings import Settings

KEY_BYTES = 32
NONCE_BYTES = 12


class CannotOpen(WaddleBotError):
    """A stored secret cannot be read: its key is not in WADDLEBOT_ENCRYPTION_KEYS, or it was put somewhere else."""

    code = "cannot_open"


class Keyring:
    """Seals with the first key and opens with any of them, so a new key is put first and the old ones kept.

    `purpose` says what a secret is of, such as `overlay:12:ticker`. It is authenticated, not stored: a sealed secret
    that was copied into another row does not open there.
    """

    def __init__(self, settings: Settings) -> None:
        secret = settings.encryption_keys
        self._keys = _read_keys(secret.get_secret_value()) if secret else {}

    @property
    def can_seal(self) -> bool:
        return bool(self._keys)

    def seal(self, secret: str, *, purpose: str) -> str:
        """Raises: NotConfigured without any key."""
        if not self._keys:
            raise NotConfigured("WADDLEBOT_ENCRYPTION_KEYS is not set, so this secret cannot be kept.")
        key_id, key = next(iter(self._keys.items()))
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + key.encrypt(nonce, secret.encode(), purpose.encode())
        return f"{key_id}:{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, *, purpose: str) -> str:
        """Raises: CannotOpen."""
        key_id, _, text = sealed.partition(":")
        key = self._keys.get(key_id)
        if key is None:
            raise CannotOpen()
        try:
            raw = base64.b64decode(text, validate=True)
            return key.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as err:
            raise CannotOpen() from err


def _read_keys(text: str) -> dict[str, AESGCM]:
    keys: dict[str, AESGCM] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        key_id, _, encoded = entry.partition(":")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raw = b""
        if not key_id or len(raw) != KEY_BYTES or key_id in keys:
            raise ConfigError("WADDLEBOT_ENCRYPTION_KEYS: each entry is id:base64 of 32 bytes, its id used once.")
        keys[key_id] = AESGCM(raw)
    return keys
