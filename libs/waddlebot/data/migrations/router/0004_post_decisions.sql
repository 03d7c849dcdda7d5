-- Holders and leases are in router_work now; a session's id, which grows with time, orders events.

INSERT INTO router_work (session_id, holder, lease_until)
    SELECT session_id, holder, coalesce(lease_until, now()) FROM router_events WHERE state = 'processing'
    ON CONFLICT DO NOTHING;
DROP INDEX router_events_unfinished;
DROP INDEX router_events_person;
ALTER TABLE router_events
    DROP COLUMN state, DROP COLUMN holder, DROP COLUMN lease_until, DROP COLUMN finished_at, DROP COLUMN id;
ALTER TABLE router_events DROP CONSTRAINT router_events_session_id_key, ADD PRIMARY KEY (session_id);
CREATE INDEX router_events_person ON router_events (entity_id, user_id, session_id);
ALTER TABLE command_executions DROP COLUMN id;
ALTER TABLE command_executions DROP CONSTRAINT command_executions_execution_id_key, ADD PRIMARY KEY (execution_id);
