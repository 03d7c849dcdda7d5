-- What told of a beginning: where a message can be edited, it becomes what is told of the end.
ALTER TABLE live_notices_told ADD COLUMN outbox_id bigint;
