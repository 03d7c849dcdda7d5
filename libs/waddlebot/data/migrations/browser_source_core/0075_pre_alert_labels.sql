-- For whom an alert is, by labels; empty for everybody.
ALTER TABLE browser_source_alerts ADD COLUMN labels jsonb NOT NULL DEFAULT '[]';
