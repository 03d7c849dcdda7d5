-- What a community wants shown and said when something happens. An event without any row has the alerts that are built in.
CREATE TABLE browser_source_alerts (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    version integer NOT NULL DEFAULT 1,
    event text NOT NULL,
    platforms jsonb NOT NULL DEFAULT '[]',
    is_active boolean NOT NULL DEFAULT true,
    min_amount double precision,
    max_amount double precision,
    weight double precision NOT NULL DEFAULT 1,
    title text NOT NULL DEFAULT '',
    text text NOT NULL DEFAULT '',
    chat_message text NOT NULL DEFAULT '',
    image text NOT NULL DEFAULT '',
    sound text NOT NULL DEFAULT '',
    volume integer NOT NULL DEFAULT 50,
    accent text NOT NULL DEFAULT '',
    animation text NOT NULL DEFAULT 'zoom',
    position text NOT NULL DEFAULT '',
    display_s double precision NOT NULL DEFAULT 7,
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX browser_source_alerts_of_event ON browser_source_alerts (community_id, event);

-- Pictures, videos and sounds that a community has uploaded. Their pages load them by what they contain, so that a name
-- never stands for something else later.
CREATE TABLE browser_source_media (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    sha256 text NOT NULL,
    content_type text NOT NULL,
    size_bytes integer NOT NULL,
    content bytea NOT NULL,
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, sha256)
);
CREATE INDEX browser_source_media_by_content ON browser_source_media (sha256);
