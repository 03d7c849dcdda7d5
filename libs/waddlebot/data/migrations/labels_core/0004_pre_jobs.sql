-- Long work on labels, done step by step: `place` is how far it is, moved in the transaction of the step's changes.
CREATE TABLE label_jobs (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('csv', 'points')),
    action text NOT NULL CHECK (action IN ('apply', 'remove')),
    label text NOT NULL,
    expires_at timestamptz,
    -- Rows of the CSV that are left out are forgotten with the job.
    rows text[] NOT NULL DEFAULT '{}',
    min_points bigint,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'cancelled', 'failed')),
    place bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL DEFAULT 0,
    done bigint NOT NULL DEFAULT 0,
    counts jsonb NOT NULL DEFAULT '{}',
    -- The first of those that did not work: {place, subject_id, code}.
    failures jsonb NOT NULL DEFAULT '[]',
    error text NOT NULL DEFAULT '',
    made_by text NOT NULL,
    made_by_login bigint,
    made_by_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
CREATE INDEX label_jobs_open ON label_jobs (id) WHERE state IN ('queued', 'running');
CREATE INDEX label_jobs_of ON label_jobs (community_id, id);
