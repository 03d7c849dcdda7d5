-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS reputation_events_newest ON reputation_events USING brin (processed_at) WITH (pages_per_range = 8);
