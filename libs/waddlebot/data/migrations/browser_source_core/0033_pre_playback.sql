-- What a community's media overlay plays now: the track that was sent last, and what the page that leads said of it.
CREATE TABLE browser_source_playback (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL UNIQUE REFERENCES communities ON DELETE CASCADE,
    track_id text NOT NULL,
    -- Its first item, which says whose it is, and the newest one, which says how it is to be played.
    item_id text NOT NULL,
    seq bigint NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'started', 'paused', 'ended', 'failed')),
    position_ms bigint NOT NULL DEFAULT 0,
    code integer NOT NULL DEFAULT 0,
    reported_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The page that is heard and that reports. A lease is renewed by the hub that holds the page's socket.
CREATE TABLE browser_source_leaders (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL UNIQUE REFERENCES communities ON DELETE CASCADE,
    page text NOT NULL,
    is_hidden boolean NOT NULL DEFAULT false,
    lease_until timestamptz NOT NULL
);

-- What the router is told, each state of a track once; kept for a while after that, so that it stays once.
CREATE TABLE browser_source_playback_reports (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    item_id text NOT NULL,
    track_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('started', 'paused', 'ended', 'failed', 'no_page')),
    position_ms bigint NOT NULL DEFAULT 0,
    code integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    told_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, track_id, state)
);
CREATE INDEX browser_source_playback_reports_waiting ON browser_source_playback_reports (id) WHERE told_at IS NULL;
