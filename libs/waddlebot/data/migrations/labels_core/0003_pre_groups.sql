-- Channels and servers of a community, over platforms, in which a label brings a role.
CREATE TABLE label_groups (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    name text NOT NULL,
    looks_like text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, looks_like)
);
CREATE TABLE label_group_places (
    group_id bigint NOT NULL REFERENCES label_groups ON DELETE CASCADE,
    entity_id text NOT NULL,
    PRIMARY KEY (group_id, entity_id)
);
-- `server_id` is the platform's: a server on Discord, a workspace on Slack, a channel on Twitch.
CREATE TABLE label_group_rules (
    id bigserial PRIMARY KEY,
    group_id bigint NOT NULL REFERENCES label_groups ON DELETE CASCADE,
    label text NOT NULL,
    entity_id text NOT NULL,
    platform text NOT NULL,
    server_id text NOT NULL,
    role_id text NOT NULL,
    UNIQUE (group_id, label, platform, server_id, role_id)
);

-- What roles people should have by their labels, what is known of what they have, and what stood in the way.
CREATE TABLE label_roles (
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    platform text NOT NULL,
    server_id text NOT NULL,
    role_id text NOT NULL,
    platform_user_id text NOT NULL,
    own_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    is_wanted boolean NOT NULL DEFAULT true,
    has_it boolean NOT NULL DEFAULT false,
    -- We gave it, so we may take it; what somebody had before, or got from a person, stays.
    is_ours boolean NOT NULL DEFAULT false,
    -- The collector was asked, and what it said is not on record: perhaps we gave it.
    is_asked boolean NOT NULL DEFAULT false,
    times_taken integer NOT NULL DEFAULT 0,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT now(),
    error_code text NOT NULL DEFAULT '',
    error_message text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (community_id, platform, server_id, role_id, platform_user_id)
);
CREATE INDEX label_roles_due ON label_roles (next_try_at) WHERE is_wanted <> has_it;
CREATE INDEX label_roles_of ON label_roles (platform, server_id, platform_user_id);
CREATE INDEX label_roles_own ON label_roles (own_id);
