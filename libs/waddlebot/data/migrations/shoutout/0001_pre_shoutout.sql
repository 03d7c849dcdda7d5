-- What a community has set for somebody: how they are shouted out, and whether by itself.
CREATE TABLE shoutout_people (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    own_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    -- May have {user}, {game} and {link}; empty for the community's own.
    message text NOT NULL DEFAULT '',
    links text[] NOT NULL DEFAULT '{}',
    -- Without being asked: at each raid, follow and subscription, as the community has it for all, or not at all.
    auto text NOT NULL DEFAULT 'default' CHECK (auto IN ('default', 'always', 'never')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, own_id)
);

-- Who was shouted out, by whom and why. It is what the cooldown and the next clip are chosen by, too.
CREATE TABLE shoutout_history (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    own_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    cause text NOT NULL CHECK (cause IN ('command', 'api', 'raid', 'follow', 'subscription')),
    -- Whoever asked for it, if it was a person.
    by_id bigint,
    entity_id text NOT NULL DEFAULT '',
    game text NOT NULL DEFAULT '',
    clip_id text NOT NULL DEFAULT '',
    -- What a repeated request is known by.
    request_id text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX shoutout_history_person ON shoutout_history (community_id, own_id, id DESC);
CREATE INDEX shoutout_history_community ON shoutout_history (community_id, id DESC);
CREATE INDEX shoutout_history_by ON shoutout_history (by_id) WHERE by_id IS NOT NULL;
