"""What Slack knows: workspaces with their people and channels, tokens, and what was said."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

CLIENT_ID = "1234567890.simulated"
CLIENT_SECRET = "simulated-client-key"
SIGNING_SECRET = "simulated-signing-key"
APP_ID = "A0SIMULATED"
TEAM_ID = "T0SIM"
SCOPES = (
    "app_mentions:read,channels:history,channels:read,chat:write,commands,files:read,groups:history,groups:read,"
    "reactions:read,team:read,usergroups:read,usergroups:write,users:read"
)
ROTATES_AFTER_S = 12 * 3600
# Goes on after a reset, so that no two messages of a second are one.
STAMPS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One signed POST of Slack: to the app's `events` or `slash` address."""

    to: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """How the app answered; status 0 is no answer in time."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """Something in a channel: by a person, or by the bot through chat.* or a response_url."""

    number: int
    ts: str
    team: str
    channel: str
    text: str
    user: str
    by_bot: bool
    thread_ts: str
    ephemeral_to: str
    via: str
    at: float
    attachments: str = ""
    blocks: Sequence[Mapping[str, Any]] = ()
    edited_at: float = 0.0


@dataclass(slots=True)
class User:
    id: str
    name: str
    display_name: str = ""
    is_owner: bool = False
    is_admin: bool = False
    is_bot: bool = False


@dataclass(slots=True)
class Team:
    """A workspace. People and channels that nobody described exist all the same, under their ids."""

    id: str
    name: str
    users: dict[str, User] = field(default_factory=dict)
    channel_names: dict[str, str] = field(default_factory=dict)
    # Channels in which saying something ends with this error.
    closed: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)

    @property
    def bot_user_id(self) -> str:
        return f"UBOT{self.id}"

    @property
    def bot_id(self) -> str:
        return f"BBOT{self.id}"

    def user(self, id_: str) -> User:
        return self.users.get(id_) or User(id_, f"name-{id_.lower()}", f"Name {id_}")


@dataclass(slots=True)
class Token:
    team: str
    kind: str
    user: str
    scope: str
    expires_at: float | None = None
    # Why it is worth nothing any more: token_revoked, account_inactive.
    ended: str = ""


@dataclass(slots=True)
class Fault:
    """How the next calls of a method end: a status, an error's name, `hang`, or `cut` (done, and no answer)."""

    method: str
    kind: str
    times: int = 1
    retry_after_s: float = 1.0


@dataclass(slots=True)
class ResponseURL:
    team: str
    channel: str
    user: str
    expires_at: float
    uses_left: int = 5


class State:
    """Everything that a reset forgets. Used from the server's loop and from whoever tests."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.numbers = itertools.count()
        self.teams: dict[str, Team] = {}
        self.tokens: dict[str, Token] = {}
        self.refresh_tokens: dict[str, str] = {}
        self.codes: dict[str, tuple[str, str, str, str]] = {}
        self.used_codes: set[str] = set()
        self.response_urls: dict[str, ResponseURL] = {}
        self.said: list[Said] = []
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.spoke_at: dict[tuple[str, str], float] = {}
        self.deleted: list[tuple[str, str]] = []

    def team(self, team_id: str) -> Team:
        with self.lock:
            return self.teams.setdefault(team_id, Team(team_id, f"Workspace {team_id}"))

    def make_ts(self) -> str:
        """A message's timestamp, which is its id in its channel."""
        return f"{int(time.time())}.{next(STAMPS) % 1_000_000:06d}"

    def make_token(self, team: str, *, kind: str = "bot", user: str = "", scope: str = SCOPES, ttl_s: float = 0) -> str:
        text = ("xoxe." if ttl_s else "") + {"bot": "xoxb-", "user": "xoxp-"}[kind] + secrets.token_hex(16)
        expires_at = time.time() + ttl_s if ttl_s else None
        self.tokens[text] = Token(team, kind, user or self.team(team).bot_user_id, scope, expires_at)
        return text

    def end_tokens(self, team: str, why: str) -> None:
        for token in self.tokens.values():
            if token.team == team:
                token.ended = why

    def record(self, **what: Any) -> Said:
        with self.lock:
            said = Said(number=next(self.numbers), at=time.time(), **what)
            self.said.append(said)
            return said

    def find_said(self, team: str, channel: str, ts: str) -> Said | None:
        return next((each for each in self.said if (each.team, each.channel, each.ts) == (team, channel, ts)), None)

    def replace_said(self, said: Said, **changes: Any) -> None:
        """It stays where it is in what was said."""
        with self.lock:
            self.said[self.said.index(said)] = replace(said, edited_at=time.time(), **changes)

    def fault(self, method: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method in (method, "*"):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None
