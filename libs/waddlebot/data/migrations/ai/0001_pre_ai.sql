-- Conversations, each of one person in one channel: what was asked, and what the model said. Kept for seven days.
CREATE TABLE ai_conversations (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    entity_id text NOT NULL,
    own_id bigint NOT NULL,
    question text NOT NULL,
    answer text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ai_conversations_of ON ai_conversations (entity_id, own_id, id);
CREATE INDEX ai_conversations_created_at ON ai_conversations (created_at);

-- The ledger: what was spent. A row is written before a model is asked, with what it may cost at most, and settled after.
-- One that nobody settled stays as it is: nobody knows what it cost.
CREATE TABLE ai_usage (
    id bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    -- NULL: an admin's program that asked for no community.
    community_id bigint REFERENCES communities ON DELETE CASCADE,
    -- NULL: a program, an event, or somebody who was forgotten.
    own_id bigint,
    asked_as text NOT NULL CHECK (asked_as IN ('command', 'mention', 'question', 'event', 'api')),
    provider text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    prompt_tokens integer NOT NULL,
    completion_tokens integer NOT NULL,
    -- The provider did not say, so it was counted by the length of the texts; or it is not settled yet.
    is_estimated boolean NOT NULL DEFAULT true,
    -- Paid for with the community's own key.
    has_own_key boolean NOT NULL DEFAULT false
);
CREATE INDEX ai_usage_community ON ai_usage (community_id, at);
CREATE INDEX ai_usage_person ON ai_usage (own_id, at);
CREATE INDEX ai_usage_at ON ai_usage (at);

-- What holds in all communities that set nothing of their own: one row, over the environment.
CREATE TABLE ai_fleet_config (
    name text PRIMARY KEY CHECK (name = 'fleet'),
    config jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Channels in which a moderator has said !ai off.
CREATE TABLE ai_silences (
    entity_id text PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    since timestamptz NOT NULL DEFAULT now()
);
