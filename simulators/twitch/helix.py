"""api.twitch.tv/helix: what a bot asks and says.

Source: https://dev.twitch.tv/docs/api/reference/
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .accounts import Account
from .conduits import ConduitRoutes
from .eventsub import SubscriptionRoutes
from .oauth import Token
from .wire import BROKEN, Refused, Said, error, read_object, seconds_timestamp

if TYPE_CHECKING:
    from .simulator import TwitchSimulator

MAX_CHARS = 500
MAX_TITLE_CHARS = 140
CATEGORIES = (
    "Just Chatting",
    "Celeste",
    "Celeste 64: Fragments of the Mountain",
    "Chess",
    "Chess Royale",
    "Science & Technology",
    "Software and Game Development",
    "Penguin Diner",
)
MAX_PAGE = 100
MAX_TIMEOUT_S = 1_209_600
SHOUTOUT_PAUSE_S, SAME_SHOUTOUT_PAUSE_S = 120.0, 3600.0

Handler = Callable[[web.Request, Token], Awaitable[web.Response]]


class Helix:
    def __init__(self, twitch: TwitchSimulator) -> None:
        self._twitch = twitch
        self._shoutouts: dict[tuple[str, str], float] = {}

    def routes(self) -> list[web.RouteDef]:
        subscriptions = SubscriptionRoutes(self._twitch.eventsub)
        conduits = ConduitRoutes(self._twitch.conduits)
        handlers: list[tuple[str, str, Handler]] = [
            ("GET", "users", self._users),
            ("GET", "channels", self._channels),
            ("PATCH", "channels", self._modify_channel),
            ("GET", "search/categories", self._search_categories),
            ("POST", "clips", self._make_clip),
            ("POST", "streams/markers", self._make_marker),
            ("GET", "streams", self._streams),
            ("GET", "clips", self._clips),
            ("GET", "channels/followers", self._followers),
            ("GET", "subscriptions", self._subscribers),
            ("GET", "moderation/moderators", self._moderators),
            ("POST", "moderation/moderators", self._add_moderator),
            ("DELETE", "moderation/moderators", self._remove_moderator),
            ("GET", "moderation/channels", self._moderated_channels),
            ("GET", "channels/vips", self._list_vips),
            ("POST", "channels/vips", self._add_vip),
            ("DELETE", "channels/vips", self._remove_vip),
            ("POST", "moderation/bans", self._ban),
            ("DELETE", "moderation/bans", self._unban),
            ("POST", "moderation/warnings", self._warn),
            ("DELETE", "moderation/chat", self._delete_messages),
            ("POST", "chat/shoutouts", self._shout_out),
            ("POST", "eventsub/subscriptions", subscriptions.post),
            ("GET", "eventsub/subscriptions", subscriptions.get),
            ("DELETE", "eventsub/subscriptions", subscriptions.delete),
            ("GET", "eventsub/conduits", conduits.get),
            ("POST", "eventsub/conduits", conduits.post),
            ("PATCH", "eventsub/conduits", conduits.patch),
            ("DELETE", "eventsub/conduits", conduits.delete),
            ("GET", "eventsub/conduits/shards", conduits.get_shards),
            ("PATCH", "eventsub/conduits/shards", conduits.patch_shards),
            ("POST", "chat/messages", self._say),
        ]
        return [web.route(method, f"/helix/{path}", self._guard(path, handler)) for method, path, handler in handlers]

    def clear(self) -> None:
        self._shoutouts.clear()

    def _guard(self, path: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Faults, tokens and points, alike for all."""
        twitch = self._twitch

        async def handle(request: web.Request) -> web.StreamResponse:
            is_chat = path == "chat/messages"
            twitch.requests.append("chat" if is_chat else f"{request.method} {path}")
            if request.transport is not None:
                twitch.connections.add(request.transport)
            if is_chat and twitch.send_delay_s:
                await asyncio.sleep(twitch.send_delay_s)
            fault = twitch.faults.next(path)
            if fault and fault.kind == "hang":
                await asyncio.sleep(60)
            if fault and fault.kind in BROKEN:
                return web.Response(text=BROKEN[fault.kind], content_type="application/json")
            if fault and fault.kind.isdecimal():
                return error(int(fault.kind), "simulated", fault.headers)
            token = twitch.oauth.bearer(request)
            if token is None:
                return error(401, "Invalid OAuth token")
            if request.headers.get("Client-Id") != twitch.client_id:
                return error(401, "Client ID and OAuth token do not match")
            has_room, headers = twitch.points.take(token.user_id)
            if not has_room:
                return error(429, "Too Many Requests", headers)
            try:
                if fault and fault.kind == "dropped":
                    return _not_sent("msg_rejected", "Your message is being checked by mods.")
                answer = await handler(request, token)
            except Refused as err:
                return error(err.status, err.message, headers)
            except ValueError:
                return error(400, "The body is not JSON.", headers)
            answer.headers.update({**headers, **(fault.headers if fault else {})})
            return answer

        return handle

    # Reading

    async def _users(self, request: web.Request, token: Token) -> web.Response:
        ids, logins = request.query.getall("id", []), request.query.getall("login", [])
        if len(ids) + len(logins) > MAX_PAGE:
            raise Refused(400, "The number of IDs and logins must not exceed 100.")
        if not ids and not logins:
            if token.is_app:
                raise Refused(400, "The ID or login must be specified.")
            ids = [token.user_id]
        accounts = self._twitch.accounts
        found = [*(accounts.find(each) for each in ids), *(accounts.find_login(each) for each in logins)]
        return web.json_response({"data": [_user(each) for each in found if each]})

    async def _channels(self, request: web.Request, _: Token) -> web.Response:
        ids = request.query.getall("broadcaster_id", [])
        if not 1 <= len(ids) <= MAX_PAGE:
            raise Refused(400, "1 to 100 broadcaster_id must be specified.")
        found = [self._twitch.accounts.find(each) for each in ids]
        return web.json_response({"data": [_channel(each) for each in found if each]})

    # The stream, with the statuses and words of https://dev.twitch.tv/docs/api/reference/#modify-channel-information

    async def _modify_channel(self, request: web.Request, token: Token) -> web.Response:
        channel = self._required(request, "broadcaster_id")
        _check_owner(token, channel, "channel:manage:broadcast")
        asked = await read_object(request)
        title, game_id = asked.get("title"), asked.get("game_id")
        if title is None and game_id is None:
            raise Refused(400, "The request body must contain at least one field.")
        if title is not None and not (isinstance(title, str) and 1 <= len(title.strip()) <= MAX_TITLE_CHARS):
            raise Refused(400, "The title field may not contain an empty string, and no more than 140 characters.")
        game = next((name for name in CATEGORIES if _game_id(name) == game_id), "")
        if game_id not in (None, "", "0") and not game:
            raise Refused(400, "The ID in game_id was not found.")
        self._twitch.change_channel(channel, title=title, game=game if game_id is not None else None)
        return web.Response(status=204)

    async def _search_categories(self, request: web.Request, _: Token) -> web.Response:
        query = request.query.get("query", "")
        if not query:
            raise Refused(400, 'Missing required parameter "query"')
        words = query.lower().split()
        found = [name for name in CATEGORIES if all(word in name.lower() for word in words)]
        return _paged(request, [{"id": _game_id(name), "name": name, "box_art_url": ""} for name in found])

    async def _make_clip(self, request: web.Request, token: Token) -> web.Response:
        channel = self._required(request, "broadcaster_id")
        if token.is_app or "clips:edit" not in token.scopes:
            raise Refused(401, "Missing scope: clips:edit")
        if channel.stream is None:
            raise Refused(404, "Clipping is not possible for an offline channel.")
        made = self._twitch.clip(channel, channel.stream.title, age_s=0)
        answer = {"id": made["id"], "edit_url": f"{made['url']}/edit"}
        return web.json_response({"data": [answer]}, status=202)

    async def _make_marker(self, request: web.Request, token: Token) -> web.Response:
        asked = await read_object(request)
        channel = self._account(str(asked.get("user_id") or ""), "user_id")
        _check_owner(token, channel, "channel:manage:broadcast")
        description = str(asked.get("description") or "")
        if len(description) > MAX_TITLE_CHARS:
            raise Refused(400, "The string in the description field is too long.")
        if channel.stream is None:
            raise Refused(404, "The user specified in user_id is not live streaming.")
        self._twitch.markers.append((channel.id, description))
        began = datetime.fromisoformat(channel.stream.started_at)
        answer = {
            "id": str(uuid.uuid4().int % 10**12),
            "created_at": seconds_timestamp(),
            "description": description,
            "position_seconds": int((datetime.now(UTC) - began).total_seconds()),
        }
        return web.json_response({"data": [answer]})

    async def _streams(self, request: web.Request, _: Token) -> web.Response:
        ids, logins = request.query.getall("user_id", []), request.query.getall("user_login", [])
        if len(ids) > MAX_PAGE or len(logins) > MAX_PAGE:
            raise Refused(400, "The number of users must not exceed 100.")
        live = [each for each in self._twitch.accounts if each.stream]
        if ids or logins:
            live = [each for each in live if each.id in ids or each.login in logins]
        live.sort(key=lambda each: -(each.stream.viewers if each.stream else 0))
        return _paged(request, [_stream(each) for each in live])

    async def _clips(self, request: web.Request, _: Token) -> web.Response:
        channel = self._required(request, "broadcaster_id")
        clips = self._twitch.clips.get(channel.id, [])
        since, until = request.query.get("started_at", ""), request.query.get("ended_at", "")
        chosen = [each for each in clips if since <= each["created_at"] and (not until or each["created_at"] <= until)]
        return _paged(request, sorted(chosen, key=lambda each: -each["view_count"]))

    async def _followers(self, request: web.Request, token: Token) -> web.Response:
        """Who follows is told to moderators only; how many to everybody."""
        channel = self._required(request, "broadcaster_id")
        may_see = "moderator:read:followers" in token.scopes and channel.is_moderated_by(token.user_id)
        wanted = request.query.get("user_id")
        accounts = self._twitch.accounts
        rows = [
            {"followed_at": at, **_named("user", accounts.get(user_id))}
            for user_id, at in reversed(channel.followers.items())
            if may_see and (not wanted or user_id == wanted)
        ]
        return _paged(request, rows, total=len(channel.followers))

    async def _subscribers(self, request: web.Request, token: Token) -> web.Response:
        channel = self._required(request, "broadcaster_id")
        _check_owner(token, channel, "channel:read:subscriptions")
        wanted = request.query.getall("user_id", [])
        accounts = self._twitch.accounts
        rows = [
            {
                **_named("broadcaster", channel),
                "gifter_id": "",
                "gifter_login": "",
                "gifter_name": "",
                "is_gift": False,
                **_named("user", accounts.get(user_id)),
                "tier": tier,
                "plan_name": f"Channel Subscription ({channel.login})",
            }
            for user_id, tier in channel.subscribers.items()
            if not wanted or user_id in wanted
        ]
        points = sum({"1000": 1, "2000": 2, "3000": 6}.get(tier, 1) for tier in channel.subscribers.values())
        return _paged(request, rows, total=len(channel.subscribers), points=points)

    async def _moderators(self, request: web.Request, token: Token) -> web.Response:
        channel = self._required(request, "broadcaster_id")
        _check_owner(token, channel, "moderation:read", "channel:manage:moderators")
        wanted = request.query.getall("user_id", [])
        accounts = self._twitch.accounts
        found = [accounts.get(each) for each in sorted(channel.moderators) if not wanted or each in wanted]
        return _paged(request, [_named("user", each) for each in found])

    # Source: https://dev.twitch.tv/docs/api/reference/#get-moderated-channels
    async def _moderated_channels(self, request: web.Request, token: Token) -> web.Response:
        """Where somebody moderates; their own channel is none of these."""
        user = self._required(request, "user_id")
        if token.is_app or token.user_id != user.id:
            raise Refused(401, "The ID in user_id must match the user ID found in the request's OAuth token.")
        if "user:read:moderated_channels" not in token.scopes:
            raise Refused(401, "Missing scope: user:read:moderated_channels")
        found = sorted((each for each in self._twitch.accounts if user.id in each.moderators), key=lambda each: each.id)
        return _paged(request, [_named("broadcaster", each) for each in found])

    async def _list_vips(self, request: web.Request, token: Token) -> web.Response:
        channel = self._required(request, "broadcaster_id")
        _check_owner(token, channel, "channel:read:vips", "channel:manage:vips")
        wanted = request.query.getall("user_id", [])
        accounts = self._twitch.accounts
        found = [accounts.get(each) for each in sorted(channel.vips) if not wanted or each in wanted]
        return _paged(request, [_named("user", each) for each in found])

    # Roles, with the statuses and words of https://dev.twitch.tv/docs/api/reference/#add-channel-vip and its neighbours

    async def _add_moderator(self, request: web.Request, token: Token) -> web.Response:
        channel, user = self._role_of(request, token, "channel:manage:moderators")
        if user.id in channel.vips:
            raise Refused(422, "The user is a VIP. To make them a moderator, you must first remove them as a VIP.")
        if user.id in channel.moderators or user.id == channel.id:
            raise Refused(400, "user is already a mod")
        channel.moderators.add(user.id)
        return web.Response(status=204)

    async def _remove_moderator(self, request: web.Request, token: Token) -> web.Response:
        channel, user = self._role_of(request, token, "channel:manage:moderators")
        if user.id not in channel.moderators:
            raise Refused(400, "user is not a mod")
        channel.moderators.discard(user.id)
        return web.Response(status=204)

    async def _add_vip(self, request: web.Request, token: Token) -> web.Response:
        channel, user = self._role_of(request, token, "channel:manage:vips")
        if user.id in channel.moderators:
            raise Refused(422, "The user is a moderator. To make them a VIP, first remove them as a moderator.")
        if user.id in channel.vips:
            raise Refused(422, "The user is already a VIP.")
        if len(channel.vips) >= channel.vip_slots:
            raise Refused(409, "Unable to add VIP. Visit the Achievements page on your dashboard for more information.")
        channel.vips.add(user.id)
        return web.Response(status=204)

    async def _remove_vip(self, request: web.Request, token: Token) -> web.Response:
        channel, user = self._role_of(request, token, "channel:manage:vips")
        if user.id not in channel.vips:
            raise Refused(422, "The user is not a VIP.")
        channel.vips.discard(user.id)
        return web.Response(status=204)

    def _role_of(self, request: web.Request, token: Token, scope: str) -> tuple[Account, Account]:
        channel = self._required(request, "broadcaster_id")
        _check_owner(token, channel, scope)
        user = self._twitch.accounts.find(request.query.get("user_id", ""))
        if user is None:
            raise Refused(404, "The ID in user_id was not found.")
        if channel.ban_of(user.id) is not None:
            raise Refused(400, "The user is banned from the channel's chat room.")
        return channel, user

    # Moderating

    async def _ban(self, request: web.Request, token: Token) -> web.Response:
        channel, moderator = self._check_moderator(request, token, "moderator:manage:banned_users")
        asked = await _data(request)
        user = self._wanted_user(asked)
        if user.id == channel.id or (user.id in channel.moderators and moderator.id != channel.id):
            raise Refused(400, "The user specified in the user_id field may not be banned.")
        duration_s = asked.get("duration")
        if duration_s is not None and not (type(duration_s) is int and 1 <= duration_s <= MAX_TIMEOUT_S):
            raise Refused(400, "The value in the duration field is not valid.")
        standing = channel.ban_of(user.id)
        if standing is not None and standing.until is None:
            raise Refused(400, "The user specified in the user_id field is already banned.")
        reason = str(asked.get("reason", ""))
        made = self._twitch.ban(channel, user, moderator=moderator, reason=reason, duration_s=duration_s, soon=True)
        answer = {
            "broadcaster_id": channel.id,
            "moderator_id": moderator.id,
            "user_id": user.id,
            "created_at": seconds_timestamp(),
            "end_time": None if made.until is None else seconds_timestamp(made.until),
        }
        return web.json_response({"data": [answer]})

    async def _unban(self, request: web.Request, token: Token) -> web.Response:
        channel, moderator = self._check_moderator(request, token, "moderator:manage:banned_users")
        user = self._wanted_user(request.query)
        if channel.ban_of(user.id) is None:
            raise Refused(400, "The user specified in the user_id query parameter is not banned.")
        self._twitch.unban(channel, user, moderator=moderator, soon=True)
        return web.Response(status=204)

    async def _warn(self, request: web.Request, token: Token) -> web.Response:
        channel, moderator = self._check_moderator(request, token, "moderator:manage:warnings")
        asked = await _data(request)
        user = self._wanted_user(asked)
        reason = str(asked.get("reason", ""))
        if not 1 <= len(reason) <= MAX_CHARS:
            raise Refused(400, "The text in the reason field is required, and no more than 500 characters.")
        self._twitch.warn(channel, user, moderator=moderator, reason=reason)
        answer = {"broadcaster_id": channel.id, "user_id": user.id, "moderator_id": moderator.id, "reason": reason}
        return web.json_response({"data": [answer]})

    async def _delete_messages(self, request: web.Request, token: Token) -> web.Response:
        channel, moderator = self._check_moderator(request, token, "moderator:manage:chat_messages")
        message_id = request.query.get("message_id", "")
        if not self._twitch.delete_message(channel, message_id, moderator=moderator):
            raise Refused(404, "The ID in message_id was not found, or the message was created more than 6 hours ago.")
        return web.Response(status=204)

    async def _shout_out(self, request: web.Request, token: Token) -> web.Response:
        channel, moderator = self._check_moderator(
            request, token, "moderator:manage:shoutouts", field="from_broadcaster_id"
        )
        to = self._required(request, "to_broadcaster_id")
        if to.id == channel.id:
            raise Refused(400, "The broadcaster may not give themselves a Shoutout.")
        if channel.stream is None:
            raise Refused(400, "The broadcaster is not streaming live or does not have one or more viewers.")
        now = time.monotonic()
        too_soon = now - self._shoutouts.get((channel.id, ""), -SHOUTOUT_PAUSE_S) < SHOUTOUT_PAUSE_S
        again = now - self._shoutouts.get((channel.id, to.id), -SAME_SHOUTOUT_PAUSE_S) < SAME_SHOUTOUT_PAUSE_S
        if too_soon or again:
            raise Refused(429, "The broadcaster exceeded the number of Shoutouts they may send.")
        self._shoutouts[channel.id, ""] = self._shoutouts[channel.id, to.id] = now
        self._twitch.shout_out(channel, to, moderator=moderator)
        return web.Response(status=204)

    # Saying

    async def _say(self, request: web.Request, token: Token) -> web.Response:
        # Also in the query, as pyTwitchAPI has them.
        asked: dict[str, Any] = {**request.query, **(await read_object(request) if request.can_read_body else {})}
        for name in ("broadcaster_id", "sender_id", "message"):
            if not asked.get(name) or not isinstance(asked[name], str):
                raise Refused(400, f'Missing required parameter "{name}"')
        if len(asked["message"]) > MAX_CHARS:
            raise Refused(422, "The message is too large.")
        channel = self._account(asked["broadcaster_id"], "broadcaster_id")
        sender = self._account(asked["sender_id"], "sender_id")
        self._check_may_say(token, channel, sender)
        moderates = channel.is_moderated_by(sender.id)
        limits = self._twitch.chat_limits
        if not limits.may_send(sender.id, moderates=moderates):
            raise Refused(429, "The sender is sending messages too quickly.")
        # Twitch lets moderators repeat themselves.
        is_held = self._twitch.drops_repeated and not (channel.is_made and moderates)
        if is_held and limits.is_repeated(sender.id, channel.id, asked["message"]):
            return _not_sent("msg_duplicate", "Your message is identical to the one you sent in the last 30 seconds.")
        said = Said(
            str(uuid.uuid4()),
            channel.id,
            sender.id,
            asked["message"],
            asked.get("reply_parent_message_id", ""),
            time.time(),
        )
        self._twitch.note_said(channel, sender, said)
        return web.json_response({"data": [{"message_id": said.message_id, "is_sent": True, "drop_reason": None}]})

    def _check_may_say(self, token: Token, channel: Account, sender: Account) -> None:
        """Raises: Refused."""
        forbidden = Refused(403, "The sender is not permitted to send chat messages to the broadcaster's chat room.")
        if token.is_app:
            lets_in = channel.has_consented("channel:bot") or channel.is_moderated_by(sender.id)
            if not (sender.has_consented("user:bot") and sender.has_consented("user:write:chat") and lets_in):
                raise forbidden
        elif token.user_id != sender.id:
            raise Refused(401, "The ID in sender_id must match the user ID in the access token.")
        elif "user:write:chat" not in token.scopes:
            raise Refused(401, "Missing scope: user:write:chat")
        if channel.ban_of(sender.id):
            raise forbidden

    # What requests are about

    def _required(self, request: web.Request, field: str) -> Account:
        return self._account(request.query.get(field, ""), field)

    def _account(self, user_id: str, field: str) -> Account:
        if not user_id:
            raise Refused(400, f'Missing required parameter "{field}"')
        account = self._twitch.accounts.find(str(user_id))
        if account is None:
            raise Refused(400, f"The ID in {field} is not valid.")
        return account

    def _wanted_user(self, asked: Mapping[str, Any]) -> Account:
        return self._account(str(asked.get("user_id") or ""), "user_id")

    def _check_moderator(
        self, request: web.Request, token: Token, scope: str, *, field: str = "broadcaster_id"
    ) -> tuple[Account, Account]:
        """Whose chat and who acts in it. Raises: Refused."""
        channel = self._required(request, field)
        moderator = self._required(request, "moderator_id")
        if token.is_app or token.user_id != moderator.id:
            raise Refused(401, "The ID in moderator_id must match the user ID found in the request's OAuth token.")
        if scope not in token.scopes:
            raise Refused(401, f"Missing scope: {scope}")
        if not channel.is_moderated_by(moderator.id):
            raise Refused(403, "The user in moderator_id is not one of the broadcaster's moderators.")
        return channel, moderator


