-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS outbox_moderation ON outbox (community_id, id) WHERE response_action = 'moderate';
