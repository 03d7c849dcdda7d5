"""API keys as texts: how one is made, told from other words, and kept (contracts §4)."""

from __future__ import annotations

import hashlib
import secrets
import string

KEY_LENGTH, MAX_KEY_LENGTH = 64, 128
KEY_ID_LENGTH = 8
ALPHABET = string.ascii_letters + string.digits


def make_key(length: int = KEY_LENGTH) -> tuple[str, str]:
    """A fresh key and its id: `wbot_<id>_<secret>`, 64 to 128 characters in all; 64 are about 297 random bits."""
    key_id = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(KEY_ID_LENGTH))
    head = f"wbot_{key_id}_"
    return key_id, head + "".join(secrets.choice(ALPHABET) for _ in range(length - len(head)))


def is_key(text: str) -> bool:
    """Whether it has a key's form, be it anybody's or not."""
    parts = text.split("_")
    return KEY_LENGTH <= len(text) <= MAX_KEY_LENGTH and len(parts) == 3 and parts[0] == "wbot"


def hash_key(api_key: str) -> str:
    return hashlib.sha256(api_key.encode()).hexdigest()
