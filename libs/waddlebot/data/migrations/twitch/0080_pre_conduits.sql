-- The conduit that this fleet has made for its application. One that is not here is somebody else's.
CREATE TABLE twitch_conduits (
    client_id text PRIMARY KEY,
    conduit_id text NOT NULL,
    shard_count integer NOT NULL CHECK (shard_count > 0),
    -- What all subscriptions of the application cost, as Twitch said last.
    total_cost integer NOT NULL DEFAULT 0,
    max_total_cost integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- What became of each shard, as whoever has claimed it says every few seconds.
CREATE TABLE twitch_conduit_shards (
    shard_id integer PRIMARY KEY,
    container_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('connecting', 'bound', 'lent')),
    detail text NOT NULL DEFAULT '',
    heard_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Which replicas hold shards or would: each takes its share of them.
CREATE TABLE twitch_conduit_replicas (
    container_id text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
);
