-- Stored messages and user lists that nobody uses any more go: created_at of both says from now on when one was
-- last stored or named by a start.
create index content_age on content (created_at);