def _check_owner(token: Token, channel: Account, *any_of: str) -> None:
    if token.user_id != channel.id:
        raise Refused(401, "The ID in broadcaster_id must match the user ID found in the request's OAuth token.")
    if not set(any_of) & set(token.scopes):
        raise Refused(401, f"Missing scope: {' or '.join(any_of)}")


async def _data(request: web.Request) -> dict[str, Any]:
    """The `data` of a body, an object as Twitch documents it."""
    data = (await read_object(request)).get("data")
    if not isinstance(data, dict):
        raise Refused(400, 'The "data" field must be an object.')
    return data


def _paged(request: web.Request, rows: list[dict[str, Any]], **more: Any) -> web.Response:
    first = request.query.get("first", "20")
    size = min(int(first), MAX_PAGE) if first.isdecimal() else 20
    cursor = request.query.get("after", "")
    after = int(cursor) if cursor.isdecimal() else 0
    page = rows[after : after + size]
    is_last = after + len(page) >= len(rows)
    return web.json_response(
        {"data": page, "pagination": {} if is_last else {"cursor": str(after + len(page))}, **more}
    )


def _not_sent(code: str, message: str) -> web.Response:
    reason = {"code": code, "message": message}
    return web.json_response({"data": [{"message_id": "", "is_sent": False, "drop_reason": reason}]})


