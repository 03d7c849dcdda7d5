-- The names of a community's labels. Two that look alike to a reader are one.
CREATE TABLE labels (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    name text NOT NULL,
    looks_like text NOT NULL,
    colour text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, name),
    UNIQUE (community_id, looks_like)
);

-- Labels of what is no person; those of people are labels_of_people, which everything that decides about people reads.
CREATE TABLE labels_of_things (
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    subject_type text NOT NULL CHECK (subject_type IN ('community', 'module', 'group')),
    subject_id text NOT NULL,
    name text NOT NULL,
    expires_at timestamptz,
    given_by text NOT NULL DEFAULT '',
    given_by_id bigint,
    given_at timestamptz NOT NULL DEFAULT now(),
    metadata jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (community_id, subject_type, subject_id, name)
);
CREATE INDEX labels_of_things_by_name ON labels_of_things (community_id, name);
CREATE INDEX labels_of_things_ends ON labels_of_things (expires_at) WHERE expires_at IS NOT NULL;

-- Five labels a thing, by the same lock as those of people.
CREATE FUNCTION labels_of_things_have_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('labels of ' || community_id, 0))
    FROM (SELECT DISTINCT community_id FROM added ORDER BY community_id) AS touched;
    IF EXISTS (
        SELECT FROM labels_of_things l
        WHERE (community_id, subject_type, subject_id) IN (SELECT community_id, subject_type, subject_id FROM added)
            AND (l.expires_at IS NULL OR l.expires_at > now())
        GROUP BY community_id, subject_type, subject_id HAVING count(*) > 5
    ) THEN
        RAISE EXCEPTION 'a thing has at most five labels'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'labels_of_things_have_room';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER labels_of_things_have_room AFTER INSERT ON labels_of_things
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION labels_of_things_have_room();
