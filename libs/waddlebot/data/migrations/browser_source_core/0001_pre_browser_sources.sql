-- What OBS opens: one bearer secret for each community and source. Found by its hash; `token` is sealed, so that its
-- owner can be shown the URL again. After a regeneration the old one works until `expires_at`.
CREATE TABLE browser_source_tokens (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    source_type text NOT NULL CHECK (source_type IN ('ticker', 'media', 'general')),
    token_hash text NOT NULL UNIQUE,
    token text NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    expires_at timestamptz,
    created_by text NOT NULL DEFAULT '',
    last_seen timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- The current one; those in their grace period have an end.
CREATE UNIQUE INDEX browser_source_tokens_current ON browser_source_tokens (community_id, source_type)
    WHERE is_active AND expires_at IS NULL;

-- The numbers of a source's items and controls. Whoever adds one holds this row, so they are committed in their order.
CREATE TABLE browser_source_queues (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    source_type text NOT NULL,
    last_seq bigint NOT NULL DEFAULT 0,
    last_control bigint NOT NULL DEFAULT 0,
    is_paused boolean NOT NULL DEFAULT false,
    UNIQUE (community_id, source_type)
);

-- Every item, from the moment it is accepted: first the queue, then the history that it can be replayed from.
CREATE TABLE browser_source_history (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    source_type text NOT NULL,
    seq bigint NOT NULL,
    item_id text NOT NULL,
    session_id text NOT NULL DEFAULT '',
    content jsonb NOT NULL,
    priority integer NOT NULL DEFAULT 5,
    display_s double precision NOT NULL,
    is_test boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'shown', 'done', 'skipped', 'expired', 'dropped')),
    expires_at timestamptz NOT NULL,
    received_at timestamptz,
    shown_at timestamptz,
    done_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, source_type, seq),
    UNIQUE (community_id, source_type, item_id)
);
CREATE INDEX browser_source_history_queued ON browser_source_history (community_id, source_type, seq)
    WHERE state = 'queued';
CREATE INDEX browser_source_history_age ON browser_source_history USING brin (created_at);

-- What moderators did to a queue. `seq` names the item that a skip is about.
CREATE TABLE browser_source_controls (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    source_type text NOT NULL,
    number bigint NOT NULL,
    action text NOT NULL CHECK (action IN ('pause', 'resume', 'skip', 'clear', 'theme')),
    seq bigint,
    note text NOT NULL DEFAULT '',
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, source_type, number)
);

CREATE TABLE browser_source_themes (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL UNIQUE REFERENCES communities ON DELETE CASCADE,
    variables jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A form that one viewer may answer once: open → sending → submitted, or back to open when the module was not reached.
CREATE TABLE browser_source_forms (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    history_id bigint NOT NULL UNIQUE REFERENCES browser_source_history ON DELETE CASCADE,
    session_id text NOT NULL DEFAULT '',
    form jsonb NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'sending', 'submitted')),
    expires_at timestamptz NOT NULL,
    lease_until timestamptz,
    submitted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE browser_source_access_log (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    source_type text NOT NULL,
    token_id bigint REFERENCES browser_source_tokens ON DELETE SET NULL,
    ip_address text NOT NULL DEFAULT '',
    user_agent text NOT NULL DEFAULT '',
    accessed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX browser_source_access_log_age ON browser_source_access_log USING brin (accessed_at);
