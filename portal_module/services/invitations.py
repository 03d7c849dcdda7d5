"""Who else may look after a community, beside those whose role says so: invited by its owner, by a link that works
once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydal import DAL
from waddlebot.base.errors import NotFound
from waddlebot.data import audit
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.signin import Login

from .links import INVITED_FOR, LinkService, keep_link, mask
from .seats import EVERY, Seat


@dataclass(frozen=True, slots=True)
class Invitation:
    community_id: int
    name: str
    slug: str
    held: str
    area: str


class Invitations:
    def __init__(self, db: Database, links: LinkService) -> None:
        self._db = db
        self._links = links

    def list_for(self, community_id: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Who has which right, and which invitations nobody has used yet."""
        with self._db.reading() as db:
            given = fetch(
                db,
                "SELECT a.auth_user_id AS id, a.area, a.held, l.email,"
                " coalesce(nullif(l.first_name, ''), l.email, 'Somebody') AS name"
                " FROM portal_access a JOIN auth_user l ON l.id = a.auth_user_id"
                " WHERE a.community_id = %s ORDER BY name, area",
                (community_id,),
            )
            open_ones = fetch(
                db,
                "SELECT left(token_hash, 12) AS handle, sent_to, area, held, expires_at FROM portal_links"
                " WHERE community_id = %s AND kind = 'invitation' AND used_at IS NULL AND expires_at > now()"
                " ORDER BY created_at",
                (community_id,),
            )
        return given, open_ones

    def invite(self, seat: Seat, email: str, *, held: str, area: str) -> str:
        """The token of a link that gives a right in a community, once, within a week."""
        more = {"community_id": seat.community_id, "area": area, "held": held, "sent_to": mask(email)}
        with self._db.transaction() as db:
            token = keep_link(db, "invitation", INVITED_FOR, **more)
            after = {"held": held, "area": area, "sent_to": mask(email)}
            _record(db, "right_offered", seat.community_id, f"invitation/{mask(email)}", None, after)
        return token

    def find(self, token: str) -> Invitation | None:
        """What a link offers, while it works."""
        rows = self._db.statement(
            "SELECT l.community_id, c.name, c.slug, l.held, l.area FROM portal_links l JOIN communities c"
            " ON c.id = l.community_id WHERE l.token_hash = encode(sha256(convert_to(%s, 'UTF8')), 'hex')"
            " AND l.kind = 'invitation' AND l.used_at IS NULL AND l.expires_at > now()",
            (token,),
        )
        return Invitation(**rows[0]) if rows else None

    def accept(self, token: str, login: Login) -> Invitation:
        """Give somebody what they were invited to. Raises: LinkOver."""
        offered = self.find(token)
        opened = self._links.use(token, "invitation")
        assert opened.community_id is not None
        with self._db.transaction() as db:
            fetch(
                db,
                "INSERT INTO portal_access (auth_user_id, community_id, area, held) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (auth_user_id, community_id, area) DO UPDATE SET held = excluded.held",
                (login.id, opened.community_id, opened.area, opened.held),
            )
            after = {"held": opened.held, "area": opened.area}
            _record(db, "right_given", opened.community_id, f"right/{login.id}", None, after)
        assert offered is not None
        return offered

    def take(self, seat: Seat, login_id: int, area: str) -> None:
        """Take a right away. Raises: NotFound."""
        with self._db.transaction() as db:
            row = fetch_one(
                db,
                "DELETE FROM portal_access WHERE community_id = %s AND auth_user_id = %s AND area = %s RETURNING held",
                (seat.community_id, login_id, area),
            )
            if row is None:
                raise NotFound("They have no such right here.")
            before = {"held": row["held"], "area": area}
            _record(db, "right_taken", seat.community_id, f"right/{login_id}", before, None)

    def withdraw(self, seat: Seat, handle: str) -> None:
        """End an invitation that nobody has used."""
        self._db.statement(
            "DELETE FROM portal_links WHERE community_id = %s AND kind = 'invitation' AND left(token_hash, 12) = %s",
            (seat.community_id, handle),
        )


def _record(
    db: DAL, action: str, community_id: int, subject: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    audit.record(db, "portal", action, subject, community_id=community_id, before=before, after=after)


AREA_WORDS = {
    EVERY: "Everything",
    "people": "People",
    "bot": "Commands and modules",
    "rules": "Rules",
    "overlays": "Overlays",
    "music": "Music",
    "channels": "Channels",
    "settings": "Settings",
}
RIGHT_WORDS = {"viewer": "May look", "editor": "May change", "owner": "Owns it with you"}
