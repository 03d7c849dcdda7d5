-- Who made, has and had an item, by our number where it is known; the names are what was typed or shown.
ALTER TABLE inventory_items ADD COLUMN checked_out_to_id bigint, ADD COLUMN created_by_id bigint;
ALTER TABLE inventory_activity ADD COLUMN performed_by_id bigint, ADD COLUMN holder_id bigint;
