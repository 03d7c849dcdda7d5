"""Makes, checks and repairs the subscriptions of EventSub. Twitch's own list of them is the truth.

Source: https://dev.twitch.tv/docs/eventsub/manage-subscriptions/
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from waddlebot.base.errors import Later, NotFound, ProviderError, Refused
from waddlebot.base.logs import AAALog
from waddlebot.web.lists import Listed, Page

from .channel_service import ChannelService, SubscriptionRow
from .subscription_kinds import BY_NAME, OF_THE_APP, Kind, Who, wanted_kinds
from .subscription_place import Place
from .translation import CHAT_MESSAGE
from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from waddlebot.web.helix_client import HelixClient


ENABLED = "enabled"
PENDING = "webhook_callback_verification_pending"
UNVERIFIED = "webhook_callback_verification_failed"
# Made here, and not yet seen in Twitch's list.
MADE = "made"
# A challenge that was not answered by then was lost.
PENDING_FOR = timedelta(minutes=5)
# How long somebody who has just consented waits to be told whether their chat is heard.
PROOF_PAUSES_S = (0.2, 0.3, 0.5, 1.0, 1.0)
CHECK_EVERY = timedelta(minutes=10)
# What somebody has not allowed is asked for again so often, in case they have; what broke, sooner.
REFUSED_FOR_S = 3600.0
BROKEN_FOR_S = 60.0
# Above this many, one walk through the whole list costs less than asking for each channel.
LISTED_ONE_BY_ONE = 20
# A walk costs a request for every hundred subscriptions of all channels, so there is one walk in CHECK_EVERY, however
# many channels there are; what Twitch ends meanwhile, it tells.
CHANNELS_AT_ONCE = 1000
# A thousand new channels take some minutes, chat first, and leave room in the app's 800 requests a minute for replies.
MADE_AT_ONCE = 200
IN_FLIGHT = 8
ROOM_FOR_REPLIES = 150
ROOM_COMES_BACK_S = 15.0
STEP_TIMEOUT_S = 120.0
# Twitch's words for a 429 that is no rate limit: waiting a minute would change nothing.
LIMITS = ("maximum", "cost", "exceeded")


@dataclass(frozen=True, slots=True)
class Existing:
    """A subscription in Twitch's list."""

    id: str
    type: str
    version: str
    status: str
    condition: dict[str, str]
    transport: dict[str, str]
    cost: int
    created_at: datetime
    # It is ours and delivers where we had it before the transport was changed.
    is_former: bool = False

    @property
    def broadcaster_id(self) -> str:
        names = ("broadcaster_user_id", "to_broadcaster_user_id")
        return next((self.condition[name] for name in names if self.condition.get(name)), "")

    @property
    def is_alive(self) -> bool:
        """Whether it delivers, or may still prove that it can."""
        is_young = datetime.now(UTC) - self.created_at < PENDING_FOR
        return self.status == ENABLED or (self.status == PENDING and is_young)

    def is_for(self, kind: Kind, who: Who) -> bool:
        wanted = kind.condition(who).items()
        is_kind = (self.type, self.version) == (kind.type, kind.version)
        return is_kind and all(self.condition.get(name) == value for name, value in wanted)


@dataclass(frozen=True, slots=True)
class _Walked:
    """Twitch's list, or one channel's part of it, and what all subscriptions cost."""

    found: list[Existing]
    total_cost: int
    max_total_cost: int


class UnknownKind(NotFound):
    """This fleet does not know that type of subscription."""

    code = "unknown_subscription_type"


