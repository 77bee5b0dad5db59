//! Derived rows, read and written within one transaction.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::error::StorageError;

/// Derived rows within one transaction, or within one reader's view.
pub struct Fold<'a> {
    pub(super) connection: &'a Connection,
}

/// What was asked and answered, as far as the log has told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InteractionRow {
    /// Its number here; nothing before it is stored. Numbers follow the log.
    pub number: Option<i64>,
    /// The interaction.
    pub id: Uuid,
    /// Whose data it is.
    pub tenant: String,
    /// Who asked.
    pub caller: String,
    /// The session it belongs to.
    pub session: Option<String>,
    /// When; Unix milliseconds.
    pub at_ms: i64,
    /// The event that first told of it.
    pub position: u64,
    /// The event that told of its question; nothing where only evidence came so far.
    pub asked_position: Option<u64>,
    /// The event that told of its answer.
    pub answered_position: Option<u64>,
    /// Who told of it.
    pub origin: Option<String>,
    /// Which model answered.
    pub model: Option<String>,
    /// What the model was told to be.
    pub system: Option<String>,
    /// JSON: what was said before the question.
    pub before: Option<String>,
    /// What was asked,
    pub question: Option<String>,
    /// and answered.
    pub answer: Option<String>,
    /// One of the texts was longer than is kept.
    pub is_cut: bool,
    /// Stands for the question, among those of a caller.
    pub question_hash: Option<i64>,
    /// Stands for the answer.
    pub answer_hash: Option<i64>,
    /// How it ended.
    pub ended: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether it may be used to train; nothing where nobody said.
    pub consent: Option<bool>,
    /// When that was said.
    pub consent_at_ms: Option<i64>,
    /// The terms its texts are under.
    pub licence: Option<String>,
    /// JSON: what the model was given.
    pub context: Option<String>,
    /// How it went, by who knows.
    pub outcome: Option<String>,
    /// When that was said.
    pub outcome_at_ms: Option<i64>,
    /// The interaction that was said to have solved what went wrong here.
    pub solved_by: Option<Uuid>,
    /// When that was said.
    pub solved_by_at_ms: Option<i64>,
    /// What people thought of it, from -1 to 1.
    pub feedback: Option<f64>,
    /// When they did.
    pub feedback_at_ms: Option<i64>,
    /// Weight of the weak evidence,
    pub weak_weight: f64,
    /// and of that part which speaks for it.
    pub weak_good: f64,
    /// How near the nearest earlier question is, as a cosine.
    pub nearest: Option<f64>,
    /// Whose that is.
    pub nearest_id: Option<Uuid>,
    /// How many others are similar.
    pub similar: Option<u32>,
    /// What it is worth, from 0 to 1.
    pub value: Option<f64>,
    /// What has to be derived anew.
    pub stale: Stale,
}

/// What of an interaction has to be derived anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Its vector, which waits for a model where there is none.
    pub vector: bool,
    /// Its value.
    pub value: bool,
    /// Which failures it tells of.
    pub failures: bool,
}

/// Something that was said about an interaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The event that told.
    pub event: Uuid,
    /// The interaction.
    pub interaction: Uuid,
    /// The event's place.
    pub position: u64,
    /// When it was said; Unix milliseconds.
    pub at_ms: i64,
    /// What was said, in a word.
    pub word: String,
    /// What people thought, from -1 to 1.
    pub feedback: Option<f64>,
    /// Who said so.
    pub source: Option<String>,
    /// What they wrote.
    pub note: Option<String>,
}

/// How often a document was shown at a rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The document.
    pub document: String,
    /// The rank, from 0.
    pub rank: u32,
    /// How often it was shown there,
    pub shown: u64,
    /// and how often it was of use.
    pub useful: f64,
}

/// Events of a kind and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindCount {
    /// The kind.
    pub kind: String,
    /// The version.
    pub version: u16,
    /// Whether it means something here.
    pub is_known: bool,
    /// How many there were.
    pub events: u64,
}

/// How well searches found what was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// When that was measured; Unix milliseconds.
    pub at_ms: i64,
    /// Stands for the questions.
    pub questions: String,
    /// Stands for what they were asked with.
    pub settings: String,
    /// JSON.
    pub figures: String,
}

/// Which interactions are wanted; all of them by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InteractionFilter {
    /// Those after this number.
    pub after: i64,
    /// Those worth at least this.
    pub value_min: Option<f64>,
    /// Those of this tenant.
    pub tenant: Option<String>,
    /// Those of this caller.
    pub caller: Option<String>,
}

