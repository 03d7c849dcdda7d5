-- How far through a table, by id, something was done to its rows, so that no pass begins anew.
CREATE TABLE retention_marks (
    name text PRIMARY KEY,
    up_to bigint NOT NULL DEFAULT 0
);
INSERT INTO retention_marks (name) VALUES ('plain_chat');
