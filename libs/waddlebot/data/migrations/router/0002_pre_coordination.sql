-- Which container of a collector looks after which channel, shard or team (contracts §7).

-- Never goes back, not even for an entity that was removed and came again: (entity_id, epoch) names one holding.
CREATE SEQUENCE coordination_epochs;

CREATE TABLE coordination (
    id bigserial PRIMARY KEY,
    platform text NOT NULL,
    server_id text NOT NULL DEFAULT '',
    channel_id text NOT NULL DEFAULT '',
    entity_id text NOT NULL UNIQUE,
    -- The container's id, or NULL while nobody holds it.
    claimed_by text,
    claimed_at timestamptz,
    epoch bigint NOT NULL DEFAULT 0,
    -- What was last heard of it; `claimed` while its holder has not said yet.
    status text NOT NULL DEFAULT 'available' CHECK (status IN ('available', 'claimed', 'live', 'offline', 'error')),
    is_live boolean NOT NULL DEFAULT false,
    live_since timestamptz,
    viewer_count integer NOT NULL DEFAULT 0,
    last_activity timestamptz,
    last_check timestamptz,
    last_checkin timestamptz,
    claim_expires timestamptz,
    -- Seconds. Like max_containers a name that was given from outside; neither has an effect.
    heartbeat_interval integer NOT NULL DEFAULT 300,
    error_count integer NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    -- The lowest goes first.
    priority integer NOT NULL DEFAULT 100,
    max_containers integer NOT NULL DEFAULT 1,
    config jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- In the order in which they are claimed. Free ones only, so that a claim never walks over what others hold.
CREATE INDEX coordination_free
    ON coordination (platform, is_live DESC, priority, viewer_count DESC, last_activity DESC NULLS LAST, id)
    WHERE claimed_by IS NULL;
CREATE INDEX coordination_holder ON coordination (claimed_by, platform) WHERE claimed_by IS NOT NULL;
-- Both times are NULL in free rows. Were these indexes partial too, they would be taken for finding a holder's rows.
CREATE INDEX coordination_expiry ON coordination (claim_expires);
CREATE INDEX coordination_checkin ON coordination (last_checkin);

-- A container's sign of life is one row here, however much it holds. Its lock comes before any change of its claims.
CREATE TABLE coordination_containers (
    platform text NOT NULL,
    container_id text NOT NULL,
    last_seen timestamptz NOT NULL DEFAULT now(),
    -- Both NULL for a container that never promised to be heard of again so soon.
    alive_for interval,
    alive_until timestamptz,
    PRIMARY KEY (platform, container_id)
);
CREATE INDEX coordination_containers_alive ON coordination_containers (alive_until);
CREATE INDEX coordination_containers_id ON coordination_containers (container_id);

-- One row: since when somebody has been there to hear signs of life, and when last nobody was.
CREATE TABLE coordination_watch (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    heard_at timestamptz NOT NULL,
    silent_from timestamptz NOT NULL DEFAULT '-infinity',
    silent_until timestamptz NOT NULL DEFAULT '-infinity'
);
