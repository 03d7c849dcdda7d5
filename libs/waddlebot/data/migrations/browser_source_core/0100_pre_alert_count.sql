-- How often an alert was shown, for {count}; counted only where a text of it says so.
ALTER TABLE browser_source_alerts ADD COLUMN shown_count bigint NOT NULL DEFAULT 0;
