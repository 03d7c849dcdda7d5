-- The marketplace: what is published, who has it, what people think of it, what was paid, and what modules remember.

CREATE TABLE module_categories (
    id bigserial PRIMARY KEY,
    name text NOT NULL UNIQUE,
    display_name text NOT NULL,
    description text NOT NULL DEFAULT '',
    icon text NOT NULL DEFAULT '',
    parent_category text REFERENCES module_categories (name),
    sort_order integer NOT NULL DEFAULT 100
);
INSERT INTO module_categories (name, display_name, parent_category, sort_order) VALUES
    ('games', 'Games', NULL, 10), ('minigames', 'Games in chat', 'games', 11), ('giveaways', 'Giveaways', 'games', 12),
    ('fun', 'Fun', NULL, 20), ('quotes', 'Quotes', 'fun', 21),
    ('information', 'Information', NULL, 30), ('weather', 'Weather', 'information', 31),
    ('language', 'Languages', 'information', 32),
    ('moderation', 'Moderation', NULL, 40), ('music', 'Music', NULL, 50), ('overlays', 'Overlays', NULL, 60),
    ('community', 'Community', NULL, 70), ('utilities', 'Utilities', NULL, 80), ('other', 'Other', NULL, 90);

CREATE TABLE marketplace_modules (
    id bigserial PRIMARY KEY,
    module_id text NOT NULL UNIQUE,
    -- As it looks, for names that imitate it.
    skeleton text NOT NULL UNIQUE,
    -- The account or login that published it first, and so owns the name.
    publisher text NOT NULL,
    display_name text NOT NULL,
    description text NOT NULL,
    long_description text NOT NULL DEFAULT '',
    author text NOT NULL DEFAULT '',
    author_email text NOT NULL DEFAULT '',
    website text NOT NULL DEFAULT '',
    repository text NOT NULL DEFAULT '',
    license text NOT NULL DEFAULT '',
    category text NOT NULL REFERENCES module_categories (name),
    tags text[] NOT NULL DEFAULT '{}',
    icon_url text NOT NULL DEFAULT '',
    screenshots text[] NOT NULL DEFAULT '{}',
    -- The newest approved version; NULL while there is none.
    latest_version text,
    is_featured boolean NOT NULL DEFAULT false,
    is_verified boolean NOT NULL DEFAULT false,
    download_count bigint NOT NULL DEFAULT 0,
    rating_average double precision NOT NULL DEFAULT 0,
    rating_count integer NOT NULL DEFAULT 0,
    price double precision NOT NULL DEFAULT 0,
    currency text NOT NULL DEFAULT 'USD',
    words tsvector NOT NULL DEFAULT '',
    published_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX marketplace_modules_words ON marketplace_modules USING gin (words);
CREATE INDEX marketplace_modules_popular ON marketplace_modules (download_count DESC, id) WHERE latest_version IS NOT NULL;
CREATE INDEX marketplace_modules_recent ON marketplace_modules (updated_at DESC, id) WHERE latest_version IS NOT NULL;
CREATE INDEX marketplace_modules_rated ON marketplace_modules (rating_average DESC, rating_count DESC, id)
    WHERE latest_version IS NOT NULL;
CREATE INDEX marketplace_modules_named ON marketplace_modules (lower(display_name), id)
    WHERE latest_version IS NOT NULL;
CREATE INDEX marketplace_modules_category ON marketplace_modules (category) WHERE latest_version IS NOT NULL;

CREATE TABLE marketplace_packages (
    sha256 text PRIMARY KEY,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE module_versions (
    id bigserial PRIMARY KEY,
    module_id text NOT NULL REFERENCES marketplace_modules (module_id),
    version text NOT NULL,
    sha256 text NOT NULL REFERENCES marketplace_packages (sha256),
    file_size integer NOT NULL,
    manifest jsonb NOT NULL,
    changelog text NOT NULL DEFAULT '',
    permissions text[] NOT NULL DEFAULT '{}',
    hosts text[] NOT NULL DEFAULT '{}',
    limits jsonb NOT NULL,
    -- Everything that whoever installs it agrees to.
    asks text[] NOT NULL DEFAULT '{}',
    price double precision NOT NULL DEFAULT 0,
    currency text NOT NULL DEFAULT 'USD',
    is_stable boolean NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected')),
    reason text NOT NULL DEFAULT '',
    download_count bigint NOT NULL DEFAULT 0,
    published_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    UNIQUE (module_id, version)
);
CREATE INDEX module_versions_package ON module_versions (sha256);

CREATE FUNCTION module_version_is_for_good() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'version % of % is for good', OLD.version, OLD.module_id USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER module_versions_for_good BEFORE UPDATE ON module_versions FOR EACH ROW
    WHEN ((OLD.module_id, OLD.version, OLD.sha256, OLD.manifest, OLD.asks, OLD.price)
        IS DISTINCT FROM (NEW.module_id, NEW.version, NEW.sha256, NEW.manifest, NEW.asks, NEW.price))
    EXECUTE FUNCTION module_version_is_for_good();

CREATE TABLE module_commands (
    id bigserial PRIMARY KEY,
    module_id text NOT NULL REFERENCES marketplace_modules (module_id),
    command text NOT NULL,
    skeleton text NOT NULL,
    UNIQUE (module_id, command)
);
CREATE INDEX module_commands_skeleton ON module_commands (skeleton);

CREATE TABLE module_installations (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- NULL: in all of the community.
    entity_id text REFERENCES entities (entity_id) ON DELETE CASCADE,
    module_id text NOT NULL REFERENCES marketplace_modules (module_id),
    -- NULL until it is installed for the first time.
    version text,
    is_enabled boolean NOT NULL DEFAULT true,
    -- What was agreed to, of whatever version.
    asks text[] NOT NULL DEFAULT '{}',
    state text NOT NULL CHECK (state IN ('installing', 'installed', 'uninstalling')),
    -- What is being done, for whoever finishes it.
    target_version text,
    target_asks text[] NOT NULL DEFAULT '{}',
    -- What an import brought along; NULL: nothing.
    target_config jsonb,
    replaces text[] NOT NULL DEFAULT '{}',
    installed_by text NOT NULL DEFAULT '',
    installed_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (community_id, entity_id, module_id)
);
CREATE INDEX module_installations_module ON module_installations (module_id, community_id);
CREATE INDEX module_installations_unfinished ON module_installations (updated_at) WHERE state <> 'installed';

CREATE TABLE module_reviews (
    id bigserial PRIMARY KEY,
    module_id text NOT NULL REFERENCES marketplace_modules (module_id),
    -- Who wrote it: a login or an account. One each.
    reviewer text NOT NULL,
    own_id bigint,
    user_name text NOT NULL DEFAULT '',
    rating integer NOT NULL CHECK (rating BETWEEN 1 AND 5),
    title text NOT NULL DEFAULT '',
    review_text text NOT NULL DEFAULT '',
    version text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (module_id, reviewer)
);

CREATE TABLE module_reports (
    id bigserial PRIMARY KEY,
    module_id text NOT NULL REFERENCES marketplace_modules (module_id),
    reporter text NOT NULL,
    own_id bigint,
    community_id bigint,
    reason text NOT NULL,
    details text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (module_id, reporter)
);

CREATE TABLE module_usage_stats (
    id bigserial PRIMARY KEY,
    module_id text NOT NULL,
    community_id bigint NOT NULL,
    command text NOT NULL,
    date date NOT NULL,
    usage_count bigint NOT NULL DEFAULT 0,
    failure_count bigint NOT NULL DEFAULT 0,
    total_ms double precision NOT NULL DEFAULT 0,
    last_used timestamptz NOT NULL,
    UNIQUE (module_id, community_id, command, date)
);
-- Until when executions have been counted.
CREATE TABLE module_usage_mark (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    until timestamptz NOT NULL
);
INSERT INTO module_usage_mark (until) VALUES (now());

CREATE TABLE module_state (
    id bigserial PRIMARY KEY,
    module_id text NOT NULL,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    key text NOT NULL,
    value jsonb NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (module_id, community_id, key)
);

CREATE TABLE community_subscriptions (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- NULL: all paid modules.
    module_id text,
    provider text NOT NULL,
    provider_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'cancelled')),
    period_end timestamptz NOT NULL,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    -- When calls are refused: the router goes by it.
    paid_until timestamptz NOT NULL,
    -- When the provider said so; what it said before comes late and counts no more.
    provider_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (provider, provider_id)
);
CREATE INDEX community_subscriptions_community ON community_subscriptions (community_id);
CREATE INDEX community_subscriptions_ends ON community_subscriptions (period_end);

CREATE TABLE community_payments (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    provider text NOT NULL,
    payment_id text NOT NULL,
    subscription_id text NOT NULL DEFAULT '',
    amount double precision NOT NULL,
    currency text NOT NULL,
    payment_status text NOT NULL,
    paid_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (provider, payment_id)
);
CREATE INDEX community_payments_community ON community_payments (community_id, id DESC);

-- Every delivery of a payment provider, once.
CREATE TABLE payment_events (
    id bigserial PRIMARY KEY,
    provider text NOT NULL,
    event_id text NOT NULL,
    type text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (provider, event_id)
);
