"""The three platforms as the demo uses them: one channel each, in which anybody says and does anything."""

from __future__ import annotations

import asyncio
import html
import json
import re
import shlex
import string
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

from aiohttp import ClientSession, ClientTimeout, CookieJar
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..discord import ADMINISTRATOR, MANAGE_MESSAGES, DiscordSimulator
from ..slack import SlackSimulator
from ..twitch import TwitchSimulator
from .guard import for_this_machine
from .timeline import Line, Show

BOT = "WaddleBot"
GIFTS, BITS, RAIDERS, MONTHS = 5, 100, 42, 6
# What everybody there has streamed lately.
GAME, CLIPS, CLIP_S = "Penguin Racer", ("A perfect slide", "Caught a fish"), 6.0
STREAM_TITLE = "Sliding with friends"
# What the streamer does, whoever presses the button.
STREAMERS = ("online", "offline")
NOBODY_THERE = "The fleet did not take this. It may be starting again; try once more in a moment."
NOT_CONNECTED = "The bot is not connected to Discord yet. Try again in a moment."
WAVE = "👋"
INSTALL_TIMEOUT = ClientTimeout(total=20)
# aiohttp ends every request after five minutes by itself; what is begun anew tells everything once more.
NO_END = ClientTimeout(total=None, sock_connect=5)


@dataclass(frozen=True, slots=True)
class Choice:
    """A level that somebody can speak at, or something that can happen."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    level: str


@dataclass(frozen=True, slots=True)
class Served:
    """What a row of `servers` names; without a channel it is the whole server."""

    platform: str
    channel: str
    server_id: str = ""
    name: str = ""


class Platform(Protocol):
    """One of the platforms. Everything but `listen` blocks until the fleet has taken it."""

    name: ClassVar[str]
    title: ClassVar[str]
    place: ClassVar[str]
    levels: ClassVar[tuple[Choice, ...]]
    events: ClassVar[tuple[Choice, ...]]

    @property
    def served(self) -> Served: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def settings(self) -> dict[str, str]: ...

    def user_of(self, name: str) -> str:
        """The platform's own id of whoever goes by that name."""

    async def install(self) -> None:
        """Let the fleet's bot in, once the fleet is there. Raises: OSError or ClientError to be asked again."""

    def say(self, person: Person, text: str) -> None: ...

    def happen(self, event: str, person: Person) -> None: ...

    async def listen(self, session: ClientSession) -> None:
        """Show what the bot says, for ever."""


def number_of(name: str) -> int:
    """The same for a name in every process."""
    return zlib.crc32(name.casefold().encode())


async def streamed(session: ClientSession, url: str) -> AsyncIterator[dict[str, Any]]:
    """The data of server-sent events."""
    async with session.get(url, timeout=NO_END) as answer:
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


