"""A community's channels: where the bot is heard, since when not, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydal import DAL
from waddlebot.data.database import Database, Prepared, fetch

State = Literal["good", "bad", "wait"]
CONSENT_PATHS = {"twitch": "/twitch/auth", "discord": "/discord/auth", "slack": "/slack/install"}
PLATFORM_NAMES = {"twitch": "Twitch", "discord": "Discord", "slack": "Slack", "console": "Console"}
SHOWN = 200
EVERYWHERE = ("", "Everywhere")

CHANNELS = Prepared(
    "portal_channels",
    """
SELECT e.entity_id, e.platform, e.server_id, e.channel_id, coalesce(nullif(s.name, ''), nullif(e.channel_id, ''),
        e.server_id) AS name,
    s.is_active AS is_served, l.heard_at, l.deaf_since, l.detail, c.status, c.is_live, c.viewer_count, c.claimed_by,
    CASE WHEN e.platform = 'twitch' THEN 1 WHEN e.channel_id = '' THEN 2 ELSE 3 END AS kind
FROM entities e
LEFT JOIN servers s ON (s.platform, s.server_id, s.channel) = (e.platform, e.server_id, e.channel_id)
LEFT JOIN channel_liveness l ON l.entity_id = e.entity_id
LEFT JOIN coordination c ON c.entity_id = e.entity_id
WHERE e.community_id = %(community)s::bigint AND e.is_active
ORDER BY l.deaf_since IS NULL, c.is_live DESC NULLS LAST, e.platform = 'console', kind, name LIMIT %(limit)s::bigint
""",
)
PLACES = Prepared(
    "portal_places",
    """
SELECT e.entity_id, e.platform, coalesce(nullif(s.name, ''), nullif(e.channel_id, ''), e.server_id) AS name
FROM entities e LEFT JOIN servers s ON (s.platform, s.server_id, s.channel) = (e.platform, e.server_id, e.channel_id)
WHERE e.community_id = %(community)s::bigint AND e.is_active ORDER BY e.platform, name LIMIT %(limit)s::bigint
""",
)


@dataclass(frozen=True, slots=True)
class Channel:
    entity_id: str
    platform: str
    name: str
    # What is known of it, in a few words, and how that is to be taken.
    note: str
    state: State
    word: str
    deaf_since: datetime | None


def list_channels(db: DAL, community_id: int, *, limit: int = SHOWN) -> list[Channel]:
    """Where a community's people talk: those in trouble first, then those that are live."""
    return [_channel(row) for row in fetch(db, CHANNELS, {"community": community_id, "limit": limit})]


def _channel(row: dict[str, Any]) -> Channel:
    state, word, note = _state(row)
    name = row["name"] if row["platform"] != "console" else f"#{row['name']}"
    return Channel(row["entity_id"], row["platform"], name, note, state, word, row["deaf_since"])


def _state(row: dict[str, Any]) -> tuple[State, str, str]:
    if row["platform"] == "console":
        return "good", "Open", "The fleet's own chat, for trying things out"
    if row["deaf_since"] is not None:
        return "bad", "Silent", row["detail"] or f"Not heard since {row['deaf_since']:%d %b, %H:%M} UTC"
    if row["is_live"]:
        return "good", "Live", f"{row['viewer_count']:,} watching"
    if row["heard_at"] is not None:
        return "good", "Heard", f"Last heard {ago(row['heard_at'])}"
    return "wait", "Waiting", "Nothing was heard there yet"


def ago(moment: datetime) -> str:
    """How long ago something was, as people say it."""
    passed_s = (datetime.now(UTC) - moment).total_seconds()
    for size_s, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if passed_s >= size_s:
            return f"{int(passed_s // size_s)} {word} ago"
    return "just now"


@dataclass(frozen=True, slots=True)
class ConsentPages:
    """Where each platform's own page for letting the bot in is."""

    urls: Mapping[str, str]

    @classmethod
    def parse(cls, elsewhere: str) -> Self:
        """`elsewhere` names, as `twitch=https://…,…`, who is not at our own address."""
        bases = dict(each.split("=", 1) for each in elsewhere.split(",") if "=" in each)
        return cls({platform: bases.get(platform, "").rstrip("/") + path for platform, path in CONSENT_PATHS.items()})


def list_places(database: Database, community_id: int) -> list[tuple[str, str]]:
    """Where something may hold, for people to choose from: everywhere, or in one channel."""
    with database.reading() as db:
        rows = fetch(db, PLACES, {"community": community_id, "limit": SHOWN})
    return [EVERYWHERE, *((row["entity_id"], f"{row['name']} on {_platform(row['platform'])}") for row in rows)]


def _platform(name: str) -> str:
    return PLATFORM_NAMES.get(name, name.capitalize())
