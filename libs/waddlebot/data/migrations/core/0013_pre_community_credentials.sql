-- What a community gave this fleet for other services, sealed (waddlebot.community.credentials). A table of tokens like a
-- platform's (migrations/twitch/0002_pre_oauth.sql); a set of secrets is one that never ends.
CREATE TABLE community_credentials (
    -- community:provider:kind
    owner_id text PRIMARY KEY,
    community_id bigint NOT NULL GENERATED ALWAYS AS (split_part(owner_id, ':', 1)::bigint) STORED
        REFERENCES communities ON DELETE CASCADE,
    provider text NOT NULL GENERATED ALWAYS AS (split_part(owner_id, ':', 2)) STORED,
    -- secret: given by its owner; token: granted to a module; setting: a module's secret settings.
    kind text NOT NULL GENERATED ALWAYS AS (split_part(owner_id, ':', 3)) STORED
        CHECK (kind IN ('secret', 'token', 'setting')),
    -- Which secrets, by name.
    fields text[] NOT NULL DEFAULT '{}',
    access_token text NOT NULL,
    refresh_token text NOT NULL DEFAULT '',
    expires_at timestamptz,
    scopes text[] NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'needs_reauth')),
    reason text NOT NULL DEFAULT '',
    version bigint NOT NULL DEFAULT 1,
    refresh_holder text NOT NULL DEFAULT '',
    refresh_until timestamptz,
    checked_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX community_credentials_community ON community_credentials (community_id, provider);
