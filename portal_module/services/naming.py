"""Whom somebody means in the portal: a member by name, by number, or by platform and id."""

from __future__ import annotations

import re

from waddlebot.base.errors import UserError
from waddlebot.data.database import Database, fetch

# Two people of one name on one platform are one too many; more need not be counted.
BY_NAME = """
SELECT DISTINCT coalesce(u.head_id, u.id) AS id FROM platform_identities i
JOIN community_memberships m ON m.user_id = i.user_id AND m.community_id = %(community)s
JOIN users u ON u.id = i.user_id
WHERE name_key(i.name) = name_key(%(name)s) OR name_key(i.display_name) = name_key(%(name)s) LIMIT 2
"""


class NobodyMeant(UserError):
    """That name is nobody's here, or more than one's."""

    code = "nobody_meant"


def number_of(database: Database, community_id: int, text: str) -> str:
    """A member's number, or `platform:id` as it was written, for who has not been here yet.

    Raises: NobodyMeant where nobody, or more than one, has that name.
    """
    name = text.strip().lstrip("@")
    if ":" in name or (name.isascii() and name.isdigit()):
        return name
    with database.lookup() as db:
        found = fetch(db, BY_NAME, {"community": community_id, "name": name})
    if len(found) == 1:
        return str(found[0]["id"])
    if found:
        raise NobodyMeant(f"More than one has the name {name}. Give their number, which their page has.")
    raise NobodyMeant(f"Nobody here has the name {name}.")


def in_words(name: str) -> str:
    """What something is called inside, as people would write it: `chatMessage` is a chat message."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").replace(".", " ").capitalize()
