ALTER TABLE stringmatch
    -- Whether а in place of a counts as a.
    ADD COLUMN look_alikes boolean NOT NULL DEFAULT false,
    -- Who is left alone by warn and block, at this level or above; NULL: nobody.
    ADD COLUMN exempt_level text DEFAULT 'moderator'
        CHECK (exempt_level IN ('member', 'subscriber', 'vip', 'moderator', 'admin', 'owner'));
