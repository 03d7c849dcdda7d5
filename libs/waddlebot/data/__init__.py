"""PostgreSQL and Redis: the one way to use them, the schema, caches, limits, the outbox."""
