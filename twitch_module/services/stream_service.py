"""What moderators change of a stream from chat, as its broadcaster: title, category, clips and markers; and since when
somebody follows.

Source: https://dev.twitch.tv/docs/api/reference/#modify-channel-information and its neighbours
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydal import DAL
from waddlebot.base.encryption import CannotOpen
from waddlebot.base.errors import Refused, UserError
from waddlebot.base.text import fold
from waddlebot.collecting.streams import StreamNews, Streams
from waddlebot.community.tokens import NeedsReauth, NoToken
from waddlebot.data.database import fetch, fetch_one

from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from waddlebot.web.helix_client import HelixClient

T = TypeVar("T")

MAX_TITLE_CHARS = 140
MAX_MARKER_CHARS = 140
CATEGORIES_LOOKED_AT = 20
FOLLOWS_AT_ONCE = 20
# The channel that somebody writes in, if it is one; elsewhere the community's, the one that is live first.
CHANNEL = """
SELECT e.entity_id, e.channel_id, coalesce(nullif(s.name, ''), nullif(v.name, ''), e.channel_id) AS name,
    row_to_json(s) AS stream
FROM entities e LEFT JOIN streams s USING (entity_id)
    LEFT JOIN servers v ON v.platform = 'twitch' AND v.channel = e.channel_id AND v.server_id = e.server_id
WHERE e.platform = 'twitch' AND e.community_id = %(community)s AND e.is_active
ORDER BY e.entity_id = %(entity)s DESC, s.is_live DESC NULLS LAST, s.started_at DESC NULLS LAST, e.id LIMIT 1
"""


class NoChannel(UserError):
    """This community has no Twitch channel here: its streamer lets the bot in at /twitch/auth."""

    code = "no_twitch_channel"


class NotGranted(UserError):
    """The streamer has to let the bot do that first."""

    code = "not_granted"


class NotLive(UserError):
    """That is for when the stream is on."""

    code = "not_live"


@dataclass(frozen=True, slots=True)
class Channel:
    entity_id: str
    id: str
    name: str
    # What is known of its stream; empty where nothing is.
    stream: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Category:
    id: str
    name: str


def get_channel(db: DAL, community_id: int, entity_id: str) -> Channel:
    """The Twitch channel that somebody means. Raises: NoChannel."""
    row = fetch_one(db, CHANNEL, {"community": community_id, "entity": entity_id})
    if row is None:
        raise NoChannel()
    return Channel(row["entity_id"], row["channel_id"], row["name"], row["stream"] or {})


def find_twitch_id(db: DAL, ids: Sequence[int]) -> str | None:
    """Somebody's id at Twitch, of any of their linked accounts."""
    rows = fetch(
        db,
        "SELECT platform_user_id FROM platform_identities WHERE platform = 'twitch' AND user_id = ANY(%s) ORDER BY id",
        (list(ids),),
    )
    return rows[0]["platform_user_id"] if rows else None


class StreamService:
    """Each method asks Twitch once. Raises: NotGranted; Refused; Away; Later; Unclear."""

    def __init__(self, api: TwitchAPI, streams: Streams, *, consent_url: str) -> None:
        self._api = api
        self._streams = streams
        self._consent_url = consent_url

    def set_title(self, channel: Channel, title: str) -> None:
        self._as_broadcaster(channel, lambda client: client.modify_channel_information(channel.id, title=title))
        self._streams.note([StreamNews(channel.entity_id, title=title)])

    def set_category(self, channel: Channel, category: Category) -> None:
        self._as_broadcaster(channel, lambda client: client.modify_channel_information(channel.id, game_id=category.id))
        self._streams.note([StreamNews(channel.entity_id, game=category.name)])

    def find_categories(self, words: str) -> list[Category]:
        """Those that Twitch finds by words: one of just that name first, then those that begin so."""

        async def ask(client: HelixClient) -> list[Category]:
            found = client.search_categories(words, first=CATEGORIES_LOOKED_AT)
            return [Category(each.id, each.name) async for each in found][:CATEGORIES_LOOKED_AT]

        wanted = fold(words)
        found = self._api.run(self._api.as_app(ask))
        return sorted(found, key=lambda each: (fold(each.name) != wanted, not fold(each.name).startswith(wanted)))

    def clip(self, channel: Channel) -> str:
        """Make a clip of the last half minute, and return where it is. Raises: NotLive."""
        made = self._as_broadcaster(channel, lambda client: client.create_clip(channel.id))
        return f"https://clips.twitch.tv/{made.id}"

    def mark(self, channel: Channel, description: str) -> int:
        """Put a marker where the stream is now, and return how many seconds into it that is. Raises: NotLive."""
        made = self._as_broadcaster(
            channel, lambda client: client.create_stream_marker(channel.id, description or None)
        )
        return int(made.position_seconds)

    def followed_at(self, channel: Channel, user_id: str) -> datetime | None:
        """Since when somebody follows; None: they do not."""

        async def ask(client: HelixClient) -> datetime | None:
            found = await client.get_channel_followers(channel.id, user_id=user_id)
            return next((each.followed_at for each in found.data), None)

        since = self._as_broadcaster(channel, ask)
        self._streams.note_follow(channel.entity_id, user_id, since)
        return since

    def find_out_follows(self, entity_ids: Sequence[str]) -> bool:
        """Ask of whom somebody wants to know since when they follow. True when there may be more."""
        wanted = self._streams.wanted_follows(entity_ids, limit=FOLLOWS_AT_ONCE)
        for entity_id, user_id in wanted:
            channel = Channel(entity_id, entity_id.rpartition(":")[2], "", {})
            try:
                self.followed_at(channel, user_id)
            except (NotGranted, Refused):
                self._streams.note_follow(entity_id, user_id, None)
        return len(wanted) == FOLLOWS_AT_ONCE

    def _as_broadcaster(self, channel: Channel, call: Callable[[HelixClient], Awaitable[T]]) -> T:
        try:
            return self._api.run(self._api.as_user(channel.id, call))
        except (NoToken, NeedsReauth, CannotOpen) as err:
            raise self._not_granted(channel, err.message) from err
        except Refused as err:
            if "scope" in err.words.lower() or err.status == 401:
                raise self._not_granted(channel, err.words or err.message) from err
            if err.status == 404:
                raise NotLive() from err
            raise

    def _not_granted(self, channel: Channel, why: str) -> NotGranted:
        who = channel.name or channel.id
        return NotGranted(f"{who} has to let the bot do that first, at {self._consent_url} ({why[:120].rstrip('.')}).")
