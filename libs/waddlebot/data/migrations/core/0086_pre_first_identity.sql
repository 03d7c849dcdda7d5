-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS platform_identities_first ON platform_identities (user_id, id);
