-- The same limit as before, counted by the index of each person's labels: joins over all that was added took as long
-- as adding it.
CREATE OR REPLACE FUNCTION labels_of_people_have_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('labels of ' || community_id, 0))
    FROM (SELECT DISTINCT community_id FROM added ORDER BY community_id) AS touched;
    IF EXISTS (
        SELECT FROM added a JOIN users u ON u.id = a.own_id
        WHERE CASE
            WHEN u.head_id IS NULL AND NOT EXISTS (SELECT FROM users o WHERE o.head_id = u.id) THEN (
                SELECT count(*) FROM labels_of_people l WHERE l.own_id = a.own_id AND l.community_id = a.community_id
                    AND (l.expires_at IS NULL OR l.expires_at > now()))
            ELSE (
                SELECT count(DISTINCT l.name) FROM labels_of_people l
                WHERE l.community_id = a.community_id AND (l.expires_at IS NULL OR l.expires_at > now())
                    AND l.own_id IN (SELECT coalesce(u.head_id, u.id)
                        UNION ALL SELECT o.id FROM users o WHERE o.head_id = coalesce(u.head_id, u.id)))
            END > 5
    ) THEN
        RAISE EXCEPTION 'a person has at most five labels in a community'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'labels_of_people_have_room';
    END IF;
    RETURN NULL;
END $$;
