"""Live notices: chosen channels are told when a stream begins, and when it ends (contracts §7).

A step looks at what collectors know of streams. That it was told is a row of its own, unique by notice and stream and
written with the outbox, so that no replica tells twice and none forgets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydal import DAL
from waddlebot.base.chat import neutralise
from waddlebot.base.contracts import Announced, Event, MessageType
from waddlebot.base.errors import Conflict, Invalid, NotFound
from waddlebot.base.markup import as_written
from waddlebot.base.variables import ANYWHERE, OF_A_STREAM, lasted
from waddlebot.collecting.streams import StreamNews, Streams
from waddlebot.data.database import Database, fetch, fetch_one

from .announcement_service import fill_in, say_in
from .community_rows import CommunityRows, check_channel

MAX_NOTICES = 50
STEP_S = 2.0
# What was on before anybody wanted to be told, or while nothing ran, is no news after so long.
NEWS_FOR = "1 hour"
# A stream that breaks off and comes back within so long has not ended.
ENDED_FOR = "1 minute"
# Twitch tells the title apart from the beginning; so long it is waited for.
TITLE_WITHIN = "75 seconds"
MAX_TOLD = 50
# Where a message can have a card with a picture, and be edited when the stream is off.
HAS_CARDS = ("discord", "slack")
WEB_ADDRESS = re.compile(r"https?://[^\s<>|]+")
PICTURE_SIZE = {"{width}": "1280", "{height}": "720"}
# What a notice's text may say, beside {url} and {picture}.
IN_NOTICES = ANYWHERE | OF_A_STREAM
OWN = ("url", "picture")
COLUMNS = ("entity_id", "stream_entity_id", "message", "end_message", "is_active")
SHOWN = f"id, community_id, {', '.join(COLUMNS)}"
# Before whoever holds the channel reports it.
IS_LIVE = """
UPDATE coordination SET is_live = %(live)s, live_since = CASE WHEN %(live)s THEN now() END,
    status = CASE WHEN claimed_by IS NULL THEN status WHEN %(live)s THEN 'live' ELSE 'offline' END, updated_at = now()
WHERE entity_id = %(entity)s AND is_live <> %(live)s RETURNING entity_id
"""
BEGAN = f"""
SELECT n.id, n.community_id, n.entity_id, e.platform, n.message, row_to_json(s) AS stream
FROM streams s JOIN entities se ON se.entity_id = s.entity_id AND se.is_active
    JOIN live_notices n ON n.community_id = se.community_id AND n.is_active
        AND coalesce(n.stream_entity_id, s.entity_id) = s.entity_id
    JOIN entities e ON e.entity_id = n.entity_id AND e.is_active AND e.community_id = n.community_id
WHERE s.is_live AND n.entity_id <> s.entity_id AND s.started_at > now() - interval '{NEWS_FOR}'
    AND (s.title <> '' OR s.started_at < now() - interval '{TITLE_WITHIN}')
    AND NOT EXISTS (SELECT FROM live_notices_told t WHERE t.live_notice_id = n.id
        AND t.stream_entity_id = s.entity_id AND (t.started_at = s.started_at OR t.ended_at IS NULL))
ORDER BY n.id LIMIT {MAX_TOLD}
"""
ENDED = f"""
SELECT t.id AS told_id, n.id, n.community_id, n.entity_id, e.platform, n.end_message AS message,
    row_to_json(s) AS stream,
    (SELECT o.detail FROM outbox o WHERE o.id = t.outbox_id AND o.state = 'sent') AS message_id
FROM live_notices_told t JOIN live_notices n ON n.id = t.live_notice_id
    JOIN streams s ON s.entity_id = t.stream_entity_id
    JOIN entities e ON e.entity_id = n.entity_id