class Twitch:
    name = "twitch"
    title = "Twitch"
    place = "waddle_live"
    levels = (
        Choice("viewer", "Viewer"),
        Choice("subscriber", "Subscriber"),
        Choice("vip", "VIP"),
        Choice("moderator", "Moderator"),
        Choice("broadcaster", "Broadcaster"),
    )
    events = (
        Choice("follow", "Follow"),
        Choice("subscribe", "Subscribe"),
        Choice("resub", "Resub"),
        Choice("gift", f"Gift {GIFTS} subs"),
        Choice("cheer", f"Cheer {BITS}"),
        Choice("raid", f"Raid {RAIDERS}"),
        Choice("online", "Go live"),
        Choice("offline", "End the stream"),
    )
    CHANNEL = "12826"

    # Twitch delivers over https only; this is the fleet by another name.
    PUBLIC_URL = "https://waddlebot.invalid"

    def __init__(self, show: Show, *, port: int, collector: str, secret: str, client_secret: str) -> None:
        self._show = show
        self._collector = collector
        self._twitch = TwitchSimulator(
            port=port, callback=f"{collector}/webhook", secret=secret, client_secret=client_secret
        )
        self._twitch.callbacks[f"{self.PUBLIC_URL}/"] = f"{collector}/"
        self._happens: dict[str, Callable[[str], Any]] = {
            "follow": lambda user: self._twitch.follow(self.CHANNEL, user),
            "subscribe": lambda user: self._twitch.subscribe(self.CHANNEL, user),
            "resub": lambda user: self._twitch.resub(self.CHANNEL, user, "Still here!", months=MONTHS),
            "gift": lambda user: self._twitch.gift(self.CHANNEL, user, GIFTS),
            "cheer": lambda user: self._twitch.cheer(self.CHANNEL, user, BITS, "Keep waddling!"),
            "raid": lambda user: self._twitch.raid(self.CHANNEL, user, RAIDERS),
            "online": lambda _: self._go_live(),
            "offline": lambda _: self._twitch.offline(self.CHANNEL),
        }

    @property
    def served(self) -> Served:
        return Served(self.name, self.CHANNEL, name=self.place)

    def start(self) -> None:
        self._twitch.middlewares.append(for_this_machine)
        self._twitch.start()
        self._meet(self.CHANNEL, self.place)
        self._meet(self._twitch.bot_user_id, BOT)
        self._twitch.accounts.get(self.CHANNEL).moderators.add(self._twitch.bot_user_id)

    def stop(self) -> None:
        self._twitch.stop()

    def settings(self) -> dict[str, str]:
        return {**self._twitch.settings(), "TWITCH_WEBHOOK_CALLBACK_URL": f"{self.PUBLIC_URL}/webhook"}

    def user_of(self, name: str) -> str:
        return str(number_of(name))

    async def install(self) -> None:
        """Consent as the streamer, through the pages that a streamer's browser goes through."""
        async with ClientSession(cookie_jar=CookieJar(unsafe=True), timeout=INSTALL_TIMEOUT) as browser:
            begin = f"{self._collector}/auth/login?moderate=1"
            async with browser.get(begin, allow_redirects=False, raise_for_status=True) as sent:
                there = sent.headers["Location"]
            back = await asyncio.to_thread(self._twitch.authorize, there, user=self.place)
            async with browser.get(back, raise_for_status=True) as shown:
                await shown.read()

    def say(self, person: Person, text: str) -> None:
        user, line_id = self._meet(self.user_of(person.name), person.name), str(uuid.uuid4())
        self._show(Line(self.name, "chat", text, person.name, person.level, id=line_id))
        badges = [] if person.level == "viewer" else [person.level]
        # Twitch says the same of them to who asks as it does in chat.
        moderators = self._twitch.accounts.get(self.CHANNEL).moderators
        (moderators.add if person.level == "moderator" else moderators.discard)(user)
        tries = self._twitch.say(self.CHANNEL, text, chatter=user, name=person.name, badges=badges, message_id=line_id)
        self._check(tries)

    def happen(self, event: str, person: Person) -> None:
        words = {
            "follow": "followed",
            "subscribe": "subscribed",
            "resub": f"resubscribed, for {MONTHS} months now",
            "gift": f"gave {GIFTS} subscriptions away",
            "cheer": f"cheered {BITS} bits",
            "raid": f"raids with {RAIDERS} viewers",
            "online": "begins to stream",
            "offline": "ends the stream",
        }
        name = self.place if event in STREAMERS else person.name
        user = self.CHANNEL if event in STREAMERS else self._meet(self.user_of(name), name)
        self._show(Line(self.name, "notice", words[event], name))
        self._check(self._happens[event](user))

    async def listen(self, session: ClientSession) -> None:
        async for happened in streamed(session, f"{self._twitch.url}/_control/stream"):
            said = happened["event"]
            if happened["type"] != "channel.chat.message" or said["chatter_user_id"] != self._twitch.bot_user_id:
                continue
            parent = (said["reply"] or {}).get("parent_message_id", "")
            self._show(Line(self.name, "bot", said["message"]["text"], BOT, reply_to=parent, id=said["message_id"]))

    def _meet(self, user_id: str, name: str) -> str:
        """Let an id have a name. Whoever is met so has consented to everything."""
        known = self._twitch.accounts.see(user_id, name)
        known.name = name
        if not known.picture:
            known.game, known.picture = GAME, f"{self._twitch.url}/pictures/{quote(name)}.svg"
            for title in CLIPS:
                self._twitch.clip(known, title, duration_s=CLIP_S)
        return user_id

    def _go_live(self) -> list[int]:
        streamer = self._twitch.accounts.get(self.CHANNEL)
        return self._twitch.online(
            streamer, title=streamer.title or STREAM_TITLE, game=streamer.game or GAME, viewers=RAIDERS
        )

    def _check(self, tries: Any) -> None:
        if any(statuses and not 200 <= statuses[-1] < 300 for statuses in _lists(tries)):
            self._show(Line(self.name, "problem", NOBODY_THERE))


