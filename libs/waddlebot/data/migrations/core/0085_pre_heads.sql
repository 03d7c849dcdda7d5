-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS users_heads ON users (id) INCLUDE (head_id) WHERE head_id IS NOT NULL;
