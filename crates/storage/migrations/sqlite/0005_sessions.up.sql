-- A conversation that goes on over several turns. Only its owner finds it, so two owners may give theirs the same id.
CREATE TABLE sessions (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,
    owner            TEXT    NOT NULL,
    id               TEXT    NOT NULL,
    created_at_ms    INTEGER NOT NULL,
    used_at_ms       INTEGER NOT NULL,
    expires_at_ms    INTEGER NOT NULL,
    turns            INTEGER NOT NULL DEFAULT 0,
    -- The number of the last message; they count from 1.
    messages         INTEGER NOT NULL DEFAULT 0,
    -- Messages up to this one are gone.
    gone_up_to       INTEGER NOT NULL DEFAULT 0,
    -- Of the messages that are kept.
    size_bytes       INTEGER NOT NULL DEFAULT 0,
    summary          TEXT,
    -- The last message that the summary tells of.
    summarised_up_to INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, id)
) STRICT;

CREATE INDEX sessions_by_expiry ON sessions (expires_at_ms);

CREATE TABLE session_messages (
    session INTEGER NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    role    TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    tokens  INTEGER NOT NULL,
    UNIQUE (session, number)
) STRICT;

-- Passages that were sent, so that they are not sent again.
CREATE TABLE session_passages (
    session      INTEGER NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
    chunk_id     TEXT    NOT NULL,
    content_hash BLOB    NOT NULL,
    turn         INTEGER NOT NULL,
    PRIMARY KEY (session, chunk_id, content_hash)
) STRICT, WITHOUT ROWID;
