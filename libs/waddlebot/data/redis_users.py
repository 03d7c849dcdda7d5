"""What each kind of process may do at Redis or Valkey: its own keys, and its own invalidations (docs/adr/0064)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from ..base.manifest import Manifest

# Before the name of a cache: each has a channel of its own, so that the server can tell who may empty which.
INVALIDATIONS = "waddlebot:invalidate:"
WAKE = "waddlebot:wake:"
# Nobody of the fleet empties, configures or saves the server, nor lists all keys.
NO_OPERATOR = "-@admin -@dangerous"
DATA = f"-@all +@read +@write +@connection +@transaction +eval +evalsha +script|load +time {NO_OPERATOR}"
# Whoever tries names learns nothing of other keys.
NO_NAMES = "-scan -randomkey -dbsize"
# What collectors may make others forget: what people connect and rename on their platforms.
CHANGED_BY_COLLECTORS = ("servers", "entities", "people", "slack_users")
KEPT_BY_COLLECTORS = ("{limits}", "token", "pause", "actor", "role-cause", "discord", "slack")
SHOWN_BY_HUBS = ("overlay_queues", "overlay_tokens")

RULES = {
    # All modules' HTTP. A module on a port of its own is one of these, too.
    "web": f"+@all {NO_OPERATOR} ~* &*",
    "collectors": " ".join(
        [
            f"{DATA} {NO_NAMES} +publish",
            *(f"~waddlebot:{each}:*" for each in KEPT_BY_COLLECTORS),
            f"&{WAKE}*",
            *(f"&{INVALIDATIONS}{each}" for each in CHANGED_BY_COLLECTORS),
            f"(+subscribe +psubscribe &{WAKE}* &{INVALIDATIONS}*)",
            "+unsubscribe +punsubscribe",
        ]
    ),
    "hub": " ".join(
        [
            f"-@all +@connection {NO_OPERATOR} +set +del +publish ~waddlebot:overlay:hub:* &{WAKE}overlay_playback",
            "+unsubscribe +punsubscribe",
            "(+subscribe +psubscribe &waddlebot:overlay:item:*",
            *(f"&{INVALIDATIONS}{each}" for each in SHOWN_BY_HUBS),
        ]
    )
    + ")",
    "kong": f"{DATA} {NO_NAMES} ~ratelimit:*",
}


def user_of(manifest: Manifest) -> str:
    """Who a module is in a process of its own."""
    return "collectors" if manifest.kind == "collector" else "web"


def make_passwords() -> dict[str, str]:
    return {user: secrets.token_urlsafe(32) for user in RULES}


def users(passwords: Mapping[str, str]) -> Iterator[str]:
    """A line of the server's configuration for each user. Whoever has no name is the operator, who may all."""
    for user, rules in RULES.items():
        yield f"user {user} on >{passwords[user]} {rules}"
