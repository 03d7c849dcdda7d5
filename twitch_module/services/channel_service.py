"""What is known of the channels, and of the subscriptions that each has: twitch_channels and twitch_subscriptions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydal import DAL
from waddlebot.base.chat import count_of
from waddlebot.base.errors import NotFound, UpstreamError
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import to_json
from waddlebot.collecting.streams import StreamNews, Streams, forget_stream
from waddlebot.community.tokens import Tokens
from waddlebot.data.database import Database, fetch
from waddlebot.web.lists import Listed, Page, fetch_page

from .subscription_kinds import BY_NAME

# Who has left has at most this many rows looked at in one go.
PURGED_AT_ONCE = 20_000
# The statuses with which Twitch says that a person, not a server, has ended it.
ENDED_BY_PERSON = {
    "authorization_revoked": "they disconnected the bot at Twitch",
    "user_removed": "their account at Twitch is gone",
}
LIST = """
SELECT s.channel AS broadcaster_id, coalesce(nullif(c.display_name, ''), s.name) AS name, c.login,
    m.slug AS community, coalesce(c.is_live, false) AS is_live, coalesce(c.viewer_count, 0) AS viewer_count,
    coalesce(c.title, '') AS title, coalesce(c.game_name, '') AS game_name, c.bot_moderates,
    coalesce(c.trouble, '') AS trouble, c.checked_at,
    CASE t.state WHEN 'ok' THEN 'granted' WHEN 'needs_reauth' THEN 'needs_reauth' ELSE 'none' END AS consent,
    coalesce(t.reason, '') AS consent_reason, coalesce(t.scopes, '{}') AS scopes,
    (SELECT coalesce(json_object_agg(type, CASE reason WHEN '' THEN status ELSE status || ': ' || reason END), '{}')
        FROM twitch_subscriptions b WHERE b.broadcaster_id = s.channel) AS subscriptions,
    count(*) OVER () AS total
FROM servers s JOIN communities m ON m.id = s.community_id
    LEFT JOIN twitch_channels c ON c.broadcaster_id = s.channel
    LEFT JOIN twitch_tokens t ON t.owner_id = s.channel
WHERE s.platform = 'twitch' AND s.is_active AND (%(community)s::bigint IS NULL OR s.community_id = %(community)s)
ORDER BY s.channel LIMIT %(limit)s OFFSET %(offset)s
"""
SAVE = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (broadcaster_id text, type text, version text,
        subscription_id text, transport text, status text, reason text, cost integer, retry_in_s float)
), gone AS (
    DELETE FROM twitch_subscriptions s WHERE broadcaster_id = ANY(%(ids)s)
        AND NOT EXISTS (SELECT FROM given g WHERE (g.broadcaster_id, g.type) = (s.broadcaster_id, s.type))
)
INSERT INTO twitch_subscriptions AS s (broadcaster_id, type, version, subscription_id, transport, status, reason, cost,
    retry_at)
SELECT broadcaster_id, type, version, subscription_id, transport, status, reason, cost,
    now() + retry_in_s * interval '1 second' FROM given ORDER BY broadcaster_id, type
ON CONFLICT (broadcaster_id, type) DO UPDATE SET version = excluded.version,
    subscription_id = excluded.subscription_id, transport = excluded.transport, status = excluded.status,
    reason = excluded.reason, cost = excluded.cost, retry_at = excluded.retry_at, updated_at = now()
WHERE (s.subscription_id, s.status, s.reason, s.cost) IS DISTINCT FROM
    (excluded.subscription_id, excluded.status, excluded.reason, excluded.cost) OR s.retry_at < now()
"""


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """A subscription that a channel wants, and what became of it. `retry_in_s` is for one that is not there."""

    broadcaster_id: str
    type: str
    version: str
    status: str
    transport: str
    subscription_id: str = ""
    reason: str = ""
    cost: int = 0
    retry_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamNow:
    """A live stream, as Helix shows it."""

    broadcaster_id: str
    viewer_count: int
    title: str
    game_name: str
    started_at: str = ""
    picture: str = ""


@dataclass(frozen=True, slots=True)
class ChannelAbout:
    """A channel, as Helix shows it whether it is live or not."""

    broadcaster_id: str
    login: str
    name: str
    title: str
    game_name: str


