"""Which tokens open what, as the HTTP side and the hub both ask it. By itself, to keep the hub small."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

WORKS = "is_active AND (expires_at IS NULL OR expires_at > now())"
FIND = (
    "SELECT id AS token_id, community_id, is_preview FROM browser_source_tokens"
    f" WHERE token_hash = %s AND source_type IN (%s, 'all') AND {WORKS}"
)


@dataclass(frozen=True, slots=True)
class Admission:
    """What a token opens. A preview shows the same, and what becomes of it there counts nowhere."""

    token_id: int
    community_id: int
    is_preview: bool = False


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
