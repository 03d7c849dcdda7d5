-- What is said again and again (contracts §7). `lines` of chat since it was last said are counted up to `min_lines`.
CREATE TABLE timers (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- NULL: in all channels of the community that want announcements.
    entity_id text,
    name text NOT NULL,
    message text NOT NULL,
    minutes integer NOT NULL CHECK (minutes BETWEEN 1 AND 1440),
    min_lines integer NOT NULL CHECK (min_lines BETWEEN 0 AND 1000),
    only_live boolean NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    lines integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    said_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, name)
);
CREATE INDEX timers_due ON timers (due_at) WHERE is_active;
