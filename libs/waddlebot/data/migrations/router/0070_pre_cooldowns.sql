-- How long a command or an alias rests somewhere (contracts §7): for everybody (own_id 0), and for each person.
CREATE TABLE cooldowns (
    id bigserial PRIMARY KEY,
    entity_id text NOT NULL,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- With its prefix, as it is compared.
    command text NOT NULL,
    own_id bigint NOT NULL,
    -- Whose use began it: it is given back if that did not run.
    execution_id uuid NOT NULL,
    until timestamptz NOT NULL,
    UNIQUE (entity_id, command, own_id)
);
CREATE INDEX cooldowns_execution ON cooldowns (execution_id);
CREATE INDEX cooldowns_person ON cooldowns (own_id) WHERE own_id > 0;
CREATE INDEX cooldowns_until ON cooldowns (until);
