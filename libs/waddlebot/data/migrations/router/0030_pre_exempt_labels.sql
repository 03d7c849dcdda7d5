-- Whoever has one of these labels is not warned or blocked by a string rule.
ALTER TABLE stringmatch ADD COLUMN exempt_labels text[] NOT NULL DEFAULT '{}';
