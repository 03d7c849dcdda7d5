-- Who follows, leaves and follows again has earned that once.
CREATE INDEX reputation_events_follows ON reputation_events (community_id, user_id, entity_id)
    WHERE event_name = 'follow';
