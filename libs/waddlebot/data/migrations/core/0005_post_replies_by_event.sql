-- Replies are found by their event, whose index is there anyway; each reply changes its state twice and pays for every
-- index each time.
DROP INDEX outbox_session;
