-- How far through the events, by session, something was done to their rows, so that no pass begins anew.
CREATE TABLE retention_marks (
    name text PRIMARY KEY,
    up_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
INSERT INTO retention_marks (name) VALUES ('plain_chat');
