-- Versions of community modules, which of them a place has, and whether one is parked there (contracts §6).
-- Commands of a version are inactive for all but the communities that chose it.
ALTER TABLE commands ADD COLUMN for_version text NOT NULL DEFAULT '';
ALTER TABLE commands DROP CONSTRAINT commands_type_check;
ALTER TABLE commands ADD CONSTRAINT commands_type_check
    CHECK (type IN ('container', 'lambda', 'openwhisk', 'webhook', 'local'));
CREATE UNIQUE INDEX commands_of_version ON commands (module_name, for_version, prefix, command);

CREATE TABLE registered_versions (
    id bigserial PRIMARY KEY,
    module_name text NOT NULL,
    version text NOT NULL,
    -- Of what was registered: the same again changes nothing, anything else is refused.
    digest text NOT NULL,
    permissions text[] NOT NULL DEFAULT '{}',
    settings jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (module_name, version)
);

ALTER TABLE module_switches ADD COLUMN version text;
CREATE INDEX module_switches_version ON module_switches (module_name, version) WHERE version IS NOT NULL;
ALTER TABLE module_switches ADD COLUMN parked_at timestamptz;
ALTER TABLE module_switches ADD COLUMN parked_why text NOT NULL DEFAULT '';
