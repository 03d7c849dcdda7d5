-- array_to_string may change with settings for other types than text, so PostgreSQL does not take it for a generated column.
CREATE FUNCTION spotify_scope(text[]) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT array_to_string($1, ' ') $$;

-- Who has granted what in which community, sealed (waddlebot.community.tokens).
CREATE TABLE spotify_tokens (
    -- community:user
    owner_id text PRIMARY KEY,
    community_id bigint NOT NULL GENERATED ALWAYS AS (split_part(owner_id, ':', 1)::bigint) STORED
        REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL GENERATED ALWAYS AS (split_part(owner_id, ':', 2)::bigint) STORED,
    access_token text NOT NULL,
    refresh_token text NOT NULL DEFAULT '',
    expires_at timestamptz,
    scopes text[] NOT NULL DEFAULT '{}',
    scope text NOT NULL GENERATED ALWAYS AS (spotify_scope(scopes)) STORED,
    -- The app that it was granted to, which alone can renew it.
    client_id text NOT NULL DEFAULT '',
    -- The account as Spotify knows it.
    account_id text NOT NULL DEFAULT '',
    account_name text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'needs_reauth')),
    reason text NOT NULL DEFAULT '',
    version bigint NOT NULL DEFAULT 1,
    refresh_holder text NOT NULL DEFAULT '',
    refresh_until timestamptz,
    checked_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX spotify_tokens_person ON spotify_tokens (community_id, user_id);

-- Links to the consent page: each works once.
CREATE TABLE spotify_links (
    ticket_hash text PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL,
    -- An owner made it, so the account will be the one that plays.
    by_owner boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz
);
CREATE INDEX spotify_links_age ON spotify_links (created_at);

-- Whose account plays for a community, and where. It counts while the community has a token for spotify among its
-- credentials, which its owner can take away.
CREATE TABLE spotify_players (
    community_id bigint PRIMARY KEY REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL,
    -- The preferred device; its id may change, so the name counts too.
    device_id text NOT NULL DEFAULT '',
    device_name text NOT NULL DEFAULT '',
    -- When to look at what plays the next time.
    look_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX spotify_players_due ON spotify_players (look_at);

CREATE TABLE spotify_now_playing (
    community_id bigint PRIMARY KEY REFERENCES communities ON DELETE CASCADE,
    track_uri text NOT NULL,
    track_name text NOT NULL DEFAULT '',
    artists text NOT NULL DEFAULT '',
    album text NOT NULL DEFAULT '',
    duration_ms bigint NOT NULL DEFAULT 0,
    album_art_url text NOT NULL DEFAULT '',
    is_playing boolean NOT NULL DEFAULT false,
    progress_ms bigint NOT NULL DEFAULT 0,
    device_name text NOT NULL DEFAULT '',
    volume integer,
    requested_by text NOT NULL DEFAULT '',
    requested_by_id bigint,
    -- Grows with each change that overlays are told of.
    version bigint NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL DEFAULT now(),
    -- When the progress was so.
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- What somebody found last, for its numbers.
CREATE TABLE spotify_search_cache (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL,
    query text NOT NULL,
    results jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, user_id)
);
CREATE INDEX spotify_search_cache_age ON spotify_search_cache (created_at);

-- What viewers asked for: asked (a place is kept while Spotify is told) → queued → played or gone.
CREATE TABLE spotify_queue (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    execution_id uuid UNIQUE,
    user_id bigint,
    requested_by text NOT NULL DEFAULT '',
    track_uri text NOT NULL,
    track_name text NOT NULL DEFAULT '',
    artists text NOT NULL DEFAULT '',
    duration_ms bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'queued', 'played', 'gone')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
CREATE INDEX spotify_queue_waiting ON spotify_queue (community_id) WHERE state IN ('asked', 'queued');
CREATE INDEX spotify_queue_ended ON spotify_queue (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE spotify_history (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    track_uri text NOT NULL,
    track_name text NOT NULL,
    artists text NOT NULL,
    album text NOT NULL DEFAULT '',
    duration_ms bigint NOT NULL DEFAULT 0,
    requested_by text NOT NULL DEFAULT '',
    user_id bigint,
    played_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX spotify_history_newest ON spotify_history (community_id, id DESC);
CREATE INDEX spotify_history_age ON spotify_history USING brin (played_at);
