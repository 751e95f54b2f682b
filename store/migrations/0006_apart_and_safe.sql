-- Until when the forge may still be working on a request whose answer was never recorded.
ALTER TABLE outbox ADD COLUMN doubt_until INTEGER;

CREATE INDEX doubtful_posts ON outbox (lane) WHERE doubt_until IS NOT NULL;