class RateLimited(Exception):
    """Twitch wants a pause."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(pause_s)
        self.pause_s = pause_s


class SubscriptionService:
    """The application's subscriptions, at our webhook or conduit. Coroutines run on the bridge's loop."""

    def __init__(
        self,
        api: TwitchAPI,
        channels: ChannelService,
        *,
        place: Place,
        bot_user_id: str,
        log: AAALog,
    ) -> None:
        self._api = api
        self._channels = channels
        self._place = place
        self._bot_user_id = bot_user_id
        self._log = log
        self._paused_until = datetime.min.replace(tzinfo=UTC)
        # Whose subscriptions were looked at, here or elsewhere, since this container has held them.
        self._seen: frozenset[str] = frozenset()

    def step(self, held: Collection[str]) -> bool:
        """Compare some of the channels that this container looks after with what they should have.

        True when more are waiting. Raises: UpstreamError; they are looked at again soon then.
        """
        if datetime.now(UTC) < self._paused_until:
            return False
        due = self._take_due(frozenset(held))
        if not due:
            return False
        is_done = False
        try:
            is_done = self._api.run(self._reconcile(due), STEP_TIMEOUT_S)
        except Later as err:
            if err.status != 429:
                raise
            self._pause(err.retry_after_s)
            return False
        finally:
            if not is_done:
                self._channels.recheck(due)
        return len(due) == CHANNELS_AT_ONCE

    def _take_due(self, held: frozenset[str]) -> list[str]:
        every = CHECK_EVERY * max(1, math.ceil(len(held) / CHANNELS_AT_ONCE))
        asked = (held - self._seen) | (held & self._channels.list_due(every=every))
        if not asked:
            self._seen &= held
            return []
        due = self._channels.take_due(asked, every=every, limit=CHANNELS_AT_ONCE)
        # Fewer than there may be, so all the others have been looked at lately.
        self._seen = held if len(due) < CHANNELS_AT_ONCE else self._seen.union(due) & held
        return due

    async def open(self, broadcaster_id: str) -> dict[str, SubscriptionRow]:
        """Give one channel all that its consent allows, now. Returns what became of each, by type.

        Raises: Refused; Later; Away; Unclear.
        """
        rows = await self._settle([broadcaster_id], await self._listed([broadcaster_id]), made_at_most=MADE_AT_ONCE)
        made = {row.type: row for row in rows}
        chat = made.get(CHAT_MESSAGE)
        if chat is not None and chat.status == MADE:
            made[CHAT_MESSAGE] = await self._proved(chat)
        return made

    async def close(self, broadcaster_id: str) -> int:
        """Delete every subscription that this fleet has for a channel. Returns how many. Raises as `open`."""
        mine = [each for each in await self._listed([broadcaster_id]) if each.broadcaster_id == broadcaster_id]
        await self._delete(each.id for each in mine)
        return len(mine)

    async def sweep(self) -> None:
        """Delete what is subscribed for channels that are not served any more, and hear of withdrawn consent.

        Raises as `open`.
        """
        listed = await self._listed(None)
        served = await asyncio.to_thread(self._channels.served_among, {each.broadcaster_id for each in listed})
        stale = [each for each in listed if each.broadcaster_id and each.broadcaster_id not in served]
        own = [each for each in listed if each.type == OF_THE_APP]
        good = [each for each in own if each.is_alive and not each.is_former]
        await self._delete(each.id for each in [*stale, *(each for each in own if each not in good)])
        if stale:
            self._log.system("stale_subscriptions_deleted", count=len(stale))
        if good:
            return
        try:
            await self._api.as_app(self._listen_for_revocations)
        except Refused as err:
            if err.status != 409:
                raise

    async def list_existing(self, page: Page, **filters: Any) -> Listed[dict[str, Any]]:
        """The application's subscriptions at Twitch, and how many fit. Raises as `open`."""

        async def walk(client: HelixClient) -> Listed[dict[str, Any]]:
            found = await client.get_eventsub_subscriptions(**filters)
            shown: list[dict[str, Any]] = []
            position = 0
            async for each in found:
                if position >= page.offset:
                    shown.append(_for_people(each))
                position += 1
                if len(shown) == page.limit:
                    break
            return Listed(shown, found.total)

        return await self._api.as_app(walk)

    async def make(self, type_: str, broadcaster_id: str) -> str:
        """Make one subscription and return its id. Raises: UnknownKind; as `open`."""
        kind = BY_NAME.get(type_)
        if kind is None:
            raise UnknownKind(f"Types that can be made here: {', '.join(BY_NAME)}.")
        return await self._listen(kind, self._who(broadcaster_id))

    async def remove(self, subscription_id: str) -> None:
        """Raises: Refused, 404 for one that is not there; as `open`."""
        await self._api.as_app(lambda client: client.delete_eventsub_subscription(subscription_id))
        await asyncio.to_thread(self._channels.forget_subscription, subscription_id)

    async def _reconcile(self, ids: Sequence[str]) -> bool:
        """True if every one of these channels has what it should, or a reason why not."""
        listed = await self._listed(ids if len(ids) <= LISTED_ONE_BY_ONE else None)
        rows = await self._settle(ids, listed, made_at_most=MADE_AT_ONCE)
        return not any(row.status == "waiting" for row in rows)

    async def _settle(
        self, ids: Sequence[str], listed: Iterable[Existing], *, made_at_most: int
    ) -> list[SubscriptionRow]:
        """Delete what is too much, make what is missing, and write down what there is then."""
        scopes = await asyncio.to_thread(self._channels.scopes_of, ids)
        resting = await asyncio.to_thread(self._channels.resting, ids)
        found = _by_broadcaster(listed)
        former = [each for id_ in ids for each in found.get(id_, ()) if each.is_former]
        rows: list[SubscriptionRow] = []
        missing: list[tuple[Kind, str]] = []
        surplus: list[str] = []
        troubles = dict.fromkeys(ids, "")
        for id_ in ids:
            unclaimed = {each.id: each for each in found.get(id_, ()) if not each.is_former}
            for kind in wanted_kinds(scopes[id_], self._place.name):
                alike = [each for each in unclaimed.values() if each.is_for(kind, self._who(id_))]
                good = next((each for each in alike if each.is_alive), None)
                if good is not None:
                    del unclaimed[good.id]
                    rows.append(self._row(id_, kind, status=good.status, subscription_id=good.id, cost=good.cost))
                elif (rest := resting.get((id_, kind.type))) and rest.transport == self._place.name:
                    rows.append(rest)
                else:
                    missing.append((kind, id_))
            surplus += unclaimed
            if any(each.status == UNVERIFIED for each in unclaimed.values()):
                troubles[id_] = f"its chat cannot be heard ({self._place.not_reached})"
        missing.sort(key=lambda each: each[0].type != CHAT_MESSAGE)
        waiting = {(kind.type, id_) for kind, id_ in missing[made_at_most:]}
        leaving = [each for each in former if (each.type, each.broadcaster_id) not in waiting]
        # Two subscriptions tell of one follow under two ids; of a message under one, so chat need not pause.
        await self._delete([*surplus, *(each.id for each in leaving if each.type != CHAT_MESSAGE)])
        rows += [self._row(id_, kind, status="waiting") for kind, id_ in missing[made_at_most:]]
        rows += await self._make_all(missing[:made_at_most])
        late = {row.broadcaster_id for row in rows if row.type == CHAT_MESSAGE and row.status == "waiting"}
        chats = [each for each in leaving if each.type == CHAT_MESSAGE and each.broadcaster_id not in late]
        await self._delete(each.id for each in chats)
        await asyncio.to_thread(self._channels.save_subscriptions, ids, rows)
        await asyncio.to_thread(self._channels.note_trouble, troubles | _troubles(rows))
        return rows

    async def _proved(self, row: SubscriptionRow) -> SubscriptionRow:
        """The row once Twitch has heard the challenge's answer from our callback, or has not."""
        for pause_s in PROOF_PAUSES_S:
            await asyncio.sleep(pause_s)
            listed = await self._listed([row.broadcaster_id])
            status = next((each.status for each in listed if each.id == row.subscription_id), "gone")
            if status == ENABLED:
                return replace(row, status=status)
            if status != PENDING:
                return replace(row, status=status, reason=self._place.not_reached)
        return row

    async def _make_all(self, missing: Sequence[tuple[Kind, str]]) -> list[SubscriptionRow]:
        """A few at a time. What comes after a rate limit is left waiting."""
        gate = asyncio.Semaphore(IN_FLIGHT)
        limited: list[RateLimited] = []

        async def make(kind: Kind, id_: str) -> SubscriptionRow:
            async with gate:
                try:
                    if not limited:
                        self._check_room(len(missing))
                        return await self._try(kind, id_)
                except RateLimited as err:
                    limited.append(err)
                return self._row(id_, kind, status="waiting")

        rows = await asyncio.gather(*(make(kind, id_) for kind, id_ in missing))
        if limited:
            self._pause(max(each.pause_s for each in limited))
        return list(rows)

    def _check_room(self, missing: int) -> None:
        """Raises: RateLimited when many are to be made and replies need what is left of the limit."""
        room = self._api.app_room
        if missing > len(BY_NAME) and room is not None and room < ROOM_FOR_REPLIES:
            raise RateLimited(ROOM_COMES_BACK_S)

    def _pause(self, pause_s: float) -> None:
        self._paused_until = datetime.now(UTC) + timedelta(seconds=pause_s)
        self._log.system("subscriptions_paused", result="FAILED", pause_s=pause_s)

    async def _try(self, kind: Kind, broadcaster_id: str) -> SubscriptionRow:
        """Raises: RateLimited; Away; Unclear."""
        try:
            made = await self._listen(kind, self._who(broadcaster_id))
        except ProviderError as err:
            if not err.status:
                raise
            row = self._row(broadcaster_id, kind, status="refused")
            if self._place.name == "conduit" and err.status < 429 and "conduit" in err.words.lower():
                # It is gone, and will be made anew before this is tried again.
                return replace(row, status="failed", reason=err.words, retry_in_s=BROKEN_FOR_S)
            return refused_row(row, err)
        return self._row(broadcaster_id, kind, status=MADE, subscription_id=made)

    async def _listen(self, kind: Kind, who: Who) -> str:
        transport = await asyncio.to_thread(self._place.transport)

        async def listen(client: HelixClient) -> str:
            from .helix import FleetEventSub

            return await kind.listen(FleetEventSub(client, transport), who)

        return await self._api.as_app(listen)

    async def _listen_for_revocations(self, client: HelixClient) -> str:
        from .helix import FleetEventSub, nobody

        transport = await asyncio.to_thread(self._place.transport)
        made: str = await FleetEventSub(client, transport).listen_user_authorization_revoke(
            self._api.app.app_id, nobody
        )
        return made

    async def _listed(self, ids: Sequence[str] | None) -> list[Existing]:
        """Twitch's list of what comes to our webhook or conduit, for these channels or for all."""
        filters: list[dict[str, str]] = [{"user_id": id_} for id_ in ids] if ids is not None else [{}]
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def walk(filter_: dict[str, str]) -> _Walked:
            async with gate:
                return await self._api.as_app(lambda client: _walk(client, filter_))

        pages = await asyncio.gather(*(walk(each) for each in filters))
        return await asyncio.to_thread(self._ours, pages)

    def _ours(self, pages: Sequence[_Walked]) -> list[Existing]:
        """Another fleet of the same application, such as one for trials, has subscriptions of its own."""
        if pages:
            self._place.note_costs(pages[-1].total_cost, pages[-1].max_total_cost)
        found = [each for page in pages for each in page.found]
        is_here, is_former = self._place.here(), self._place.former()
        former = [replace(each, is_former=True) for each in found if is_former(each.transport)]
        return [*(each for each in found if is_here(each.transport)), *former]

    async def _delete(self, subscription_ids: Iterable[str]) -> None:
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def delete(id_: str) -> None:
            async with gate:
                try:
                    await self._api.as_app(lambda client: client.delete_eventsub_subscription(id_))
                except Refused as err:
                    if err.status != 404:
                        raise

        await asyncio.gather(*(delete(each) for each in subscription_ids))

    def _row(self, broadcaster_id: str, kind: Kind, **options: Any) -> SubscriptionRow:
        return SubscriptionRow(broadcaster_id, kind.type, kind.version, transport=self._place.name, **options)

    def _who(self, broadcaster_id: str) -> Who:
        return Who(broadcaster_id, self._bot_user_id)


