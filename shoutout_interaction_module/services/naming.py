"""Whom a word of chat means: a name, an id, a mention or a link."""

from __future__ import annotations

import re
from dataclasses import dataclass

from waddlebot.base.errors import UserError

MAX_CHARS = 255
LOGIN = re.compile(r"[A-Za-z0-9_]{1,25}", re.ASCII)
CHANNEL_LINK = re.compile(
    r"(?:https?://)?(?:www\.|m\.)?twitch\.tv/(?:popout/|moderator/)?(\w{1,25})(?:[/?#].*)?", re.I | re.A
)
PROFILE_LINKS = (
    ("discord", re.compile(r"(?:https?://)?(?:\w+\.)?discord(?:app)?\.com/users/(\d{1,20})/?", re.I | re.A)),
    ("slack", re.compile(r"(?:https?://)?[\w-]+\.slack\.com/(?:team|user_profile)/([UW]\w{1,20})/?", re.I | re.A)),
)
MENTION = re.compile(r"<@!?(\w{1,30})(?:\|[^<>]*)?>", re.A)
IDENTITY = re.compile(r"(twitch|discord|slack|console|user):([^\s:]{1,255})", re.I)


class NobodyNamed(UserError):
    """Whom? Name somebody, with or without @, or give a link to their channel."""

    code = "nobody_named"


@dataclass(frozen=True, slots=True)
class Named:
    """A name, or somebody's id on a platform. Without a platform it is wherever somebody is called so."""

    name: str = ""
    id: str = ""
    platform: str = ""
    # Our own number of them, as what takes a change back names people.
    own_id: int | None = None

    @property
    def may_be_login(self) -> bool:
        """Whether Twitch could know somebody by that name."""
        return self.platform in ("", "twitch") and LOGIN.fullmatch(self.name) is not None


def parse_named(word: str, *, here: str) -> Named:
    """Read a word that names somebody, said on the platform `here`. Raises: NobodyNamed."""
    word = word.strip().removesuffix(",").removesuffix(":")
    if mention := MENTION.fullmatch(word):
        return Named(id=mention[1], platform=here)
    if link := CHANNEL_LINK.fullmatch(word):
        return Named(name=link[1], platform="twitch")
    for platform, pattern in PROFILE_LINKS:
        if link := pattern.fullmatch(word):
            return Named(id=link[1], platform=platform)
    if identity := IDENTITY.fullmatch(word):
        return _of_identity(identity[1].lower(), identity[2])
    name = word.lstrip("@＠").strip()
    if not name or len(name) > MAX_CHARS:
        raise NobodyNamed()
    return Named(name=name, id=name if name.isascii() and name.isdigit() else "")


def _of_identity(platform: str, id_: str) -> Named:
    if platform == "twitch" and not id_.isdigit():
        return Named(name=id_, platform=platform)
    if platform != "user":
        return Named(id=id_, platform=platform)
    if not (id_.isascii() and id_.isdigit() and len(id_) < 19):
        raise NobodyNamed()
    return Named(own_id=int(id_))
