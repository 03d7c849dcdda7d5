-- The track that a community's overlay was told to play. How far it is, the page says (browser_source_playback).
CREATE TABLE youtube_now_playing (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL UNIQUE REFERENCES communities ON DELETE CASCADE,
    track_id text NOT NULL,
    video_id text NOT NULL,
    title text NOT NULL,
    artist text NOT NULL DEFAULT '',
    album text NOT NULL DEFAULT '',
    -- Seconds, as everywhere here.
    duration integer NOT NULL,
    thumbnail_url text NOT NULL DEFAULT '',
    start_s integer NOT NULL DEFAULT 0,
    is_paused boolean NOT NULL DEFAULT false,
    requested_by text NOT NULL DEFAULT '',
    own_id bigint,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- One row for each community that ever played something; whoever changes what plays or waits holds it.
CREATE TABLE youtube_players (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL UNIQUE REFERENCES communities ON DELETE CASCADE,
    -- Null: what the community's settings say.
    volume integer,
    -- Songs in a row that could not be played.
    failures integer NOT NULL DEFAULT 0
);

CREATE TABLE youtube_queue (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- A song that is put back goes before those that came after it.
    rank integer NOT NULL DEFAULT 0,
    video_id text NOT NULL,
    title text NOT NULL,
    artist text NOT NULL DEFAULT '',
    duration integer NOT NULL,
    thumbnail_url text NOT NULL DEFAULT '',
    start_s integer NOT NULL DEFAULT 0,
    requested_by text NOT NULL DEFAULT '',
    own_id bigint,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX youtube_queue_community ON youtube_queue (community_id, rank, id);

CREATE TABLE youtube_skip_votes (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    track_id text NOT NULL,
    own_id bigint NOT NULL,
    UNIQUE (community_id, track_id, own_id)
);

CREATE TABLE youtube_history (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    track_id text NOT NULL,
    video_id text NOT NULL,
    title text NOT NULL,
    artist text NOT NULL DEFAULT '',
    duration integer NOT NULL,
    thumbnail_url text NOT NULL DEFAULT '',
    requested_by text NOT NULL DEFAULT '',
    own_id bigint,
    outcome text NOT NULL CHECK (outcome IN ('played', 'skipped', 'stopped', 'failed')),
    played_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, track_id)
);
CREATE INDEX youtube_history_community ON youtube_history (community_id, id);

CREATE TABLE youtube_playlists (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    name text NOT NULL,
    -- The name as it is compared.
    name_key text NOT NULL,
    own_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, name_key)
);

CREATE TABLE youtube_playlist_tracks (
    id bigserial PRIMARY KEY,
    playlist_id bigint NOT NULL REFERENCES youtube_playlists ON DELETE CASCADE,
    video_id text NOT NULL,
    title text NOT NULL,
    artist text NOT NULL DEFAULT '',
    duration integer NOT NULL,
    thumbnail_url text NOT NULL DEFAULT '',
    own_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (playlist_id, video_id)
);

CREATE TABLE youtube_blocked (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    video_id text NOT NULL,
    title text NOT NULL DEFAULT '',
    own_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, video_id)
);

-- Somebody's last search, whose numbers they may choose from. `user_id` is the account's own number.
CREATE TABLE youtube_search_cache (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL,
    query text NOT NULL,
    results jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, user_id)
);

CREATE TABLE youtube_activity (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    user_id bigint,
    action text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What YouTube found, for all communities: it answers a hundred searches a day.
CREATE TABLE youtube_searches (
    id bigserial PRIMARY KEY,
    query_key text NOT NULL,
    region text NOT NULL,
    results jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (query_key, region)
);

-- What was asked of YouTube on each of its days, which begin at midnight Pacific.
CREATE TABLE youtube_quota (
    id bigserial PRIMARY KEY,
    day date NOT NULL,
    bucket text NOT NULL CHECK (bucket IN ('searches', 'units')),
    used integer NOT NULL DEFAULT 0,
    UNIQUE (day, bucket)
);

-- What somebody asked for over HTTP and is to be shown and said; deleted once the router has it.
CREATE TABLE youtube_outgoing (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    announcement_id text NOT NULL UNIQUE,
    responses jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
