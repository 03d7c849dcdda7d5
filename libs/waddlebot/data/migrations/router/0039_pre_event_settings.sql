-- Which of a command's event types count is each community's to say; NULL: all of them, everywhere.
ALTER TABLE commands ADD COLUMN events jsonb;
