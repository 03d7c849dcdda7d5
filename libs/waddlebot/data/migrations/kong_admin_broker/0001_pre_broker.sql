-- Who administers the gateway. Keys are those of service_accounts, by account; Kong has them as credentials.
CREATE TABLE kong_admin_users (
    id bigserial PRIMARY KEY,
    username text NOT NULL,
    email text,
    full_name text,
    notes text,
    tier text NOT NULL CHECK (tier IN ('super-admin', 'admin', 'service')),
    state text NOT NULL CHECK (state IN ('making', 'pending', 'active', 'inactive')),
    account_id bigint REFERENCES service_accounts,
    -- By which the consumer at Kong is known to be this one's.
    custom_id text NOT NULL UNIQUE,
    consumer_id text,
    -- What is being done with it, by one request at a time; what was left by one that died lapses.
    doing text,
    doing_since timestamptz,
    -- What Kong still has to be told.
    is_unfinished boolean NOT NULL DEFAULT false,
    -- What makes the link of a mail one that works once.
    verification text,
    verified_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX kong_admin_users_name ON kong_admin_users (lower(username));

-- Each row has the digest of the one before, so one that is changed, put in or taken out is seen. Numbers, no names.
CREATE TABLE kong_admin_audit_log (
    id bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    account_id bigint,
    user_id bigint,
    action text NOT NULL,
    result text NOT NULL,
    before jsonb,
    after jsonb,
    address text NOT NULL,
    agent text NOT NULL,
    previous text NOT NULL,
    digest text NOT NULL
);
CREATE INDEX kong_admin_audit_log_user ON kong_admin_audit_log (user_id, id);
-- The last row's number and digest, sealed with a key that the database does not have: so the end cannot be cut off.
CREATE TABLE kong_admin_audit_head (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id bigint NOT NULL,
    digest text NOT NULL,
    seal text
);
INSERT INTO kong_admin_audit_head (id, digest) VALUES (0, '');

CREATE FUNCTION kong_admin_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER kong_admin_audit_rows BEFORE UPDATE OR DELETE ON kong_admin_audit_log
    FOR EACH ROW EXECUTE FUNCTION kong_admin_audit_is_append_only();
CREATE TRIGGER kong_admin_audit_table BEFORE TRUNCATE ON kong_admin_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION kong_admin_audit_is_append_only();

-- Where a key of the broker is used from, by the hour.
CREATE TABLE kong_admin_sessions (
    account_id bigint NOT NULL,
    hour timestamptz NOT NULL,
    address text NOT NULL,
    agent text NOT NULL,
    requests bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, hour, address, agent)
);
CREATE INDEX kong_admin_sessions_hour ON kong_admin_sessions (hour);

-- Sealed, because keys are in them as Kong has them.
CREATE TABLE kong_admin_backups (
    id bigserial PRIMARY KEY,
    account_id bigint,
    user_count integer NOT NULL,
    key_count integer NOT NULL,
    sha256 text NOT NULL,
    content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
