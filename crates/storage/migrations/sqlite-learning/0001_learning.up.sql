-- How far each stage has folded the event log. A row changes in the transaction of what the stage derived, and nowhere
-- else.
CREATE TABLE stages (
    name       TEXT    PRIMARY KEY,
    -- Of what the stage derives. Another version starts over.
    version    INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    folded     INTEGER NOT NULL,
    skipped    INTEGER NOT NULL,
    unreadable INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who derives. There is at most one row.
CREATE TABLE lease (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    holder BLOB    NOT NULL,
    epoch  INTEGER NOT NULL,
    beat   INTEGER NOT NULL
) STRICT;

-- Every kind of event there was, in each of its versions.
CREATE TABLE kinds (
    kind     TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    is_known INTEGER NOT NULL,
    events   INTEGER NOT NULL,
    PRIMARY KEY (kind, version)
) STRICT, WITHOUT ROWID;

-- What was asked and answered. Evidence may come before the interaction that it is about; the row is made by whichever
-- comes first.
CREATE TABLE interactions (
    number         INTEGER PRIMARY KEY,
    id             BLOB    NOT NULL UNIQUE,
    tenant         TEXT    NOT NULL,
    caller         TEXT    NOT NULL,
    session        TEXT,
    at_ms          INTEGER NOT NULL,
    -- Where the log first tells of it, of its question, and of its answer.
    position       INTEGER NOT NULL,
    asked_position INTEGER,
    answered_position INTEGER,
    -- `turn` or `told`.
    origin         TEXT,
    model          TEXT,
    system         TEXT,
    -- JSON: what was said before the question.
    before         TEXT,
    question       TEXT,
    answer         TEXT,
    -- A text was longer than is kept.
    is_cut         INTEGER NOT NULL,
    question_hash  INTEGER,
    answer_hash    INTEGER,
    ended          TEXT,
    error          TEXT,
    consent        INTEGER,
    consent_at_ms  INTEGER,
    licence        TEXT,
    -- JSON: what was given to the model, in its order, and what of it was of use.
    context        TEXT,
    outcome        TEXT    CHECK (outcome IN ('success', 'partial', 'failure')),
    outcome_at_ms  INTEGER,
    -- The interaction that was said to have solved what went wrong here.
    solved_by      BLOB,
    solved_by_at_ms INTEGER,
    feedback       REAL,
    feedback_at_ms INTEGER,
    -- Sums of weak evidence: weights, and weights times what they say.
    weak_weight    REAL    NOT NULL,
    weak_good      REAL    NOT NULL,
    -- What it is like others.
    nearest        REAL,
    nearest_id     BLOB,
    similar        INTEGER,
    value          REAL,
    -- What has to be derived anew, as a sum: 1 its vector, 2 its value, 4 the failures it tells of.
    stale          INTEGER NOT NULL
) STRICT;

CREATE INDEX interactions_by_session ON interactions (tenant, session, asked_position) WHERE session IS NOT NULL;
CREATE INDEX interactions_by_caller ON interactions (caller);
CREATE INDEX interactions_by_question ON interactions (caller, question_hash, asked_position) WHERE question_hash IS NOT NULL;
CREATE INDEX interactions_by_answer ON interactions (caller, answer_hash, answered_position) WHERE answer_hash IS NOT NULL;
CREATE INDEX interactions_by_value ON interactions (value) WHERE value IS NOT NULL;
CREATE INDEX interactions_vector_due ON interactions (asked_position, number) WHERE stale & 1;
CREATE INDEX interactions_value_due ON interactions (asked_position, number) WHERE stale & 2;
CREATE INDEX interactions_failures_due ON interactions (asked_position, number) WHERE stale & 4;

-- What was said about an interaction: by people, by agents, by what happened next. The event's id makes that one that
-- comes twice counts once.
CREATE TABLE evidence (
    event       BLOB    PRIMARY KEY,
    interaction BLOB    NOT NULL,
    position    INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    word        TEXT    NOT NULL,
    feedback    REAL,
    source      TEXT,
    note        TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX evidence_by_interaction ON evidence (interaction, position);

-- Vectors of questions, in the order of the interactions.
CREATE TABLE vectors (
    number INTEGER PRIMARY KEY,
    space  TEXT    NOT NULL,
    vector BLOB    NOT NULL
) STRICT;

-- How often a document was shown at a rank, and how often it was of use there.
CREATE TABLE shown (
    tenant   TEXT    NOT NULL,
    document TEXT    NOT NULL,
    rank     INTEGER NOT NULL,
    shown    INTEGER NOT NULL,
    useful   REAL    NOT NULL,
    PRIMARY KEY (tenant, document, rank)
) STRICT, WITHOUT ROWID;

-- Vectors of what was asked and answered together, of interactions that were worth it; the hashes say of which texts.
CREATE TABLE pair_vectors (
    number        INTEGER PRIMARY KEY,
    space         TEXT    NOT NULL,
    question_hash INTEGER,
    answer_hash   INTEGER,
    vector        BLOB    NOT NULL
) STRICT;

-- Which failures interactions tell of, by what stays the same of them.
CREATE TABLE failures (
    error       TEXT    NOT NULL,
    interaction INTEGER NOT NULL,
    PRIMARY KEY (error, interaction)
) STRICT, WITHOUT ROWID;

CREATE INDEX failures_by_interaction ON failures (interaction);

CREATE TABLE known_errors (
    tenant           TEXT    NOT NULL,
    error            TEXT    NOT NULL,
    class            TEXT    NOT NULL,
    normal           TEXT    NOT NULL,
    excerpt          TEXT    NOT NULL,
    excerpt_position INTEGER NOT NULL,
    seen             INTEGER NOT NULL,
    first_at_ms      INTEGER NOT NULL,
    last_at_ms       INTEGER NOT NULL,
    -- The interaction that solved it.
    solved_by        BLOB,
    PRIMARY KEY (tenant, error)
) STRICT, WITHOUT ROWID;

-- Problems that came again and what worked. All of them are made anew together.
CREATE TABLE patterns (
    id          BLOB    PRIMARY KEY,
    tenant      TEXT    NOT NULL,
    problem     TEXT    NOT NULL,
    approach    TEXT    NOT NULL,
    -- JSON: other words in which the same was asked.
    asked       TEXT    NOT NULL,
    value       REAL    NOT NULL,
    members     INTEGER NOT NULL,
    -- JSON: ids of the interactions that speak for it most.
    evidence    TEXT    NOT NULL,
    against     INTEGER NOT NULL,
    contradicts BLOB,
    cohesion    REAL    NOT NULL,
    is_junk     INTEGER NOT NULL,
    first_at_ms INTEGER NOT NULL,
    last_at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What they were made of.
CREATE TABLE pattern_figures (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    inputs BLOB    NOT NULL,
    points INTEGER NOT NULL,
    alone  INTEGER NOT NULL
) STRICT;

-- Lessons that search finds, as it was told of them.
CREATE TABLE shelved (
    tenant   TEXT NOT NULL,
    document TEXT NOT NULL,
    hash     BLOB NOT NULL,
    PRIMARY KEY (tenant, document)
) STRICT, WITHOUT ROWID;

-- How well searches found what was wanted, each time that was measured.
CREATE TABLE evaluations (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms     INTEGER NOT NULL,
    -- What the questions were, and what they were asked with: only figures of the same questions compare.
    questions TEXT    NOT NULL,
    settings  TEXT    NOT NULL,
    -- JSON.
    figures   TEXT    NOT NULL
) STRICT;
