-- Modules with one group here take a command in turns.
ALTER TABLE commands ADD COLUMN shared text NOT NULL DEFAULT '';
-- NULL: something is set for the module here, and whether it is on is decided elsewhere.
ALTER TABLE module_switches ALTER COLUMN enabled DROP NOT NULL;
