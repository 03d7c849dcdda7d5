-- How often a rule was hit, for {count} in its texts; `match_count` is written some seconds late. The last event that
-- counted, so that one that comes again says the same number.
ALTER TABLE stringmatch ADD COLUMN said_count bigint NOT NULL DEFAULT 0, ADD COLUMN said_for text NOT NULL DEFAULT '';
