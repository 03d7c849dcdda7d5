-- The router's own tables: what may be called, what happened, and what came of it.

CREATE TABLE commands (
    id bigserial PRIMARY KEY,
    command text NOT NULL,
    prefix text NOT NULL CHECK (prefix IN ('!', '#')),
    description text NOT NULL DEFAULT '',
    usage text NOT NULL DEFAULT '',
    level text NOT NULL DEFAULT 'member',
    scope text NOT NULL DEFAULT 'entity' CHECK (scope IN ('entity', 'community')),
    location_url text NOT NULL DEFAULT '',
    location text NOT NULL DEFAULT 'internal' CHECK (location IN ('internal', 'community')),
    type text NOT NULL DEFAULT 'container' CHECK (type IN ('container', 'lambda', 'openwhisk', 'webhook')),
    method text NOT NULL DEFAULT 'POST',
    timeout double precision NOT NULL DEFAULT 30,
    headers jsonb NOT NULL DEFAULT '{}',
    auth_required boolean NOT NULL DEFAULT true,
    rate_limit integer,
    is_active boolean NOT NULL DEFAULT true,
    module_type text NOT NULL DEFAULT 'core' CHECK (module_type IN ('core', 'community')),
    module_name text NOT NULL,
    module_id text NOT NULL DEFAULT '',
    version text NOT NULL DEFAULT '',
    trigger_type text NOT NULL DEFAULT 'command' CHECK (trigger_type IN ('command', 'event', 'both')),
    event_types jsonb NOT NULL DEFAULT '[]',
    priority integer NOT NULL DEFAULT 100,
    execution_mode text NOT NULL DEFAULT 'sequential' CHECK (execution_mode IN ('sequential', 'parallel')),
    subcommands jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (module_name, prefix, command)
);
CREATE INDEX commands_name ON commands (prefix, command) WHERE is_active;

-- One row for each event of a platform: the same event again finds it (contracts §1, §2). `holder` is the router
-- process at work on it until `lease_until`; when that passes, anybody may take over.
CREATE TABLE router_events (
    id bigserial PRIMARY KEY,
    platform text NOT NULL,
    event_id text NOT NULL,
    session_id uuid NOT NULL UNIQUE,
    entity_id text NOT NULL,
    community_id bigint NOT NULL,
    user_id bigint NOT NULL,
    message_type text NOT NULL,
    event json NOT NULL,
    state text NOT NULL DEFAULT 'processing' CHECK (state IN ('processing', 'done')),
    holder text NOT NULL DEFAULT '',
    lease_until timestamptz,
    received_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    UNIQUE (platform, event_id)
);
CREATE INDEX router_events_unfinished ON router_events (lease_until) WHERE state = 'processing';
CREATE INDEX router_events_person ON router_events (entity_id, user_id, id);
-- Rows come in order of time, so a few pages of summary do for finding old ones.
CREATE INDEX router_events_age ON router_events USING brin (received_at);

CREATE TABLE command_executions (
    id bigserial PRIMARY KEY,
    execution_id uuid NOT NULL UNIQUE,
    parent_id uuid,
    depth integer NOT NULL DEFAULT 0,
    session_id uuid NOT NULL,
    platform text NOT NULL,
    command_id bigint REFERENCES commands ON DELETE SET NULL,
    module_name text NOT NULL,
    command text NOT NULL,
    entity_id text NOT NULL,
    community_id bigint NOT NULL,
    user_id bigint NOT NULL,
    message_content text NOT NULL DEFAULT '',
    parameters jsonb NOT NULL DEFAULT '[]',
    location_url text NOT NULL DEFAULT '',
    request_payload json,
    response_status integer,
    response_data jsonb,
    execution_time_ms double precision,
    error_code text,
    error_message text,
    retry_count integer NOT NULL DEFAULT 0,
    status text NOT NULL CHECK (
        status IN ('success', 'failed', 'timeout', 'denied', 'rate_limited', 'pending', 'unknown')
    ),
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz
)
-- Each row is updated once, when its execution ends; room in its page spares the indexes.
WITH (fillfactor = 50);
CREATE INDEX command_executions_session ON command_executions (session_id);
CREATE INDEX command_executions_community ON command_executions (community_id, created_at);
CREATE INDEX command_executions_age ON command_executions USING brin (created_at);

CREATE TABLE module_responses (
    id bigserial PRIMARY KEY,
    execution_id uuid NOT NULL,
    module_name text NOT NULL,
    success boolean NOT NULL,
    response_action text,
    response_data jsonb,
    media_type text,
    media_url text,
    ticker_text text,
    ticker_duration double precision,
    chat_message text,
    error_message text,
    processing_time_ms double precision,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX module_responses_execution ON module_responses (execution_id);
