"""Where people stand in what this module keeps."""

from __future__ import annotations

from waddlebot.module.people import IN_COMMUNITY, Personal

OWN = "user_id = ANY(%(own_ids)s)"
NAMELESS = "requested_by = '', user_id = NULL"

PEOPLE = [
    Personal(
        "spotify_tokens",
        where=OWN,
        within=IN_COMMUNITY,
        key="owner_id",
        shown="community_id, account_id, account_name, scope, state, expires_at, created_at, updated_at",
    ),
    Personal("spotify_players", where=OWN, within=IN_COMMUNITY, key="community_id", shown="community_id, created_at"),
    Personal(
        "spotify_links", where=OWN, within=IN_COMMUNITY, key="ticket_hash", shown="community_id, created_at, used_at"
    ),
    Personal("spotify_search_cache", where=OWN, within=IN_COMMUNITY, shown="community_id, query, created_at"),
    Personal(
        "spotify_now_playing",
        where="requested_by_id = ANY(%(own_ids)s)",
        become="requested_by = '', requested_by_id = NULL",
        within=IN_COMMUNITY,
        key="community_id",
        shown="community_id, track_uri, track_name, requested_by, started_at",
    ),
    Personal(
        "spotify_queue",
        where=OWN,
        become=NAMELESS,
        within=IN_COMMUNITY,
        shown="community_id, track_uri, track_name, requested_by, state, requested_at",
    ),
    Personal(
        "spotify_history",
        where=OWN,
        become=NAMELESS,
        within=IN_COMMUNITY,
        shown="community_id, track_uri, track_name, requested_by, played_at",
    ),
]
