DROP TRIGGER service_accounts_keep_key ON service_accounts;
DROP FUNCTION service_accounts_keep_key();
ALTER TABLE service_accounts DROP COLUMN key_id, DROP COLUMN key_hash, DROP COLUMN expires_at;
