-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS router_events_moderated ON router_events (community_id, session_id) WHERE verdict->'moderation'->>'action' IS NOT NULL;
