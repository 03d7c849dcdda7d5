"""Which channels are live and who watches, told to coordination, so that live ones go first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from waddlebot.collecting.claims import Claims

from .channel_service import ChannelAbout, ChannelService, StreamNow
from .twitch_api import TwitchAPI

if TYPE_CHECKING:
    from waddlebot.web.helix_client import HelixClient


ASK_EVERY_S = 60.0
# What it is about Twitch tells when it changes; this is for what it told while nobody listened.
ASK_ABOUT_EVERY_S = 600.0
# Reading all that thousands of channels are would cost more than everything else does while they are silent. What was
# written in a transaction that began a while ago is new, too.
OVERLAP = timedelta(seconds=30)
# Helix takes as many channels in one request.
ASKED_AT_ONCE = 100


class LiveService:
    """Looks after the channels that this container has claimed."""

    def __init__(self, api: TwitchAPI, channels: ChannelService) -> None:
        self._api = api
        self._channels = channels
        self._reported: dict[tuple[str, int], tuple[bool, int]] = {}
        self._ask_at = 0.0
        self._ask_about_at = 0.0
        self._looked_at: float | None = None

    def step(self, claims: Claims) -> None:
        """Ask Helix now and then, and report at once what has changed. Raises: UpstreamError."""
        held = list(claims.held.values())
        if held and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_EVERY_S
            ids = [each.channel_id for each in held]
            live = self._api.run(self._live_among(ids))
            self._channels.save_streams(ids, live)
        if held and time.monotonic() >= self._ask_about_at:
            self._ask_about_at = time.monotonic() + ASK_ABOUT_EVERY_S
            self._channels.save_about(self._api.run(self._about([each.channel_id for each in held])))
        now = time.monotonic()
        holdings = {(each.entity_id, each.epoch): each for each in held}
        fresh = [entity.channel_id for holding, entity in holdings.items() if holding not in self._reported]
        known = self._channels.streams(
            fresh, changed_within=OVERLAP + timedelta(seconds=now - (self._looked_at or now))
        )
        reported = {holding: self._reported[holding] for holding in self._reported.keys() & holdings.keys()}
        for holding, entity in holdings.items():
            if entity.channel_id not in known and holding in reported:
                continue
            before = reported.get(holding, (entity.is_live, entity.viewer_count))
            is_live, viewers = reported[holding] = known.get(entity.channel_id, before)
            if (is_live, viewers) != before:
                claims.report(entity.entity_id, is_live=is_live, viewer_count=viewers)
        self._reported, self._looked_at = reported, now

    async def _live_among(self, ids: Sequence[str]) -> list[StreamNow]:
        live: list[StreamNow] = []
        for start in range(0, len(ids), ASKED_AT_ONCE):
            live += await self._api.as_app(partial(_streams, ids=ids[start : start + ASKED_AT_ONCE]))
        return live

    async def _about(self, ids: Sequence[str]) -> list[ChannelAbout]:
        about: list[ChannelAbout] = []
        for start in range(0, len(ids), ASKED_AT_ONCE):
            about += await self._api.as_app(partial(_channels, ids=ids[start : start + ASKED_AT_ONCE]))
        return about


async def _channels(client: HelixClient, *, ids: Sequence[str]) -> list[ChannelAbout]:
    found = await client.get_channel_information(list(ids))
    return [
        ChannelAbout(each.broadcaster_id, each.broadcaster_login, each.broadcaster_name, each.title, each.game_name)
        for each in found
    ]


async def _streams(client: HelixClient, ids: Sequence[str]) -> list[StreamNow]:
    found = client.get_streams(user_id=list(ids), first=ASKED_AT_ONCE)
    return [
        StreamNow(
            each.user_id,
            each.viewer_count,
            each.title,
            each.game_name,
            each.started_at.isoformat() if each.started_at else "",
            each.thumbnail_url or "",
        )
        async for each in found
    ]
