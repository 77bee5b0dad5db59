//! Rows of what many interactions have in common: failures that came again, and problems that were solved alike.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Row, params};
use uuid::Uuid;

use super::rows::Fold;
use crate::error::StorageError;

/// Occurrences of a failure that are looked at for what solved it, the newest.
const OCCURRENCES_MAX: u32 = 1_000;
/// Interactions of a session, before one that succeeded, whose failures it may have solved.
const BEFORE_MAX: u32 = 20;

/// A failure that was told of, in one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownError {
    /// Whose.
    pub tenant: String,
    /// What it is known by: the hash of what stays the same of it.
    pub error: String,
    /// What kind of failure it is.
    pub class: String,
    /// What its message says, without what changes.
    pub normal: String,
    /// The lines in which it was told of first.
    pub excerpt: String,
    /// Where that stands in the log.
    pub excerpt_position: u64,
    /// Interactions that told of it.
    pub seen: u64,
    /// When that was first,
    pub first_at_ms: i64,
    /// and last.
    pub last_at_ms: i64,
    /// The interaction that solved it.
    pub solved_by: Option<Uuid>,
}

/// What an interaction tells of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureTold {
    /// What it is known by.
    pub error: String,
    /// What kind of failure it is.
    pub class: String,
    /// What its message says, without what changes.
    pub normal: String,
    /// The lines it stands in.
    pub excerpt: String,
}

/// An interaction as a point among others: what was asked and answered, as a vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairVector {
    /// Which.
    pub number: i64,
    /// Its id,
    pub id: Uuid,
    /// and whose it is.
    pub tenant: String,
    /// What it is worth.
    pub value: f64,
    /// When it was.
    pub at_ms: i64,
    /// Question and answer together.
    pub pair: Vec<u8>,
    /// The question alone.
    pub question: Vec<u8>,
}

/// A problem that came again and what worked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pattern {
    /// Its id: made of the first interaction that is part of it.
    pub id: Uuid,
    /// Whose.
    pub tenant: String,
    /// What was asked.
    pub problem: String,
    /// What worked.
    pub approach: String,
    /// JSON: other words in which the same was asked.
    pub asked: String,
    /// What it is worth, from 0 to 1.
    pub value: f64,
    /// Interactions that are part of it.
    pub members: u64,
    /// JSON: the ids of those that speak for it most.
    pub evidence: String,
    /// Interactions of the same problem that failed.
    pub against: u64,
    /// Another pattern of the same problem with another approach.
    pub contradicts: Option<Uuid>,
    /// How much its members are alike, from 0 to 1.
    pub cohesion: f64,
    /// There is little to it: it is counted, and not given to anybody.
    pub is_junk: bool,
    /// When its first member was,
    pub first_at_ms: i64,
    /// and its last.
    pub last_at_ms: i64,
}

/// How the patterns were made that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatternFigures {
    /// Stands for what they were made of.
    pub inputs: Vec<u8>,
    /// Interactions that were looked at,
    pub points: u64,
    /// and those that belong to no pattern.
    pub alone: u64,
}

/// What lessons there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LessonCounts {
    /// Patterns,
    pub patterns: u64,
    /// and those of them with little to them.
    pub junk: u64,
    /// Interactions that patterns were looked for in,
    pub points: u64,
    /// and those that belong to none.
    pub alone: u64,
    /// Failures,
    pub errors: u64,
    /// and those of them that something solved.
    pub solved: u64,
    /// Lessons that can be found by search.
    pub shelved: u64,
}