impl Stale {
    const fn number(self) -> i64 {
        self.vector as i64 | (self.value as i64) << 1 | (self.failures as i64) << 2
    }

    const fn of(number: i64) -> Self {
        Self { vector: number & 1 != 0, value: number & 2 != 0, failures: number & 4 != 0 }
    }
}

/// How many interactions there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub interactions: u64,
    /// Those whose vector has to be made.
    pub vectors_due: u64,
    /// Those whose value has to be derived.
    pub values_due: u64,
    /// Those of which it has to be found which failures they tell of.
    pub failures_due: u64,
}

macro_rules! columns {
    () => {
        "number, id, tenant, caller, session, at_ms, position, asked_position, answered_position, origin, model, system, before, question, \
 answer, is_cut, question_hash, answer_hash, ended, error, consent, consent_at_ms, licence, context, outcome, outcome_at_ms, \
         feedback, feedback_at_ms, weak_weight, weak_good, nearest, nearest_id, similar, value, stale, solved_by, \
         solved_by_at_ms"
    };
}

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM interactions WHERE id = ?1");
const BY_NUMBER: &str = concat!("SELECT ", columns!(), " FROM interactions WHERE number = ?1");
const VECTOR_DUE: &str =
    concat!("SELECT ", columns!(), " FROM interactions WHERE stale & 1 ORDER BY asked_position, number LIMIT ?1");
const FAILURES_DUE: &str =
    concat!("SELECT ", columns!(), " FROM interactions WHERE stale & 4 ORDER BY asked_position, number LIMIT ?1");
const VALUE_DUE: &str =
    concat!("SELECT ", columns!(), " FROM interactions WHERE stale & 2 ORDER BY asked_position, number LIMIT ?1");
const WANTED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM interactions WHERE number > ?1 AND (?2 IS NULL OR value >= ?2) AND (?3 IS NULL OR tenant = ?3)
      AND (?4 IS NULL OR caller = ?4) ORDER BY number LIMIT ?5"
);
const PUT: &str = concat!(
    "INSERT OR REPLACE INTO interactions (",
    columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
      ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37)"
);