def _lists(tries: Iterable[Any]) -> list[list[int]]:
    """The statuses of each delivery, of one or of several."""
    found = list(tries)
    return found if found and isinstance(found[0], list) else [found]


class Discord:
    name = "discord"
    title = "Discord"
    place = "#general"
    levels = (
        Choice("member", "Member"),
        Choice("booster", "Booster"),
        Choice("moderator", "Moderator"),
        Choice("administrator", "Administrator"),
        Choice("owner", "Owner"),
    )
    events = (Choice("join", "Join"), Choice("boost", "Boost"), Choice("react", f"React {WAVE}"))
    GUILD, CHANNEL = "1296000000000000000", "1296000000000000001"
    ROLES: ClassVar[Mapping[str, tuple[str, int]]] = {
        "moderator": ("1296000000000000002", MANAGE_MESSAGES),
        "administrator": ("1296000000000000003", ADMINISTRATOR),
    }
    # For a label to bring.
    REGULARS = "1296000000000000004"

    def __init__(self, show: Show, *, port: int, seed: str, token: str, client_secret: str) -> None:
        self._show = show
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
        self._discord = DiscordSimulator(port=port, token=token, client_secret=client_secret, private_key=key)
        self._guild = self._discord.add_guild("Waddle HQ", guild_id=self.GUILD)
        self._channel = self._discord.add_channel(self._guild, "general", channel_id=self.CHANNEL)
        self._guild.system_channel_id = self.CHANNEL
        for level, (role_id, permissions) in self.ROLES.items():
            self._guild.add_role(level.title(), permissions, role_id)
        self._guild.add_role("Regulars", 0, self.REGULARS)
        self._last = ""

    @property
    def served(self) -> Served:
        return Served(self.name, "", self.GUILD, "Waddle HQ")

    def start(self) -> None:
        self._discord.middlewares.append(for_this_machine)
        self._discord.start()

    def stop(self) -> None:
        self._discord.stop()

    def settings(self) -> dict[str, str]:
        return self._discord.settings()

    def user_of(self, name: str) -> str:
        return str(10**17 + number_of(name))

    async def install(self) -> None:
        """The bot is in the server from the start."""

    def say(self, person: Person, text: str) -> None:
        user = self._meet(person)
        if text.startswith("/"):
            self._slash(person, user, text)
            return
        payload = self._discord.message(self._channel, text, user=user, name=person.name)
        self._last = payload["id"]
        self._show(Line(self.name, "chat", text, person.name, person.level, id=payload["id"]))
        self._check(self._discord.dispatch(self.GUILD, "MESSAGE_CREATE", payload))

    def happen(self, event: str, person: Person) -> None:
        user = self._meet(person)
        if event == "join":
            self._show(Line(self.name, "notice", "joined the server", person.name))
            self._discord.join(self._guild, user, name=person.name)
        elif event == "boost":
            self._show(Line(self.name, "notice", "boosted the server", person.name))
            self._discord.boost(self._guild, user)
        elif self._last:
            self._show(Line(self.name, "notice", f"reacted with {WAVE}", person.name, reply_to=self._last))
            self._discord.react(self._channel, self._last, user=user, emoji=WAVE)
        else:
            self._show(Line(self.name, "problem", "There is nothing to react to yet. Say something first."))

    async def listen(self, session: ClientSession) -> None:
        async for said in streamed(session, f"{self._discord.url}/_control/stream"):
            if said["channel_id"] != self.CHANNEL or not said["content"]:
                continue
            self._last = said["message_id"]
            self._show(
                Line(
                    self.name,
                    "bot",
                    self._plain(said["content"]),
                    BOT,
                    reply_to=said["reply_to"] or said["interaction_id"],
                    is_private=said["ephemeral"],
                    id=said["message_id"],
                )
            )

    def _slash(self, person: Person, user: str, text: str) -> None:
        command, path, options = read_slash(text, [*self._guild.commands, *self._discord.world.global_commands])
        payload = self._discord.interaction(self._channel, command, options, user=user, name=person.name, path=path)
        self._show(Line(self.name, "chat", text, person.name, person.level, id=payload["id"]))
        self._check(self._discord.dispatch(self.GUILD, "INTERACTION_CREATE", payload))

    def _meet(self, person: Person) -> str:
        """Let somebody be a member with just this level's role, and whatever the bot gave them."""
        user = self._guild.owner_id if person.level == "owner" else self.user_of(person.name)
        known = self._discord.person(self._guild, user, name=person.name)
        known.name, known.display_name = person.name.lower(), person.name
        member = self._guild.members[user]
        of_levels = {role_id for role_id, _ in self.ROLES.values()}
        level = [self.ROLES[person.level][0]] if person.level in self.ROLES else []
        member.roles = [*level, *(each for each in member.roles if each not in of_levels)]
        member.premium_since = "2026-01-01T00:00:00+00:00" if person.level == "booster" else None
        return user

    def _plain(self, text: str) -> str:
        """A message with its mentions as people see them."""
        users = self._discord.world.users
        text = re.sub(r"<@!?(\d+)>", lambda m: f"@{users[m[1]].display_name}" if m[1] in users else m[0], text)
        return re.sub(rf"\\([{re.escape(string.punctuation)}])", r"\1", text)

    def _check(self, told: int) -> None:
        if not told:
            self._show(Line(self.name, "problem", NOT_CONNECTED))


