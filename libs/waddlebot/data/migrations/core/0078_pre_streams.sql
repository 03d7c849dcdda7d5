-- What is known of streams, as their collectors see and write it: what variables and notices say of them.
CREATE TABLE streams (
    entity_id text PRIMARY KEY,
    is_live boolean NOT NULL DEFAULT false,
    -- Of the stream that is on, or that was on last.
    started_at timestamptz,
    title text NOT NULL DEFAULT '',
    game text NOT NULL DEFAULT '',
    viewers integer NOT NULL DEFAULT 0,
    -- An address without a size, as {width}x{height}; empty where nobody has told one.
    picture text NOT NULL DEFAULT '',
    -- Where people watch it.
    url text NOT NULL DEFAULT '',
    name text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- Since when somebody follows, as far as a collector knows; NULL: not, and not asked yet where `checked_at` is NULL too.
CREATE TABLE follows (
    id bigserial PRIMARY KEY,
    entity_id text NOT NULL,
    platform_user_id text NOT NULL,
    followed_at timestamptz,
    checked_at timestamptz,
    UNIQUE (entity_id, platform_user_id)
);
CREATE INDEX follows_person ON follows (platform_user_id);
CREATE INDEX follows_unchecked ON follows (entity_id) WHERE checked_at IS NULL;
