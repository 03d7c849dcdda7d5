-- Replies for overlays are delivered by the router at once, whoever asked: it finds them here, and is told.
CREATE INDEX outbox_overlays ON outbox (id) WHERE response_action <> 'chat' AND state IN ('pending', 'sending');

CREATE FUNCTION outbox_tell_overlays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('waddlebot_outbox', 'overlays');
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_overlays AFTER INSERT ON outbox
    FOR EACH ROW WHEN (NEW.response_action <> 'chat') EXECUTE FUNCTION outbox_tell_overlays();
