-- Who changed what, written in the transaction of the change (contracts: Audit). No references: a row outlives whatever
-- it is about. People stand here by number only, so that erasing a name never has to touch it.
CREATE TABLE audit (
    id bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor_account text NOT NULL,
    login_id bigint,
    own_id bigint,
    -- NULL: a change of the whole fleet.
    community_id bigint,
    module text NOT NULL,
    action text NOT NULL,
    -- What was changed, by a name of the module's own: the newest row of a subject says how it is now.
    subject text NOT NULL,
    before jsonb,
    after jsonb,
    -- The one HTTP call that takes it back: method, path, body.
    undo jsonb,
    undone_by bigint
);
CREATE INDEX audit_community ON audit (community_id, id);
CREATE INDEX audit_subject ON audit (module, subject, id);

-- Append-only for everybody: what was written stays, but that it was taken back may be noted, once.
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.undone_by IS NULL AND NEW.undone_by IS NOT NULL THEN
        OLD.undone_by := NEW.undone_by;
        IF OLD IS NOT DISTINCT FROM NEW THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_rows BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_table BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
