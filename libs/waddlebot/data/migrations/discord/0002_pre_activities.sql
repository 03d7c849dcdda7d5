-- What somebody did on Discord that earned points, as the reputation ledger has it.
CREATE TABLE discord_activities (
    id bigserial PRIMARY KEY,
    event_id text NOT NULL,
    activity_type text NOT NULL,
    platform_user_id text NOT NULL,
    entity_id text NOT NULL,
    -- The points.
    amount bigint NOT NULL,
    -- Whether the fleet knows: the event's session, which never earns twice.
    context_sent boolean NOT NULL DEFAULT true,
    session_id uuid NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX discord_activities_age ON discord_activities USING brin (created_at);