class ChannelService:
    """Keeps what is known; any replica may write, the tables have no other owner."""

    def __init__(self, db: Database, tokens: Tokens, streams: Streams, log: AAALog) -> None:
        self._db = db
        self._streams = streams
        self._tokens = tokens
        self._log = log

    # What Twitch tells

    def note_stream(self, broadcaster_id: str, *, is_live: bool, started_at: str = "") -> None:
        """A stream began or ended. How many watch it is found out later, by asking."""
        self._streams.note([StreamNews(_entity(broadcaster_id), is_live=is_live, started_at=started_at or None)])
        self._db.statement(
            "UPDATE twitch_channels SET is_live = %(live)s, updated_at = now(),"
            " viewer_count = CASE WHEN %(live)s THEN viewer_count ELSE 0 END"
            " WHERE broadcaster_id = %(id)s AND is_live <> %(live)s",
            {"id": broadcaster_id, "live": is_live},
        )

    def note_channel(self, broadcaster_id: str, *, title: str, game: str) -> None:
        """What a stream is about has changed, also while it is off."""
        self._streams.note([StreamNews(_entity(broadcaster_id), title=title, game=game)])

    def note_follow(self, broadcaster_id: str, user_id: str, followed_at: str) -> None:
        self._streams.note_follow(_entity(broadcaster_id), user_id, followed_at or datetime.now(UTC))

    def save_about(self, channels: Collection[ChannelAbout]) -> None:
        """What channels are about, also those that are off."""
        self._streams.note(
            [
                StreamNews(
                    _entity(each.broadcaster_id),
                    title=each.title,
                    game=each.game_name,
                    name=each.name,
                    url=f"https://www.twitch.tv/{each.login}",
                )
                for each in channels
            ]
        )

    def note_revoked_consent(self, user_id: str, *, sent_at: datetime) -> None:
        self._tokens.refuse(user_id, ENDED_BY_PERSON["authorization_revoked"], known_at=sent_at)
        self.recheck([user_id])

    def note_revoked_subscription(
        self, subscription_id: str, type_: str, broadcaster_id: str, status: str, *, sent_at: datetime
    ) -> None:
        """One has ended at Twitch: have it repaired, or where a person has ended it, say what is missing."""
        rows = self._db.statement(
            "UPDATE twitch_subscriptions SET status = %(status)s, subscription_id = '', retry_at = now(),"
            " updated_at = now() WHERE subscription_id = %(id)s OR (broadcaster_id = %(channel)s AND type = %(type)s)"
            " RETURNING broadcaster_id",
            {"id": subscription_id or "-", "channel": broadcaster_id, "type": type_, "status": status},
        )
        kind = BY_NAME.get(type_)
        if status in ENDED_BY_PERSON and kind is not None and kind.scopes:
            self._tokens.refuse(broadcaster_id, ENDED_BY_PERSON[status], known_at=sent_at)
        self.recheck({broadcaster_id, *(row["broadcaster_id"] for row in rows)})
        self._log.system(
            "subscription_revoked", result="FAILED", subscription=type_, status=status, channel=broadcaster_id
        )

    # Who is looked after

    def open(self, db: DAL, broadcaster_id: str, *, login: str, display_name: str) -> None:
        """Somebody consented, in the caller's transaction. What was wrong with the channel before is forgotten."""
        fetch(
            db,
            "INSERT INTO twitch_channels (broadcaster_id, login, display_name) VALUES (%(id)s, %(login)s, %(name)s)"
            " ON CONFLICT (broadcaster_id) DO UPDATE SET login = excluded.login, display_name = excluded.display_name,"
            " checked_at = NULL, trouble = '', purged_to = NULL, updated_at = now()",
            {"id": broadcaster_id, "login": login, "name": display_name},
        )
        fetch(
            db, "DELETE FROM twitch_subscriptions WHERE broadcaster_id = %s AND subscription_id = ''", (broadcaster_id,)
        )

    def close(self, db: DAL, broadcaster_id: str) -> None:
        """Somebody left, in the caller's transaction: their events are deleted from now on, by and by."""
        fetch(db, "DELETE FROM twitch_subscriptions WHERE broadcaster_id = %s", (broadcaster_id,))
        forget_stream(db, _entity(broadcaster_id))
        fetch(
            db,
            "INSERT INTO twitch_channels (broadcaster_id, purged_to) VALUES (%s, 0)"
            " ON CONFLICT (broadcaster_id) DO UPDATE SET purged_to = 0, is_live = false, updated_at = now()",
            (broadcaster_id,),
        )

    def recheck(self, broadcaster_ids: Collection[str]) -> None:
        """Have the subscriptions of these compared with what they should be, soon."""
        self._db.statement(
            "UPDATE twitch_channels SET checked_at = NULL WHERE broadcaster_id = ANY(%s)", (list(broadcaster_ids),)
        )

    def take_due(self, broadcaster_ids: Collection[str], *, every: timedelta, limit: int) -> list[str]:
        """Those of these channels whose subscriptions are to be looked at; as looked at from now on."""
        rows = self._db.statement(
            "INSERT INTO twitch_channels AS c (broadcaster_id, checked_at)"
            " SELECT id, now() FROM (SELECT id FROM unnest(%(ids)s::text[]) AS id"
            "  WHERE NOT EXISTS (SELECT FROM twitch_channels k WHERE k.broadcaster_id = id"
            "   AND k.checked_at > now() - %(every)s) ORDER BY id LIMIT %(limit)s) AS due"
            " ON CONFLICT (broadcaster_id) DO UPDATE SET checked_at = now() RETURNING broadcaster_id",
            {"ids": list(broadcaster_ids), "every": every, "limit": limit},
        )
        return [row["broadcaster_id"] for row in rows]

    def list_due(self, *, every: timedelta) -> set[str]:
        """Of all known channels, those whose subscriptions are to be looked at."""
        rows = self._db.statement(
            "SELECT broadcaster_id FROM twitch_channels WHERE checked_at IS NULL"
            " UNION ALL SELECT broadcaster_id FROM twitch_channels WHERE checked_at <= now() - %(every)s",
            {"every": every},
        )
        return {row["broadcaster_id"] for row in rows}

    def served_among(self, broadcaster_ids: Collection[str]) -> set[str]:
        rows = self._db.statement(
            "SELECT channel FROM servers WHERE platform = 'twitch' AND is_active AND channel = ANY(%s)",
            (list(broadcaster_ids),),
        )
        return {row["channel"] for row in rows}

    def scopes_of(self, broadcaster_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """What each has consented to, nothing for those who have not, or have taken it back."""
        states = self._tokens.states(broadcaster_ids)
        given = {owner: state.scopes for owner, state in states.items() if not state.needs_reauth}
        return {each: given.get(each, ()) for each in broadcaster_ids}

    # Subscriptions

    def resting(self, broadcaster_ids: Collection[str]) -> dict[tuple[str, str], SubscriptionRow]:
        """The subscriptions that were refused and are not to be tried again yet, by channel and type."""
        rows = self._db.statement(
            "SELECT broadcaster_id, type, version, status, transport, subscription_id, reason, cost,"
            " extract(epoch FROM retry_at - now())::float AS retry_in_s FROM twitch_subscriptions"
            " WHERE broadcaster_id = ANY(%s) AND subscription_id = '' AND retry_at > now()",
            (list(broadcaster_ids),),
        )
        return {(row["broadcaster_id"], row["type"]): SubscriptionRow(**row) for row in rows}

    def save_subscriptions(self, broadcaster_ids: Collection[str], rows: Collection[SubscriptionRow]) -> None:
        """These are all that these channels have and want."""
        self._db.statement(SAVE, {"ids": list(broadcaster_ids), "rows": to_json([asdict(each) for each in rows])})

    def forget_subscription(self, subscription_id: str) -> None:
        self._db.statement("DELETE FROM twitch_subscriptions WHERE subscription_id = %s", (subscription_id,))

    def note_trouble(self, troubles: dict[str, str]) -> None:
        """What is wrong with each of these channels, in words; empty for nothing."""
        self._db.statement(
            "UPDATE twitch_channels c SET trouble = g.value, updated_at = now() FROM jsonb_each_text(%s::jsonb) AS g"
            " WHERE c.broadcaster_id = g.key AND c.trouble <> g.value",
            (to_json(troubles),),
        )

    def note_moderator(self, broadcaster_id: str, *, bot_moderates: bool) -> None:
        self._db.statement(
            "UPDATE twitch_channels SET bot_moderates = %(it)s, updated_at = now()"
            " WHERE broadcaster_id = %(id)s AND bot_moderates IS DISTINCT FROM %(it)s",
            {"id": broadcaster_id, "it": bot_moderates},
        )

    def bot_moderates(self, broadcaster_id: str) -> bool:
        """Whether the bot is known to be a moderator there."""
        rows = self._db.statement(
            "SELECT bot_moderates FROM twitch_channels WHERE broadcaster_id = %s", (broadcaster_id,)
        )
        return bool(rows and rows[0]["bot_moderates"])

    # Streams

    def save_streams(self, asked: Collection[str], live: Collection[StreamNow]) -> None:
        """Which of the channels that were asked about are live, and how many watch."""
        self._note_streams(asked, live)
        self._db.statement(
            "UPDATE twitch_channels c SET is_live = s.id IS NOT NULL, viewer_count = coalesce(s.viewer_count, 0),"
            " title = coalesce(s.title, c.title), game_name = coalesce(s.game_name, c.game_name), updated_at = now()"
            " FROM unnest(%(asked)s::text[]) AS a LEFT JOIN jsonb_to_recordset(%(live)s::jsonb)"
            "  AS s (id text, viewer_count integer, title text, game_name text) ON s.id = a"
            " WHERE c.broadcaster_id = a AND (c.is_live, c.viewer_count, c.title, c.game_name) IS DISTINCT FROM"
            "  (s.id IS NOT NULL, coalesce(s.viewer_count, 0), coalesce(s.title, c.title),"
            "   coalesce(s.game_name, c.game_name))",
            {
                "asked": list(asked),
                "live": to_json(
                    [
                        {
                            "id": each.broadcaster_id,
                            "viewer_count": each.viewer_count,
                            "title": each.title,
                            "game_name": each.game_name,
                        }
                        for each in live
                    ]
                ),
            },
        )

    def _note_streams(self, asked: Collection[str], live: Collection[StreamNow]) -> None:
        on = {each.broadcaster_id: each for each in live}
        self._streams.note(
            [StreamNews(_entity(each), is_live=False) for each in asked if each not in on]
            + [
                StreamNews(
                    _entity(each.broadcaster_id),
                    is_live=True,
                    started_at=each.started_at or None,
                    title=each.title,
                    game=each.game_name,
                    viewers=each.viewer_count,
                    picture=each.picture,
                )
                for each in live
            ]
        )

    def streams(self, broadcaster_ids: Collection[str], *, changed_within: timedelta) -> dict[str, tuple[bool, int]]:
        """Whether each of these is live, and how many watch; and the same of whatever has changed so lately."""
        rows = self._db.statement(
            "SELECT broadcaster_id, is_live, viewer_count FROM twitch_channels WHERE updated_at > now() - %(within)s"
            " UNION SELECT broadcaster_id, is_live, viewer_count FROM twitch_channels"
            "  WHERE broadcaster_id = ANY(%(ids)s)",
            {"ids": list(broadcaster_ids), "within": changed_within},
        )
        return {row["broadcaster_id"]: (row["is_live"], row["viewer_count"]) for row in rows}

    # For people

    def list_channels(self, page: Page, *, community_id: int | None) -> Listed[dict[str, Any]]:
        """The channels that are served, with what is missing in each; of one community if it is named."""
        return fetch_page(self._db.statement, LIST, {"community": community_id}, page)

    def get_subscribed(self, subscription_id: str) -> str:
        """The channel that a subscription is for. Raises: NotFound."""
        rows = self._db.statement(
            "SELECT broadcaster_id FROM twitch_subscriptions WHERE subscription_id = %s", (subscription_id,)
        )
        if not rows:
            raise NotFound(f"There is no subscription {subscription_id[:64]}.")
        return str(rows[0]["broadcaster_id"])

    def check(self) -> str:
        """Raises: UpstreamError while a channel's chat cannot be heard, with how many and which first."""
        rows = self._db.statement(
            "SELECT count(*) AS n, min(coalesce(nullif(display_name, ''), broadcaster_id) || ': ' || trouble) AS first"
            " FROM twitch_channels c WHERE trouble <> '' AND EXISTS (SELECT FROM servers s"
            "  WHERE s.platform = 'twitch' AND s.channel = c.broadcaster_id AND s.is_active)"
        )
        if rows[0]["n"]:
            raise UpstreamError(f"{count_of(rows[0]['n'], 'chat')} that cannot be heard", names=rows[0]["first"])
        return "no trouble"

    def purge(self) -> bool:
        """Delete some more of the events of somebody who left. True when there may be more."""
        rows = self._db.statement(
            "WITH leaver AS (SELECT broadcaster_id, purged_to, (SELECT max(id) FROM ("
            "   SELECT id FROM twitch_events WHERE id > purged_to ORDER BY id LIMIT %(limit)s) AS next) AS upto"
            "  FROM twitch_channels WHERE purged_to IS NOT NULL LIMIT 1),"
            " gone AS (DELETE FROM twitch_events e USING leaver l WHERE e.id > l.purged_to AND e.id <= l.upto"
            "  AND e.broadcaster_id = l.broadcaster_id),"
            " done AS (DELETE FROM twitch_channels c USING leaver l"
            "  WHERE c.broadcaster_id = l.broadcaster_id AND l.upto IS NULL)"
            " UPDATE twitch_channels c SET purged_to = l.upto FROM leaver l"
            " WHERE c.broadcaster_id = l.broadcaster_id AND l.upto IS NOT NULL RETURNING 1 AS again",
            {"limit": PURGED_AT_ONCE},
        )
        return bool(rows)


def _entity(broadcaster_id: str) -> str:
    return f"twitch::{broadcaster_id}"