def _named(prefix: str, account: Account) -> dict[str, str]:
    return {f"{prefix}_id": account.id, f"{prefix}_login": account.login, f"{prefix}_name": account.name}


def _user(account: Account) -> dict[str, str]:
    return {
        "id": account.id,
        "login": account.login,
        "display_name": account.name,
        "type": "",
        "broadcaster_type": "",
        "description": "",
        "profile_image_url": account.picture,
        "offline_image_url": "",
        "created_at": "2020-01-01T00:00:00Z",
    }


def _channel(account: Account) -> dict[str, Any]:
    return {
        **_named("broadcaster", account),
        "broadcaster_language": "en",
        "game_id": _game_id(account.game),
        "game_name": account.game,
        "title": account.title,
        "delay": 0,
        "tags": [],
        "content_classification_labels": [],
        "is_branded_content": False,
    }


def _stream(account: Account) -> dict[str, Any]:
    stream = account.stream
    assert stream is not None
    return {
        "id": stream.id,
        **_named("user", account),
        "game_id": _game_id(stream.game),
        "game_name": stream.game,
        "type": "live",
        "title": stream.title,
        "viewer_count": stream.viewers,
        "started_at": stream.started_at,
        "language": "en",
        "thumbnail_url": f"https://static-cdn.jtvnw.net/previews-ttv/live_user_{account.login}-{{width}}x{{height}}.jpg",
        "tag_ids": [],
        "tags": [],
        "is_mature": False,
    }


def _game_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name).int % 1_000_000) if name else ""
