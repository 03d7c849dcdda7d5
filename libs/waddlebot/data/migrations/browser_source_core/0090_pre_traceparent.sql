-- The trace that an item belongs to, so that what pages say of it can be told with it (docs/contracts.md §2).
ALTER TABLE browser_source_history ADD COLUMN traceparent text;
