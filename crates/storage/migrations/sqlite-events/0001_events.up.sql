-- Words that come again and again in events: kinds, tenants, callers, sessions. A number in their place makes an event a
-- quarter smaller. Events refer to them without a foreign key, which would look each of them up once more.
CREATE TABLE names (
    id   INTEGER PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE
) STRICT;

-- Positions are given by SQLite, one more than the largest there is: without gaps, in the order of commits. They are
-- never given again as long as the newest event stays.
CREATE TABLE events (
    position    INTEGER PRIMARY KEY,
    id          BLOB    NOT NULL,
    kind        INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    tenant      INTEGER NOT NULL,
    caller      INTEGER NOT NULL,
    session     INTEGER,
    interaction BLOB,
    at_ms       INTEGER NOT NULL,
    -- Last, so that whoever looks for a kind does not read it.
    body        BLOB    NOT NULL
) STRICT;

CREATE INDEX events_by_interaction ON events (interaction) WHERE interaction IS NOT NULL;
CREATE INDEX events_by_session ON events (session) WHERE session IS NOT NULL;
CREATE INDEX events_by_caller ON events (caller);

-- What may be spent. A budget's number is never given again: a reservation that was made under it must not meet another.
CREATE TABLE budgets (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT    NOT NULL UNIQUE,
    -- Whose key; everybody together where there is none.
    subject       TEXT,
    -- A model's name or an alias; all where there is none.
    model         TEXT,
    -- Millionths.
    cost_max      INTEGER,
    tokens_max    INTEGER,
    period        TEXT    NOT NULL CHECK (period IN ('day', 'month', 'total')),
    created_at_ms INTEGER NOT NULL,
    CHECK (cost_max IS NOT NULL OR tokens_max IS NOT NULL)
) STRICT;

-- What was spent under a budget in one period, and what is set aside for calls under way.
CREATE TABLE budget_sums (
    budget          INTEGER NOT NULL REFERENCES budgets (number) ON DELETE CASCADE,
    period_start_ms INTEGER NOT NULL,
    spent_cost      INTEGER NOT NULL,
    spent_tokens    INTEGER NOT NULL,
    reserved_cost   INTEGER NOT NULL,
    reserved_tokens INTEGER NOT NULL,
    PRIMARY KEY (budget, period_start_ms)
) STRICT, WITHOUT ROWID;

-- What is set aside for one call. A row that is found at the start is of a call that nobody saw end.
CREATE TABLE reservations (
    id          BLOB    PRIMARY KEY,
    tenant      TEXT    NOT NULL,
    caller      TEXT    NOT NULL,
    session     TEXT,
    interaction BLOB    NOT NULL,
    cost        INTEGER NOT NULL,
    tokens      INTEGER NOT NULL,
    -- A JSON list of [budget, period_start_ms].
    parts       TEXT    NOT NULL,
    made_at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
