-- What a key is for, where it may be used from and until when. A key has more than one secret while it is rotated.
CREATE TEMPORARY TABLE former_keys AS SELECT * FROM api_keys;
DROP TABLE api_keys;

CREATE TABLE api_keys (
    id              TEXT    PRIMARY KEY,
    name            TEXT    NOT NULL,
    -- A JSON list of words.
    roles           TEXT    NOT NULL,
    -- JSON lists; all collections, any address where there is none.
    collections     TEXT,
    addresses       TEXT,
    created_at_ms   INTEGER NOT NULL,
    expires_at_ms   INTEGER,
    revoked_at_ms   INTEGER,
    last_used_at_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE api_key_secrets (
    secret_hash    BLOB    PRIMARY KEY,
    key_id         TEXT    NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    created_at_ms  INTEGER NOT NULL,
    -- Until when it is taken, where another has replaced it.
    valid_until_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX secrets_by_key ON api_key_secrets (key_id);

-- Keys made until now may do everything.
INSERT INTO api_keys (id, name, roles, created_at_ms, revoked_at_ms)
    SELECT id, name, '["admin"]', created_at_ms, revoked_at_ms FROM former_keys;
INSERT INTO api_key_secrets (secret_hash, key_id, created_at_ms) SELECT secret_hash, id, created_at_ms FROM former_keys;
DROP TABLE former_keys;

-- A collection's number is never given again: whoever was allowed to see one must not see another in its place.
CREATE TABLE collection_numbers (
    id INTEGER PRIMARY KEY AUTOINCREMENT
) STRICT;

INSERT INTO collection_numbers (id) SELECT max(id) FROM collections HAVING max(id) IS NOT NULL;
