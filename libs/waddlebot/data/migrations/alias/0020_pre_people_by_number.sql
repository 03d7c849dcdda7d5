-- Who made it, by our number; `created_by` is what was shown of them.
ALTER TABLE alias_commands ADD COLUMN created_by_id bigint;
CREATE INDEX alias_commands_creator ON alias_commands (created_by_id) WHERE created_by_id IS NOT NULL;
