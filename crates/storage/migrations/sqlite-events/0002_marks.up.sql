-- How far writers from outside have got. A mark changes in the transaction that writes the events it tells of, so that
-- either both are there or neither.
CREATE TABLE marks (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Batches that came with a key, so that the same one again writes nothing: where its events stand.
CREATE TABLE appended_once (
    caller         TEXT    NOT NULL,
    key            TEXT    NOT NULL,
    body_hash      BLOB    NOT NULL,
    positions_from INTEGER NOT NULL,
    count          INTEGER NOT NULL,
    at_ms          INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX appended_once_by_time ON appended_once (at_ms);
