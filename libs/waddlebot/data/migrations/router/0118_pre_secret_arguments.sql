-- Which arguments of a command are for its module alone; those of subcommands stand with them.
ALTER TABLE commands ADD COLUMN secret text[] NOT NULL DEFAULT '{}';