WHERE t.ended_at IS NULL AND NOT s.is_live AND s.updated_at < now() - interval '{ENDED_FOR}'
ORDER BY t.id LIMIT {MAX_TOLD}
"""


class UnknownNotice(NotFound):
    """There is no such live notice."""

    code = "unknown_live_notice"


class NoticeExists(Conflict):
    """That channel is told of that stream already."""

    code = "live_notice_exists"


class TooManyNotices(Conflict):
    """A community has at most 50 live notices. Remove one first."""

    code = "too_many_live_notices"


def _check(db: DAL, community_id: int, values: dict[str, Any]) -> dict[str, Any]:
    if values["entity_id"] == values["stream_entity_id"]:
        raise Invalid("Who is in a stream's own channel knows that it is on. Choose another one.", field="entity_id")
    check_channel(db, community_id, values["entity_id"])
    check_channel(db, community_id, values["stream_entity_id"], field="stream_entity_id")
    return values


NOTICES = CommunityRows(
    "live notice",
    "live_notices",
    "live-notices",
    columns=COLUMNS,
    shown=SHOWN,
    unique=("entity_id", "stream_entity_id"),
    maximum=MAX_NOTICES,
    unknown=UnknownNotice,
    exists=NoticeExists,
    too_many=TooManyNotices,
    check=_check,
)


class LiveNoticeService:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._streams = Streams(db)

    def note_event(self, event: Event, entity_id: str) -> bool:
        """A collector tells of a stream by an event: what of it is known now is known to all. True if it was one."""
        if event.message_type not in (MessageType.STREAM_ONLINE, MessageType.STREAM_OFFLINE):
            return False
        is_live, data = event.message_type is MessageType.STREAM_ONLINE, event.data
        started = _text(data, "started_at") or (event.occurred_at or datetime.now(UTC)).isoformat()
        viewers = data.get("viewers")
        news = StreamNews(
            entity_id,
            is_live=is_live,
            started_at=_as_time(started) if is_live else None,
            title=_text(data, "title"),
            game=_text(data, "game"),
            viewers=viewers if isinstance(viewers, int) and 0 <= viewers < 2**31 else None,
            picture=_text(data, "picture"),
            url=_text(data, "url"),
            name=event.user.shown_name if event.user.display_name or event.user.name else None,
        )
        self._streams.note([news])
        self._db.statement(IS_LIVE, {"entity": entity_id, "live": is_live})
        return True

    def step(self) -> bool:
        """Tell of what began and what ended. True when there may be more."""
        with self._db.transaction() as db:
            turn = fetch_one(db, "SELECT pg_try_advisory_xact_lock(hashtext('live-notices'), 0) AS ours")
            if turn is None or not turn["ours"]:
                return False
            began, ended = fetch(db, BEGAN), fetch(db, ENDED)
            for notice in began:
                _tell_beginning(db, notice)
            for notice in ended:
                _tell_end(db, notice)
        return len(began) == MAX_TOLD or len(ended) == MAX_TOLD


def _tell_beginning(db: DAL, notice: dict[str, Any]) -> None:
    stream = notice["stream"]
    told = fetch_one(
        db,
        "INSERT INTO live_notices_told (live_notice_id, stream_entity_id, started_at) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING id",
        (notice["id"], stream["entity_id"], stream["started_at"]),
    )
    if told is not None:
        said = _say(db, f"live:{told['id']}", notice, _card(notice))
        fetch(db, "UPDATE live_notices_told SET outbox_id = %s WHERE id = %s", (said.outbox_ids[0], told["id"]))


def _tell_end(db: DAL, notice: dict[str, Any]) -> None:
    fetch(db, "UPDATE live_notices_told SET ended_at = now() WHERE id = %s", (notice["told_id"],))
    if notice["message"].strip():
        edits = {"edits": notice["message_id"]} if notice["message_id"] else {}
        _say(db, f"live-end:{notice['told_id']}", notice, {**_card(notice), **edits})


def _say(db: DAL, announcement_id: str, notice: dict[str, Any], more: Mapping[str, Any]) -> Announced:
    place = {"entity_id": notice["entity_id"], "platform": notice["platform"]}
    more = more if notice["platform"] in HAS_CARDS else {}
    return say_in(db, announcement_id, notice["community_id"], [place], [_said(db, notice)], more=more)


def _card(notice: dict[str, Any]) -> dict[str, Any]:
    """What stands below the text: the stream's title as a link, and a picture of it while it is on."""
    stream, values = notice["stream"], _values(notice)
    title, game = (as_written(stream[name], notice["platform"]) for name in ("title", "game"))
    card = {"title": title or values["channel"], "text": game, "url": _address(stream["url"])}
    if stream["is_live"] and _address(values["picture"]):
        # Discord and Slack keep a picture by its address, and Twitch has one address for all streams of a channel.
        since = datetime.fromisoformat(stream["started_at"])
        card["image"] = f"{values['picture']}{'&' if '?' in values['picture'] else '?'}at={since.timestamp():.0f}"
    return {"card": card}


