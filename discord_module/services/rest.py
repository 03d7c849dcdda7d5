"""py-cord's REST client without a gateway, and what Discord's answers mean. Imported at first use only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Hashable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import discord
from discord.http import Route
from waddlebot.base.chat import shorten
from waddlebot.base.contracts import OutboxState
from waddlebot.base.errors import Away, Later, ProviderError, Refused, Unclear
from waddlebot.collecting.sender import Outcome

T = TypeVar("T")

REQUEST_TIMEOUT_S = 8.0
SOON = timedelta(seconds=2)
NO_TOKEN_PAUSE_S = 15.0
MAX_PAUSE_S = 120.0
# Raised before anything could reach Discord, or when nobody can know whether it did.
NOT_REACHED = (aiohttp.ClientError, OSError, TimeoutError)
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

        Raises: Refused; Later, also for a bot token that Discord does not take; Away; Unclear, also after 8 s.
        """
        try:
            return await self._ask(key, call)
        except (discord.HTTPException, discord.LoginFailure, *NOT_REACHED) as err:
            raise translate(err) from err

    async def _ask(self, key: Hashable, call: Callable[[discord.Client], Coroutine[Any, Any, T]]) -> T:
        client = await self.client()
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.ensure_future(call(client))  # not watched: whoever waits for it has its error
            self._under_way[key] = task
            # What ended unwatched is nobody's answer: a role may have been taken and given again meanwhile.
            task.add_done_callback(lambda ended: self._forget(key, ended))
        done, _ = await asyncio.wait({task}, timeout=REQUEST_TIMEOUT_S)
        if not done:
            raise TimeoutError
        result: T = task.result()
        return result

    def _forget(self, key: Hashable, ended: asyncio.Task[Any]) -> None:
        if self._under_way.get(key) is ended:
            del self._under_way[key]
        if not ended.cancelled():
            ended.exception()  # Seen here, in case nobody waits any more.

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def say(
        self, channel_id: str, text: str, *, nonce: str, reply_to: str, card: Mapping[str, str] | None = None
    ) -> str:
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
                embeds=[discord.Embed.from_dict(as_embed(card))] if card else [],
                reference=reference,  # type: ignore[arg-type]
                allowed_mentions=discord.AllowedMentions.none(),
            )

        return str((await self.ask(("say", channel_id, nonce), send)).id)

    async def edit(self, channel_id: str, message_id: str, text: str, *, card: Mapping[str, str] | None) -> None:
        """Have a message of the bot's own say something else."""
        body = {"content": text, "embeds": [as_embed(card)] if card else [], "allowed_mentions": {"parse": []}}
        path = "/channels/{channel_id}/messages/{message_id}"
        await self.request("PATCH", path, json=body, channel_id=channel_id, message_id=message_id)

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


def as_embed(card: Mapping[str, str]) -> dict[str, Any]:
    """A card as Discord has it. Source: https://discord.com/developers/docs/resources/message#embed-object"""
    embed: dict[str, Any] = {"type": "rich", "title": shorten(card["title"], 256), "description": card.get("text", "")}
    if card.get("url"):
        embed["url"] = card["url"]
    if card.get("image"):
        embed["image"] = {"url": card["image"]}
    return {name: value for name, value in embed.items() if value}


def translate(err: Exception) -> ProviderError:
    """What an error of the library's, or of the way to Discord, means."""
    if isinstance(err, aiohttp.ClientConnectorError):
        return Away(f"Discord is not reached: {type(err).__name__}")
    if isinstance(err, discord.LoginFailure):
        return Later("Discord refuses DISCORD_BOT_TOKEN", status=401, retry_after_s=NO_TOKEN_PAUSE_S)
    if not isinstance(err, discord.HTTPException):
        return Unclear(f"Discord is not reached: {type(err).__name__}")
    if err.status == 429:
        return Later("Discord asks to wait", status=429, retry_after_s=_retry_after_s(err))
    if err.status == 401 and err.code not in WORDS:
        return Later("Discord refuses DISCORD_BOT_TOKEN", status=401, retry_after_s=NO_TOKEN_PAUSE_S)
    if err.status >= 500:
        return Unclear(f"Discord answers HTTP {err.status}", status=err.status)
    words = WORDS.get(err.code, err.text[:200] or "refused")
    text = f"{words} (HTTP {err.status}, code {err.code})"
    return Refused(text, status=err.status, words=words, discord_code=err.code)


def outcome_of(err: ProviderError) -> Outcome:
    """What became of a request that may be made again."""
    if isinstance(err, Refused):
        return Outcome(OutboxState.DROPPED, err.message)
    return Outcome(
        OutboxState.PENDING, err.message, timedelta(seconds=err.retry_after_s) if isinstance(err, Later) else SOON
    )


def is_gone_already(err: ProviderError) -> bool:
    return err.details.get("discord_code") in GONE_ALREADY


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
