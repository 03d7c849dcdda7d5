-- Where tips for a community are posted to, by services that take them. The address is a secret, kept as overlays' tokens are.
CREATE TABLE browser_source_tip_links (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL UNIQUE REFERENCES communities ON DELETE CASCADE,
    token_hash text NOT NULL UNIQUE,
    token text NOT NULL,
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Each tip once, however often it is posted. `event` is what the router is told, and is emptied when it knows.
CREATE TABLE browser_source_tips (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    tip_id text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'told', 'refused')),
    event jsonb NOT NULL DEFAULT '{}',
    detail text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, tip_id)
);
CREATE INDEX browser_source_tips_waiting ON browser_source_tips (id) WHERE state = 'waiting';
CREATE INDEX browser_source_tips_age ON browser_source_tips USING brin (created_at);

-- One token for all three overlays at once; and tokens for looking only, which end by themselves and count nowhere.
ALTER TABLE browser_source_tokens DROP CONSTRAINT browser_source_tokens_source_type_check;
ALTER TABLE browser_source_tokens ADD CONSTRAINT browser_source_tokens_source_type_check
    CHECK (source_type IN ('ticker', 'media', 'general', 'all'));
ALTER TABLE browser_source_tokens ADD COLUMN is_preview boolean NOT NULL DEFAULT false;

-- CSS of a community's own for all its overlays, beside the variables; checked before it is kept.
ALTER TABLE browser_source_themes ADD COLUMN css text NOT NULL DEFAULT '';
