-- Where whoever holds a shard next can resume: everything up to `sequence` is stored.
ALTER TABLE discord_shards
    ADD COLUMN session_id text,
    ADD COLUMN sequence bigint,
    ADD COLUMN resume_url text,
    ADD COLUMN privileged boolean;
