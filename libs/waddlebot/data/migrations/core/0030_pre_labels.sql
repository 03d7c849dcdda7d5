-- Who gave a label, when, and what else is to be known of it.
ALTER TABLE labels_of_people
    ADD COLUMN given_by text NOT NULL DEFAULT '',
    ADD COLUMN given_by_id bigint,
    ADD COLUMN given_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}';
CREATE INDEX labels_of_people_by_name ON labels_of_people (community_id, name, own_id);
CREATE INDEX labels_of_people_ends ON labels_of_people (expires_at) WHERE expires_at IS NOT NULL;

-- A person has at most five labels in a community, all of their accounts together. Whoever adds some waits until nobody
-- else adds any there, and counts then, so that no two see the same last place. Only what is added is looked at: two who
-- link may have more between them.
CREATE FUNCTION labels_of_people_have_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('labels of ' || community_id, 0))
    FROM (SELECT DISTINCT community_id FROM added ORDER BY community_id) AS touched;
    IF EXISTS (
        WITH people AS (
            SELECT DISTINCT a.community_id, coalesce(u.head_id, u.id) AS head_id
            FROM added a JOIN users u ON u.id = a.own_id
        ), numbers AS (
            SELECT community_id, head_id, head_id AS own_id FROM people
            UNION ALL SELECT p.community_id, p.head_id, u.id FROM people p JOIN users u ON u.head_id = p.head_id
        )
        SELECT FROM numbers JOIN labels_of_people l USING (community_id, own_id)
        WHERE l.expires_at IS NULL OR l.expires_at > now()
        GROUP BY community_id, head_id HAVING count(DISTINCT l.name) > 5
    ) THEN
        RAISE EXCEPTION 'a person has at most five labels in a community'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'labels_of_people_have_room';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER labels_of_people_have_room AFTER INSERT ON labels_of_people
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION labels_of_people_have_room();