impl Fold<'_> {
    /// Puts down which failures an interaction tells of, in place of those that it told of before. Which have to be
    /// counted anew, with their tenant.
    pub fn set_failures(
        &self,
        number: i64,
        failures: &[FailureTold],
    ) -> Result<BTreeSet<(String, String)>, StorageError> {
        let Some(row) = self.numbered(number)? else { return Ok(BTreeSet::new()) };
        let position = row.asked_position.unwrap_or(row.position).cast_signed();
        let before = self.failures_of(number)?;
        self.connection.prepare_cached("DELETE FROM failures WHERE interaction = ?1")?.execute([number])?;
        for told in failures {
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO failures (error, interaction) VALUES (?1, ?2)")?
                .execute((&told.error, number))?;
            // What is shown is what was told first, whichever was derived first.
            self.connection
                .prepare_cached(
                    "INSERT INTO known_errors
                     (tenant, error, class, normal, excerpt, excerpt_position, seen, first_at_ms, last_at_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?7)
                     ON CONFLICT (tenant, error) DO UPDATE
                     SET class = ?3, normal = ?4, excerpt = ?5, excerpt_position = ?6 WHERE excerpt_position > ?6",
                )?
                .execute((&row.tenant, &told.error, &told.class, &told.normal, &told.excerpt, position, row.at_ms))?;
        }
        self.connection
            .prepare_cached("UPDATE interactions SET stale = stale & ~4 WHERE number = ?1")?
            .execute([number])?;
        let now = failures.iter().map(|told| told.error.clone());
        Ok(before.into_iter().chain(now).map(|error| (row.tenant.clone(), error)).collect())
    }

    /// The failures that an interaction tells of.
    pub fn failures_of(&self, number: i64) -> Result<Vec<String>, StorageError> {
        let mut statement =
            self.connection.prepare_cached("SELECT error FROM failures WHERE interaction = ?1 ORDER BY error")?;
        let errors = statement.query_map([number], |row| row.get(0))?;
        Ok(errors.collect::<Result<_, _>>()?)
    }

    /// The failures that may be solved by what became of an interaction: its own, and those told of before in its session.
    pub fn failures_about(&self, number: i64) -> Result<Vec<String>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT DISTINCT f.error FROM failures f WHERE f.interaction = ?1 OR f.interaction IN
             (SELECT b.number FROM interactions b JOIN interactions i ON i.number = ?1
              WHERE b.tenant = i.tenant AND b.session = i.session AND b.asked_position < i.asked_position
              ORDER BY b.asked_position DESC LIMIT ?2) ORDER BY f.error",
        )?;
        let errors = statement.query_map((number, BEFORE_MAX), |row| row.get(0))?;
        Ok(errors.collect::<Result<_, _>>()?)
    }

    /// Counts a failure anew, and finds what solved it: what was said to have; else an interaction that told of it and
    /// succeeded; else the next of its session that did. Of several the latest.
    pub fn recount_error(&self, tenant: &str, error: &str) -> Result<(), StorageError> {
        let (seen, first, last): (i64, Option<i64>, Option<i64>) = self
            .connection
            .prepare_cached(
                "SELECT count(*), min(i.at_ms), max(i.at_ms) FROM failures f
                 JOIN interactions i ON i.number = f.interaction WHERE f.error = ?2 AND i.tenant = ?1",
            )?
            .query_row((tenant, error), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if seen == 0 {
            self.connection
                .prepare_cached("DELETE FROM known_errors WHERE tenant = ?1 AND error = ?2")?
                .execute((tenant, error))?;
            return Ok(());
        }
        let solved_by = self.solution(tenant, error)?;
        self.connection
            .prepare_cached(
                "UPDATE known_errors SET seen = ?3, first_at_ms = ?4, last_at_ms = ?5, solved_by = ?6
                 WHERE tenant = ?1 AND error = ?2",
            )?
            .execute((tenant, error, seen, first, last, solved_by))?;
        Ok(())
    }

    fn solution(&self, tenant: &str, error: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let occurrences = "(SELECT interaction FROM failures WHERE error = ?2 ORDER BY interaction DESC LIMIT ?3) f
             JOIN interactions i ON i.number = f.interaction AND i.tenant = ?1";
        let said = format!(
            "SELECT s.id FROM {occurrences} JOIN interactions s ON s.id = i.solved_by AND s.tenant = ?1
             ORDER BY i.solved_by_at_ms DESC, i.number DESC LIMIT 1"
        );
        let own = format!(
            "SELECT i.id FROM {occurrences} WHERE i.outcome = 'success' AND i.answer IS NOT NULL
             ORDER BY i.at_ms DESC, i.number DESC LIMIT 1"
        );
        let next = format!(
            "SELECT n.id FROM {occurrences} JOIN interactions n ON n.number =
             (SELECT a.number FROM interactions a WHERE a.tenant = i.tenant AND a.session = i.session
              AND a.asked_position > i.asked_position AND a.outcome = 'success' AND a.answer IS NOT NULL
              ORDER BY a.asked_position LIMIT 1)
             ORDER BY n.at_ms DESC, n.number DESC LIMIT 1"
        );
        for query in [said, own, next] {
            let found = self
                .connection
                .prepare_cached(&query)?
                .query_row((tenant, error, OCCURRENCES_MAX), |row| row.get(0))
                .optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// A tenant's failure.
    pub fn known_error(&self, tenant: &str, error: &str) -> Result<Option<KnownError>, StorageError> {
        let mut statement =
            self.connection.prepare_cached(&format!("{KNOWN_ERRORS} WHERE tenant = ?1 AND error = ?2"))?;
        Ok(statement.query_row((tenant, error), known_error).optional()?)
    }

    /// The failures of a tenant, or of all, seen most first, without so many of them.
    pub fn known_errors(
        &self,
        tenant: Option<&str>,
        after: usize,
        limit: usize,
    ) -> Result<Vec<KnownError>, StorageError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{KNOWN_ERRORS} WHERE ?1 IS NULL OR tenant = ?1 ORDER BY seen DESC, last_at_ms DESC, tenant, error
             LIMIT ?2 OFFSET ?3"
        ))?;
        let errors = statement.query_map((tenant, limit, after), known_error)?;
        Ok(errors.collect::<Result<_, _>>()?)
    }

    /// The space in which the newest question has its vector.
    pub fn newest_space(&self) -> Result<Option<String>, StorageError> {
        let mut statement = self.connection.prepare_cached("SELECT space FROM vectors ORDER BY number DESC LIMIT 1")?;
        Ok(statement.query_row([], |row| row.get(0)).optional()?)
    }

    /// Interactions worth so much whose question and answer have no vector in this space yet, oldest first.
    pub fn pairs_due(
        &self,
        value_min: f64,
        space: &str,
        limit: usize,
    ) -> Result<Vec<(i64, String, String)>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT i.number, i.question, i.answer FROM interactions i LEFT JOIN pair_vectors p ON p.number = i.number
             WHERE i.value >= ?1 AND i.question IS NOT NULL AND i.answer IS NOT NULL
             AND (p.number IS NULL OR p.space <> ?2 OR p.question_hash IS NOT i.question_hash
                  OR p.answer_hash IS NOT i.answer_hash) ORDER BY i.number LIMIT ?3",
        )?;
        let due = statement.query_map((value_min, space, limit), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(due.collect::<Result<_, _>>()?)
    }

    /// Stores the vector of what an interaction asked and was answered.
    pub fn put_pair(&self, number: i64, space: &str, vector: &[u8]) -> Result<(), StorageError> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO pair_vectors (number, space, question_hash, answer_hash, vector)
                 SELECT number, ?2, question_hash, answer_hash, ?3 FROM interactions WHERE number = ?1",
            )?
            .execute((number, space, vector))?;
        Ok(())
    }

    /// The newest interactions worth so much that have vectors in this space, newest first.
    pub fn pairs(&self, value_min: f64, space: &str, limit: usize) -> Result<Vec<PairVector>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT i.number, i.id, i.tenant, i.value, i.at_ms, p.vector, v.vector FROM interactions i
             JOIN pair_vectors p ON p.number = i.number AND p.space = ?2
             JOIN vectors v ON v.number = i.number AND v.space = ?2
             WHERE i.value >= ?1 ORDER BY i.number DESC LIMIT ?3",
        )?;
        let pairs = statement.query_map((value_min, space, limit), |row| {
            Ok(PairVector {
                number: row.get(0)?,
                id: Uuid::from_bytes(row.get(1)?),
                tenant: row.get(2)?,
                value: row.get(3)?,
                at_ms: row.get(4)?,
                pair: row.get(5)?,
                question: row.get(6)?,
            })
        })?;
        Ok(pairs.collect::<Result<_, _>>()?)
    }

    /// The vectors of the newest questions that failed, with whose they are.
    pub fn failed_questions(&self, space: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT i.tenant, v.vector FROM interactions i JOIN vectors v ON v.number = i.number AND v.space = ?1
             WHERE i.outcome = 'failure' ORDER BY i.number DESC LIMIT ?2",
        )?;
        let failed = statement.query_map((space, limit), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(failed.collect::<Result<_, _>>()?)
    }

    /// Has these patterns be the ones that there are.
    pub fn set_patterns(&self, patterns: &[Pattern], figures: &PatternFigures) -> Result<(), StorageError> {
        self.connection.execute("DELETE FROM patterns", [])?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO patterns (id, tenant, problem, approach, value, members, evidence, against, contradicts,
             cohesion, is_junk, first_at_ms, last_at_ms, asked)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?;
        for pattern in patterns {
            insert.execute(params![
                pattern.id.as_bytes().as_slice(),
                pattern.tenant,
                pattern.problem,
                pattern.approach,
                pattern.value,
                pattern.members.cast_signed(),
                pattern.evidence,
                pattern.against.cast_signed(),
                pattern.contradicts.as_ref().map(|id| id.as_bytes().as_slice()),
                pattern.cohesion,
                pattern.is_junk,
                pattern.first_at_ms,
                pattern.last_at_ms,
                pattern.asked,
            ])?;
        }
        self.connection.execute(
            "INSERT OR REPLACE INTO pattern_figures (only, inputs, points, alone) VALUES (1, ?1, ?2, ?3)",
            (&figures.inputs, figures.points.cast_signed(), figures.alone.cast_signed()),
        )?;
        Ok(())
    }

    /// How the patterns were made that are there.
    pub fn pattern_figures(&self) -> Result<Option<PatternFigures>, StorageError> {
        let mut statement = self.connection.prepare_cached("SELECT inputs, points, alone FROM pattern_figures")?;
        let read = |row: &Row<'_>| {
            let (points, alone): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(PatternFigures { inputs: row.get(0)?, points: points.cast_unsigned(), alone: alone.cast_unsigned() })
        };
        Ok(statement.query_row([], read).optional()?)
    }

    /// The patterns of a tenant, or of all, worth most first, without so many of them.
    pub fn patterns(&self, tenant: Option<&str>, after: usize, limit: usize) -> Result<Vec<Pattern>, StorageError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, tenant, problem, approach, value, members, evidence, against, contradicts, cohesion, is_junk,
             first_at_ms, last_at_ms, asked FROM patterns WHERE ?1 IS NULL OR tenant = ?1 ORDER BY value DESC, id
             LIMIT ?2 OFFSET ?3",
        )?;
        let patterns = statement.query_map((tenant, limit, after), |row| {
            let (members, against): (i64, i64) = (row.get(5)?, row.get(7)?);
            Ok(Pattern {
                id: Uuid::from_bytes(row.get(0)?),
                tenant: row.get(1)?,
                problem: row.get(2)?,
                approach: row.get(3)?,
                value: row.get(4)?,
                members: members.cast_unsigned(),
                evidence: row.get(6)?,
                against: against.cast_unsigned(),
                contradicts: row.get::<_, Option<[u8; 16]>>(8)?.map(Uuid::from_bytes),
                cohesion: row.get(9)?,
                is_junk: row.get(10)?,
                first_at_ms: row.get(11)?,
                last_at_ms: row.get(12)?,
                asked: row.get(13)?,
            })
        })?;
        Ok(patterns.collect::<Result<_, _>>()?)
    }

    /// What can be found by search: the tenant, the document, and what stands for its text.
    pub fn shelved(&self) -> Result<Vec<(String, String, Vec<u8>)>, StorageError> {
        let mut statement =
            self.connection.prepare_cached("SELECT tenant, document, hash FROM shelved ORDER BY tenant, document")?;
        let shelved = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(shelved.collect::<Result<_, _>>()?)
    }

    /// Notes that a document can be found by search, or with no hash that it cannot any more.
    pub fn set_shelved(&self, tenant: &str, document: &str, hash: Option<&[u8]>) -> Result<(), StorageError> {
        match hash {
            Some(hash) => self
                .connection
                .prepare_cached("INSERT OR REPLACE INTO shelved (tenant, document, hash) VALUES (?1, ?2, ?3)")?
                .execute((tenant, document, hash))?,
            None => self
                .connection
                .prepare_cached("DELETE FROM shelved WHERE tenant = ?1 AND document = ?2")?
                .execute((tenant, document))?,
        };
        Ok(())
    }

    /// What lessons there are.
    pub fn lesson_counts(&self) -> Result<LessonCounts, StorageError> {
        let count = |query: &str| {
            let count: i64 = self.connection.prepare_cached(query)?.query_row([], |row| row.get(0))?;
            Ok::<_, StorageError>(count.cast_unsigned())
        };
        let figures = self.pattern_figures()?.unwrap_or_default();
        Ok(LessonCounts {
            patterns: count("SELECT count(*) FROM patterns")?,
            junk: count("SELECT count(*) FROM patterns WHERE is_junk")?,
            points: figures.points,
            alone: figures.alone,
            errors: count("SELECT count(*) FROM known_errors")?,
            solved: count("SELECT count(*) FROM known_errors WHERE solved_by IS NOT NULL")?,
            shelved: count("SELECT count(*) FROM shelved")?,
        })
    }
}

const KNOWN_ERRORS: &str =
    "SELECT tenant, error, class, normal, excerpt, excerpt_position, seen, first_at_ms, last_at_ms,
     solved_by FROM known_errors";

fn known_error(row: &Row<'_>) -> rusqlite::Result<KnownError> {
    let (position, seen): (i64, i64) = (row.get(5)?, row.get(6)?);
    Ok(KnownError {
        tenant: row.get(0)?,
        error: row.get(1)?,
        class: row.get(2)?,
        normal: row.get(3)?,
        excerpt: row.get(4)?,
        excerpt_position: position.cast_unsigned(),
        seen: seen.cast_unsigned(),
        first_at_ms: row.get(7)?,
        last_at_ms: row.get(8)?,
        solved_by: row.get::<_, Option<[u8; 16]>>(9)?.map(Uuid::from_bytes),
    })
}
