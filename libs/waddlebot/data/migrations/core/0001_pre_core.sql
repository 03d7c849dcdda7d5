-- What every module shares: communities and where they live, people, services, and the bot's replies.

CREATE TABLE users (
    id bigserial PRIMARY KEY,
    display_name text NOT NULL DEFAULT '',
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE platform_identities (
    id bigserial PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    platform text NOT NULL,
    platform_user_id text NOT NULL,
    name text NOT NULL DEFAULT '',
    display_name text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (platform, platform_user_id)
);
CREATE INDEX platform_identities_user ON platform_identities (user_id);

CREATE TABLE communities (
    id bigserial PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    is_global boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true,
    owner_id bigint REFERENCES users ON DELETE SET NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX communities_one_global ON communities (is_global) WHERE is_global;
INSERT INTO communities (slug, name, is_global) VALUES ('global', 'Global Community', true);

-- Joining and roles are apart, so that handing out roles never waits for people who join.
CREATE TABLE community_memberships (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    is_active boolean NOT NULL DEFAULT true,
    joined_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, user_id)
);

CREATE TABLE community_rbac (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'moderator', 'vip', 'subscriber', 'member')),
    assigned_by text NOT NULL DEFAULT '',
    assigned_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, user_id)
);
CREATE INDEX community_rbac_user ON community_rbac (user_id);

CREATE TABLE entities (
    id bigserial PRIMARY KEY,
    entity_id text NOT NULL UNIQUE,
    platform text NOT NULL,
    server_id text NOT NULL DEFAULT '',
    channel_id text NOT NULL DEFAULT '',
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    owner text NOT NULL DEFAULT '',
    is_active boolean NOT NULL DEFAULT true,
    config jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX entities_community ON entities (community_id);
CREATE INDEX entities_server ON entities (platform, server_id);

CREATE TABLE servers (
    id bigserial PRIMARY KEY,
    owner text NOT NULL DEFAULT '',
    platform text NOT NULL,
    channel text NOT NULL DEFAULT '',
    server_id text NOT NULL DEFAULT '',
    name text NOT NULL DEFAULT '',
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    is_active boolean NOT NULL DEFAULT true,
    webhook_url text NOT NULL DEFAULT '',
    config jsonb NOT NULL DEFAULT '{}',
    last_activity timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (platform, server_id, channel)
);

CREATE TABLE collector_modules (
    id bigserial PRIMARY KEY,
    module_name text NOT NULL UNIQUE,
    module_version text NOT NULL,
    platform text,
    endpoint_url text NOT NULL,
    health_check_url text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'registered',
    last_heartbeat timestamptz NOT NULL DEFAULT now(),
    config jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Keys are wbot_<key_id>_<secret>; only the SHA-256 of the whole key is kept.
CREATE TABLE service_accounts (
    id bigserial PRIMARY KEY,
    key_id text NOT NULL UNIQUE,
    name text NOT NULL UNIQUE,
    groups text[] NOT NULL,
    module_name text,
    platforms text[] NOT NULL DEFAULT '{}',
    community_id bigint REFERENCES communities ON DELETE CASCADE,
    key_hash text NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    expires_at timestamptz,
    last_used timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A module's answer, kept in the transaction of the module's own writes: a repeated call gets it again (contracts §3).
CREATE TABLE module_replies (
    id bigserial PRIMARY KEY,
    module_name text NOT NULL,
    execution_id uuid NOT NULL,
    reply json NOT NULL,
    -- [[cache, key], …] that other processes must forget once the writes are committed.
    invalidations jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (module_name, execution_id)
);
CREATE INDEX module_replies_age ON module_replies USING brin (created_at);

-- Everything the bot says. pending → sending → sent, dropped or unknown (contracts §5).
CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    platform text NOT NULL,
    event_id text NOT NULL,
    execution_id uuid,
    ordinal integer NOT NULL,
    session_id uuid NOT NULL,
    entity_id text NOT NULL,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    module_name text NOT NULL,
    response_action text NOT NULL,
    response_data jsonb NOT NULL,
    reply_to text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'sent', 'dropped', 'unknown')),
    available_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    lease_until timestamptz,
    sender text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    UNIQUE NULLS NOT DISTINCT (platform, event_id, execution_id, ordinal)
);
CREATE INDEX outbox_waiting ON outbox (platform, id) WHERE state IN ('pending', 'sending');
CREATE INDEX outbox_session ON outbox (session_id);
