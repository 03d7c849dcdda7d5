-- One person may have several numbers: an identity's own number stays, and linking names the number that speaks for them.
ALTER TABLE users ADD COLUMN head_id bigint REFERENCES users ON DELETE SET NULL;
ALTER TABLE users ADD CONSTRAINT users_head_is_another CHECK (head_id <> id);
CREATE INDEX users_linked ON users (head_id) WHERE head_id IS NOT NULL;

-- Since when somebody bears their name, so that of two who bore it the one who does now is meant.
ALTER TABLE platform_identities ADD COLUMN named_at timestamptz NOT NULL DEFAULT now();

-- What labels a person has, for calls and permissions. Written by the labels' module, read with the levels.
CREATE TABLE labels_of_people (
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    own_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    name text NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (own_id, community_id, name)
);

-- Who speaks in a community is its member; those who spoke before that counted are, too.
INSERT INTO community_memberships (community_id, user_id)
SELECT community_id, user_id FROM user_reputation ON CONFLICT DO NOTHING;
