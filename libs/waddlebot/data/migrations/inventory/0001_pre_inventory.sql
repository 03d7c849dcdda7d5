CREATE TABLE inventory_items (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    item_name text NOT NULL,
    -- The name as it is compared: by full case folding, which PostgreSQL's lower() is not.
    item_key text NOT NULL,
    description text NOT NULL DEFAULT '',
    is_checked_out boolean NOT NULL DEFAULT false,
    checked_out_to text,
    checked_out_at timestamptz,
    checked_in_at timestamptz,
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (community_id, item_key)
);

-- Which item carries which labels; `labels` in the API is this table's list.
CREATE TABLE inventory_item_labels (
    id bigserial PRIMARY KEY,
    item_id bigint NOT NULL REFERENCES inventory_items ON DELETE CASCADE,
    label text NOT NULL,
    UNIQUE (item_id, label)
);
CREATE INDEX inventory_item_labels_label ON inventory_item_labels (label);

CREATE TABLE inventory_activity (
    id bigserial PRIMARY KEY,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    -- Outlives the item, so that the history of a deleted item can still be read.
    item_id bigint,
    action text NOT NULL,
    performed_by text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inventory_activity_community ON inventory_activity (community_id, id);
