-- Who asked to be forgotten (contracts: Export, import, erase). No name and no platform's id, only hashes: enough to
-- find rows that still have them, today by a module that comes later, or in a backup that is restored.
CREATE TABLE erased_people (
    id_hash text NOT NULL,
    user_id bigint NOT NULL,
    name_hashes text[] NOT NULL DEFAULT '{}',
    erased_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id_hash, user_id)
);

-- What was asked of each module, and what it answered, so that the same request again is answered the same.
CREATE TABLE erase_requests (
    request_id text NOT NULL,
    module text NOT NULL,
    id_hashes text[] NOT NULL,
    -- NULL: everywhere.
    community_id bigint,
    answer json NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (request_id, module)
);
