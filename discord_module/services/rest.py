"""py-cord's REST client without a gateway, and what Discord's answers mean. Imported at first use only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Hashable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import discord
from discord.http import Route
from waddlebot.base.contracts import OutboxState
from waddlebot.collecting.sender import Outcome

T = TypeVar("T")

REQUEST_TIMEOUT_S = 8.0
SOON = timedelta(seconds=2)
NO_TOKEN_PAUSE = timedelta(seconds=15)
MAX_PAUSE_S = 120.0
# Discord's codes that people can do something about.
# Source: https://discord.com/developers/docs/topics/opcodes-and-status-codes#json
WORDS = {
    10003: "that channel is gone",
    10004: "the bot is not in that server",
    10007: "they are not in this server any more",
    10008: "the message is gone already",
    10011: "that role is gone",
    10013: "there is nobody with that id",
    10015: "Discord no longer takes answers to that command",
    10026: "they are not banned",
    10062: "Discord no longer takes answers to that command",
    50001: "the bot cannot see that; give its role access to the channel",
    50007: "they take no direct messages",
    50013: "the bot may not do that; give its role the permission, and put it above theirs",
    50035: "Discord did not take what was sent",
}
# The message, the member, the ban that was to go is gone: what was wanted is so.
GONE_ALREADY = frozenset({10007, 10008, 10026})


# Flags of a message: only one person sees it; the bot "is thinking…".
# Source: https://discord.com/developers/docs/resources/message#message-object-message-flags
EPHEMERAL, LOADING = 1 << 6, 1 << 7


class Busy(Exception):
    """The same request is still under way."""


class RestClient:
    """One logged-in client for the loop that it is used in. A request that takes long is left to finish by itself.

    Cancelling it could leave py-cord waiting for good: it clears the way for others only after it slept (2.8).
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._client: discord.Client | None = None
        self._opening: asyncio.Lock | None = None
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    async def client(self) -> discord.Client:
        """Raises: discord.LoginFailure, and what a request raises."""
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._client is None:
                client = discord.Client(
                    loop=asyncio.get_running_loop(),
                    intents=discord.Intents(guilds=True),  # It never listens; without this one py-cord warns.
                    max_messages=None,
                    allowed_mentions=discord.AllowedMentions.none(),
                )
                try:
                    await client.login(self._token)
                except BaseException:
                    with contextlib.suppress(Exception):
                        await client.http.close()
                    raise
                self._client = client
            return self._client

    async def ask(self, key: Hashable, call: Callable[[discord.Client], Coroutine[Any, Any, T]]) -> T:
        """Make a request, or wait on for the one of that key that is under way.

        Raises: Busy when it takes longer than 8 s; whatever the request raises.
        """
        client = await self.client()
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.ensure_future(call(client))
        done, _ = await asyncio.wait({task}, timeout=REQUEST_TIMEOUT_S)
        if not done:
            raise Busy()
        self._under_way.pop(key, None)
        result: T = task.result()
        return result

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def say(self, channel_id: str, text: str, *, nonce: str, reply_to: str) -> str:
        """Post a message and return its id. With one nonce Discord takes it once, within some minutes."""

        async def send(client: discord.Client) -> discord.Message:
            reference = None
            if reply_to:
                reference = discord.MessageReference(
                    message_id=int(reply_to), channel_id=int(channel_id), fail_if_not_exists=False
                )
            return await client.get_partial_messageable(int(channel_id)).send(
                text,
                nonce=nonce,
                enforce_nonce=True,
                reference=reference,
                allowed_mentions=discord.AllowedMentions.none(),
            )

        return str((await self.ask(("say", channel_id, nonce), send)).id)

    async def answer(
        self, application_id: str, token: str, text: str, *, first: bool, key: Hashable, alone: bool = False
    ) -> None:
        """Answer a slash command: in the place of "is thinking…", or below, there perhaps for its user alone."""
        body: dict[str, Any] = {"content": text, "allowed_mentions": {"parse": []}}
        if alone:
            assert not first, "that is as public as the command"
            body["flags"] = EPHEMERAL

        method, path = ("PATCH", "/messages/@original") if first else ("POST", "")

        async def answer(client: discord.Client) -> Any:
            # Not py-cord's own functions for this, which send a form; Discord documents JSON.
            pattern = "/webhooks/{webhook_id}/{webhook_token}" + path
            route = Route(method, pattern, webhook_id=application_id, webhook_token=token)
            return await client.http.request(route, json=body)

        await self.ask(key, answer)

    async def is_thinking(self, application_id: str, token: str, *, key: Hashable) -> bool:
        """Whether a slash command still has no answer in the place of "is thinking…"."""
        pattern = "/webhooks/{webhook_id}/{webhook_token}/messages/@original"
        route = Route("GET", pattern, webhook_id=application_id, webhook_token=token)
        found = await self.ask(key, lambda client: client.http.request(route))
        return bool(int(found.get("flags") or 0) & LOADING)

    async def request(self, method: str, path: str, *, reason: str = "", json: Any = None, **ids: str) -> Any:
        """Any request of the API. `path` names its ids in braces."""
        options: dict[str, Any] = {"reason": reason or None}
        if json is not None:
            options["json"] = json
        key = (method, path, tuple(sorted(ids.items())), reason, repr(json))
        return await self.ask(key, lambda client: client.http.request(Route(method, path, **ids), **options))


def outcome_of(err: Exception) -> Outcome:
    """What became of a request that may be made again, by what it raised; a bug is raised again."""
    if isinstance(err, Busy | aiohttp.ClientError | OSError | TimeoutError):
        return Outcome(OutboxState.PENDING, f"Discord is not reached: {type(err).__name__}", SOON)
    if isinstance(err, discord.LoginFailure):
        return Outcome(OutboxState.PENDING, "Discord refuses DISCORD_BOT_TOKEN", NO_TOKEN_PAUSE)
    if not isinstance(err, discord.HTTPException):
        raise err
    if err.status == 429:
        return Outcome(OutboxState.PENDING, "Discord asks to wait", timedelta(seconds=_retry_after_s(err)))
    if err.status == 401 and err.code not in WORDS:
        return Outcome(OutboxState.PENDING, "Discord refuses DISCORD_BOT_TOKEN", NO_TOKEN_PAUSE)
    if err.status >= 500:
        return Outcome(OutboxState.PENDING, f"Discord answers HTTP {err.status}", SOON)
    return Outcome(OutboxState.DROPPED, explain(err))


def explain(err: discord.HTTPException) -> str:
    """What Discord refused and why, in words."""
    return f"{WORDS.get(err.code, err.text[:200] or 'refused')} (HTTP {err.status}, code {err.code})"


def is_gone_already(err: Exception) -> bool:
    return isinstance(err, discord.HTTPException) and err.code in GONE_ALREADY


def failures() -> tuple[type[Exception], ...]:
    """Everything that a request can raise."""
    return (Busy, discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError)


def timed_out_until(duration_s: int) -> str:
    """When a timeout ends. Discord takes 28 days at most."""
    longest = timedelta(days=28) - timedelta(seconds=30)
    until: datetime = discord.utils.utcnow() + min(timedelta(seconds=duration_s), longest)
    return until.isoformat()


def _retry_after_s(err: discord.HTTPException) -> float:
    """py-cord repeats what Discord itself limits; what reaches us was limited by the proxy in front of it."""
    try:
        wait_s = float(err.response.headers.get("Retry-After", 5))
    except ValueError:
        wait_s = 5.0
    return min(max(wait_s, 0.5), MAX_PAUSE_S)
