-- What modules said unasked (contracts §5): one row each, so that the same again is known, and what it put into the outbox.
CREATE TABLE announcements (
    id bigserial PRIMARY KEY,
    module_name text NOT NULL,
    announcement_id text NOT NULL,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    outbox_ids bigint[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (module_name, announcement_id)
);

-- What a module tells the owner of a community, and nobody else.
CREATE TABLE notices (
    id bigserial PRIMARY KEY,
    announcement_id bigint NOT NULL UNIQUE REFERENCES announcements ON DELETE CASCADE,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    module_name text NOT NULL,
    messages jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notices_community ON notices (community_id, id);
