"""Where the router, and what all modules share, have people; and what of it is kept, and why."""

from __future__ import annotations

from waddlebot.module.people import AT_ENTITY_OF_COMMUNITY, IN_COMMUNITY, Keeps, Personal, is_named, without_ids

# By way of the entities, which have an index.
SESSIONS = (
    "(SELECT session_id FROM router_events WHERE entity_id IN (SELECT entity_id FROM entities)"
    " AND user_id = ANY(%(own_ids)s))"
)
EXECUTIONS = f"(SELECT execution_id FROM command_executions WHERE session_id IN {SESSIONS} AND status <> 'pending')"
EXECUTIONS_THERE = "execution_id IN (SELECT execution_id FROM command_executions WHERE community_id = %(community)s)"
# What is being served is finished first; it needs the event, and is over in a moment.
IS_SERVED = "EXISTS (SELECT FROM router_work w WHERE w.session_id = router_events.session_id)"
NOBODY = '{"user": {"platform_user_id": "erased", "name": "", "display_name": "", "badges": []}}'
# Some platforms' events are known by who caused them.
EVENT_ID = without_ids("event_id", by="session_id", ids="%(ids)s::text[]")

PEOPLE = [
    # Before the events, by whose ids it is found.
    Personal(
        "outbox",
        where=f"(platform, event_id) IN (SELECT platform, event_id FROM router_events WHERE session_id IN {SESSIONS})"
        " AND state NOT IN ('pending', 'sending')",
        become=f"response_data = '{{\"message\": \"\"}}', detail = '', reply_to = '', event_id = {EVENT_ID}",
        within=IN_COMMUNITY,
        mentions=("response_data",),
        shown="community_id, entity_id, module_name, response_action, response_data, state, created_at",
    ),
    Personal(
        "router_events",
        where=f"session_id IN {SESSIONS} AND NOT {IS_SERVED}",
        become=f"event = ((event::jsonb - 'message' - 'data' - 'event_id') || '{NOBODY}')::json, verdict = NULL,"
        f" event_id = {EVENT_ID}",
        within=IN_COMMUNITY,
        key="session_id",
        shown="community_id, entity_id, message_type, event, received_at",
    ),
    Personal(
        "command_executions",
        where=f"session_id IN {SESSIONS} AND status <> 'pending'",
        become="message_content = '', parameters = '[]', request_payload = NULL, error_message = NULL",
        within=IN_COMMUNITY,
        key="execution_id",
        shown="community_id, entity_id, module_name, command, parameters, message_content, status, created_at",
    ),
    Personal(
        "module_responses",
        where=f"execution_id IN {EXECUTIONS}",
        become="response_data = '{}', chat_message = NULL, ticker_text = NULL, media_url = NULL, error_message = NULL",
        within=EXECUTIONS_THERE,
        mentions=("response_data", "chat_message", "ticker_text", "error_message"),
        shown="module_name, response_action, response_data, created_at",
    ),
    Personal(
        "module_replies",
        where=f"execution_id IN {EXECUTIONS}",
        become='reply = (reply::jsonb || \'{"responses": [], "error_message": null}\')::json',
        within=EXECUTIONS_THERE,
        mentions=("reply",),
        shown="module_name, reply, created_at",
    ),
    Personal(
        "stringmatch",
        where=is_named("created_by"),
        become="created_by = ''",
        within=IN_COMMUNITY,
        shown="community_id, string, action, created_by, created_at",
    ),
    Personal(
        "command_permission_subjects",
        where="kind = 'user' AND subject = ANY(%(own_texts)s)",
        within="command_permission_id IN (SELECT id FROM command_permissions WHERE community_id = %(community)s)",
        key="command_permission_id",
        shown="command_permission_id, effect, subject",
    ),
    Personal(
        "violations",
        where="own_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, entity_id, rule_id, action, created_at",
    ),
    Personal(
        "cooldowns",
        where="own_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, entity_id, command, until",
    ),
    Personal(
        "follows",
        where="split_part(entity_id, ':', 1) || ':' || platform_user_id = ANY(%(identities)s)",
        within=AT_ENTITY_OF_COMMUNITY,
        shown="entity_id, followed_at, checked_at",
    ),
    Personal(
        "rate_limits",
        where="user_id = ANY(%(own_ids)s)",
        within="entity_id IN (SELECT entity_id FROM entities WHERE community_id = %(community)s)",
        key="window_start",
        shown="entity_id, window_start, request_count, refused_count",
    ),
    Personal(
        "community_rbac",
        where="user_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, role, assigned_at",
    ),
    Personal(
        "community_memberships",
        where="user_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        shown="community_id, is_active, joined_at",
    ),
    Personal(
        "labels_of_people",
        where="own_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        key="name",
        shown="community_id, name, expires_at, metadata",
    ),
    Personal(
        "labels_of_people",
        where="given_by_id = ANY(%(own_ids)s)",
        become="given_by_id = NULL",
        within=IN_COMMUNITY,
        key="name",
        shown="community_id, name, given_at",
    ),
    Personal(
        "servers",
        where="platform || ':' || owner = ANY(%(identities)s)",
        become="owner = ''",
        within=IN_COMMUNITY,
        shown="platform, server_id, channel, name, community_id, created_at",
    ),
    Personal(
        "entities",
        where="platform || ':' || owner = ANY(%(identities)s)",
        become="owner = ''",
        within=IN_COMMUNITY,
        shown="entity_id, community_id, created_at",
    ),
    Personal("oauth_states", where="data->>'user_id' = ANY(%(ids)s)", key="state_hash", shown="platform, created_at"),
    Personal(
        "user_reputation",
        where="user_id = ANY(%(own_ids)s)",
        within=IN_COMMUNITY,
        key="community_id",
        shown="community_id, current_score, total_events, last_activity",
        is_kept=True,
    ),
    Personal(
        "users",
        where="id = ANY(%(own_ids)s)",
        become="display_name = '', head_id = NULL",
        shown="id AS user_id, display_name, created_at",
    ),
    Personal(
        "platform_identities",
        where="platform || ':' || platform_user_id = ANY(%(identities)s)",
        shown="platform, platform_user_id, name, display_name, created_at",
    ),
]
KEEPS = [
    Keeps(
        "points (reputation_events, user_reputation)",
        "Sums and what they come from stay, under a number that no name belongs to any more.",
        "reputation_events",
        "user_id = ANY(%(own_ids)s)",
    ),
    Keeps(
        "words of others (router_events, command_executions, and what they made of commands, rules and aliases)",
        "What somebody else wrote is theirs, also where it has this person's name in it. What was said in chat is"
        " forgotten after 7 days, what led to a command after 90.",
    ),
    Keeps(
        "channels (servers, entities, coordination, channel_liveness)",
        "The bot serves this person's channel, and its id is theirs. Take the bot out of the channel first.",
        "servers",
        "platform || ':' || channel = ANY(%(identities)s)",
    ),
    Keeps(
        "communities",
        "A community of this person's may bear their name. Hand it over, or rename it.",
        "communities",
        "owner_id = ANY(%(own_ids)s)",
    ),
    Keeps(
        "what is being answered now (router_events)",
        "Something that this person said is being served now. Ask again in a minute, with another request_id.",
        "router_events",
        f"session_id IN {SESSIONS} AND {IS_SERVED}",
    ),
    Keeps(
        "answers that wait (outbox, command_executions)",
        "An answer to this person waits to be said, or to be made. Ask again in some minutes, with another request_id.",
        "command_executions x",
        f"session_id IN {SESSIONS} AND (status = 'pending' OR EXISTS (SELECT FROM outbox o"
        " WHERE o.execution_id = x.execution_id AND o.state IN ('pending', 'sending')))",
    ),
    Keeps(
        "the audit log (audit)",
        "Who changed what stays on record, people by number only; a channel stands there by its id.",
        "audit",
        "own_id = ANY(%(own_ids)s) OR subject IN"
        " (SELECT 'server/' || replace(i, ':', '::') FROM unnest(%(identities)s::text[]) AS i)",
    ),
    Keeps(
        "who was erased (erased_people, erase_requests)",
        "Hashes, by which a restored backup can be made to forget the same people.",
    ),
]
