-- Somebody's first identity was found by reading all identities in order, where a table's statistics were not yet made.
DROP INDEX IF EXISTS platform_identities_user;
