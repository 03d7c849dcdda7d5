-- Collectors look every few seconds for what has changed, and for whose subscriptions are to be looked at.
CREATE INDEX twitch_channels_updated ON twitch_channels (updated_at);
CREATE INDEX twitch_channels_checked ON twitch_channels (checked_at);
