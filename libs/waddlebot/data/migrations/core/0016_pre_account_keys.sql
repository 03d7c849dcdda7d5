-- An account has up to two live keys, so that one can be replaced without a gap; name and groups stay on the account.
CREATE TABLE service_account_keys (
    id bigserial PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES service_accounts ON DELETE CASCADE,
    key_id text NOT NULL UNIQUE,
    key_hash text NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    expires_at timestamptz,
    last_used timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX service_account_keys_account ON service_account_keys (account_id);

INSERT INTO service_account_keys (account_id, key_id, key_hash, is_active, expires_at, last_used, created_at)
SELECT id, key_id, key_hash, is_active, expires_at, last_used, created_at FROM service_accounts ORDER BY id;

-- What the code that runs now does to an account holds for its key, until 0017.
CREATE FUNCTION service_accounts_keep_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (old.key_id IS DISTINCT FROM new.key_id OR old.key_hash IS DISTINCT FROM new.key_hash) THEN
        UPDATE service_account_keys SET is_active = false WHERE key_id = old.key_id;
    END IF;
    IF new.key_id IS NOT NULL THEN
        INSERT INTO service_account_keys AS k (account_id, key_id, key_hash, is_active, expires_at)
        VALUES (new.id, new.key_id, new.key_hash, new.is_active, new.expires_at)
        ON CONFLICT (key_id) DO UPDATE SET key_hash = excluded.key_hash, is_active = k.is_active AND excluded.is_active;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER service_accounts_keep_key AFTER INSERT OR UPDATE OF key_id, key_hash, is_active ON service_accounts
    FOR EACH ROW EXECUTE FUNCTION service_accounts_keep_key();
ALTER TABLE service_accounts ALTER COLUMN key_id DROP NOT NULL, ALTER COLUMN key_hash DROP NOT NULL;

-- Where a community's channels are looked for by what the caller may see.
CREATE INDEX servers_community ON servers (community_id);
