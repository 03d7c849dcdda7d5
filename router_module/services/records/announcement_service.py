"""What modules say unasked (contracts §5): in the channels that want it, on overlays, or to the owner alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydal import DAL
from waddlebot.base import variables
from waddlebot.base.chat import neutralise, shorten
from waddlebot.base.contracts import (
    CONSOLE,
    MAX_MESSAGE_CHARS,
    OVERLAY_SOURCES,
    RESPONSE_DATA,
    Announced,
    Announcement,
    ChatData,
    ModuleResponse,
)
from waddlebot.base.errors import Invalid, NotAllowed, RateLimited
from waddlebot.base.ids import new_id, parse_entity_id
from waddlebot.base.manifest import find_manifest
from waddlebot.base.markup import chat_data
from waddlebot.community.communities import community_of
from waddlebot.community.live import Spot, look_up
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.data.outbox import ANNOUNCED, OUTBOX_CHANNEL, TO_OVERLAYS, USEFUL_FOR
from waddlebot.data.ratelimit import Limit, RateLimiter, Request
from waddlebot.web.auth import Account
from waddlebot.web.lists import Page, fetch_page, list_answer

from ..catalogue.cache_manager import CacheManager, UnknownEntity
from ..rules.quoted import has_quotes, is_against_rules, within_rules
from ..rules.rule_book import RuleBook

A_MINUTE = 30
# Where a community's people expect a bot to speak up. Elsewhere a channel is a place of work until its owner says so.
SPEAKS_UP_ON = (CONSOLE, "twitch")
# What an owner set for module `router`: a channel's own word counts first; `false` for the community silences the rest.
CHANNELS = """
SELECT e.entity_id, e.platform FROM entities e
    LEFT JOIN module_switches here ON here.community_id = e.community_id AND here.module_name = 'router'
        AND here.entity_id = e.entity_id
    LEFT JOIN module_switches everywhere ON everywhere.community_id = e.community_id
        AND everywhere.module_name = 'router' AND everywhere.entity_id IS NULL
WHERE e.community_id = %(community)s AND e.is_active AND (%(entity)s::text IS NULL OR e.entity_id = %(entity)s)
    AND (%(platforms)s::text[] = '{}' OR e.platform = ANY(%(platforms)s))
    AND CASE WHEN jsonb_typeof(here.config->'announce') = 'boolean' THEN here.config->'announce' = 'true'
        ELSE e.platform = ANY(%(speaks_up_on)s) AND coalesce(everywhere.config->'announce' <> 'false', true) END
ORDER BY e.id
"""
PUT_INTO_OUTBOX = """
INSERT INTO outbox (platform, event_id, ordinal, session_id, entity_id, community_id, module_name, response_action,
    response_data, expires_at)
SELECT platform, %(event)s, ordinal, %(session)s::uuid, entity_id, %(community)s, %(module)s, response_action,
    response_data, now() + %(useful_for)s
FROM jsonb_to_recordset(%(said)s::jsonb) AS s (platform text, ordinal integer, entity_id text, response_action text,
    response_data jsonb)
