-- Everything that Discord told, kept until the router has taken it.
CREATE TABLE discord_events (
    id bigserial PRIMARY KEY,
    -- The gateway's session and sequence number, or the interaction: the same when Discord replays it.
    delivery_id text NOT NULL UNIQUE,
    -- The semantic id: a message's or an interaction's own, which two connections would bring twice.
    event_id text NOT NULL,
    type text NOT NULL,
    -- Empty for what happens in a whole server.
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
CREATE INDEX discord_events_event ON discord_events (event_id);
CREATE INDEX discord_events_waiting ON discord_events (id) WHERE state IN ('pending', 'forwarding');
-- One person's events go out in their order.
CREATE INDEX discord_events_person ON discord_events (channel_id, user_id, id)
    WHERE state IN ('pending', 'forwarding');
CREATE INDEX discord_events_age ON discord_events USING brin (received_at);

-- The servers that the bot is in.
CREATE TABLE discord_guilds (
    guild_id text PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    owner_id text NOT NULL DEFAULT '',
    member_count integer,
    -- Where Discord greets; empty if nowhere.
    system_channel_id text NOT NULL DEFAULT '',
    is_available boolean NOT NULL DEFAULT true,
    added_by text NOT NULL DEFAULT '',
    joined_at timestamptz NOT NULL DEFAULT now(),
    left_at timestamptz,
    -- What Discord has as the server's slash commands, by hash; and which command of the fleet each name stands for.
    commands_hash text NOT NULL DEFAULT '',
    commands jsonb NOT NULL DEFAULT '{}',
    -- Why Discord did not take them, and when it is asked again.
    commands_refused text NOT NULL DEFAULT '',
    commands_retry_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- How each shard's connection is, said by who holds it; health is asked for in another process.
CREATE TABLE discord_shards (
    shard_id integer PRIMARY KEY,
    shard_count integer NOT NULL,
    container_id text NOT NULL,
    state text NOT NULL,
    detail text NOT NULL DEFAULT '',
    guilds integer NOT NULL DEFAULT 0,
    latency_ms real,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Slash commands that were used, for as long as Discord takes answers to them: 15 minutes.
CREATE TABLE discord_interactions (
    interaction_id text PRIMARY KEY,
    guild_id text NOT NULL,
    channel_id text NOT NULL,
    user_id text NOT NULL,
    command text NOT NULL,
    token_sealed text NOT NULL,
    -- The reply that took the place of "is thinking…"; 0 for the word that nothing else came.
    first_reply bigint,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX discord_interactions_age ON discord_interactions (created_at);
CREATE INDEX discord_interactions_unanswered ON discord_interactions (created_at) WHERE first_reply IS NULL;

-- Who is in a voice channel since when, and how many minutes of that were counted.
CREATE TABLE discord_voice_sessions (
    id bigserial PRIMARY KEY,
    guild_id text NOT NULL,
    user_id text NOT NULL,
    channel_id text NOT NULL,
    name text NOT NULL DEFAULT '',
    display_name text NOT NULL DEFAULT '',
    -- -1 until the joining itself is told.
    minutes integer NOT NULL DEFAULT -1,
    joined_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
-- Somebody is in one voice channel of a server at a time.
CREATE UNIQUE INDEX discord_voice_sessions_person ON discord_voice_sessions (guild_id, user_id);
