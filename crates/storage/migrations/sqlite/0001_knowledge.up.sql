-- Embedding spaces: a vector means something only in the space it was made in.
CREATE TABLE embedding_spaces (
    id          INTEGER PRIMARY KEY,
    fingerprint TEXT    NOT NULL UNIQUE,
    model       TEXT    NOT NULL,
    dimensions  INTEGER NOT NULL CHECK (dimensions > 0),
    description TEXT    NOT NULL
) STRICT;

CREATE TABLE collections (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    model         TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

-- A generation is one whole set of chunks, vectors and indexes of a collection. Search reads the
-- active one; re-embedding builds another beside it and swaps.
CREATE TABLE generations (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    space_id      INTEGER NOT NULL REFERENCES embedding_spaces (id),
    state         TEXT    NOT NULL CHECK (state IN ('building', 'active')),
    -- Outbox rows up to here are gone: an index that is not as far must be rebuilt.
    trimmed_through INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX one_active_generation ON generations (collection_id) WHERE state = 'active';
CREATE UNIQUE INDEX one_building_generation ON generations (collection_id) WHERE state = 'building';

CREATE TABLE sources (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id     TEXT    NOT NULL UNIQUE,
    collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    root          TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    scanned_at_ms INTEGER,
    last_error    TEXT,
    UNIQUE (collection_id, root)
) STRICT;

CREATE TABLE documents (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id     TEXT    NOT NULL,
    collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    source_id     INTEGER REFERENCES sources (id) ON DELETE SET NULL,
    path          TEXT,
    title         TEXT    NOT NULL,
    content_type  TEXT    NOT NULL,
    content_hash  BLOB    NOT NULL,
    revision      INTEGER NOT NULL,
    metadata      TEXT    NOT NULL,
    size_bytes    INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    deleted_at_ms INTEGER,
    UNIQUE (collection_id, public_id)
) STRICT;

CREATE INDEX documents_by_source ON documents (source_id) WHERE source_id IS NOT NULL;
CREATE INDEX documents_deleted ON documents (deleted_at_ms) WHERE deleted_at_ms IS NOT NULL;

-- Apart from `documents`, so that listing documents does not walk over their texts.
CREATE TABLE document_texts (
    document_id INTEGER PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
    text        BLOB    NOT NULL
) STRICT;

-- Which revision of a document a generation holds. Re-embedding is done when no live document
-- lacks its current revision here.
CREATE TABLE generation_documents (
    generation_id INTEGER NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    document_id   INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    revision      INTEGER NOT NULL,
    PRIMARY KEY (generation_id, document_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunks (
    generation_id INTEGER NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    key           INTEGER NOT NULL,
    document_id   INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    ordinal       INTEGER NOT NULL,
    start_byte    INTEGER NOT NULL,
    end_byte      INTEGER NOT NULL,
    token_count   INTEGER NOT NULL,
    heading       TEXT    NOT NULL,
    embed_hash    BLOB    NOT NULL,
    PRIMARY KEY (generation_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX chunks_by_document ON chunks (generation_id, document_id, ordinal);
CREATE INDEX chunks_by_embed_hash ON chunks (embed_hash);

-- Vectors are addressed by what was embedded: equal texts share one, and a renamed file finds
-- its own again.
CREATE TABLE vectors (
    space_id   INTEGER NOT NULL REFERENCES embedding_spaces (id),
    embed_hash BLOB    NOT NULL,
    vector     BLOB    NOT NULL,
    PRIMARY KEY (space_id, embed_hash)
) STRICT, WITHOUT ROWID;

-- What the indexes have yet to apply. One writer commits, so positions follow commit order.
CREATE TABLE outbox (
    position      INTEGER PRIMARY KEY AUTOINCREMENT,
    generation_id INTEGER NOT NULL,
    removed       BLOB    NOT NULL,
    added         BLOB    NOT NULL,
    -- Chunks whose document's title, path or metadata changed: words and filters, no vectors.
    refreshed     BLOB    NOT NULL
) STRICT;

CREATE INDEX outbox_by_generation ON outbox (generation_id, position);

-- What a source's scan last saw, skipped files and their reasons included.
CREATE TABLE source_files (
    source_id     INTEGER NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
    path          TEXT    NOT NULL,
    size_bytes    INTEGER NOT NULL,
    modified_ns   INTEGER NOT NULL,
    content_hash  BLOB,
    document_id   INTEGER REFERENCES documents (id) ON DELETE SET NULL,
    problem       TEXT,
    detail        TEXT,
    PRIMARY KEY (source_id, path)
) STRICT, WITHOUT ROWID;

CREATE INDEX source_files_by_document ON source_files (document_id) WHERE document_id IS NOT NULL;

CREATE TABLE jobs (
    id             TEXT    PRIMARY KEY,
    kind           TEXT    NOT NULL,
    collection_id  INTEGER REFERENCES collections (id) ON DELETE CASCADE,
    source_id      INTEGER REFERENCES sources (id) ON DELETE CASCADE,
    state          TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    total          INTEGER NOT NULL DEFAULT 0,
    done           INTEGER NOT NULL DEFAULT 0,
    skipped        INTEGER NOT NULL DEFAULT 0,
    failed         INTEGER NOT NULL DEFAULT 0,
    error_code     TEXT,
    error_detail   TEXT,
    created_at_ms  INTEGER NOT NULL,
    finished_at_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX jobs_unfinished ON jobs (state) WHERE state IN ('queued', 'running');

-- Documents accepted and not yet indexed. The payload goes when the document is in.
CREATE TABLE job_documents (
    job_id       TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    ordinal      INTEGER NOT NULL,
    payload      TEXT,
    document_id  TEXT,
    revision     INTEGER,
    chunks       INTEGER,
    status       TEXT    NOT NULL,
    error_code   TEXT,
    error_detail TEXT,
    PRIMARY KEY (job_id, ordinal)
) STRICT;

CREATE INDEX job_documents_waiting ON job_documents (job_id, ordinal) WHERE status = 'queued';

CREATE TABLE idempotency_keys (
    caller        TEXT    NOT NULL,
    route         TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    body_hash     BLOB    NOT NULL,
    job_id        TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (caller, route, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id            TEXT    PRIMARY KEY,
    name          TEXT    NOT NULL,
    secret_hash   BLOB    NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER
) STRICT, WITHOUT ROWID;
