-- What each process says of itself every few seconds, for the others' health; after a crash of the server it says it again.
CREATE UNLOGGED TABLE processes (
    process text PRIMARY KEY,
    role text NOT NULL,
    modules text[] NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    background jsonb NOT NULL
);

-- When what one replica does for all was last begun, and whether it was finished.
CREATE TABLE jobs (
    name text PRIMARY KEY,
    holder text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    times bigint NOT NULL DEFAULT 1
);