def read_slash(text: str, known: Iterable[Mapping[str, Any]]) -> tuple[str, list[str], dict[str, Any]]:
    """`/inventory add sword shiny` as Discord's client reads it: the command, the subcommand, and named options."""
    try:
        name, *words = shlex.split(text[1:]) or [""]
    except ValueError:
        name, *words = text[1:].split() or [""]
    level: Mapping[str, Any] = next((each for each in known if each["name"] == name), {})
    path: list[str] = []
    while words and (under := _subcommand(level, words[0])):
        level, path, words = under, [*path, words[0]], words[1:]
    wanted = [each for each in level.get("options") or [] if each.get("type", 3) > 2]
    if not wanted:
        return name, path, {}
    # The last option takes what is left.
    values = [*words[: len(wanted) - 1], " ".join(words[len(wanted) - 1 :])]
    return name, path, {each["name"]: _typed(each, value) for each, value in zip(wanted, values, strict=False) if value}


def _subcommand(level: Mapping[str, Any], word: str) -> Mapping[str, Any] | None:
    options = level.get("options") or []
    return next((each for each in options if each.get("type") in (1, 2) and each["name"] == word), None)


def _typed(option: Mapping[str, Any], value: str) -> str | int:
    return int(value) if option.get("type") == 4 and value.isdecimal() else value


