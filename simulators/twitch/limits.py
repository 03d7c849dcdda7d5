"""Twitch's limits: Helix by points, chat by messages of an account, and the same words twice.

Source: https://dev.twitch.tv/docs/api/guide/#twitch-rate-limits and https://dev.twitch.tv/docs/chat/#rate-limits
"""

from __future__ import annotations

import math
import time
from collections import deque

POINTS_PER_MIN = 800
CHAT_WINDOW_S = 30.0
CHAT_LIMIT, MODERATOR_LIMIT, VERIFIED_LIMIT = 20, 100, 7500
SAME_WORDS_S = 30.0


class Points:
    """A bucket for each token that fills up again over a minute."""

    def __init__(self) -> None:
        # 0 is no limit.
        self.per_min = POINTS_PER_MIN
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, owner: str) -> tuple[bool, dict[str, str]]:
        """Whether there was a point left, and the headers that tell how many."""
        if not self.per_min:
            return True, {}
        now, refill_s = time.monotonic(), 60 / self.per_min
        left, at = self._buckets.get(owner, (float(self.per_min), now))
        left = min(float(self.per_min), left + (now - at) / refill_s)
        taken = left >= 1
        left -= 1 if taken else 0
        self._buckets[owner] = (left, now)
        full_at = time.time() + (self.per_min - left) * refill_s
        return taken, {
            "Ratelimit-Limit": str(self.per_min),
            "Ratelimit-Remaining": str(int(left)),
            "Ratelimit-Reset": str(math.ceil(full_at if taken else time.time() + refill_s)),
        }

    def clear(self) -> None:
        self._buckets.clear()


class ChatLimits:
    """What one account may say. Nothing is limited until `is_enforced`."""

    def __init__(self) -> None:
        self.is_enforced = False
        self.is_verified = False
        self._sent: dict[str, deque[float]] = {}
        self._words: dict[tuple[str, str], tuple[str, float]] = {}

    def may_send(self, sender_id: str, *, moderates: bool) -> bool:
        """Count a message of an account, in whichever channel, and say whether it is within its limit."""
        if not self.is_enforced:
            return True
        now = time.monotonic()
        sent = self._sent.setdefault(sender_id, deque())
        while sent and sent[0] <= now - CHAT_WINDOW_S:
            sent.popleft()
        limit = VERIFIED_LIMIT if self.is_verified else MODERATOR_LIMIT if moderates else CHAT_LIMIT
        if len(sent) >= limit:
            return False
        sent.append(now)
        return True

    def is_repeated(self, sender_id: str, channel: str, text: str) -> bool:
        """Whether an account said just this here within the last 30 seconds."""
        now = time.monotonic()
        words, at = self._words.get((sender_id, channel), ("", -SAME_WORDS_S))
        if words == text and now - at < SAME_WORDS_S:
            return True
        self._words[sender_id, channel] = (text, now)
        return False

    def clear(self) -> None:
        self._sent.clear()
        self._words.clear()