ORDER BY ordinal RETURNING id, pg_notify(%(channel)s, platform)
"""


class ModuleOff(NotAllowed):
    """This module is not switched on there."""

    code = "module_off"


class TooManyAnnouncements(RateLimited):
    """A module announces 30 times a minute in a community at most."""


NOTHING = ModuleResponse(response_action="chat", response_data={"message": "-"})


@dataclass(frozen=True, slots=True)
class _Place:
    community_id: int
    entity_id: str | None


class AnnouncementService:
    def __init__(self, db: Database, lookups: CacheManager, limiter: RateLimiter, book: RuleBook) -> None:
        self._db = db
        self._lookups = lookups
        self._limiter = limiter
        self._book = book

    def announce(self, said: Announcement, caller: Account) -> Announced:
        """Have something said once. The same id again says what came of it the first time.

        Raises: NotAllowed, also ModuleOff; NotFound; Invalid; TooManyAnnouncements; pydantic.ValidationError for bad
        response data.
        """
        module = _module_of(said, caller)
        responses = _checked(said)
        with self._db.transaction() as db:
            place = _place_of(db, said, caller)
            known = _find(db, module, said.announcement_id)
            channels = (
                []
                if known
                else list_channels(db, place.community_id, entity_id=place.entity_id, platforms=caller.platforms)
            )
        if known:
            return known
        if has_quotes(module):
            responses = within_rules(responses, lambda text: self._breaks(place, text))
        is_on = self._switch_of(module, place.community_id)
        channels = [each for each in channels if is_on(each["entity_id"])]
        if not channels and not is_on(place.entity_id):
            raise ModuleOff(f"{module} is not switched on there.")
        self._check_pace(module, place.community_id, said.announcement_id)
        rows = list(outbox_rows(responses, channels, shows_overlays=is_on(place.entity_id)))
        with self._db.transaction() as db:
            return keep_announcement(db, said, module, place.community_id, rows, responses)

    def list_notices(self, community_id: int, page: Page) -> dict[str, Any]:
        with self._db.transaction() as db:
            listed = fetch_page(
                partial(fetch, db),
                "SELECT n.id AS notice_id, a.announcement_id, n.module_name, n.messages, n.created_at,"
                " count(*) OVER () AS total FROM notices n JOIN announcements a ON a.id = n.announcement_id"
                " WHERE n.community_id = %(community)s ORDER BY n.id DESC LIMIT %(limit)s OFFSET %(offset)s",
                {"community": community_id},
                page,
            )
        return list_answer("notices", listed, page)

    def _switch_of(self, module: str, community_id: int) -> Callable[[str | None], bool]:
        """Whether a module is on at an entity, or without one in the community as a whole."""
        catalogue, is_core = self._lookups.catalogue(community_id), find_manifest(module) is not None
        return lambda entity_id: catalogue.is_module_on(module, entity_id, is_core=is_core)

    def _breaks(self, place: _Place, text: str) -> bool:
        return is_against_rules(self._book, place.community_id, place.entity_id or "", text)

    def _check_pace(self, module: str, community_id: int, announcement_id: str) -> None:
        limit = Limit(f"announce:{module}:{community_id}", A_MINUTE, "the community")
        # The same one again takes no more room, also when two come at once.
        (decision,) = self._limiter.reserve([Request(f"{module}:{announcement_id}", [limit])])
        if not decision.allowed:
            raise TooManyAnnouncements(retry_after_s=max(1, math.ceil(decision.retry_after_s)))


def _module_of(said: Announcement, caller: Account) -> str:
    if caller.module_name is None or said.module_name not in (None, caller.module_name):
        raise NotAllowed("A service announces for its own module only.")
    return caller.module_name


def _checked(said: Announcement) -> list[ModuleResponse]:
    """The responses, completed with defaults. Raises: Invalid; pydantic.ValidationError."""
    public = said.to == "channels"
    for each in said.responses:
        if each.response_action != "chat" and (not public or each.response_action in ("form", "command")):
            raise Invalid(f"{each.response_action} cannot be announced to {said.to}.", field="responses")
    responses = [
        each.model_copy(
            update={
                "response_data": RESPONSE_DATA[each.response_action].model_validate(each.response_data).model_dump()
            }
        )
        for each in said.responses
    ]
    if public and any(each.is_private for each in responses):
        raise Invalid(
            "What is private has to be an answer to somebody; `to: owner` is never public.", field="responses"
        )
    return responses


def _place_of(db: DAL, said: Announcement, caller: Account) -> _Place:
    """Raises: Invalid; NotFound; NotAllowed."""
    if (said.community_id is None) == (said.entity_id is None):
        raise Invalid("Name either community_id or entity_id.", field="community_id")
    if said.entity_id is None:
        return _Place(community_of(db, caller, said.community_id), None)
    row = fetch_one(
        db, "SELECT platform, community_id FROM entities WHERE entity_id = %s AND is_active", (said.entity_id,)
    )
    if row is None:
        raise UnknownEntity(f"{said.entity_id} is not a channel of this fleet.")
    caller.check_platform(row["platform"])
    caller.check_community(row["community_id"])
    return _Place(row["community_id"], said.entity_id)


def _find(db: DAL, module: str, announcement_id: str) -> Announced | None:
    row = fetch_one(
        db,
        "SELECT outbox_ids FROM announcements WHERE module_name = %s AND announcement_id = %s",
        (module, announcement_id),
    )
    if row is None:
        return None
    return Announced(success=True, announcement_id=announcement_id, duplicate=True, outbox_ids=row["outbox_ids"])


def list_channels(
    db: DAL, community_id: int, *, entity_id: str | None = None, platforms: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The channels of a community that want announcements; of these platforms, where there are any."""
    return fetch(
        db,
        CHANNELS,
        {
            "community": community_id,
            "entity": entity_id,
            "platforms": sorted(platforms),
            "speaks_up_on": list(SPEAKS_UP_ON),
        },
    )


