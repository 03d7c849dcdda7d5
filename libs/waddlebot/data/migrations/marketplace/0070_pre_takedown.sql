-- Modules that are taken down, and what becomes of reports.
ALTER TABLE marketplace_modules ADD COLUMN taken_down_at timestamptz;
ALTER TABLE marketplace_modules ADD COLUMN taken_down_why text NOT NULL DEFAULT '';
-- Whether the owners who have it were told.
ALTER TABLE marketplace_modules ADD COLUMN taken_down_told boolean NOT NULL DEFAULT true;
CREATE INDEX marketplace_modules_untold ON marketplace_modules (id) WHERE NOT taken_down_told;

ALTER TABLE module_reports ADD COLUMN state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved'));
ALTER TABLE module_reports ADD COLUMN resolution text NOT NULL DEFAULT '';
ALTER TABLE module_reports ADD COLUMN resolved_at timestamptz;
CREATE INDEX module_reports_state ON module_reports (state, id);
CREATE INDEX module_versions_state ON module_versions (state, id);
