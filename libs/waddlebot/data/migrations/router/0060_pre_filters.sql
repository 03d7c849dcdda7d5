-- Rules about how a line is written (contracts §7): at least so many, and at least so many percent of the line.
ALTER TABLE stringmatch
    ADD COLUMN number integer CHECK (number > 0),
    ADD COLUMN share integer CHECK (share BETWEEN 0 AND 100),
    DROP CONSTRAINT stringmatch_match_type_check,
    ADD CONSTRAINT stringmatch_match_type_check CHECK (match_type IN (
        'exact', 'contains', 'word', 'regex', '*',
        'caps', 'links', 'symbols', 'emotes', 'length', 'repeats', 'mentions', 'zalgo'));
