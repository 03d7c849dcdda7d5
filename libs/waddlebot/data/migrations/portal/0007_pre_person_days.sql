-- What a member's chart reads: what they earned each day, kept for as long as the chart is.
CREATE TABLE portal_person_days (
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    community_id bigint NOT NULL REFERENCES communities ON DELETE CASCADE,
    day date NOT NULL,
    points bigint NOT NULL,
    PRIMARY KEY (user_id, community_id, day)
);
CREATE INDEX portal_person_days_day ON portal_person_days (day);