def keep_announcement(
    db: DAL,
    said: Announcement,
    module: str,
    community_id: int,
    rows: Sequence[dict[str, Any]],
    responses: Sequence[ModuleResponse],
) -> Announced:
    """Put it on record with all that it says, in one transaction; whoever comes second waits and finds it."""
    row = fetch_one(
        db,
        "INSERT INTO announcements (module_name, announcement_id, community_id) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING id",
        (module, said.announcement_id, community_id),
    )
    if row is None:
        known = _find(db, module, said.announcement_id)
        assert known is not None, "an announcement that was in the way is gone"
        return known
    ids: list[int] = []
    if said.to == "owner":
        messages = json.dumps([each.response_data["message"] for each in responses], ensure_ascii=False)
        fetch(
            db,
            "INSERT INTO notices (announcement_id, community_id, module_name, messages) VALUES (%s, %s, %s, %s)",
            (row["id"], community_id, module, messages),
        )
    elif rows:
        ids = put_into_outbox(db, rows, community_id, module)
        fetch(db, "UPDATE announcements SET outbox_ids = %s WHERE id = %s", (ids, row["id"]))
    return Announced(success=True, announcement_id=said.announcement_id, duplicate=False, outbox_ids=ids)


def tell_owner(db: DAL, community_id: int, announcement_id: str, message: str) -> None:
    """Leave a notice of the router's own for a community's owner, in the transaction of what it is about."""
    row = fetch_one(
        db,
        "INSERT INTO announcements (module_name, announcement_id, community_id) VALUES ('router', %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING id",
        (announcement_id, community_id),
    )
    if row is not None:
        fetch(
            db,
            "INSERT INTO notices (announcement_id, community_id, module_name, messages) VALUES (%s, %s, 'router', %s)",
            (row["id"], community_id, json.dumps([message], ensure_ascii=False)),
        )


def _shown(data: Mapping[str, Any], platform: str) -> dict[str, Any]:
    shown = chat_data(data, platform)
    return {**shown, "message": neutralise(shown["message"])}


def outbox_rows(
    responses: Sequence[ModuleResponse], channels: Sequence[dict[str, Any]], *, shows_overlays: bool
) -> Iterator[dict[str, Any]]:
    """Chat once for each channel, overlays once for the community that has them."""
    spoken = [each.response_data for each in responses if each.response_action == "chat"]
    places = [
        {**channel, "response_action": "chat", "response_data": _shown(data, channel["platform"])}
        for channel in channels
        for data in spoken
    ]
    shown = [
        {
            "platform": TO_OVERLAYS,
            "entity_id": "",
            "response_action": each.response_action,
            "response_data": each.response_data,
        }
        for each in responses
        if each.response_action in OVERLAY_SOURCES and shows_overlays
    ]
    for ordinal, row in enumerate([*places, *shown]):
        yield {**row, "ordinal": ordinal}


def fill_in(db: DAL, text: str, community_id: int, entity_id: str, values: Mapping[str, str]) -> str:
    """A text that is announced, with its variables as they are for one channel."""
    read = variables.read(text)
    if not read.names:
        return text
    found = {**look_up(db, read.looked_up, Spot(community_id, entity_id)), **values}
    return read.fill(variables.plain(found, parse_entity_id(entity_id).platform))


def say_in(
    db: DAL,
    announcement_id: str,
    community_id: int,
    channels: Sequence[dict[str, Any]],
    texts: Sequence[str],
    *,
    more: Mapping[str, Any] | None = None,
) -> Announced:
    """Announce a text of the router's own in each of these channels, once.

    more: what their collectors know to do with it, `card` and `edits` (contracts §5).
    """
    rows = [
        {**channel, "ordinal": nth, "response_action": "chat", "response_data": {**_chat(text), **(more or {})}}
        for nth, (channel, text) in enumerate(zip(channels, texts, strict=True))
    ]
    responses = [ModuleResponse(response_action="chat", response_data=_chat(text)) for text in texts[:1]]
    said = Announcement(announcement_id=announcement_id, responses=responses or [NOTHING])
    return keep_announcement(db, said, "router", community_id, rows, responses)


def _chat(text: str) -> dict[str, Any]:
    return ChatData(message=neutralise(shorten(text, MAX_MESSAGE_CHARS))).model_dump()


def put_into_outbox(db: DAL, rows: Sequence[dict[str, Any]], community_id: int, module: str) -> list[int]:
    session_id = new_id()
    said = fetch(
        db,
        PUT_INTO_OUTBOX,
        {
            "event": ANNOUNCED + session_id,
            "session": session_id,
            "community": community_id,
            "module": module,
            "said": json.dumps(rows, ensure_ascii=False),
            "useful_for": USEFUL_FOR,
            "channel": OUTBOX_CHANNEL,
        },
    )
    return sorted(row["id"] for row in said)
