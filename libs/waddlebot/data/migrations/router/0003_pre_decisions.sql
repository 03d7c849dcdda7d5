-- What a message means and whether it may: string rules, switches, permissions, limits.

CREATE TABLE stringmatch (
    id bigserial PRIMARY KEY,
    -- NULL: a rule of the whole fleet.
    community_id bigint REFERENCES communities ON DELETE CASCADE,
    string text NOT NULL,
    match_type text NOT NULL CHECK (match_type IN ('exact', 'contains', 'word', 'regex', '*')),
    case_sensitive boolean NOT NULL DEFAULT false,
    action text NOT NULL CHECK (action IN ('warn', 'block', 'command', 'webhook')),
    command_to_execute text NOT NULL DEFAULT '',
    command_parameters jsonb NOT NULL DEFAULT '[]',
    webhook_url text NOT NULL DEFAULT '',
    -- Sealed; what webhooks are signed with.
    webhook_secret text NOT NULL DEFAULT '',
    warning_message text NOT NULL DEFAULT '',
    block_message text NOT NULL DEFAULT '',
    priority integer NOT NULL DEFAULT 100,
    is_active boolean NOT NULL DEFAULT true,
    match_count bigint NOT NULL DEFAULT 0,
    last_matched timestamptz,
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stringmatch_community ON stringmatch (community_id, priority, id) WHERE is_active;

-- Where a rule holds; without a row everywhere in its community.
CREATE TABLE stringmatch_entities (
    stringmatch_id bigint NOT NULL REFERENCES stringmatch ON DELETE CASCADE,
    entity_id text NOT NULL REFERENCES entities (entity_id) ON DELETE CASCADE,
    PRIMARY KEY (stringmatch_id, entity_id)
);

-- Modules that are on, off or replaced, in a community or in one of its entities (contracts §6).
CREATE TABLE module_switches (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    entity_id text REFERENCES entities (entity_id) ON DELETE CASCADE,
    module_name text NOT NULL,
    enabled boolean NOT NULL,
    replaced_by text,
    config jsonb NOT NULL DEFAULT '{}',
    updated_by text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (community_id, entity_id, module_name)
);

-- What is set for one command, or for all with '*', and how often it is used.
CREATE TABLE command_permissions (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    entity_id text REFERENCES entities (entity_id) ON DELETE CASCADE,
    -- With its prefix, as it is compared.
    command text NOT NULL,
    -- NULL: nothing was said about it.
    is_enabled boolean,
    config jsonb NOT NULL DEFAULT '{}',
    -- Somebody set it; the other rows only count.
    is_explicit boolean NOT NULL DEFAULT false,
    usage_count bigint NOT NULL DEFAULT 0,
    last_used timestamptz,
    updated_by text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (community_id, entity_id, command)
);
CREATE INDEX command_permissions_explicit ON command_permissions (community_id) WHERE is_explicit;

CREATE TABLE command_permission_subjects (
    command_permission_id bigint NOT NULL REFERENCES command_permissions ON DELETE CASCADE,
    effect text NOT NULL CHECK (effect IN ('allow', 'deny')),
    kind text NOT NULL CHECK (kind IN ('user', 'role')),
    -- A user's number or a role's name.
    subject text NOT NULL,
    PRIMARY KEY (command_permission_id, effect, kind, subject)
);

-- How often what was used and refused, by the minute: for people to look at, never for deciding.
CREATE TABLE rate_limits (
    command_id bigint NOT NULL REFERENCES commands ON DELETE CASCADE,
    entity_id text NOT NULL,
    user_id bigint NOT NULL,
    window_start timestamptz NOT NULL,
    request_count integer NOT NULL DEFAULT 0,
    refused_count integer NOT NULL DEFAULT 0,
    PRIMARY KEY (command_id, entity_id, user_id, window_start)
);
CREATE INDEX rate_limits_age ON rate_limits USING brin (window_start);

-- What was decided before anything ran, for whoever asks why.
ALTER TABLE router_events ADD COLUMN verdict json;
ALTER TABLE command_executions ADD COLUMN decision json;
ALTER TABLE command_executions ADD COLUMN trigger_type text NOT NULL DEFAULT 'command';

-- Events that still need work, and who is at it. Apart from the events themselves, which so are written once only.
CREATE TABLE router_work (
    session_id uuid PRIMARY KEY,
    holder text NOT NULL,
    lease_until timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 1
);
ALTER TABLE router_events ALTER COLUMN state SET DEFAULT 'done';
