-- Every event and slash command, stored before Slack is told that it arrived.
CREATE TABLE slack_events (
    id bigserial PRIMARY KEY,
    -- Slack's event_id: the same on each retry of one delivery. A slash command's trigger_id.
    delivery_id text NOT NULL UNIQUE,
    -- The semantic id: team:channel:ts of a message, which Slack may deliver under many event ids.
    event_id text NOT NULL,
    type text NOT NULL,
    channel_id text NOT NULL,
    user_id text NOT NULL DEFAULT '',
    event_data jsonb NOT NULL,
    occurred_at timestamptz,
    state text NOT NULL CHECK (state IN ('pending', 'forwarding', 'forwarded', 'ignored', 'failed')),
    detail text NOT NULL DEFAULT '',
    attempts integer NOT NULL DEFAULT 0,
    available_at timestamptz NOT NULL DEFAULT now(),
    -- The forwarder at work on it until `lease_until`; when that passes, anybody may take over.
    holder text NOT NULL DEFAULT '',
    lease_until timestamptz,
    session_id uuid,
    received_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz
);
CREATE INDEX slack_events_event ON slack_events (event_id);
CREATE INDEX slack_events_waiting ON slack_events (id) WHERE state IN ('pending', 'forwarding');
-- One person's events go out in their order.
CREATE INDEX slack_events_person ON slack_events (channel_id, user_id, id) WHERE state IN ('pending', 'forwarding');
CREATE INDEX slack_events_age ON slack_events (received_at);

-- The workspaces that have the app, and those that had it.
CREATE TABLE slack_teams (
    team_id text PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    enterprise_id text NOT NULL DEFAULT '',
    app_id text NOT NULL DEFAULT '',
    bot_user_id text NOT NULL DEFAULT '',
    -- Whether somebody consented, or SLACK_BOT_TOKEN is for it.
    source text NOT NULL CHECK (source IN ('oauth', 'setting')),
    state text NOT NULL DEFAULT 'installed' CHECK (state IN ('installed', 'gone')),
    -- Why it is gone, in words.
    reason text NOT NULL DEFAULT '',
    installed_by text NOT NULL DEFAULT '',
    installed_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- The workspaces' tokens, sealed (waddlebot.community.tokens). A bot's is under its team; that of an admin who lets the bot delete
-- messages is under `team/admin`.
CREATE TABLE slack_tokens (
    owner_id text PRIMARY KEY,
    access_token text NOT NULL,
    refresh_token text NOT NULL DEFAULT '',
    expires_at timestamptz,
    scopes text[] NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'needs_reauth')),
    reason text NOT NULL DEFAULT '',
    -- Grows with each token that replaces another, and with each refusal.
    version bigint NOT NULL DEFAULT 1,
    -- Who is refreshing it, and until when they have that to themselves.
    refresh_holder text NOT NULL DEFAULT '',
    refresh_until timestamptz,
    checked_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX slack_tokens_checked ON slack_tokens (checked_at) WHERE state = 'ok';

-- Slash commands, and where their answers may be sent for half an hour, five times.
CREATE TABLE slack_commands (
    id bigserial PRIMARY KEY,
    event_id text NOT NULL UNIQUE,
    team_id text NOT NULL,
    channel_id text NOT NULL,
    user_id text NOT NULL,
    command text NOT NULL,
    -- Whether only who asked sees the answer.
    is_private boolean NOT NULL,
    -- Sealed, because whoever has it can speak there; empty without a key to seal with.
    response_url text NOT NULL DEFAULT '',
    uses_left integer NOT NULL DEFAULT 5,
    usable_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX slack_commands_age ON slack_commands USING brin (created_at);
