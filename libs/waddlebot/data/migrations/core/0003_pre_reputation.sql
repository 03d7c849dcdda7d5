-- Points are an append-only ledger; balances are derived in the same transaction (design §6).

CREATE TABLE reputation_events (
    -- The session of the event that earned the points, so that no event ever earns them twice.
    source_id uuid PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    entity_id text NOT NULL DEFAULT '',
    event_name text NOT NULL,
    event_score bigint NOT NULL,
    amount double precision,
    processed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE user_reputation (
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    current_score bigint NOT NULL DEFAULT 0,
    total_events bigint NOT NULL DEFAULT 0,
    last_activity timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (community_id, user_id)
)
-- Every message of a person updates their row; room in its page and no index on the score spare the index.
WITH (fillfactor = 60);

-- A channel that somebody added waits for the key that was said to its owner (POST /api/gateway/activate).
ALTER TABLE servers ADD COLUMN activation_key_hash text UNIQUE;
