-- Twitch's own shoutouts, which wait for their turn: one in two minutes in a channel, one an hour for the same target.
CREATE TABLE twitch_shoutouts (
    id bigserial PRIMARY KEY,
    broadcaster_id text NOT NULL,
    to_user_id text NOT NULL,
    -- `sending` is one that was begun: whoever finds it a minute later cannot know whether Twitch has heard of it.
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'sent', 'dropped', 'unknown')),
    -- Why it was dropped, as a code.
    reason text NOT NULL DEFAULT '',
    not_before timestamptz NOT NULL DEFAULT now(),
    -- What has not come to its turn by then is no news any more.
    expires_at timestamptz NOT NULL,
    sent_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX twitch_shoutouts_open ON twitch_shoutouts (broadcaster_id, to_user_id)
    WHERE state IN ('waiting', 'sending');
CREATE INDEX twitch_shoutouts_sent ON twitch_shoutouts (broadcaster_id, sent_at) WHERE sent_at IS NOT NULL;
