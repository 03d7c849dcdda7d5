"""!title, !game, !uptime, !followage, !clip, !marker: on Twitch and, for the community's channel there, elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime

from waddlebot.base.chat import shorten
from waddlebot.base.contracts import Level
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.markup import as_written
from waddlebot.base.variables import lasted
from waddlebot.community.live import uptime
from waddlebot.community.people import find_by_name
from waddlebot.module.interaction import OutsideCall

from ..services.stream_service import (
    MAX_MARKER_CHARS,
    MAX_TITLE_CHARS,
    Channel,
    NotLive,
    StreamService,
    find_twitch_id,
    get_channel,
)

NOT_SET_UP = (
    "Twitch is not set up in this fleet: its operator sets TWITCH_APP_ID, TWITCH_APP_SECRET and TWITCH_BOT_USER_ID."
)
OTHERS_NAMED = 3


class NotConfiguredHere(UserError):
    """Twitch is not set up in this fleet."""

    code = "not_configured"


class StreamChat:
    """Reading is for everybody, changing for moderators."""

    def __init__(self, streams: StreamService | None) -> None:
        self._maybe = streams

    def title(self, call: OutsideCall, *words: str) -> str:
        channel = self._channel(call)
        if not words:
            title = str(channel.stream.get("title") or "")
            return f"The title is “{_plain(call, title)}”." if title else f"{channel.name} has no title that I know of."
        _check_may_change(call, "title")
        title = " ".join(words)
        if len(title) > MAX_TITLE_CHARS:
            raise UsageError(f"A title has at most {MAX_TITLE_CHARS} characters; this has {len(title)}.")
        call.effect(f"set the title to “{title}”", lambda _left_s: self._streams.set_title(channel, title))
        return f"The title is “{_plain(call, title)}” now."

    def game(self, call: OutsideCall, *words: str) -> str:
        channel = self._channel(call)
        if not words:
            game = str(channel.stream.get("game") or "")
            return (
                f"The category is {_plain(call, game)}." if game else f"{channel.name} has no category that I know of."
            )
        _check_may_change(call, "category")
        wanted = " ".join(words)
        found = call.look_up(f"categories called “{wanted}”", lambda _left_s: self._streams.find_categories(wanted))
        if not found:
            raise UserError(f"Twitch has no category by the words “{shorten(wanted, 60)}”.")
        first = found[0]
        call.effect(f"set the category to {first.name}", lambda _left_s: self._streams.set_category(channel, first))
        others = ", ".join(each.name for each in found[1 : OTHERS_NAMED + 1])
        also = f" Others by these words: {others}." if others and first.name.lower() != wanted.lower() else ""
        return f"The category is {first.name} now.{also}"

    def uptime(self, call: OutsideCall) -> str:
        channel = self._channel(call)
        since = uptime(channel.stream)
        return f"{channel.name} has been live for {since}." if since else f"{channel.name} is not live."

    def followage(self, call: OutsideCall, *who: str) -> str:
        channel = self._channel(call)
        name = " ".join(who).removeprefix("@").strip()
        user_id = self._whom(call, name)
        shown = name or call.user_name
        if user_id == channel.id:
            return f"{channel.name} is whose channel this is."
        since = call.look_up(f"since when {shown} follows", lambda _left_s: self._streams.followed_at(channel, user_id))
        if since is None:
            return f"{shown} does not follow {channel.name}."
        return f"{shown} has followed {channel.name} for {lasted(datetime.now(UTC) - since)}."

    def clip(self, call: OutsideCall) -> str:
        channel = self._live(call)
        _check_may_change(call, "clips")
        url = call.effect("make a clip", lambda _left_s: self._streams.clip(channel))
        return f"Clipped: {url} (Twitch takes some seconds to show it.)"

    def marker(self, call: OutsideCall, *words: str) -> str:
        channel = self._live(call)
        _check_may_change(call, "markers")
        about = " ".join(words)
        if len(about) > MAX_MARKER_CHARS:
            raise UsageError(f"A marker's words have at most {MAX_MARKER_CHARS} characters; these have {len(about)}.")
        at_s = call.effect("put a marker into the stream", lambda _left_s: self._streams.mark(channel, about))
        hours, rest = divmod(at_s, 3600)
        return f"Marked at {hours}:{rest // 60:02}:{rest % 60:02}{f' – {about}' if about else ''}."

    @property
    def _streams(self) -> StreamService:
        """Raises: NotConfiguredHere."""
        if self._maybe is None:
            raise NotConfiguredHere(NOT_SET_UP)
        return self._maybe

    def _channel(self, call: OutsideCall) -> Channel:
        assert self._streams, "or it has said what is missing"
        with call.reading() as db:
            return get_channel(db, call.community_id, call.entity_id)

    def _live(self, call: OutsideCall) -> Channel:
        channel = self._channel(call)
        if not channel.stream.get("is_live"):
            raise NotLive(f"{channel.name} is not live.")
        return channel

    def _whom(self, call: OutsideCall, name: str) -> str:
        """The id at Twitch of the caller, or of who is named. Raises: UserError."""
        user, platform = call.payload.user, call.payload.entity.platform
        if not name and platform == "twitch":
            return user.platform_user_id
        with call.reading() as db:
            ids: list[int] = list(user.ids)
            if name:
                found = find_by_name(db, name, platform=platform, community_id=call.community_id)
                ids = [found] if found is not None else []
            user_id = find_twitch_id(db, ids)
        if user_id is None:
            raise UserError(
                f"Nobody called {shorten(name, 60)} has written on Twitch here yet."
                if name
                else "I do not know your name on Twitch: link it with !link, or say !followage @name."
            )
        return user_id


def _check_may_change(call: OutsideCall, what: str) -> None:
    if call.level < Level.MODERATOR:
        raise UserError(f"Only a moderator or above changes the {what}; you are a {call.level.label}.")


def _plain(call: OutsideCall, text: str) -> str:
    return as_written(text, call.payload.entity.platform)
