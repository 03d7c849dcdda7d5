-- Which community somebody's !community is about, where that is not the channel's own.
CREATE TABLE portal_contexts (
    own_id bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX portal_contexts_community ON portal_contexts (community_id);
