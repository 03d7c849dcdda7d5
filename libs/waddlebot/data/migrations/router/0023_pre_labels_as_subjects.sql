-- A command may be denied or allowed to who has a label.
ALTER TABLE command_permission_subjects DROP CONSTRAINT command_permission_subjects_kind_check,
    ADD CONSTRAINT command_permission_subjects_kind_check CHECK (kind IN ('user', 'role', 'label'));
