-- What a module lets a community set (NULL: anything), which other services' secrets it wants, and where it is at work.
ALTER TABLE collector_modules
    ADD COLUMN settings jsonb,
    ADD COLUMN credentials jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN active_in bigint[] NOT NULL DEFAULT '{}';
