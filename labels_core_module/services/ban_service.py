"""Bans and timeouts follow a person's other accounts, where an owner wants that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from psycopg2.extras import Json
from pydal import DAL
from waddlebot.data.database import fetch
from waddlebot.data.outbox import MODERATION_ORDINAL, OUTBOX_CHANNEL, USEFUL_FOR

from .label_service import MODULE

# So long a platform may take to tell of what we did there.
ECHO = timedelta(minutes=2)
ECHOES = "SELECT FROM ban_echoes WHERE community_id = %(community)s AND own_id = %(own)s AND at > now() - %(echo)s"
# Where somebody can be banned. A Discord server as a whole, and only one that is all of the community's.
TARGETS = """
SELECT DISTINCT i.user_id AS own_id, i.platform, i.platform_user_id,
    CASE i.platform WHEN 'twitch' THEN 'twitch::' || e.channel_id ELSE 'discord:' || e.server_id || ':' END AS entity_id
FROM platform_identities i JOIN entities e ON e.platform = i.platform
WHERE i.user_id = ANY(%(others)s) AND i.platform IN ('twitch', 'discord') AND e.is_active
    AND e.community_id = %(community)s AND (i.platform = 'twitch' OR NOT EXISTS (
        SELECT FROM entities o WHERE o.is_active AND o.platform = 'discord' AND o.server_id = e.server_id
        AND o.community_id <> e.community_id))
ORDER BY 1, 4
"""
ORDER = """
INSERT INTO outbox (platform, event_id, ordinal, session_id, entity_id, community_id, module_name, response_action,
    response_data, expires_at)
VALUES (%(platform)s, %(event)s, %(ordinal)s, %(session)s, %(entity_id)s, %(community)s, %(module)s, 'moderate',
    %(data)s, now() + %(useful_for)s)
ON CONFLICT DO NOTHING RETURNING pg_notify(%(channel)s, platform)
"""


def follow(
    db: DAL,
    community_id: int,
    own_id: int,
    others: Sequence[int],
    *,
    session_id: str,
    duration_s: int | None,
) -> int:
    """Have a person's other accounts banned, or timed out for so long, wherever the community can. Returns at how many
    places; none when the ban was one that followed another."""
    asked: dict[str, Any] = {"community": community_id, "others": list(others), "own": own_id, "echo": ECHO}
    echoes = fetch(db, ECHOES, asked)
    if echoes:
        return 0
    targets = fetch(db, TARGETS, asked)
    fetch(
        db,
        "INSERT INTO ban_echoes (community_id, own_id) SELECT %s, unnest(%s::bigint[])",
        (community_id, sorted({row["own_id"] for row in targets})),
    )
    for n, row in enumerate(targets):
        action = {
            "entity_id": row["entity_id"],
            "action": "timeout" if duration_s else "ban",
            "platform_user_id": row["platform_user_id"],
            "message_id": "",
            "duration_s": duration_s,
            "reason": "another account of theirs was",
        }
        ids = {"event": f"follows:{session_id}", "ordinal": MODERATION_ORDINAL + n, "session": session_id}
        how = {"module": MODULE, "channel": OUTBOX_CHANNEL, "useful_for": USEFUL_FOR, "data": Json(action)}
        fetch(db, ORDER, {**asked, **row, **ids, **how})
    return len(targets)


def forget_echoes(db: DAL) -> None:
    fetch(db, "DELETE FROM ban_echoes WHERE at < now() - interval '1 hour'")
