-- How often a timer was said, for {count}.
ALTER TABLE timers ADD COLUMN said_count bigint NOT NULL DEFAULT 0;
