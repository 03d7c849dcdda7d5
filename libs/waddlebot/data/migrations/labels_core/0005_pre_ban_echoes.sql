-- Whom we had banned or timed out because another account of theirs was, so that the platform's own word of it is not
-- followed again.
CREATE TABLE ban_echoes (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    own_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ban_echoes_of ON ban_echoes (own_id, at);
CREATE INDEX ban_echoes_age ON ban_echoes (at);
