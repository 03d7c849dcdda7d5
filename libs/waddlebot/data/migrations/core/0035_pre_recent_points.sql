-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS reputation_events_age ON reputation_events USING brin (processed_at);
