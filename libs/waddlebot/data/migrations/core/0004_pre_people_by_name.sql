-- People are asked for by the names that others see: !points @name, POST /api/context.
CREATE INDEX platform_identities_name ON platform_identities (lower(name));
CREATE INDEX platform_identities_display_name ON platform_identities (lower(display_name));
