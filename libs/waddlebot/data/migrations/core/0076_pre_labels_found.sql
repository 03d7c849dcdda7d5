-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS labels_of_people_found ON labels_of_people (community_id, name, own_id) INCLUDE (expires_at);
