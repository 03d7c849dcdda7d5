"""!link, !verify, !unlink and !whoami."""

from __future__ import annotations

from waddlebot.base.chat import count_of
from waddlebot.base.contracts import MessageType
from waddlebot.base.errors import UsageError
from waddlebot.base.text import fold
from waddlebot.module.interaction import Call

from ..services.ban_service import follow
from ..services.label_service import LabelService
from ..services.link_service import Changed, LinkService, NotLinked
from ..services.times import lasting_s
from .chat import listed


class IdentityChat:
    def __init__(self, links: LinkService, labels: LabelService) -> None:
        self._links = links
        self._labels = labels

    def link(self, call: Call, word: str = "", named: str = "") -> str:
        user = call.payload.user
        if not word:
            code = self._links.make_code(call.db, user.own_id, user.ids)
            return (
                f"Your code is {code}. On your other platform say !verify {code}, within ten minutes,"
                " and then here: !link confirm"
            )
        if fold(word) != "confirm":
            raise UsageError("Usage: !link, and then !link confirm")
        changed, name = self._links.confirm(call.db, user.own_id, user.ids, named=named, community_id=call.community_id)
        self._forget(call, changed)
        return f"You and {name} are one person now. Not you? Say !unlink."

    def verify(self, call: Call, code: str) -> str:
        user = call.payload.user
        return self._links.claim(call.db, code, user.own_id, user.ids, platform=call.payload.entity.platform)

    def unlink(self, call: Call) -> str:
        try:
            changed = self._links.unlink(call.db, call.payload.user.own_id, community_id=call.community_id)
        except NotLinked as err:
            raise NotLinked("This account is not linked with another one. Say !link to begin.") from err
        self._forget(call, changed)
        return "This account is a person of its own again, with what it earned itself."

    def whoami(self, call: Call) -> str:
        user = call.payload.user
        accounts = self._links.list_accounts(call.db, user.ids)
        others = [
            f"{each['display_name'] or each['name'] or each['platform_user_id']} on {each['platform'].title()}"
            for each in accounts
            if each["own_id"] != user.own_id
        ]
        labels = self._labels.read(call.community_id, "user", str(user.own_id))
        points = self._links.points(call.db, call.community_id, user.ids)
        here = f"{call.user_name} on {call.payload.entity.platform.title()}"
        also = f", and also {' and '.join(others)}" if others else ""
        bears = f"; labels: {listed(labels)}" if labels else ""
        return f"You are {here}{also}. {user.level.title()}, {count_of(points, 'point')}{bears}."

    def follow_ban(self, call: Call) -> None:
        """What a platform told: somebody was banned or timed out. Nothing is said about it."""
        user, trigger = call.payload.user, call.payload.trigger
        others = [each for each in user.ids if each != user.own_id]
        if not others or not call.settings["bans_follow"]:
            return
        is_timeout = trigger.message_type is MessageType.TIMEOUT
        duration_s = lasting_s(trigger.data) if is_timeout else None
        follow(
            call.db, call.community_id, user.own_id, others, session_id=call.payload.session_id, duration_s=duration_s
        )

    def _forget(self, call: Call, changed: Changed) -> None:
        for cache, keys in changed.stale.items():
            for key in keys:
                call.invalidate(cache, key)
