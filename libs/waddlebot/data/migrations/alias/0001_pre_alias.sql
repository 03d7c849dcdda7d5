CREATE TABLE alias_commands (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- Limited to one channel, or NULL for all of the community's.
    entity_id text REFERENCES entities (entity_id) ON DELETE CASCADE,
    prefix text NOT NULL CHECK (prefix IN ('!', '#')),
    -- As it is compared: by full case folding.
    alias text NOT NULL,
    -- What it stands for, as it was written.
    command text NOT NULL,
    created_by text NOT NULL DEFAULT '',
    usage_count bigint NOT NULL DEFAULT 0,
    last_used timestamptz,
    -- Of all uses together; divided by usage_count it is the average.
    total_time_ms double precision NOT NULL DEFAULT 0,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (community_id, entity_id, prefix, alias)
);