def refused_row(row: SubscriptionRow, err: ProviderError) -> SubscriptionRow:
    """What a refused subscription is from now on. Raises: RateLimited for one that is only too soon."""
    if err.status == 409:  # Somebody was faster; the next look finds which one it is.
        return replace(row, status=PENDING)
    is_limit = err.status == 429 and any(word in err.words.lower() for word in LIMITS)
    if err.status == 429 and not is_limit:
        raise RateLimited(err.retry_after_s)
    if err.status >= 500:
        return replace(row, status="failed", reason=err.message, retry_in_s=BROKEN_FOR_S)
    return replace(row, reason=err.words or err.message, retry_in_s=REFUSED_FOR_S)


def _by_broadcaster(listed: Iterable[Existing]) -> dict[str, list[Existing]]:
    found: dict[str, list[Existing]] = {}
    for each in listed:
        found.setdefault(each.broadcaster_id, []).append(each)
    return found


def _troubles(rows: Iterable[SubscriptionRow]) -> dict[str, str]:
    """A sentence for each channel whose chat somebody has not let the bot hear."""
    refused = (row for row in rows if row.type == CHAT_MESSAGE and row.reason)
    return {row.broadcaster_id: f"its chat cannot be heard ({row.reason})" for row in refused}


async def _walk(client: HelixClient, filters: dict[str, Any]) -> _Walked:
    found = await client.get_eventsub_subscriptions(**filters)
    listed = [
        Existing(
            each.id,
            each.type,
            each.version,
            each.status,
            dict(each.condition),
            dict(each.transport),
            each.cost,
            each.created_at,
        )
        async for each in found
    ]
    return _Walked(listed, found.total_cost, found.max_total_cost)


def _for_people(each: Any) -> dict[str, Any]:
    """Without the transport's secrets, which Twitch does not list, but for what it may list one day."""
    return {
        "id": each.id,
        "type": each.type,
        "version": each.version,
        "status": each.status,
        "condition": dict(each.condition),
        "transport": {name: each.transport[name] for name in ("method", "callback") if name in each.transport},
        "cost": each.cost,
        "created_at": each.created_at,
    }
