-- What was for one person alone is kept for an hour only.
CREATE INDEX module_replies_private ON module_replies (created_at) WHERE strpos(reply::text, '"private":true') > 0;
