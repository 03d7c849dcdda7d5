-- A name as it is compared: without what nobody sees, with straight quotes, in small letters. As waddlebot.base.text does it,
-- but for full case folding.
CREATE FUNCTION name_key(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT lower(regexp_replace(
        translate(name, '‘’‚‛ʼ', ''''''''''''),
        '[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]',
        '', 'g'
    ))
$$;
CREATE INDEX platform_identities_name_key ON platform_identities (name_key(name));
CREATE INDEX platform_identities_display_name_key ON platform_identities (name_key(display_name));
