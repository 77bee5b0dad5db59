-- Who answers for language models.
CREATE TABLE providers (
    name          TEXT    PRIMARY KEY,
    api           TEXT    NOT NULL CHECK (api IN ('openai', 'anthropic')),
    -- JSON: a URL, or what to start.
    endpoint      TEXT    NOT NULL,
    -- Where its key lies; the key itself is never stored.
    key_file      TEXT,
    -- JSON.
    settings      TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
