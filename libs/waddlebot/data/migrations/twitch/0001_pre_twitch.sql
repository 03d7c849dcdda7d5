-- Every notification, stored before Twitch is told that it arrived.
CREATE TABLE twitch_events (
    id bigserial PRIMARY KEY,
    -- Twitch-Eventsub-Message-Id: the same on each retry of one delivery.
    delivery_id text NOT NULL UNIQUE,
    -- The semantic id: a chat message's own id, which two subscriptions would deliver twice.
    event_id text NOT NULL,
    type text NOT NULL,
    broadcaster_id text NOT NULL,
    chatter_id text NOT NULL DEFAULT '',
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
CREATE INDEX twitch_events_event ON twitch_events (event_id);
CREATE INDEX twitch_events_waiting ON twitch_events (id) WHERE state IN ('pending', 'forwarding');
-- One person's events go out in their order.
CREATE INDEX twitch_events_person ON twitch_events (broadcaster_id, chatter_id, id)
    WHERE state IN ('pending', 'forwarding');
CREATE INDEX twitch_events_age ON twitch_events (received_at);
