"""Shouts somebody out: finds out who is meant and what is known of them, and puts it into words and pictures.

find whom (our database) ─► ask Twitch ─► choose a clip, write it down, say it (one transaction)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from pydal import DAL
from waddlebot.base.contracts import ModuleResponse
from waddlebot.base.errors import ProviderError, UserError
from waddlebot.base.logs import AAALog
from waddlebot.module.call import say

from .history_service import Cause, Entry, HistoryService
from .naming import Named
from .people_service import Identity, Known, PeopleService, UnknownPerson
from .twitch import Streamer, TwitchLookups
from .words import Clip, Profile, card_of, line_of

T = TypeVar("T")
# Whose people are known by their platform's own names, whatever Twitch says.
WITHOUT_TWITCH = ("discord", "slack")


class NeedsTwitch(UserError):
    """Shoutouts ask Twitch, which is not set up: whoever runs this bot sets TWITCH_APP_ID and TWITCH_APP_SECRET."""

    code = "not_configured"


class LookUp(Protocol):
    """Asks somebody outside, with no transaction open; `ask` gets the seconds that are left."""

    def __call__(self, what: str, ask: Callable[[float], T], /) -> T: ...


# What became of the clip: it plays; nobody wants any; there is none of the past week; there is only the one that was
# shown last; Twitch did not say.
ClipState = Literal["playing", "off", "none", "shown_before", "refused"]


@dataclass(frozen=True, slots=True)
class Found:
    """Somebody who is to be shouted out."""

    identity: Identity
    profile: Profile
    twitch_id: str = ""
    # None: Twitch did not say which there are.
    clips: Sequence[Clip] | None = ()
    wants_clips: bool = False


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why somebody is shouted out, and where."""

    community_id: int
    cause: Cause
    settings: Mapping[str, Any]
    entity_id: str = ""
    by_id: int | None = None
    by_name: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Shoutout:
    """What is said and shown. `id` is its number in the history; None for a request that was heard before."""

    line: str
    card: ModuleResponse
    clip: Clip | None
    id: int | None
    clip_state: ClipState
    # What in the line somebody else chose; the rest is the community's own.
    names: Sequence[str] = ()

    @property
    def responses(self) -> list[ModuleResponse]:
        return [say(self.line, markup=None, said=self.names), self.card]


class ShoutoutService:
    def __init__(
        self, people: PeopleService, history: HistoryService, twitch: TwitchLookups | None, log: AAALog
    ) -> None:
        self.people = people
        self.history = history
        self._twitch = twitch
        self._log = log

    def look_at(self, named: Named, known: Known | None, *, here: str, look_up: LookUp, wants_clips: bool) -> Found:
        """Who somebody is, and what Twitch knows of them. Raises: UnknownPerson; NeedsTwitch; ProviderError."""
        if known is not None and not known.twitch_id:
            identity = known.on(here)
            if self._twitch is None and identity.platform not in WITHOUT_TWITCH:
                raise NeedsTwitch()
            return Found(identity, Profile(identity.shown_name))
        if self._twitch is None:
            raise NeedsTwitch()
        streamer = self._find_streamer(self._twitch, named, known, look_up)
        if streamer is None:
            return _as_we_know(known)
        twitch, profile = self._twitch, streamer.profile
        game = look_up("ask what they played", lambda left_s: twitch.last_game(streamer.id, within_s=left_s))
        clips: list[Clip] | None = []
        if wants_clips:
            clips = look_up("look for a clip", lambda left_s: twitch.clips(streamer.id, within_s=left_s))
        identity = Identity("twitch", streamer.id, streamer.login, profile.name)
        shown = Profile(profile.name, profile.link, game, profile.picture)
        return Found(identity, shown, streamer.id, clips, wants_clips)

    def _find_streamer(
        self, twitch: TwitchLookups, named: Named, known: Known | None, look_up: LookUp
    ) -> Streamer | None:
        """Raises: UnknownPerson; ProviderError, unless we know them well enough without."""
        if known is None:
            return self._find_stranger(twitch, named, look_up)
        id_ = known.twitch_id
        try:
            return look_up("look somebody up at Twitch", lambda left_s: twitch.find(id_=id_, within_s=left_s))
        except ProviderError as err:
            self._log.system("profile_unknown", result="FAILED", twitch_id=id_, code=err.code)
            return None

    @staticmethod
    def _find_stranger(twitch: TwitchLookups, named: Named, look_up: LookUp) -> Streamer:
        what, found = f"look up {(named.name or named.id)[:64]} at Twitch", None
        if named.id.isdigit() and named.platform in ("", "twitch"):
            found = look_up(what, lambda left_s: twitch.find(id_=named.id, within_s=left_s))
        if found is None and named.may_be_login:
            found = look_up(what, lambda left_s: twitch.find(login=named.name, within_s=left_s))
        if found is None:
            raise UnknownPerson(f"Nobody here or on Twitch is called “{(named.name or named.id)[:40]}”.")
        return found

    def write_down(self, db: DAL, found: Found, occasion: Occasion) -> Shoutout:
        """Choose a clip and put everything into words, in the transaction that it is said with. Nobody else shouts the
        same person out here meanwhile."""
        known = self.people.meet(db, found.identity)
        community_id = occasion.community_id
        self.history.lock(db, community_id, known.ids)
        person = self.people.settings_of(db, community_id, known.ids)
        clip = self.history.choose(db, community_id, known.ids, found.clips or ())
        entry = Entry(
            community_id,
            known.own_id,
            occasion.cause,
            occasion.by_id,
            occasion.entity_id,
            found.profile.game,
            occasion.request_id,
        )
        number = self.history.add(db, entry, clip)
        line = line_of(found.profile, person.message or occasion.settings["message"], person.links)
        card = card_of(found.profile, clip, picture_s=occasion.settings["picture_s"], by=occasion.by_name)
        names = [found.profile.name, found.profile.game]
        return Shoutout(line, card, clip, number, _clip_state(found, clip), names)


def _clip_state(found: Found, chosen: Clip | None) -> ClipState:
    if chosen is not None:
        return "playing"
    if not found.wants_clips:
        return "off"
    if found.clips is None:
        return "refused"
    return "shown_before" if found.clips else "none"


def _as_we_know(known: Known | None) -> Found:
    assert known is not None
    identity = known.on("twitch")
    link = f"https://twitch.tv/{identity.name}" if identity.name else ""
    return Found(identity, Profile(identity.shown_name, link), identity.platform_user_id)
