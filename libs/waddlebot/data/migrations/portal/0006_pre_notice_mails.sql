-- Since when somebody wants by mail, too, what the bot tells owners; NULL: not at all.
ALTER TABLE auth_user ADD COLUMN notices_mailed_since timestamptz;

-- What was sent to whom, or was being sent when the process ended: neither is sent again.
CREATE TABLE portal_notice_mails (
    notice_id bigint NOT NULL,
    auth_user_id bigint NOT NULL REFERENCES auth_user ON DELETE CASCADE,
    sent_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (notice_id, auth_user_id)
);
