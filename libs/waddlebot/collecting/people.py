"""Where every collector has people: what a platform delivered, and what was counted of it."""

from __future__ import annotations

from ..module.people import AT_ENTITY_OF_COMMUNITY, Personal, ids_on, without_ids


def raw_events(platform: str, *, person: str, place: str, besides: str = "true") -> Personal:
    """Deliveries that somebody caused, whatever became of them, and those that are done with and have their id or name
    in them. They are emptied, so that one that comes again is still known; what was not handed over yet never is.

    `person` and `place` are the columns with the platform's ids; `besides` spares rows that would not be about them.
    """
    ids = ids_on(platform)
    named = (
        f"EXISTS (SELECT FROM unnest(%(names)s::text[] || {ids}) AS word (w)"
        " WHERE strpos(lower(event_data::text), word.w) > 0)"
    )
    theirs = f"{person} = ANY({ids})"
    return Personal(
        f"{platform}_events",
        where=f"{theirs} OR state NOT IN ('pending', 'forwarding') AND {besides} AND {named}",
        # Slack's and Discord's joins and reactions are known by who it was.
        become=f"event_data = '{{}}', event_id = {without_ids('event_id', by='id', ids=ids)},"
        f" {person} = CASE WHEN {theirs} THEN '' ELSE {person} END,"
        " state = CASE WHEN state IN ('pending', 'forwarding') THEN 'ignored' ELSE state END",
        within=f"{place} IN (SELECT channel_id FROM entities WHERE platform = '{platform}'"
        " AND community_id = %(community)s)",
        shown="event_id, type, event_data, received_at",
    )


def activities(platform: str) -> Personal:
    return Personal(
        f"{platform}_activities",
        where=f"platform_user_id = ANY({ids_on(platform)})",
        within=AT_ENTITY_OF_COMMUNITY,
        shown="entity_id, activity_type, amount, created_at",
    )
