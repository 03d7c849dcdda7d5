-- A code that somebody asked for on one platform, to be said on another. It is public, and opens nothing by itself.
CREATE TABLE link_codes (
    id bigserial PRIMARY KEY,
    code_hash text NOT NULL UNIQUE,
    own_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    -- Who said it first on another platform, and whether somebody else did after them.
    claimed_by bigint REFERENCES users ON DELETE CASCADE,
    is_contested boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE UNIQUE INDEX link_codes_open ON link_codes (own_id) WHERE ended_at IS NULL;
CREATE INDEX link_codes_of ON link_codes (own_id, created_at);

-- Codes that were wrong: who guesses may guess a few times.
CREATE TABLE link_tries (
    id bigserial PRIMARY KEY,
    own_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX link_tries_of ON link_tries (own_id, at);

-- Which accounts were made one person, by whom and why, and that they were parted again. `joined_ids` are the accounts
-- that came to `with_id`, so that parting makes them again what they were.
CREATE TABLE account_links (
    id bigserial PRIMARY KEY,
    own_id bigint NOT NULL,
    with_id bigint NOT NULL,
    joined_ids bigint[] NOT NULL,
    reason text NOT NULL DEFAULT '',
    made_by text NOT NULL,
    made_by_id bigint,
    made_at timestamptz NOT NULL DEFAULT now(),
    undone_at timestamptz,
    undone_by text NOT NULL DEFAULT ''
);
CREATE INDEX account_links_of ON account_links USING gin (joined_ids);
