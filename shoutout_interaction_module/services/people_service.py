"""Who somebody is among those whom the fleet knows, and what a community has set for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydal import DAL
from waddlebot.base.contracts import EventUser
from waddlebot.base.errors import NotFound, UserError
from waddlebot.community.people import add_people, find_by_name, ids_of, select_numbers
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.database import fetch, fetch_one
from waddlebot.web.lists import Listed, Page, fetch_page

from .naming import Named

MODULE = "shoutout"
Auto = Literal["default", "always", "never"]
AUTOS: tuple[Auto, ...] = get_args(Auto)
MAX_MESSAGE_CHARS = 400
MAX_LINK_CHARS, MAX_LINKS = 200, 5
# What one of a person's accounts has set counts for all of them; of several the newest.
FIND = (
    "SELECT message, links, auto FROM shoutout_people WHERE community_id = %s AND own_id = ANY(%s)"
    " ORDER BY updated_at DESC, id DESC LIMIT 1"
)
LIST = """
SELECT p.own_id, coalesce(nullif(i.display_name, ''), nullif(i.name, ''), i.platform_user_id) AS username, i.platform,
    i.platform_user_id, p.message, p.links, p.auto, p.updated_at, count(*) OVER () AS total
FROM shoutout_people p LEFT JOIN LATERAL (
    SELECT * FROM platform_identities i WHERE i.user_id = p.own_id ORDER BY i.id LIMIT 1) AS i ON true
WHERE p.community_id = %(community)s AND (%(auto)s::text IS NULL OR p.auto = %(auto)s)
    AND (%(ids)s::bigint[] IS NULL OR p.own_id = ANY(%(ids)s))
ORDER BY lower(coalesce(nullif(i.display_name, ''), i.name)), p.id LIMIT %(limit)s OFFSET %(offset)s
"""


class BadSetting(UserError):
    """That cannot be set for a shoutout."""

    code = "bad_setting"


class UnknownPerson(NotFound):
    """Nobody here is called that."""

    code = "unknown_person"


@dataclass(frozen=True, slots=True)
class Identity:
    platform: str
    platform_user_id: str
    name: str
    display_name: str

    @property
    def shown_name(self) -> str:
        return self.display_name or self.name or self.platform_user_id


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody whom the fleet knows, with all of their accounts."""

    own_id: int
    ids: tuple[int, ...]
    identities: tuple[Identity, ...]

    @property
    def twitch_id(self) -> str:
        return next((each.platform_user_id for each in self.identities if each.platform == "twitch"), "")

    def on(self, platform: str) -> Identity:
        """Their account on a platform, or any."""
        return next((each for each in self.identities if each.platform == platform), self.identities[0])


@dataclass(frozen=True, slots=True)
class PersonSettings:
    message: str = ""
    links: tuple[str, ...] = ()
    auto: Auto = "default"


NOTHING_SET = PersonSettings()


