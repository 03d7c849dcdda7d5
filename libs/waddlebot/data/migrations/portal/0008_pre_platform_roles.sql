-- What a platform said, when somebody signed in by it, that they are in channels of a community.
CREATE TABLE portal_platform_roles (
    auth_user_id bigint NOT NULL REFERENCES auth_user ON DELETE CASCADE,
    platform text NOT NULL,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- Who owns a channel at a platform may not own the community.
    role text NOT NULL CHECK (role IN ('admin', 'moderator')),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (auth_user_id, platform, community_id)
);
CREATE INDEX portal_platform_roles_community ON portal_platform_roles (community_id);