def _address(text: str) -> str:
    return text if WEB_ADDRESS.fullmatch(text) else ""


def _said(db: DAL, notice: dict[str, Any]) -> str:
    """A notice's text, about its stream and not the channel that is told."""
    values = _values(notice)
    if notice["entity_id"].startswith("discord:"):
        # In these brackets an address gets no card of its own.
        values |= {name: f"<{values[name]}>" for name in OWN if _address(values[name])}
    return " ".join(fill_in(db, notice["message"], notice["community_id"], notice["entity_id"], values).split())


def _values(notice: dict[str, Any]) -> dict[str, str]:
    stream = notice["stream"]
    picture = stream["picture"]
    for name, size in PICTURE_SIZE.items():
        picture = picture.replace(name, size)
    end = datetime.now(UTC) if stream["is_live"] else datetime.fromisoformat(stream["updated_at"])
    since = stream["started_at"] and datetime.fromisoformat(stream["started_at"])
    return {
        "channel": stream["name"] or stream["entity_id"].rpartition(":")[2],
        "title": stream["title"] or "no title",
        "game": stream["game"] or "no category",
        "viewers": str(stream["viewers"]),
        "uptime": lasted(end - since) if since else "a while",
        "url": stream["url"],
        "picture": picture,
    }


def preview(db: DAL, community_id: int, message: str, entity_id: str) -> str:
    """What would be told now, of the stream that was on last. Raises: NotFound for a channel of somebody else's."""
    check_channel(db, community_id, entity_id)
    row = fetch_one(
        db,
        "SELECT row_to_json(s) AS stream FROM streams s JOIN entities e USING (entity_id) WHERE e.community_id = %s"
        " ORDER BY s.is_live DESC, s.started_at DESC NULLS LAST LIMIT 1",
        (community_id,),
    )
    stream = row["stream"] if row else EXAMPLE
    notice = {"stream": stream, "message": message, "community_id": community_id, "entity_id": entity_id}
    return neutralise(_said(db, notice))


EXAMPLE = {
    "entity_id": "twitch::example",
    "name": "Your channel",
    "title": "its title",
    "game": "its category",
    "viewers": 0,
    "picture": "https://…/picture.jpg",
    "url": "https://www.twitch.tv/…",
    "is_live": True,
    "started_at": None,
    "updated_at": None,
}


def get_notice(db: DAL, community_id: int, entity_id: str) -> dict[str, Any]:
    """The notice of a channel, held until the transaction ends. Raises: UnknownNotice."""
    row = NOTICES.find(db, community_id, "entity_id", entity_id)
    if row is None:
        raise UnknownNotice("Nothing is told of streams here.")
    return row


def _text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return value[:1000] if isinstance(value, str) and value else None


def _as_time(text: str) -> str:
    """A time as it was told, or this moment for what is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = datetime.now(UTC)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
