-- What somebody was sent to a platform's consent page with. Only hashes: whoever reads the table cannot go on with it.
CREATE TABLE oauth_states (
    state_hash text PRIMARY KEY,
    platform text NOT NULL,
    -- The cookie of the browser in which it began and has to end.
    browser_hash text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz
);
CREATE INDEX oauth_states_age ON oauth_states (created_at);
