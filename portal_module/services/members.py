"""Members of a community, page by page. Ids of a page by an index first, then what is shown of these few, so that it
takes as long for fifty thousand as for fifty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydal import DAL
from waddlebot.base.text import fold
from waddlebot.data.database import Prepared, fetch, fetch_one

PAGE = 25
Show = Literal["everyone", "team", "vip", "subscriber", "points"]
SHOWS: tuple[tuple[Show, str], ...] = (
    ("everyone", "Everyone"),
    ("team", "Team"),
    ("vip", "VIPs"),
    ("subscriber", "Subscribers"),
    ("points", "Most points"),
)
ROLES = {"team": ["owner", "admin", "moderator"], "vip": ["vip"], "subscriber": ["subscriber"]}
MEMBER = "m.community_id = %(community)s AND m.is_active"
# Newest first: people's numbers grow.
BY_NUMBER = "ORDER BY id DESC LIMIT %(limit)s"
PAGES: dict[str, Prepared | str] = {
    "everyone": Prepared(
        "portal_members",
        f"SELECT m.user_id AS id FROM community_memberships m WHERE {MEMBER} AND m.user_id < %(after)s {BY_NUMBER}",
    ),
    "role": f"SELECT m.user_id AS id FROM community_rbac r JOIN community_memberships m USING (community_id, user_id)"
    f" WHERE {MEMBER} AND r.role = ANY(%(roles)s) AND m.user_id < %(after)s {BY_NUMBER}",
    "name": "SELECT DISTINCT i.user_id AS id FROM platform_identities i JOIN community_memberships m"
    f" ON m.user_id = i.user_id WHERE {MEMBER} AND m.user_id < %(after)s"
    " AND (lower(i.name) >= %(text)s AND lower(i.name) < %(text)s || chr(1114111)"
    "  OR lower(i.display_name) >= %(text)s AND lower(i.display_name) < %(text)s || chr(1114111)"
    "  OR m.user_id::text = %(text)s"
    "  OR EXISTS (SELECT FROM labels_of_people l WHERE l.community_id = m.community_id AND l.own_id = m.user_id"
    f"   AND lower(l.name) = %(text)s)) {BY_NUMBER}",
    "points": "SELECT r.user_id AS id FROM user_reputation r JOIN community_memberships m USING (community_id, user_id)"
    f" WHERE {MEMBER} ORDER BY r.current_score DESC, r.user_id LIMIT %(limit)s",
}
COUNTED = Prepared(
    "portal_members_counted",
    "SELECT members FROM portal_days WHERE community_id = %(community)s AND members > 0 ORDER BY day DESC LIMIT 1",
)
DETAILS = Prepared(
    "portal_member_details",
    """
SELECT u.id, u.display_name, r.role, coalesce(p.current_score, 0) AS points, coalesce(p.total_events, 0) AS events,
    p.last_activity, m.joined_at,
    ARRAY(SELECT DISTINCT i.platform FROM platform_identities i WHERE i.user_id = u.id ORDER BY 1) AS platforms,
    ARRAY(SELECT l.name FROM labels_of_people l WHERE l.own_id = u.id AND l.community_id = %(community)s::bigint
        AND (l.expires_at IS NULL OR l.expires_at > now()) ORDER BY 1) AS labels
FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS wanted (id, place) JOIN users u USING (id)
LEFT JOIN community_memberships m ON m.community_id = %(community)s AND m.user_id = u.id
LEFT JOIN community_rbac r ON r.community_id = %(community)s AND r.user_id = u.id
LEFT JOIN user_reputation p ON p.community_id = %(community)s AND p.user_id = u.id
ORDER BY place
""",
)
# Whoever is one person with a member; nobody where they are none.
TOGETHER = Prepared(
    "portal_member_together",
    """
WITH head AS (
    SELECT coalesce(u.head_id, u.id) AS id FROM users u JOIN community_memberships m ON m.user_id = u.id
    WHERE u.id = %(own)s::bigint AND m.community_id = %(community)s::bigint
)
SELECT id FROM head UNION SELECT u.id FROM users u JOIN head ON u.head_id = head.id ORDER BY id
""",
)
IDENTITIES = Prepared(
    "portal_member_identities",
    "SELECT user_id, platform, platform_user_id, name, display_name FROM platform_identities"
    " WHERE user_id = ANY(%(ids)s::bigint[]) ORDER BY platform, id",
)
HISTORY = Prepared(
    "portal_member_history",
    """
SELECT e.session_id::text AS session_id, e.entity_id, e.event->>'message' AS message, e.message_type, e.received_at,
    e.verdict->'moderation'->>'action' AS moderated
FROM entities n CROSS JOIN LATERAL (
    SELECT * FROM router_events e WHERE e.entity_id = n.entity_id AND e.user_id = ANY(%(ids)s::bigint[])
    ORDER BY e.session_id DESC LIMIT 20
) AS e WHERE n.community_id = %(community)s::bigint ORDER BY e.session_id DESC LIMIT 20
""",
)
POINTS_BY_DAY = Prepared(
    "portal_member_days",
    "SELECT day, sum(points)::bigint AS points FROM portal_person_days"
    " WHERE community_id = %(community)s::bigint AND user_id = ANY(%(ids)s::bigint[]) GROUP BY 1",
)


@dataclass(frozen=True, slots=True)
class MemberPage:
    rows: list[dict[str, Any]]
    # After whom the next page begins; None on the last.
    next_after: int | None
    total: int | None


def list_members(db: DAL, community_id: int, *, text: str, show: Show, after: int | None) -> MemberPage:
    kind = "name" if text else "points" if show == "points" else "role" if show in ROLES else "everyone"
    parameters = {
        "community": community_id,
        "text": fold(text),
        "roles": ROLES.get(show, []),
        "after": after if after is not None else 2**62,
        "limit": PAGE + 1,
    }
    ids = [row["id"] for row in fetch(db, PAGES[kind], parameters)]
    more = len(ids) > PAGE and kind != "points"
    rows = fetch(db, DETAILS, {"community": community_id, "ids": ids[:PAGE]})
    total = None
    if kind == "everyone":
        counted = fetch_one(db, COUNTED, parameters)
        total = counted["members"] if counted else None
    return MemberPage(rows, ids[PAGE - 1] if more else None, total)


def find_member(db: DAL, community_id: int, user_id: int) -> dict[str, Any] | None:
    """A member with everything that is one person with them, on all platforms."""
    ids = [row["id"] for row in fetch(db, TOGETHER, {"own": user_id, "community": community_id})]
    if not ids:
        return None
    (row,) = fetch(db, DETAILS, {"community": community_id, "ids": [user_id]})
    parameters = {"community": community_id, "ids": ids}
    identities = fetch(db, IDENTITIES, parameters)
    history = fetch(db, HISTORY, parameters)
    points = {each["day"]: each["points"] for each in fetch(db, POINTS_BY_DAY, parameters)}
    return {**row, "ids": ids, "identities": identities, "history": history, "points_by_day": points}
