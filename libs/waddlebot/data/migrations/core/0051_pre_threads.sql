-- The channel that a thread belongs to: what is set for it holds in the thread too.
ALTER TABLE entities ADD COLUMN parent_entity_id text;
CREATE INDEX entities_threads ON entities (community_id) WHERE parent_entity_id IS NOT NULL;
