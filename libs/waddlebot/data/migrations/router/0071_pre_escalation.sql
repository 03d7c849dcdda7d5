-- What becomes of who breaks a rule again and again (contracts §7): steps of {after, within_s, action, duration_s}.
ALTER TABLE stringmatch ADD COLUMN escalation jsonb NOT NULL DEFAULT '[]';
-- Whoever broke a rule that has such steps, once an event.
CREATE TABLE violations (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    rule_id bigint NOT NULL REFERENCES stringmatch ON DELETE CASCADE,
    own_id bigint NOT NULL,
    platform text NOT NULL,
    event_id text NOT NULL,
    entity_id text NOT NULL,
    action text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (platform, event_id, rule_id)
);
CREATE INDEX violations_person ON violations (own_id, rule_id, created_at);
CREATE INDEX violations_community ON violations (community_id, id);
