-- What a module has begun to do elsewhere, committed before it asks a provider to do it: whoever comes after a crash finds
-- it and does not do it again (contracts §3). What certainly did not come about is deleted.
CREATE TABLE module_effects (
    module_name text NOT NULL,
    execution_id uuid NOT NULL,
    effect text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (module_name, execution_id, effect)
);
CREATE INDEX module_effects_age ON module_effects USING brin (started_at);
