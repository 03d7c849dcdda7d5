-- py4web's table of accounts, with what the portal has beside.
CREATE TABLE auth_user (
    id bigserial PRIMARY KEY,
    -- In lower case, as people type it when they sign in. NULL: signs in by a platform only.
    email text UNIQUE,
    password text,
    first_name text NOT NULL DEFAULT '',
    last_name text NOT NULL DEFAULT '',
    sso_id text,
    action_token text,
    action_token_expires_at timestamptz,
    last_password_change timestamptz,
    -- The person that this login is.
    waddlebot_user_id bigint UNIQUE REFERENCES users ON DELETE CASCADE,
    is_operator boolean NOT NULL DEFAULT false,
    has_totp boolean NOT NULL DEFAULT false,
    -- Until when a password holds that somebody else made.
    temp_password_expires timestamptz,
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    last_portal_login timestamptz
);

-- A password that comes without an end is the person's own, whoever writes it.
CREATE FUNCTION auth_user_own_password() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.password IS DISTINCT FROM OLD.password AND NEW.temp_password_expires IS NOT DISTINCT FROM OLD.temp_password_expires
    THEN
        NEW.temp_password_expires := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER auth_user_own_password BEFORE UPDATE ON auth_user FOR EACH ROW EXECUTE FUNCTION auth_user_own_password();

CREATE TABLE portal_totp (
    auth_user_id bigint PRIMARY KEY REFERENCES auth_user ON DELETE CASCADE,
    -- Sealed.
    secret text NOT NULL,
    -- The newest step whose code was used: each works once.
    used_step bigint NOT NULL DEFAULT 0
);

CREATE TABLE portal_access (
    auth_user_id bigint NOT NULL REFERENCES auth_user ON DELETE CASCADE,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- `*` is every area.
    area text NOT NULL DEFAULT '*',
    held text NOT NULL CHECK (held IN ('viewer', 'editor', 'owner')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (auth_user_id, community_id, area)
);
CREATE INDEX portal_access_community ON portal_access (community_id);

-- What opens the portal once: a sign-in link, or an invitation to a community.
CREATE TABLE portal_links (
    token_hash text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('sign_in', 'invitation')),
    auth_user_id bigint REFERENCES auth_user ON DELETE CASCADE,
    community_id bigint REFERENCES communities ON DELETE CASCADE,
    area text NOT NULL DEFAULT '*',
    held text NOT NULL DEFAULT 'viewer',
    -- Masked.
    sent_to text NOT NULL DEFAULT '',
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX portal_links_community ON portal_links (community_id) WHERE community_id IS NOT NULL;

-- What charts read: sums that are kept, of communities as a whole.
CREATE TABLE portal_hours (
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    hour timestamptz NOT NULL,
    messages bigint NOT NULL DEFAULT 0,
    commands bigint NOT NULL DEFAULT 0,
    points bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (community_id, hour)
);

CREATE TABLE portal_days (
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    day date NOT NULL,
    members bigint NOT NULL DEFAULT 0,
    people bigint NOT NULL DEFAULT 0,
    half_ms real,
    most_ms real,
    PRIMARY KEY (community_id, day)
);

CREATE TABLE portal_command_days (
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    day date NOT NULL,
    command text NOT NULL,
    module_name text NOT NULL,
    calls bigint NOT NULL,
    failures bigint NOT NULL,
    PRIMARY KEY (community_id, day, command, module_name)
);

CREATE TABLE portal_movers (
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    days integer NOT NULL,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    points bigint NOT NULL,
    PRIMARY KEY (community_id, days, user_id)
);
CREATE INDEX portal_movers_person ON portal_movers (user_id);
