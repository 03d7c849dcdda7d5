"""Which tokens open what, as the HTTP side and the hub both ask it. By itself, to keep the hub small."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

WORKS = "is_active AND (expires_at IS NULL OR expires_at > now())"
FIND = (
    "SELECT id AS token_id, community_id FROM browser_source_tokens"
    f" WHERE token_hash = %s AND source_type = %s AND {WORKS}"
)


@dataclass(frozen=True, slots=True)
class Admission:
    """What a token opens."""

    token_id: int
    community_id: int


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
