-- Who may use an alias, when, and how long it rests then (contracts §7). The router reads and holds these.
ALTER TABLE alias_commands
    -- Seconds: of everybody together, and of each person. 0: none.
    ADD COLUMN cooldown_s integer NOT NULL DEFAULT 0 CHECK (cooldown_s BETWEEN 0 AND 86400),
    ADD COLUMN cooldown_person_s integer NOT NULL DEFAULT 0 CHECK (cooldown_person_s BETWEEN 0 AND 86400),
    -- Whom cooldowns leave alone, that level and above; NULL: nobody.
    ADD COLUMN cooldown_exempt text DEFAULT 'moderator',
    ADD COLUMN level text NOT NULL DEFAULT 'member',
    -- Only who has this label; NULL: everybody.
    ADD COLUMN label text,
    ADD COLUMN only_live boolean NOT NULL DEFAULT false;
