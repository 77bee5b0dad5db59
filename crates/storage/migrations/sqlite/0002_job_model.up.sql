-- The model that a re-embedding moves its collection to: it may be interrupted before there is a
-- generation that says so.
ALTER TABLE jobs ADD COLUMN model TEXT;
