-- Where it is told that a stream is on (contracts §7), and of which that was told.
CREATE TABLE live_notices (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- The channel in which it is told.
    entity_id text NOT NULL,
    -- Of which stream; NULL: of any of the community's.
    stream_entity_id text,
    message text NOT NULL,
    -- Empty: nothing is told of its end.
    end_message text NOT NULL DEFAULT '',
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (community_id, entity_id, stream_entity_id)
);
CREATE TABLE live_notices_told (
    id bigserial PRIMARY KEY,
    live_notice_id bigint NOT NULL REFERENCES live_notices ON DELETE CASCADE,
    stream_entity_id text NOT NULL,
    started_at timestamptz NOT NULL,
    told_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    UNIQUE (live_notice_id, stream_entity_id, started_at)
);
CREATE INDEX live_notices_told_open ON live_notices_told (stream_entity_id) WHERE ended_at IS NULL;
