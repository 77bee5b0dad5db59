-- Keys without limits are the only ones the former version knows: the others would be worth more there than here.
CREATE TEMPORARY TABLE unlimited_keys AS
    SELECT k.id, k.name, s.secret_hash, k.created_at_ms, k.revoked_at_ms
    FROM api_keys k JOIN api_key_secrets s ON s.key_id = k.id
    WHERE s.valid_until_ms IS NULL AND k.collections IS NULL AND k.addresses IS NULL
      AND k.expires_at_ms IS NULL AND EXISTS (SELECT 1 FROM json_each(k.roles) WHERE value = 'admin');
DROP TABLE api_key_secrets;
DROP TABLE api_keys;

CREATE TABLE api_keys (
    id            TEXT    PRIMARY KEY,
    name          TEXT    NOT NULL,
    secret_hash   BLOB    NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO api_keys SELECT * FROM unlimited_keys;
DROP TABLE unlimited_keys;
DROP TABLE collection_numbers;
