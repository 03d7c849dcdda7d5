-- What became of tracks on overlays (contracts §8): each state of a track once, and whether its module has heard of it.
CREATE TABLE playbacks (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    track_id text NOT NULL,
    state text NOT NULL,
    module_name text NOT NULL,
    -- The execution that the module is called with, every time that it has to be called.
    execution_id uuid NOT NULL,
    session_id uuid NOT NULL,
    report jsonb NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, track_id, state)
);
CREATE INDEX playbacks_pending ON playbacks (id) WHERE status = 'pending';
