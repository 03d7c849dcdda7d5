"""Says the bot's replies on Discord and carries out moderation. py-cord is loaded with the first of either.

Sent with a nonce, a message that is sent again is the same message (enforce_nonce), so that an answer of Discord's that
was lost makes neither a second reply nor a lost one.
Source: https://discord.com/developers/docs/resources/message#create-message
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from waddlebot.base.contracts import OutboxState
from waddlebot.base.errors import NotAllowed, ProviderError, Refused, UpstreamError, WaddleBotError
from waddlebot.base.ids import parse_entity_id
from waddlebot.base.logs import AAALog
from waddlebot.base.wire import is_number
from waddlebot.collecting.moderation import ModerationAction
from waddlebot.collecting.roles import Hierarchy, MissingScope, NotThere
from waddlebot.collecting.sender import Outcome, Send
from waddlebot.data.outbox import Outgoing

from .guild_service import GuildService
from .interaction_service import InteractionService
from .text import split_message

if TYPE_CHECKING:
    from .rest import RestClient

# Discord remembers a nonce for "a few minutes"; after this nobody knows whether it still does.
SURE_FOR_S = 90.0
MAX_TRIED = 10_000
DEFAULT_TIMEOUT_S = 600
SENT = Outcome(OutboxState.SENT)
FOR_YOU_ALONE = "The answer is below, for you alone."
# Source: https://discord.com/developers/docs/topics/permissions
ADMINISTRATOR = 1 << 3
# Source: https://discord.com/developers/docs/topics/opcodes-and-status-codes#json
MISSING_PERMISSIONS = 50013
MISSING = (MISSING_PERMISSIONS, 50001)
NOT_THERE = (10004, 10007, 10011, 10013)


class AdministratorsRole(NotAllowed):
    """That role makes an administrator of the server. Its people give and take it at Discord."""

    code = "administrators_role"


def _why_not(err: Refused, *, is_above: bool) -> WaddleBotError:
    """What a refusal about a role means."""
    code = err.details.get("discord_code")
    if code in NOT_THERE:
        return NotThere(f"Discord refused: {err.words}.")
    if code == MISSING_PERMISSIONS and is_above:
        return Hierarchy("That role is not below the bot's own: move the bot's role above it in the server's settings.")
    return MissingScope(f"Discord refused: {err.words}.") if code in MISSING else err


class BotService:
    """Sends with one client for all channels. A pause that Discord asks for holds for everything."""

    def __init__(
        self,
        *,
        token: SecretStr,
        application_id: str,
        api_base_url: str,
        guilds: GuildService,
        log: AAALog,
    ) -> None:
        self._token = token
        self._guilds = guilds
        self._application_id = application_id
        self._api_base_url = api_base_url
        self._log = log
        self._client: RestClient | None = None
        self._tried: dict[str, float] = {}
        self._paused_until = 0.0
        # Set by app.py: both need the other.
        self.interactions: InteractionService | None = None
        self.more: Callable[[Outgoing], Awaitable[None]] | None = None

    @property
    def client(self) -> RestClient:
        """The client of the loop that this runs in; one loop uses it."""
        if self._client is None:
            from .pycord import point_at
            from .rest import RestClient

            point_at(self._api_base_url)
            self._client = RestClient(self._token.get_secret_value())
        return self._client

    async def send(self, reply: Outgoing) -> Outcome:
        """Say a reply, in as many parts as it takes."""
        return await self._unless_paused(reply, self._send)

    async def whisper(self, reply: Outgoing) -> Outcome:
        """Say a reply to one person alone: below their slash command, where only they see it, or in a direct message.

        Where they take none it is dropped; it is never said in the channel.
        """
        return await self._unless_paused(reply, self._whisper)

    async def _unless_paused(self, reply: Outgoing, say: Send) -> Outcome:
        pause_s = self._paused_until - time.monotonic()
        if pause_s > 0:
            return Outcome(OutboxState.PENDING, "Discord asks to wait", timedelta(seconds=pause_s))
        outcome = await say(reply)
        if outcome.state is OutboxState.PENDING:
            return self._again(reply, outcome)
        self._tried.pop(str(reply.id), None)
        return outcome

    async def _send(self, reply: Outgoing) -> Outcome:
        asked = await self._find_interaction(reply)
        if asked is not None and asked["is_answerable"]:
            return await self._answer(reply, asked)
        # What happened without a message, and a command that Discord takes no answers to any more, has no thread.
        is_message = asked is None and is_number(reply.reply_to, digits=20)
        return await self._post(reply, reply_to=reply.reply_to if is_message else "")

    async def _whisper(self, reply: Outgoing) -> Outcome:
        asked = await self._find_interaction(reply)
        if asked is not None and asked["is_answerable"]:
            return await self._answer_alone(reply, asked)
        return await self._write_to(reply)

    async def act(self, action: ModerationAction) -> Outcome:
        """Carry out moderation. All of it may be done twice without being more, except for a warning."""
        from . import rest

        place = parse_entity_id(action.entity_id)
        try:
            await self._act(action, guild=place.server_id, channel=place.channel_id)
        except ProviderError as err:
            if rest.is_gone_already(err):
                return Outcome(OutboxState.SENT, "there was nothing left to do")
            return rest.outcome_of(err)
        return SENT

    async def set_role(self, guild_id: str, user_id: str, role_id: str, *, add: bool) -> bool:
        """Give somebody a role of a server, or take it away. Returns whether they had it otherwise before.

        Raises: AdministratorsRole; Hierarchy; MissingScope; NotThere; and what of Discord's failures is none of these.
        """
        try:
            roles = {str(each["id"]): each for each in await self._get("/guilds/{guild_id}/roles", guild_id=guild_id)}
            if role_id not in roles:
                raise NotThere("That role is gone.")
            if int(roles[role_id]["permissions"]) & ADMINISTRATOR:
                raise AdministratorsRole()
            member = await self._get("/guilds/{guild_id}/members/{user_id}", guild_id=guild_id, user_id=user_id)
            if (role_id in map(str, member.get("roles") or ())) is add:
                return False
        except Refused as err:
            raise _why_not(err, is_above=False) from err
        path = "/guilds/{guild_id}/members/{user_id}/roles/{role_id}"
        where = {"guild_id": guild_id, "user_id": user_id, "role_id": role_id}
        try:
            await self.client.request("PUT" if add else "DELETE", path, reason="a label of WaddleBot's", **where)
        except Refused as err:
            raise _why_not(err, is_above=await self._is_above_us(guild_id, role_id, roles)) from err
        return True

    async def _is_above_us(self, guild_id: str, role_id: str, roles: Mapping[str, Any]) -> bool:
        """Whether a role is not below the bot's highest one, or belongs to an app, so that no right helps."""
        try:
            us = await self._get(
                "/guilds/{guild_id}/members/{user_id}", guild_id=guild_id, user_id=self._application_id
            )
        except ProviderError:
            return False
        held = [roles[each]["position"] for each in map(str, us.get("roles") or ()) if each in roles]
        # A bot without any role lacks the right before it is too low.
        is_too_high = bool(held) and int(roles[role_id]["position"]) >= max(held)
        return is_too_high or bool(roles[role_id].get("managed"))

    async def _get(self, path: str, **ids: str) -> Any:
        return await self.client.request("GET", path, **ids)

    async def find_guild_of(self, channel_id: str) -> str:
        """The server that a channel is in, by Discord's word; empty if it is in none that the bot sees."""
        from . import rest

        try:
            channel = await self.client.request("GET", "/channels/{channel_id}", channel_id=channel_id)
        except ProviderError as err:
            if rest.outcome_of(err).state is OutboxState.DROPPED:
                return ""
            raise UpstreamError(f"Discord does not say where that channel is: {type(err).__name__}.") from err
        return str(channel.get("guild_id") or "")

    async def kick(self, guild_id: str, user_id: str, *, reason: str) -> Outcome:
        """Take somebody out of a server; they may come back."""
        from . import rest

        path, where = "/guilds/{guild_id}/members/{user_id}", {"guild_id": guild_id, "user_id": user_id}
        try:
            await self.client.request("DELETE", path, reason=reason[:400], **where)
        except ProviderError as err:
            if rest.is_gone_already(err):
                return Outcome(OutboxState.SENT, "they are not there any more")
            return rest.outcome_of(err)
        return SENT

    async def recommended_shards(self) -> int:
        """How many shards Discord wants the bot to have. Raises: UpstreamError."""

        try:
            return int((await self.client.request("GET", "/gateway/bot"))["shards"])
        except ProviderError as err:
            raise UpstreamError(f"Discord does not say how many shards it wants: {err.message}.") from err

    async def finish_silent(self) -> int:
        """Put words where a slash command would go on "thinking" for 15 minutes. Returns how many."""

        assert self.interactions is not None
        silent = await asyncio.to_thread(self.interactions.list_silent)
        for row, words in silent:
            id_ = row["interaction_id"]
            if not await asyncio.to_thread(self.interactions.is_first, id_, 0):
                continue
            try:
                token = self.interactions.open_token(row)
                await self.client.answer(self._application_id, token, words, first=True, key=("silent", id_))
            except WaddleBotError as err:
                self._log.system("interaction_left_silent", result="FAILED", error=type(err).__name__)
        return len(silent)

    async def _find_interaction(self, reply: Outgoing) -> dict[str, Any] | None:
        # Events without an id of Discord's own have names; nobody can have used those as a command.
        if self.interactions is None or not is_number(reply.event_id, digits=20):
            return None
        return await asyncio.to_thread(self.interactions.find, reply.event_id)

    async def _post(self, reply: Outgoing, *, reply_to: str) -> Outcome:
        place = parse_entity_id(reply.entity_id)
        channel = place.channel_id or await asyncio.to_thread(self._guilds.find_system_channel, place.server_id)
        if not channel:
            return Outcome(OutboxState.DROPPED, "the server has no system channel to say it in")
        if edits := str(reply.response_data.get("edits") or ""):
            edited = await self._edit(channel, edits, reply)
            # What cannot be edited any more is said anew.
            if edited.state is not OutboxState.DROPPED:
                return edited
        return await self._say_in(channel, reply, reply_to=reply_to)

    async def _edit(self, channel: str, message_id: str, reply: Outgoing) -> Outcome:
        from . import rest

        text = split_message(str(reply.response_data["message"]))[0]
        try:
            await self.client.edit(channel, message_id, text, card=reply.response_data.get("card"))
        except ProviderError as err:
            return rest.outcome_of(err)
        return Outcome(OutboxState.SENT, message_id)

    async def _write_to(self, reply: Outgoing) -> Outcome:
        from . import rest

        recipient = {"recipient_id": str(reply.response_data["to"])}
        try:
            opened = await self.client.request("POST", "/users/@me/channels", json=recipient)
        except ProviderError as err:
            return rest.outcome_of(err)
        return await self._say_in(str(opened["id"]), reply, reply_to="")

    async def _say_in(self, channel: str, reply: Outgoing, *, reply_to: str) -> Outcome:
        from . import rest

        sent = ""
        for number, part in enumerate(split_message(str(reply.response_data["message"]))):
            if number and self.more is not None:
                await self.more(reply)
            try:
                sent = await self.client.say(
                    channel,
                    part,
                    nonce=f"{reply.id}.{number}",
                    reply_to=reply_to if number == 0 else "",
                    card=reply.response_data.get("card") if number == 0 else None,
                )
            except ProviderError as err:
                return rest.outcome_of(err)
        return Outcome(OutboxState.SENT, sent)

    async def _answer(self, reply: Outgoing, asked: dict[str, Any]) -> Outcome:
        """Answer a slash command. Its first answer may be tried again; a later one, which has no nonce, may not."""
        assert self.interactions is not None
        try:
            token = self.interactions.open_token(asked)
        except WaddleBotError as err:
            return Outcome(OutboxState.DROPPED, err.message)
        takes_the_place = await asyncio.to_thread(self.interactions.is_first, asked["interaction_id"], reply.id)
        return await self._answer_with(token, reply, takes_the_place=takes_the_place)

    async def _answer_alone(self, reply: Outgoing, asked: dict[str, Any]) -> Outcome:
        """Answer a slash command so that only its user sees it.

        What stands in the place of "is thinking…" is as public as that was, and so is whatever is said below before
        something stands there, whatever its flags (Discord's documentation of followups). So first there are words.
        """
        from . import rest

        assert self.interactions is not None
        try:
            token = self.interactions.open_token(asked)
        except WaddleBotError as err:
            return Outcome(OutboxState.DROPPED, err.message)
        takes_the_place = await asyncio.to_thread(self.interactions.is_first, asked["interaction_id"], reply.id)
        try:
            if takes_the_place:
                key = ("alone", reply.id)
                await self.client.answer(self._application_id, token, FOR_YOU_ALONE, first=True, key=key)
            elif await self.client.is_thinking(self._application_id, token, key=("thinking", reply.id)):
                return Outcome(OutboxState.PENDING, "another answer comes first", rest.SOON)
        except ProviderError as err:
            return rest.outcome_of(err)
        return await self._answer_with(token, reply, takes_the_place=False, alone=True)

    async def _answer_with(self, token: str, reply: Outgoing, *, takes_the_place: bool, alone: bool = False) -> Outcome:
        from . import rest

        parts = split_message(str(reply.response_data["message"]))
        for number, part in enumerate(parts):
            is_first = takes_the_place and number == 0
            try:
                key = ("answer", reply.id, number)
                await self.client.answer(self._application_id, token, part, first=is_first, key=key, alone=alone)
            except ProviderError as err:
                outcome = rest.outcome_of(err)
                if not is_first and outcome.state is OutboxState.PENDING:
                    return Outcome(OutboxState.UNKNOWN, f"after {number} of {len(parts)} parts: {outcome.detail}")
                return outcome
        return SENT

    def _again(self, reply: Outgoing, outcome: Outcome) -> Outcome:
        """Have it tried again for as long as Discord certainly knows that it is the same one."""
        if len(self._tried) > MAX_TRIED:
            self._tried.clear()
        since = self._tried.setdefault(str(reply.id), time.monotonic())
        if outcome.detail == "Discord asks to wait" or "TOKEN" in outcome.detail:
            self._paused_until = time.monotonic() + outcome.retry_after.total_seconds()
            self._log.system("sending_paused", result="FAILED", detail=outcome.detail)
            return outcome
        if time.monotonic() - since > SURE_FOR_S:
            del self._tried[str(reply.id)]
            return Outcome(OutboxState.UNKNOWN, outcome.detail)
        return outcome

    async def _act(self, action: ModerationAction, *, guild: str, channel: str) -> None:
        from .rest import is_gone_already, timed_out_until

        member = {"guild_id": guild, "user_id": action.platform_user_id}
        client, reason = self.client, action.reason[:400]
        if action.action == "delete":
            path = "/channels/{channel_id}/messages/{message_id}"
            await client.request("DELETE", path, reason=reason, channel_id=channel, message_id=action.message_id)
        elif action.action == "timeout":
            until = timed_out_until(action.duration_s or DEFAULT_TIMEOUT_S)
            body = {"communication_disabled_until": until}
            await client.request("PATCH", "/guilds/{guild_id}/members/{user_id}", reason=reason, json=body, **member)
        elif action.action == "ban":
            path = "/guilds/{guild_id}/bans/{user_id}"
            await client.request("PUT", path, reason=reason, json={"delete_message_seconds": 0}, **member)
        elif action.action == "unban":
            try:
                await client.request("DELETE", "/guilds/{guild_id}/bans/{user_id}", reason=reason, **member)
            except ProviderError as err:
                if not is_gone_already(err):
                    raise
                # Who is not banned may be timed out, which this ends as on Twitch.
                nothing = {"communication_disabled_until": None}
                await client.request(
                    "PATCH", "/guilds/{guild_id}/members/{user_id}", reason=reason, json=nothing, **member
                )
        else:
            await self._warn(action, channel)

    async def _warn(self, action: ModerationAction, channel: str) -> None:
        """A word to somebody alone, or, where they take none, below their message."""
        from . import rest

        nonce = f"w{action.once.replace('-', '')}"[-25:]
        text = f"A warning: {action.reason or 'please mind the rules of this server.'}"
        try:
            opened = await self.client.request(
                "POST", "/users/@me/channels", json={"recipient_id": action.platform_user_id}
            )
            await self.client.say(str(opened["id"]), text, nonce=nonce, reply_to="")
        except ProviderError as err:
            if rest.outcome_of(err).state is not OutboxState.DROPPED or not channel:
                raise
            reply_to = action.message_id if is_number(action.message_id, digits=20) else ""
            await self.client.say(channel, text, nonce=nonce, reply_to=reply_to)
