-- What the collectors of all platforms share: signs of life, gaps, and moderation as a kind of reply.

-- When a channel (or the shard or team that brings it) was last heard of. Age decides, not what a connection says.
CREATE TABLE channel_liveness (
    entity_id text PRIMARY KEY,
    platform text NOT NULL,
    heard_at timestamptz,
    -- When the bot last spoke there where the platform lets it hear itself.
    said_at timestamptz,
    -- Silence longer than this is deafness; NULL where people may simply have nothing to say.
    silent_after interval,
    -- Since when it has been deaf, and what that was seen by.
    deaf_since timestamptz,
    detail text NOT NULL DEFAULT ''
);
CREATE INDEX channel_liveness_platform ON channel_liveness (platform);

-- What a platform cannot deliver again: nobody was there to hear it.
CREATE TABLE channel_gaps (
    id bigserial PRIMARY KEY,
    platform text NOT NULL,
    -- Empty: everything on the platform.
    entity_id text NOT NULL DEFAULT '',
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    why text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX channel_gaps_platform ON channel_gaps (platform, until);

-- When each platform's intake was last open.
CREATE TABLE collector_intake (
    platform text PRIMARY KEY,
    open_at timestamptz NOT NULL DEFAULT now()
);

-- Moderation waits in the outbox too, but is the platform's to do, not an overlay's to show.
DROP TRIGGER outbox_overlays ON outbox;
CREATE TRIGGER outbox_overlays AFTER INSERT ON outbox FOR EACH ROW
    WHEN (NEW.response_action <> 'chat' AND NEW.response_action <> 'moderate')
    EXECUTE FUNCTION outbox_tell_overlays();
