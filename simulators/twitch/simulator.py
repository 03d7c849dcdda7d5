"""A local Twitch on loopback. `TwitchSimulator` is what tests and the process of its own use."""

from __future__ import annotations

import asyncio
import http.client
import re
import secrets
import time
import urllib.error
import urllib.request
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

from aiohttp import web

from ..server import AsyncLoopbackServer
from . import events
from .accounts import Account, Accounts, Ban, Stream
from .clips import ClipPlayer
from .conduits import Conduits
from .control import Control
from .eventsub import EventSub, Subscription, sign
from .feed import Feed
from .helix import Helix
from .kinds import KINDS
from .limits import ChatLimits, Points
from .oauth import OAuth, Token
from .websocket import Sockets
from .wire import Answer, Delivery, Fault, Faults, Post, Said, encode, seconds_timestamp, timestamp

CLIENT_ID = "simulated-client"
CLIENT_SECRET = "simulated-client-key"
WEBHOOK_SECRET = "simulated-signing-key"
BOT_USER_ID = "900"
DELIVERY_TIMEOUT_S = 10
# Twitch lets moderators delete what is at most six hours old; here it is the last so many messages.
MAX_RECENT = 5000


@dataclass(frozen=True, slots=True)
class Action:
    """What a moderator, the bot among them, did through Helix."""

    kind: str
    broadcaster_id: str
    user_id: str
    moderator_id: str
    message_id: str = ""
    reason: str = ""
    duration_s: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What a callback answered over HTTP; status 0 is no answer."""

    status: int
    body: bytes = b""


class TwitchSimulator(AsyncLoopbackServer):
    """Everything is recorded in `messages`, `actions`, `tokens` and `requests`; `fail_next` breaks what comes.

    What happens goes to whoever has subscribed to it. A channel of which nothing was ever subscribed is posted to
    `callback` all the same, so that a test of something else need not subscribe; with `strict` it is not, nobody
    exists who was not made with `user()`, and nobody has consented to anything by themselves.
    """

    def __init__(
        self,
        *,
        callback: str | None = None,
        secret: str = WEBHOOK_SECRET,
        port: int = 0,
        post: Post | None = None,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        bot_user_id: str = BOT_USER_ID,
        strict: bool = False,
    ) -> None:
        super().__init__(port=port)
        self.callback = callback
        # Where addresses that begin so really are: {"https://bot.example/": "http://127.0.0.1:8000/"}.
        self.callbacks: dict[str, str] = {}
        self.secret = secret.encode()
        self.client_id = client_id
        self.client_secret = client_secret
        self.bot_user_id = bot_user_id
        self.messages: list[Said] = []
        self.actions: list[Action] = []
        self.requests: list[str] = []
        # Those that requests to Helix have come by and that are open.
        self.connections: WeakSet[asyncio.Transport] = WeakSet()
        # Markers in streams: whose, and their words.
        self.markers: list[tuple[str, str]] = []
        self.clips: dict[str, list[dict[str, Any]]] = {}
        self.on_said: Callable[[Said], None] | None = None
        self.send_delay_s = 0.0
        # Whether the bot's own messages come back to it, as they do on Twitch.
        self.echoes = True
        self.drops_repeated = strict
        self.post = post or self._post_over_http
        self.faults = Faults()
        self.feed = Feed()
        self.points = Points()
        self.chat_limits = ChatLimits()
        self.accounts = Accounts(strict=strict)
        self.oauth = OAuth(self.accounts, self.faults, client_id=client_id, client_secret=client_secret)
        self.oauth.requests = self.requests
        self.oauth.consented = self._tell_granted
        self.eventsub = EventSub(self.accounts, lambda delivery: self.post(delivery), client_id=client_id)
        self.sockets = Sockets(self.eventsub)
        self.conduits = Conduits(self.eventsub)
        self.helix = Helix(self)
        self.player = ClipPlayer(self.clips)
        self._recent: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def settings(self) -> dict[str, str]:
        """The environment that points a Twitch collector here."""
        return {
            "TWITCH_APP_ID": self.client_id,
            "TWITCH_APP_SECRET": self.client_secret,
            "TWITCH_WEBHOOK_SECRET": self.secret.decode(),
            "TWITCH_BOT_USER_ID": self.bot_user_id,
            "TWITCH_API_BASE_URL": f"{self.url}/helix/",
            "TWITCH_AUTH_BASE_URL": f"{self.url}/oauth2/",
            "TWITCH_EVENTSUB_WEBSOCKET_URL": self.websocket_url,
            "TWITCH_EMBED_BASE_URL": self.url,
        }

    # Running

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def make_app(self) -> web.Application:
        loop = asyncio.get_running_loop()
        self.sockets.run_on(loop)
        self.feed.run_on(loop)
        app = web.Application(middlewares=self.middlewares)
        for part in (self.oauth, self.helix, self.sockets, self.player, Control(self)):
            app.add_routes(part.routes())
        return app

    async def closing(self) -> None:
        self.feed.close()
        self.sockets.close(code=4000)

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.eventsub.close()

    # Breaking things

    def fail_next(self, kind: str | int, times: int = 1, *, at: str = "chat/messages", **headers: str) -> None:
        """Let the next requests to a Helix path end with this status, `hang`, or be answered with `html`, something
        `truncated`, `empty` or `huge`; chat messages also be `dropped`.

        A header that is given as "" is left out of a 429.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.plan(at, Fault(str(kind), times, named))

    def fail_next_token(self, kind: str | int, times: int = 1) -> None:
        """Let the next requests for a token end with this status, `hang`, come in `pieces`, or be `html`, `truncated`,
        `empty` or `huge`."""
        self.faults.plan("oauth2/token", Fault(str(kind), times))

    @property
    def tokens(self) -> dict[str, Token]:
        """The access tokens that are worth something."""
        return self.oauth.tokens

    def revoke_tokens(self, user: str | Account | None = None) -> None:
        """Make every token worthless, as a new client secret does, or one person's, as a new password does."""
        self.oauth.revoke(self.accounts.get(user) if user else None)

    def hang_up(self) -> None:
        """Close the connections that nothing is being asked by, as Twitch may at any time."""

        async def close() -> None:
            for each in self.connections:
                each.close()

        self.run(close())

    def reset(self, *, everything: bool = False) -> None:
        """Forget what was said, done and planned; with `everything` also people, consents, tokens, subscriptions."""
        self.messages.clear()
        self.actions.clear()
        self.markers.clear()
        self.requests.clear()
        self.faults.clear()
        self.points.clear()
        self.chat_limits.clear()
        self.helix.clear()
        self.send_delay_s = 0.0
        if everything:
            self.accounts.clear()
            self.oauth.revoke()
            self.eventsub.clear()
            self.clips.clear()
            self.player.played.clear()
            self._recent.clear()

    # People

    def user(self, login: str, *, id: str | None = None, moderators: Iterable[str] = (), **options: Any) -> Account:
        """Make somebody, who has consented to nothing yet."""
        return self.accounts.make(login, id=id, moderators=moderators, **options)

    def authorize(self, url: str, *, user: str, grant: Sequence[str] | None = None, deny: bool = False) -> str:
        """Click through Twitch's page at `url` as somebody. Returns where the browser is sent then.

        Raises: AuthorizePageRefused.
        """
        return self.oauth.authorize(url, user=user, grant=grant, deny=deny)

    def disconnect(self, user: str | Account) -> None:
        """Somebody disconnects the app on Twitch: tokens and consents are gone, subscriptions are revoked."""
        account = self.accounts.get(user)
        self.oauth.revoke(account)
        account.is_made = True
        account.consents.clear()
        self.eventsub.revoke_unconsented("authorization_revoked")
        self._tell_soon("user.authorization.revoke", events.authorization(self.client_id, account))

    def remove_user(self, user: str | Account) -> None:
        """Somebody's account is deleted."""
        account = self.accounts.get(user)
        self.oauth.revoke(account)
        self.accounts.remove(account)
        self.eventsub.revoke_where("user_removed", lambda each: account.id in each.condition.values())
        self._tell_soon("user.authorization.revoke", events.authorization(self.client_id, account, is_removed=True))

    def add_moderator(self, channel: str | Account, user: str | Account) -> None:
        place, somebody = self.accounts.get(channel), self.accounts.get(user)
        place.moderators.add(somebody.id)
        self._tell("channel.moderator.add", events.moderator(place, somebody))

    def remove_moderator(self, channel: str | Account, user: str | Account) -> None:
        """What somebody could watch only as a moderator ends with `moderator_removed`."""
        place, somebody = self.accounts.get(channel), self.accounts.get(user)
        place.is_made = True
        place.moderators.discard(somebody.id)
        self.eventsub.revoke_unconsented("moderator_removed")
        self._tell("channel.moderator.remove", events.moderator(place, somebody))

    # Deliveries

    def sign(
        self, body: bytes, *, kind: str, subscription_type: str, delivery_id: str = "", age_s: float = 0
    ) -> Delivery:
        """Any body, signed as Twitch signs."""
        return sign(
            self.secret,
            body,
            kind=kind,
            subscription_type=subscription_type,
            version=_version(subscription_type),
            delivery_id=delivery_id,
            age_s=age_s,
        )

    def notification(self, type_: str, event: Mapping[str, Any], **options: Any) -> Delivery:
        body = {"subscription": self._subscription(type_, event), "event": event}
        return self.sign(encode(body), kind="notification", subscription_type=type_, **options)

    def chat_message(
        self,
        broadcaster: str,
        text: str,
        *,
        chatter: str = "42",
        name: str = "Alice",
        badges: Sequence[str] = (),
        message_id: str = "",
        answers: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
        emotes: Sequence[str] = (),
        **options: Any,
    ) -> Delivery:
        """`channel.chat.message` as documented. `answers` is the event of the message that it is a reply to, whose
        writer's name Twitch puts before the text; `more` is put over the event's fields; `emotes` are
        those of its words that are emotes."""
        event = self._chat_event(
            broadcaster,
            text,
            chatter,
            name,
            badges=badges,
            message_id=message_id,
            answers=answers,
            more=more,
            emotes=emotes,
        )
        return self.notification("channel.chat.message", event, **options)

    def challenge(self, text: str = "", **options: Any) -> Delivery:
        type_ = "channel.chat.message"
        subscription = {**self._subscription(type_, {}), "status": "webhook_callback_verification_pending"}
        body = {"challenge": text or secrets.token_urlsafe(32), "subscription": subscription}
        return self.sign(encode(body), kind="webhook_callback_verification", subscription_type=type_, **options)

    def revocation(self, status: str = "authorization_revoked", broadcaster: str = "12826", **options: Any) -> Delivery:
        type_ = "channel.chat.message"
        subscription = {**self._subscription(type_, {"broadcaster_user_id": broadcaster}), "status": status}
        return self.sign(encode({"subscription": subscription}), kind="revocation", subscription_type=type_, **options)

    def deliver(self, delivery: Delivery, *, pauses_s: Sequence[float] | None = None) -> list[int]:
        """Post a delivery, and again with the same id and a higher Message-Retry until the answer is 2xx.

        Returns the status of each try; 0 is a try without an answer.
        """
        return self.eventsub.post_until_taken(delivery, pauses_s)

    def _chat_event(
        self,
        broadcaster: str,
        text: str,
        chatter: str,
        name: str,
        *,
        answers: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        place = self.accounts.get(broadcaster)
        if answers:
            text = f"@{answers['chatter_user_name']} {text}"
        somebody = {"chatter_user_id": chatter, "chatter_user_login": name.lower(), "chatter_user_name": name}
        named = (self.accounts.named(word) for word in re.findall(r"@(\w+)", text))
        mentioned = {each.login: events.mention(each) for each in named if each}
        if answers:
            mentioned[answers["chatter_user_login"]] = {
                f"user_{part}": answers[f"chatter_user_{part}"] for part in ("id", "login", "name")
            }
        event = events.chat_message(events.broadcaster(place), somebody, text, mentioned=mentioned, **options)
        reply = {"reply": events.reply_to(answers)} if answers else {}
        return {**event, **reply, **(more or {})}

    def _subscription(self, type_: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """One that nobody made, for deliveries that nobody asked for."""
        broadcaster = str(event.get("broadcaster_user_id") or event.get("to_broadcaster_user_id") or "12826")
        condition = {"broadcaster_user_id": broadcaster, "user_id": self.bot_user_id}
        if type_ == "channel.raid":
            condition = {"from_broadcaster_user_id": "", "to_broadcaster_user_id": broadcaster}
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{type_}:{broadcaster}")),
            "type": type_,
            "version": _version(type_),
            "status": "enabled",
            "cost": 0,
            "condition": condition,
            "transport": {"method": "webhook", "callback": self.callback or "https://example.com/twitch/webhook"},
            "created_at": "2026-11-22T10:00:00.123456789Z",
        }

    def _post_over_http(self, delivery: Delivery) -> Answer:
        request = urllib.request.Request(
            self.real_url(delivery.url), delivery.body, dict(delivery.headers), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=DELIVERY_TIMEOUT_S) as answer:
                return Answered(answer.status, answer.read())
        except urllib.error.HTTPError as err:
            err.close()
            return Answered(err.code)
        except (OSError, http.client.HTTPException):
            return Answered(0)

    def real_url(self, url: str) -> str:
        """Where on this machine a callback is."""
        for prefix, place in self.callbacks.items():
            if url.startswith(prefix):
                return place + url.removeprefix(prefix)
        assert self.callback or url, "where to? give the simulator a callback"
        return self.callback or url

    def _tell(self, type_: str, event: Mapping[str, Any]) -> list[int]:
        """Deliver what happened to whoever listens. Returns the status of each try of the first webhook."""
        self._show(type_, event)
        if self.eventsub.listening(type_, event) or not self._is_unsubscribed(event):
            delivered = self.eventsub.notify(type_, event)
            return next((statuses for statuses in delivered if statuses), [])
        return self.deliver(self.notification(type_, event))

    def _tell_soon(self, type_: str, event: Mapping[str, Any]) -> None:
        """The same without waiting, and only to who has subscribed."""
        self._show(type_, event)
        self.eventsub.notify_soon(type_, event)

    def _is_unsubscribed(self, event: Mapping[str, Any]) -> bool:
        place = str(event.get("broadcaster_user_id") or event.get("to_broadcaster_user_id") or "")
        return not self.accounts.strict and not self.eventsub.knows(place)

    def _show(self, type_: str, event: Mapping[str, Any]) -> None:
        self.feed.add(type_, event)
        if type_ != "channel.chat.message":
            return
        self._recent[event["message_id"]] = dict(event)
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)

    def _tell_granted(self, account: Account) -> None:
        self._tell_soon("user.authorization.grant", events.authorization(self.client_id, account))

    # What happens in channels

    def say(
        self,
        broadcaster: str | Account,
        text: str,
        *,
        chatter: str | Account = "42",
        name: str = "",
        badges: Sequence[str] = (),
        bits: int = 0,
        message_id: str = "",
        more: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> list[int]:
        """Somebody writes in a channel's chat, and Twitch delivers it. Returns the status of each try."""
        place = self.accounts.get(broadcaster)
        if not name and not isinstance(chatter, Account):
            name = "Alice" if chatter == "42" else ""
        who = self.accounts.see(chatter, name) if name and isinstance(chatter, str) else self.accounts.get(chatter)
        if place.ban_of(who.id):
            return []
        event = self._chat_event(
            place.id,
            text,
            who.id,
            name or who.name,
            badges=badges,
            bits=bits,
            message_id=message_id,
            more=more,
        )
        if options:
            self._show("channel.chat.message", event)
            return self.deliver(self.notification("channel.chat.message", event, **options))
        return self._tell("channel.chat.message", event)

    def follow(self, channel: str | Account, user: str | Account) -> list[int]:
        place, somebody = self.accounts.get(channel), self.accounts.get(user)
        place.followers.setdefault(somebody.id, seconds_timestamp())
        return self._tell("channel.follow", events.follow(place, somebody, timestamp()))

    def subscribe(self, channel: str | Account, user: str | Account, *, tier: str = "1000") -> list[int]:
        place, somebody = self.accounts.get(channel), self.accounts.get(user)
        place.subscribers[somebody.id] = tier
        return self._tell("channel.subscribe", events.subscribe(place, somebody, tier=tier, is_gift=False))

    def resub(
        self,
        channel: str | Account,
        user: str | Account,
        text: str = "Still here",
        *,
        tier: str = "1000",
        months: int = 12,
        streak: int | None = None,
    ) -> list[int]:
        """Somebody tells the chat that they have renewed."""
        place, somebody = self.accounts.get(channel), self.accounts.get(user)
        place.subscribers[somebody.id] = tier
        return self._tell(
            "channel.subscription.message",
            events.resub(place, somebody, text, tier=tier, months=months, streak=streak),
        )

    def gift(
        self,
        channel: str | Account,
        giver: str | Account | None,
        n: int = 1,
        *,
        to: Sequence[str | Account] = (),
        tier: str = "1000",
    ) -> list[list[int]]:
        """Somebody, or somebody unknown, gives n subscriptions: one event for each, and one for the gift."""
        place, giving = self.accounts.get(channel), self.accounts.get(giver) if giver else None
        given = [self.accounts.get(each) for each in to] or [self.accounts.get(f"lucky{k}") for k in range(1, n + 1)]
        told = []
        for somebody in given:
            place.subscribers[somebody.id] = tier
            told.append(self._tell("channel.subscribe", events.subscribe(place, somebody, tier=tier, is_gift=True)))
        told.append(self._tell("channel.subscription.gift", events.gift(place, giving, len(given), tier=tier)))
        return told

    def cheer(self, channel: str | Account, user: str | Account | None, bits: int, text: str = "") -> list[list[int]]:
        """Somebody cheers in chat: a message and an event. Somebody unknown leaves only the event."""
        place, somebody = self.accounts.get(channel), self.accounts.get(user) if user else None
        text = f"Cheer{bits} {text}".rstrip()
        told = [self.say(place, text, chatter=somebody, bits=bits)] if somebody else []
        return [*told, self._tell("channel.cheer", events.cheer(place, somebody, bits, text))]

    def raid(self, channel: str | Account, raider: str | Account, viewers: int = 10) -> list[int]:
        """A channel is raided by another."""
        return self._tell("channel.raid", events.raid(self.accounts.get(channel), self.accounts.get(raider), viewers))

    def online(
        self, channel: str | Account, *, title: str = "Hello", game: str = "Celeste", viewers: int = 1
    ) -> list[int]:
        place = self.accounts.get(channel)
        place.title, place.game = title, game
        place.stream = Stream(str(uuid.uuid4().int % 10**11), title, game, viewers, seconds_timestamp())
        return self._tell("stream.online", events.online(place, place.stream))

    def change_channel(self, channel: str | Account, *, title: str | None = None, game: str | None = None) -> None:
        """Somebody changes what a stream is about, whether it is on or not."""
        place = self.accounts.get(channel)
        place.title = place.title if title is None else title
        place.game = place.game if game is None else game
        if place.stream is not None:
            place.stream.title, place.stream.game = place.title, place.game
        self._tell_soon("channel.update", events.channel_update(place))

    def offline(self, channel: str | Account) -> list[int]:
        place = self.accounts.get(channel)
        place.stream = None
        return self._tell("stream.offline", events.broadcaster(place))

    def clip(
        self, channel: str | Account, title: str, *, views: int = 1, age_s: float = 3600, duration_s: float = 28.5
    ) -> dict[str, Any]:
        """A clip of a channel, which Helix lists then, and the player here plays."""
        place = self.accounts.get(channel)
        clip_id = f"{title.title().replace(' ', '')}-{secrets.token_urlsafe(6)}"
        made = {
            "id": clip_id,
            "url": f"https://clips.twitch.tv/{clip_id}",
            "embed_url": f"{self.url}/embed?clip={clip_id}",
            "broadcaster_id": place.id,
            "broadcaster_name": place.name,
            "creator_id": place.id,
            "creator_name": place.name,
            "video_id": "",
            "game_id": "",
            "language": "en",
            "title": title,
            "view_count": views,
            "created_at": seconds_timestamp(time.time() - age_s),
            "thumbnail_url": f"{self.url}/pictures/{quote(title)}.svg",
            "duration": duration_s,
            "vod_offset": None,
            "is_featured": False,
        }
        self.clips.setdefault(place.id, []).append(made)
        return made

    def ban(
        self,
        channel: str | Account,
        user: str | Account,
        *,
        moderator: str | Account | None = None,
        reason: str = "",
        duration_s: int | None = None,
        soon: bool = False,
    ) -> Ban:
        """Ban or time out; the broadcaster does it unless a moderator is named. A banned bot hears no more."""
        place, somebody = self.accounts.get(channel), self.accounts.get(user)
        by = self.accounts.get(moderator) if moderator else place
        made = Ban(reason, by.id, None if duration_s is None else time.time() + duration_s)
        place.bans[somebody.id] = made
        kind = "ban" if duration_s is None else "timeout"
        self.actions.append(Action(kind, place.id, somebody.id, by.id, reason=reason, duration_s=duration_s))
        event = events.ban(place, somebody, by, made)
        if soon:
            self._tell_soon("channel.ban", event)
        else:
            self._tell("channel.ban", event)
        self.eventsub.revoke_where("chat_user_banned", lambda each: _is_chat_of(each, place.id, somebody.id))
        return made

    def unban(
        self,
        channel: str | Account,
        user: str | Account,
        *,
        moderator: str | Account | None = None,
        soon: bool = False,
    ) -> None:
        place, somebody = self.accounts.get(channel), self.accounts.get(user)
        by = self.accounts.get(moderator) if moderator else place
        place.bans.pop(somebody.id, None)
        self.actions.append(Action("unban", place.id, somebody.id, by.id))
        event = events.unban(place, somebody, by)
        if soon:
            self._tell_soon("channel.unban", event)
        else:
            self._tell("channel.unban", event)

    def warn(self, channel: Account, user: Account, *, moderator: Account, reason: str) -> None:
        self.actions.append(Action("warn", channel.id, user.id, moderator.id, reason=reason))
        self._tell_soon("channel.warning.send", events.warning(channel, user, moderator, reason))

    def delete_message(self, channel: Account, message_id: str, *, moderator: Account) -> bool:
        """Without an id all of them. False when there is no such message; one that was never seen passes for one
        of long ago unless `strict`."""
        if not message_id:
            self.actions.append(Action("clear", channel.id, "", moderator.id))
            self._tell_soon("channel.chat.clear", events.broadcaster(channel))
            return True
        message = self._recent.get(message_id)
        if (message is None and self.accounts.strict) or (
            message is not None and message["broadcaster_user_id"] != channel.id
        ):
            return False
        user_id = message["chatter_user_id"] if message else ""
        self.actions.append(Action("delete", channel.id, user_id, moderator.id, message_id=message_id))
        if message is not None:
            target = {f"target_user_{part}": message[f"chatter_user_{part}"] for part in ("id", "login", "name")}
            self._tell_soon("channel.chat.message_delete", events.message_deleted(channel, target, message_id))
        return True

    def shout_out(self, channel: Account, to: Account, *, moderator: Account) -> None:
        self.actions.append(Action("shoutout", channel.id, to.id, moderator.id))
        self._tell_soon("channel.shoutout.create", events.shoutout(channel, to, moderator))

    def note_said(self, channel: Account, sender: Account, said: Said) -> None:
        """A message came in through Helix: it is in the chat now, and comes back to who listens to it."""
        self.messages.append(said)
        self.feed.wake()
        if self.on_said is not None:
            self.on_said(said)
        chatter = events.person("chatter_", sender)
        event = events.chat_message(events.broadcaster(channel), chatter, said.message, message_id=said.message_id)
        if parent := self._recent.get(said.reply_parent_message_id):
            event["reply"] = events.reply_to(parent)
        if self.echoes:
            self._tell_soon("channel.chat.message", event)
        else:
            self._show("channel.chat.message", event)

    def revoke(self, type_: str = "", channel: str = "", *, status: str = "version_removed") -> list[Subscription]:
        """Twitch ends subscriptions of a type, or of a channel, or all."""
        return self.eventsub.revoke_where(
            status, lambda each: type_ in ("", each.type) and (not channel or channel in each.condition.values())
        )


def _is_chat_of(subscription: Subscription, channel: str, user_id: str) -> bool:
    return subscription.kind.is_chat and subscription.condition == {"broadcaster_user_id": channel, "user_id": user_id}


def _version(type_: str) -> str:
    return KINDS[type_].version if type_ in KINDS else "1"