class Slack:
    name = "slack"
    title = "Slack"
    place = "#lounge"
    levels = (Choice("member", "Member"), Choice("admin", "Admin"), Choice("owner", "Owner"))
    events = (Choice("join", "Join"), Choice("react", f"React {WAVE}"), Choice("mention", f"Mention @{BOT}"))
    TEAM, CHANNEL = "T0WADDLE", "C0LOUNGE"

    def __init__(
        self,
        show: Show,
        *,
        port: int,
        events_url: str,
        signing_secret: str,
        client_secret: str,
        bot_token: str,
        app_token: str,
    ) -> None:
        self._show = show
        self._slack = SlackSimulator(
            port=port,
            events_url=events_url,
            team_id=self.TEAM,
            signing_secret=signing_secret,
            client_secret=client_secret,
            bot_token=bot_token,
            app_token=app_token,
        )
        self._team = self._slack.state.team(self.TEAM)
        self._team.name = "Waddle Works"
        self._team.channel_names[self.CHANNEL] = self.place.removeprefix("#")
        self._last = ""
        # The last slash command, whose later answer names no message.
        self._last_slash = ""

    @property
    def served(self) -> Served:
        return Served(self.name, self.CHANNEL, self.TEAM, "Waddle Works #lounge")

    def start(self) -> None:
        self._slack.middlewares.append(for_this_machine)
        self._slack.start()

    def stop(self) -> None:
        self._slack.stop()

    def settings(self) -> dict[str, str]:
        return self._slack.settings()

    def user_of(self, name: str) -> str:
        return f"U{number_of(name):08X}"

    async def install(self) -> None:
        """The bot has its token from the start."""

    def say(self, person: Person, text: str) -> None:
        user, ts = self._meet(person), self._slack.state.make_ts()
        if text.startswith("/"):
            self._slash(person, user, text, ts)
            return
        self._last = ts
        self._show(Line(self.name, "chat", text, person.name, person.level, id=ts))
        self._check(self._slack.say(self.CHANNEL, self._escaped(text), user=user, ts=ts))

    def happen(self, event: str, person: Person) -> None:
        user = self._meet(person)
        if event == "mention":
            self.say(person, f"@{BOT} hello!")
        elif event == "join":
            self._show(Line(self.name, "notice", f"joined {self.place}", person.name))
            joined = {"type": "member_joined_channel", "user": user, "channel": self.CHANNEL, "team": self.TEAM}
            self._check(self._slack.happen({**joined, "channel_type": "C", "event_ts": self._slack.state.make_ts()}))
        elif self._last:
            self._show(Line(self.name, "notice", f"reacted with {WAVE}", person.name, reply_to=self._last))
            item = {"type": "message", "channel": self.CHANNEL, "ts": self._last}
            reaction = {"type": "reaction_added", "user": user, "reaction": "wave", "item": item}
            self._check(self._slack.happen({**reaction, "event_ts": self._slack.state.make_ts()}))
        else:
            self._show(Line(self.name, "problem", "There is nothing to react to yet. Say something first."))

    async def listen(self, session: ClientSession) -> None:
        async for said in streamed(session, f"{self._slack.url}/_control/stream"):
            if not said["by_bot"] or said["channel"] != self.CHANNEL:
                continue
            self._last = said["ts"]
            self._show(
                Line(
                    self.name,
                    "bot",
                    self._plain(said["text"]),
                    BOT,
                    reply_to=said["thread_ts"] or (self._last_slash if said["via"] == "response_url" else ""),
                    is_private=bool(said["ephemeral_to"]),
                    id=said["ts"],
                )
            )

    def _slash(self, person: Person, user: str, text: str, line_id: str) -> None:
        self._show(Line(self.name, "chat", text, person.name, person.level, id=line_id))
        self._last_slash = line_id
        command, _, words = text.partition(" ")
        answer = self._slack.slash(words.strip(), channel=self.CHANNEL, user=user, command=command)
        self._check([answer.status])
        try:
            shown = json.loads(answer.body or b"{}")
        except ValueError:
            shown = {"text": answer.body.decode(errors="replace")}
        if answer.status == 200 and shown.get("text"):
            is_private = shown.get("response_type") != "in_channel"
            self._show(Line(self.name, "bot", self._plain(shown["text"]), BOT, reply_to=line_id, is_private=is_private))

    def _meet(self, person: Person) -> str:
        """Let somebody be what they are said to be; Slack tells the app when that changes."""
        user = self.user_of(person.name)
        known = self._team.users.get(user)
        now = {"is_owner": person.level == "owner", "is_admin": person.level in ("owner", "admin")}
        if known is None or (known.is_owner, known.is_admin) != tuple(now.values()):
            self._slack.change_user(user, name=person.name.lower(), display_name=person.name, **now)
        return user

    def _escaped(self, text: str) -> str:
        """As Slack writes a message for apps."""
        return html.escape(text, quote=False).replace(f"@{BOT}", f"<@{self._team.bot_user_id}>")

    def _plain(self, text: str) -> str:
        """A message as people see it."""
        names = {id_: each.display_name for id_, each in self._team.users.items()}
        text = re.sub(r"<@(\w+)(?:\|[^>]*)?>", lambda m: f"@{names.get(m[1], m[1])}", text)
        return html.unescape(text.replace("\u200b", ""))

    def _check(self, statuses: list[int]) -> None:
        if statuses and not 200 <= statuses[-1] < 300:
            self._show(Line(self.name, "problem", NOBODY_THERE))
