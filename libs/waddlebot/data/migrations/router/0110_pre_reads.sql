-- Which of a module's commands write nothing, each with its subcommand; `*` is an alias.
ALTER TABLE collector_modules ADD COLUMN reads text[] NOT NULL DEFAULT '{}';
