-- The language models that a key may ask: a JSON list of words, all where there is none.
ALTER TABLE api_keys ADD COLUMN models TEXT;
