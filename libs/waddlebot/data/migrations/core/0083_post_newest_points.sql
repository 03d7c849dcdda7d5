-- Of sixteen times as many pages at once: the newest entries of the ledger lay among 9,000 rows that were read for them.
DROP INDEX IF EXISTS reputation_events_age;
