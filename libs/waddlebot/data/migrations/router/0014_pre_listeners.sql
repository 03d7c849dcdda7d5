-- What a module wants to hear of plain chat (contracts §6).
ALTER TABLE commands ADD COLUMN listen jsonb NOT NULL DEFAULT '[]';