class PeopleService:
    """Each method works in the transaction that it is given."""

    def find(self, db: DAL, community_id: int | None, named: Named, *, here: str) -> Known | None:
        """Somebody whom this word means: by number or id, or by name a member of the community, or without one anybody;
        first on `here`."""
        own_id = named.own_id
        if own_id is None and named.id:
            own_id = self._by_id(db, named, here)
        if own_id is None and named.name and named.platform in ("", here):
            own_id = find_by_name(db, named.name, platform=here, community_id=community_id)
        return self.of(db, own_id) if own_id is not None else None

    def of(self, db: DAL, own_id: int) -> Known | None:
        """Somebody by one of their numbers."""
        ids = ids_of(db, own_id)
        rows = fetch(
            db,
            "SELECT platform, platform_user_id, name, display_name FROM platform_identities WHERE user_id = ANY(%s)"
            " ORDER BY user_id <> %s, id",
            (ids, own_id),
        )
        return Known(own_id, tuple(ids), tuple(Identity(**row) for row in rows)) if rows else None

    def of_identity(self, db: DAL, platform: str, platform_user_id: str) -> Known | None:
        found = select_numbers(db, [(platform, platform_user_id)])
        return self.of(db, found[platform, platform_user_id]) if found else None

    def meet(self, db: DAL, identity: Identity) -> Known:
        """The person with that account, added if nobody has seen them before."""
        key = identity.platform, identity.platform_user_id
        user = EventUser(platform_user_id=key[1], name=identity.name, display_name=identity.display_name)
        if not select_numbers(db, [key]):
            add_people(db, [(key, user, datetime.now(UTC))])
        known = self.of_identity(db, *key)
        assert known is not None
        return known

    def settings_of(self, db: DAL, community_id: int, ids: Sequence[int]) -> PersonSettings:
        row = fetch_one(db, FIND, (community_id, list(ids)))
        if row is None:
            return NOTHING_SET
        return PersonSettings(row["message"], tuple(row["links"]), row["auto"])

    def set(self, db: DAL, community_id: int, known: Known, **changes: Any) -> PersonSettings:
        """Change some of what is set for somebody. Raises: BadSetting."""
        before = self.settings_of(db, community_id, known.ids)
        after = _checked(replace(before, **changes))
        fetch(
            db,
            "INSERT INTO shoutout_people (community_id, own_id, message, links, auto)"
            " VALUES (%(community)s, %(own)s, %(message)s, %(links)s, %(auto)s)"
            " ON CONFLICT (community_id, own_id) DO UPDATE SET message = excluded.message, links = excluded.links,"
            " auto = excluded.auto, updated_at = now()",
            {
                "community": community_id,
                "own": known.own_id,
                "message": after.message,
                "links": list(after.links),
                "auto": after.auto,
            },
        )
        self._record(db, community_id, known, "person_set", before, after)
        return after

    def clear(self, db: DAL, community_id: int, known: Known) -> bool:
        """Forget what is set for somebody. False when nothing was."""
        before = self.settings_of(db, community_id, known.ids)
        gone = fetch(
            db,
            "DELETE FROM shoutout_people WHERE community_id = %s AND own_id = ANY(%s) RETURNING id",
            (community_id, list(known.ids)),
        )
        if gone:
            self._record(db, community_id, known, "person_cleared", before, NOTHING_SET)
        return bool(gone)

    def list_set(
        self, db: DAL, community_id: int, page: Page, *, auto: Auto | None = None, ids: Sequence[int] | None = None
    ) -> Listed[dict[str, Any]]:
        parameters = {"community": community_id, "auto": auto, "ids": list(ids) if ids is not None else None}
        return fetch_page(lambda sql, given: fetch(db, sql, given), LIST, parameters, page)

    @staticmethod
    def _by_id(db: DAL, named: Named, here: str) -> int | None:
        platforms = [named.platform] if named.platform else list(dict.fromkeys((here, "twitch")))
        found = select_numbers(db, [(each, named.id) for each in platforms])
        return next((found[each, named.id] for each in platforms if (each, named.id) in found), None)

    @staticmethod
    def _record(
        db: DAL, community_id: int, known: Known, action: str, before: PersonSettings, after: PersonSettings
    ) -> None:
        back = {"message": before.message, "links": list(before.links), "auto": before.auto}
        audit.record(
            db,
            MODULE,
            action,
            f"person/{known.own_id}",
            community_id=community_id,
            before=None if before == NOTHING_SET else asdict(before),
            after=None if after == NOTHING_SET else asdict(after),
            undo=Undo(
                "POST", "/shoutout/settings", {"community_id": community_id, "user": f"user:{known.own_id}", **back}
            ),
        )


def check_auto(word: str) -> Auto:
    """Raises: BadSetting."""
    if word not in AUTOS:
        raise BadSetting("Say always, never or default.")
    return word


def _checked(settings: PersonSettings) -> PersonSettings:
    if len(settings.message) > MAX_MESSAGE_CHARS:
        raise BadSetting(f"A message has {MAX_MESSAGE_CHARS} characters at most.")
    links = tuple(dict.fromkeys(settings.links))
    if len(links) > MAX_LINKS:
        raise BadSetting(f"There is room for {MAX_LINKS} links.")
    for link in links:
        _check_link(link)
    return replace(settings, links=links, message=" ".join(settings.message.split()))


def _check_link(link: str) -> None:
    try:
        parts = urlsplit(link)
        is_link = parts.scheme in ("https", "http") and bool(parts.hostname)
    except ValueError:
        is_link = False
    if not is_link or len(link) > MAX_LINK_CHARS or any(each.isspace() or each in "<>\"'`|" for each in link):
        raise BadSetting(
            f"“{link[:60]}” is not a link: begin it with https://, up to {MAX_LINK_CHARS} characters without spaces."
        )
