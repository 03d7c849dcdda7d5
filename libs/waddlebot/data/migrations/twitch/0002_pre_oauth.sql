-- Who has granted this fleet what, sealed (waddlebot.community.tokens): broadcasters, and the bot's own account.
CREATE TABLE twitch_tokens (
    -- The Twitch user who consented.
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
    -- When Twitch last said that it is valid; it asks for that every hour.
    checked_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX twitch_tokens_checked ON twitch_tokens (checked_at) WHERE state = 'ok';

-- What is known of a channel at Twitch.
CREATE TABLE twitch_channels (
    broadcaster_id text PRIMARY KEY,
    login text NOT NULL DEFAULT '',
    display_name text NOT NULL DEFAULT '',
    is_live boolean NOT NULL DEFAULT false,
    viewer_count integer NOT NULL DEFAULT 0,
    title text NOT NULL DEFAULT '',
    game_name text NOT NULL DEFAULT '',
    -- NULL while nobody knows whether the bot moderates there.
    bot_moderates boolean,
    -- When its subscriptions were last compared with what they should be; NULL: as soon as somebody can.
    checked_at timestamptz,
    -- What is wrong with it, for people.
    trouble text NOT NULL DEFAULT '',
    -- The streamer has left: up to this id their events are deleted, the rest follows.
    purged_to bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX twitch_channels_purge ON twitch_channels (broadcaster_id) WHERE purged_to IS NOT NULL;

-- The subscriptions that this fleet wants and what became of each. Twitch's own list is the truth; this is what was
-- last seen of it, and why one is missing.
CREATE TABLE twitch_subscriptions (
    id bigserial PRIMARY KEY,
    broadcaster_id text NOT NULL,
    type text NOT NULL,
    version text NOT NULL,
    -- Twitch's id, empty for one that could not be made.
    subscription_id text NOT NULL DEFAULT '',
    transport text NOT NULL DEFAULT 'webhook',
    status text NOT NULL,
    reason text NOT NULL DEFAULT '',
    cost integer NOT NULL DEFAULT 0,
    -- Not tried again before this.
    retry_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (broadcaster_id, type)
);
CREATE INDEX twitch_subscriptions_id ON twitch_subscriptions (subscription_id) WHERE subscription_id <> '';
