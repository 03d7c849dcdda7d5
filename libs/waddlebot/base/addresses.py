"""E-mail addresses that somebody gives the bot in chat: they are for the module that is told, and for no record."""

from __future__ import annotations

import re

ADDRESS = re.compile(r"[^\s\"'<>\\@]+@[^\s\"'<>\\@]+")
# The one command that takes an address.
GIVEN = re.compile(r"community\s+portal\s+login\s", re.IGNORECASE)


def mask(address: str) -> str:
    """An address as records may have it."""
    local, _, domain = address.partition("@")
    return f"{local[:1]}…@{domain[:1]}…"


def without_addresses(text: str) -> str:
    """A message, or a record with one in it, as it may be kept."""
    if "@" not in text or not GIVEN.search(text):
        return text
    return ADDRESS.sub(lambda found: mask(found[0]), text)