impl<'a> Fold<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// An interaction.
    pub fn interaction(&self, id: Uuid) -> Result<Option<InteractionRow>, StorageError> {
        let mut statement = self.connection.prepare_cached(BY_ID)?;
        Ok(statement.query_row([id.as_bytes().as_slice()], interaction).optional()?)
    }

    /// The interaction of a number.
    pub fn numbered(&self, number: i64) -> Result<Option<InteractionRow>, StorageError> {
        let mut statement = self.connection.prepare_cached(BY_NUMBER)?;
        Ok(statement.query_row([number], interaction).optional()?)
    }

    /// Stores an interaction, and returns its number.
    pub fn put_interaction(&self, row: &InteractionRow) -> Result<i64, StorageError> {
        let mut statement = self.connection.prepare_cached(PUT)?;
        Ok(statement.insert(params![
            row.number,
            row.id.as_bytes().as_slice(),
            row.tenant,
            row.caller,
            row.session,
            row.at_ms,
            row.position.cast_signed(),
            row.asked_position.map(u64::cast_signed),
            row.answered_position.map(u64::cast_signed),
            row.origin,
            row.model,
            row.system,
            row.before,
            row.question,
            row.answer,
            row.is_cut,
            row.question_hash,
            row.answer_hash,
            row.ended,
            row.error,
            row.consent,
            row.consent_at_ms,
            row.licence,
            row.context,
            row.outcome,
            row.outcome_at_ms,
            row.feedback,
            row.feedback_at_ms,
            row.weak_weight,
            row.weak_good,
            row.nearest,
            row.nearest_id.as_ref().map(|id| id.as_bytes().as_slice()),
            row.similar,
            row.value,
            row.stale.number(),
            row.solved_by.as_ref().map(|id| id.as_bytes().as_slice()),
            row.solved_by_at_ms,
        ])?)
    }

    /// Interactions whose vector has to be made, in the order in which they were asked.
    pub fn vectors_due(&self, limit: usize) -> Result<Vec<InteractionRow>, StorageError> {
        self.due(VECTOR_DUE, limit)
    }

    /// Interactions whose value has to be derived, in the order in which they were asked.
    pub fn values_due(&self, limit: usize) -> Result<Vec<InteractionRow>, StorageError> {
        self.due(VALUE_DUE, limit)
    }

    /// Interactions of which it has to be found which failures they tell of, in the order in which they were asked.
    pub fn failures_due(&self, limit: usize) -> Result<Vec<InteractionRow>, StorageError> {
        self.due(FAILURES_DUE, limit)
    }

    fn due(&self, query: &str, limit: usize) -> Result<Vec<InteractionRow>, StorageError> {
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map([limit], interaction)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many interactions there are, and in how many something has to be derived anew.
    pub fn counts(&self) -> Result<Counts, StorageError> {
        let count = |query| self.connection.prepare_cached(query)?.query_row([], |row| row.get(0));
        Ok(Counts {
            interactions: count("SELECT count(*) FROM interactions")?,
            vectors_due: count("SELECT count(*) FROM interactions WHERE stale & 1")?,
            values_due: count("SELECT count(*) FROM interactions WHERE stale & 2")?,
            failures_due: count("SELECT count(*) FROM interactions WHERE stale & 4")?,
        })
    }

    /// The number of the newest interaction; 0 where there is none.
    pub fn last_number(&self) -> Result<i64, StorageError> {
        let last = self.connection.query_row("SELECT max(number) FROM interactions", [], |row| row.get(0))?;
        Ok(Option::<i64>::unwrap_or(last, 0))
    }

    /// Wanted interactions, in order.
    pub fn interactions(&self, filter: &InteractionFilter, limit: usize) -> Result<Vec<InteractionRow>, StorageError> {
        let InteractionFilter { after, value_min, tenant, caller } = filter;
        let mut statement = self.connection.prepare_cached(WANTED)?;
        let rows = statement.query_map((after, value_min, tenant, caller, limit), interaction)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The interaction of a caller's that was last asked with a question of this hash.
    pub fn last_asked(&self, caller: &str, question_hash: i64) -> Result<Option<Uuid>, StorageError> {
        self.newest(("question_hash", "asked_position"), caller, question_hash)
    }

    /// The interaction of a caller's that was last answered with an answer of this hash.
    pub fn last_answered(&self, caller: &str, answer_hash: i64) -> Result<Option<Uuid>, StorageError> {
        self.newest(("answer_hash", "answered_position"), caller, answer_hash)
    }

    fn newest(&self, (column, order): (&str, &str), caller: &str, hash: i64) -> Result<Option<Uuid>, StorageError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT id FROM interactions WHERE caller = ?1 AND {column} = ?2 ORDER BY {order} DESC LIMIT 1"
        ))?;
        Ok(statement.query_row((caller, hash), |row| row.get(0).map(Uuid::from_bytes)).optional()?)
    }

    /// Stores evidence; false where that event has told already.
    pub fn add_evidence(&self, evidence: &Evidence) -> Result<bool, StorageError> {
        let Evidence { event, interaction, position, at_ms, word, feedback, source, note } = evidence;
        let mut statement = self.connection.prepare_cached(
            "INSERT OR IGNORE INTO evidence (event, interaction, position, at_ms, word, feedback, source, note)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let added = statement.execute((
            event.as_bytes().as_slice(),
            interaction.as_bytes().as_slice(),
            position.cast_signed(),
            at_ms,
            word,
            feedback,
            source,
            note,
        ))?;
        Ok(added == 1)
    }

    /// What was said about an interaction, in the order in which it came.
    pub fn evidence(&self, interaction: Uuid) -> Result<Vec<Evidence>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT event, position, at_ms, word, feedback, source, note FROM evidence
             WHERE interaction = ?1 ORDER BY position",
        )?;
        let rows = statement.query_map([interaction.as_bytes().as_slice()], |row| {
            Ok(Evidence {
                event: Uuid::from_bytes(row.get(0)?),
                interaction,
                position: row.get(1)?,
                at_ms: row.get(2)?,
                word: row.get(3)?,
                feedback: row.get(4)?,
                source: row.get(5)?,
                note: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Counts events of a kind.
    pub fn count_kind(&self, counted: &KindCount) -> Result<(), StorageError> {
        let KindCount { kind, version, is_known, events } = counted;
        self.connection
            .prepare_cached(
                "INSERT INTO kinds (kind, version, is_known, events) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, version) DO UPDATE SET is_known = ?3, events = events + ?4",
            )?
            .execute((kind, version, is_known, events))?;
        Ok(())
    }

    /// How many events of each kind there were.
    pub fn kinds(&self) -> Result<Vec<KindCount>, StorageError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT kind, version, is_known, events FROM kinds ORDER BY kind, version")?;
        let rows = statement.query_map([], |row| {
            Ok(KindCount { kind: row.get(0)?, version: row.get(1)?, is_known: row.get(2)?, events: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Counts how a document was shown, and of how much more or less use it was than was thought.
    pub fn add_shown(&self, tenant: &str, shown: &Shown) -> Result<(), StorageError> {
        let Shown { document, rank, shown, useful } = shown;
        self.connection
            .prepare_cached(
                "INSERT INTO shown (tenant, document, rank, shown, useful) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (tenant, document, rank) DO UPDATE SET shown = shown + ?4, useful = useful + ?5",
            )?
            .execute((tenant, document, rank, shown.cast_signed(), useful))?;
        Ok(())
    }

    /// Notes how many others an interaction is similar to, which changes what it is worth.
    pub fn raise_similar(&self, number: i64, similar: u32) -> Result<(), StorageError> {
        self.connection
            .prepare_cached("UPDATE interactions SET similar = ?2, stale = stale | 2 WHERE number = ?1")?
            .execute((number, similar))?;
        Ok(())
    }

    /// Notes what an interaction is worth.
    pub fn set_value(&self, number: i64, value: f64) -> Result<(), StorageError> {
        self.connection
            .prepare_cached("UPDATE interactions SET value = ?2, stale = stale & ~2 WHERE number = ?1")?
            .execute((number, value))?;
        Ok(())
    }

    /// The newest evaluations, newest first.
    pub fn evaluations(&self, limit: usize) -> Result<Vec<Evaluation>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at_ms, questions, settings, figures FROM evaluations ORDER BY number DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([limit], |row| {
            Ok(Evaluation { at_ms: row.get(0)?, questions: row.get(1)?, settings: row.get(2)?, figures: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How documents were shown to everybody.
    pub fn shown(&self) -> Result<Vec<Shown>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT document, rank, sum(shown), sum(useful) FROM shown GROUP BY document, rank ORDER BY document, rank",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(Shown { document: row.get(0)?, rank: row.get(1)?, shown: row.get(2)?, useful: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Stores the vector of a question.
    pub fn put_vector(&self, number: i64, space: &str, vector: &[u8]) -> Result<(), StorageError> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO vectors (number, space, vector) VALUES (?1, ?2, ?3)")?
            .execute((number, space, vector))?;
        Ok(())
    }

    /// Vectors of one space after a number, in order.
    pub fn vectors(&self, space: &str, after: i64, limit: usize) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, vector FROM vectors WHERE number > ?2 AND space = ?1 ORDER BY number LIMIT ?3",
        )?;
        let rows = statement.query_map((space, after, limit), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn interaction(row: &Row<'_>) -> rusqlite::Result<InteractionRow> {
    Ok(InteractionRow {
        number: row.get(0)?,
        id: Uuid::from_bytes(row.get(1)?),
        tenant: row.get(2)?,
        caller: row.get(3)?,
        session: row.get(4)?,
        at_ms: row.get(5)?,
        position: row.get(6)?,
        asked_position: row.get(7)?,
        answered_position: row.get(8)?,
        origin: row.get(9)?,
        model: row.get(10)?,
        system: row.get(11)?,
        before: row.get(12)?,
        question: row.get(13)?,
        answer: row.get(14)?,
        is_cut: row.get(15)?,
        question_hash: row.get(16)?,
        answer_hash: row.get(17)?,
        ended: row.get(18)?,
        error: row.get(19)?,
        consent: row.get(20)?,
        consent_at_ms: row.get(21)?,
        licence: row.get(22)?,
        context: row.get(23)?,
        outcome: row.get(24)?,
        outcome_at_ms: row.get(25)?,
        feedback: row.get(26)?,
        feedback_at_ms: row.get(27)?,
        weak_weight: row.get(28)?,
        weak_good: row.get(29)?,
        nearest: row.get(30)?,
        nearest_id: row.get::<_, Option<[u8; 16]>>(31)?.map(Uuid::from_bytes),
        similar: row.get(32)?,
        value: row.get(33)?,
        stale: Stale::of(row.get(34)?),
        solved_by: row.get::<_, Option<[u8; 16]>>(35)?.map(Uuid::from_bytes),
        solved_by_at_ms: row.get(36)?,
    })
}
