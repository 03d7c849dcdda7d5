"""Interactions: who signed them, and what was used. The same payload comes by the gateway or over HTTP.

Source: https://discord.com/developers/docs/interactions/receiving-and-responding
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field
from waddlebot.base.contracts import WITHOUT_NULLS, IdPart, OpaqueId, Wire, discord_badges
from waddlebot.base.errors import BadSignature
from waddlebot.base.wire import is_number

from ..dataclasses import CommandUsed, Person

PING, APPLICATION_COMMAND, AUTOCOMPLETE = 1, 2, 4
PONG, MESSAGE, DEFERRED, CHOICES = 1, 4, 5, 8
EPHEMERAL = 1 << 6
SUB_COMMAND, SUB_COMMAND_GROUP = 1, 2
# What was recorded may be played back later; Discord's clock and ours may differ by a little.
FRESH_FOR_S = 300.0
MAX_VALUE_CHARS = 6000


class User(Wire):
    id: OpaqueId
    username: str = ""
    global_name: str | None = None
    bot: bool = False


class Member(Wire):
    user: User
    nick: str | None = None
    permissions: str = "0"
    premium_since: str | None = None


class Option(Wire):
    name: str
    type: int
    value: Any = None
    options: Annotated[list[Option], WITHOUT_NULLS] = Field(default_factory=list)


class CommandData(Wire):
    name: str
    options: Annotated[list[Option], WITHOUT_NULLS] = Field(default_factory=list)


class Interaction(Wire):
    """As much of an interaction as a slash command in a server needs."""

    id: IdPart
    type: int
    token: str = ""
    guild_id: IdPart | None = None
    channel_id: IdPart | None = None
    member: Member | None = None
    data: CommandData | None = None

    @property
    def is_command(self) -> bool:
        return self.type == APPLICATION_COMMAND and self.data is not None


def check_signature(public_key: Ed25519PublicKey, headers: Mapping[str, str], body: bytes) -> None:
    """Raises: BadSignature, also for one that is no hexadecimal, and for one from long ago. Names are lower case."""
    signature, timestamp = headers.get("x-signature-ed25519", ""), headers.get("x-signature-timestamp", "")
    try:
        public_key.verify(bytes.fromhex(signature), timestamp.encode("utf-8", "replace") + body)
        age_s = abs(time.time() - int(timestamp))
    except (InvalidSignature, ValueError) as err:
        raise NotSigned() from err
    if age_s > FRESH_FOR_S:
        raise NotSigned("The interaction is too old, or a clock is wrong.")


class NotSigned(BadSignature):
    """That was not signed by Discord for this application. Check DISCORD_PUBLIC_KEY."""

    http_status = 401  # Discord tries whether it gets this, and refuses an address that answers anything else.


def read_command(interaction: Interaction, *, owner_id: str = "") -> CommandUsed | None:
    """The slash command that somebody used in a server; None for anything else."""
    member, data = interaction.member, interaction.data
    if not interaction.is_command or data is None or member is None:
        return None
    if interaction.guild_id is None or interaction.channel_id is None:
        return None
    path, options = _flatten(data.options)
    permissions = int(member.permissions) if is_number(member.permissions, digits=40) else 0
    is_owner, is_premium = member.user.id == owner_id, member.premium_since is not None
    shown = member.nick or member.user.global_name or member.user.username
    return CommandUsed(
        interaction_id=interaction.id,
        token=interaction.token,
        guild_id=interaction.guild_id,
        channel_id=interaction.channel_id,
        person=Person(
            member.user.id,
            member.user.username,
            shown,
            discord_badges(permissions, is_owner=is_owner, is_premium=is_premium),
        ),
        permissions=permissions,
        name=data.name,
        path=path,
        options=options,
    )


def _flatten(options: list[Option]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The subcommands that were chosen, and the values that were filled in below them."""
    path: list[str] = []
    while len(options) == 1 and options[0].type in (SUB_COMMAND, SUB_COMMAND_GROUP) and len(path) < 2:
        path.append(options[0].name)
        options = options[0].options
    return tuple(path), tuple((each.name, _value(each.value)) for each in options)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value if value is not None else "")[:MAX_VALUE_CHARS]
