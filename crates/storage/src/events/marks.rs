//! What keeps a writer from outside from writing twice: marks, and batches that come with a key.
//!
//! Both are rows of the transaction that writes the events, so that whoever got no answer can look up, or ask again, what
//! became of them. What a mark's value means is its owner's to know.

use std::{collections::HashSet, ops::Range};

use rusqlite::{Connection, OptionalExtension};

use super::{AppendError, NAME_BYTES_MAX};
use crate::error::StorageError;

/// Bytes that a mark's name may have.
pub const MARK_NAME_BYTES_MAX: usize = 512;
/// Bytes that a mark's value may have.
pub const MARK_BYTES_MAX: usize = 4 << 10;
/// Marks that may change at once.
pub const MARKS_MAX: usize = 1_000;
/// Bytes that the key of a batch may have.
pub const ONCE_KEY_BYTES_MAX: usize = 255;
/// How long the key of a batch is remembered, in milliseconds: a day.
pub const ONCE_KEPT_MS: i64 = 24 * 60 * 60 * 1_000;
/// Keys that are forgotten with each one that is remembered. More than one, so that a table that has grown shrinks; not
/// all of them, since others wait for the same commit.
const FORGOTTEN_AT_ONCE: i64 = 64;

/// How far a writer has got, changed together with the events that it tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is found by; `/` separates whose it is from what it is about.
    pub name: String,
    /// What it has to be now for anything to be written.
    pub before: Before,
    /// What it becomes; nothing removes it.
    pub value: Option<Vec<u8>>,
}

/// What a mark has to be before it changes. Whoever names what it was last cannot write the same twice, also where an
/// answer got lost or an append that was given up is written all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Whatever it is.
    Any,
    /// It is not there.
    Absent,
    /// It has this value.
    Value(Vec<u8>),
}

impl Mark {
    /// A mark that is set whatever it was: for an owner that reads it anew after every failure and gives up no append.
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), before: Before::Any, value: Some(value.into()) }
    }

    pub(super) fn size_bytes(&self) -> usize {
        let before = match &self.before {
            Before::Any | Before::Absent => 0,
            Before::Value(value) => value.len(),
        };
        self.name.len() + before + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Events that were appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where they stand, one after another; empty where there were none.
    pub positions: Range<u64>,
    /// They stood there before: the same batch had come with the same key.
    pub is_repeat: bool,
}

/// What a batch that is written once is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnceKey {
    pub caller: String,
    pub key: String,
    pub body_hash: [u8; 32],
    pub now_ms: i64,
}

impl OnceKey {
    pub(super) fn check(&self) -> Result<(), AppendError> {
        let fits =
            (1..=NAME_BYTES_MAX).contains(&self.caller.len()) && (1..=ONCE_KEY_BYTES_MAX).contains(&self.key.len());
        if fits { Ok(()) } else { Err(AppendError::BadKey) }
    }
}

/// Whether marks can be stored together.
pub(super) fn check(marks: &[Mark]) -> Result<(), AppendError> {
    if marks.len() > MARKS_MAX {
        return Err(AppendError::BadMark { problem: "is one of too many" });
    }
    let mut names = HashSet::with_capacity(marks.len());
    for mark in marks {
        let problem = if !(1..=MARK_NAME_BYTES_MAX).contains(&mark.name.len()) {
            "has a name that is empty or too long"
        } else if mark.value.as_ref().is_some_and(|value| value.len() > MARK_BYTES_MAX) {
            "is too large"
        } else if !names.insert(mark.name.as_str()) {
            "changes twice at once"
        } else {
            continue;
        };
        return Err(AppendError::BadMark { problem });
    }
    Ok(())
}

/// The first of the marks that is not what it has to be.
pub(super) fn unmet<'a>(connection: &Connection, marks: &'a [Mark]) -> Result<Option<&'a Mark>, StorageError> {
    for mark in marks {
        let is_met = match &mark.before {
            Before::Any => true,
            Before::Absent => value(connection, &mark.name)?.is_none(),
            Before::Value(before) => value(connection, &mark.name)?.as_ref() == Some(before),
        };
        if !is_met {
            return Ok(Some(mark));
        }
    }
    Ok(None)
}

pub(super) fn set(connection: &Connection, marks: &[Mark]) -> Result<(), StorageError> {
    for mark in marks {
        match &mark.value {
            Some(value) => connection
                .prepare_cached("INSERT OR REPLACE INTO marks (name, value) VALUES (?1, ?2)")?
                .execute((&mark.name, value))?,
            None => connection.prepare_cached("DELETE FROM marks WHERE name = ?1")?.execute([&mark.name])?,
        };
    }
    Ok(())
}

fn value(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
    let mut statement = connection.prepare_cached("SELECT value FROM marks WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// The marks whose names begin so, in the order of their names.
pub(super) fn beginning_with(connection: &Connection, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    // Whatever a name has in it, those that begin alike stand one after another; no pattern has to be escaped.
    let mut statement = connection.prepare_cached("SELECT name, value FROM marks WHERE name >= ?1 ORDER BY name")?;
    let mut rows = statement.query([prefix])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if !name.starts_with(prefix) {
            break;
        }
        found.push((name, row.get(1)?));
    }
    Ok(found)
}

/// A batch that had come with a key.
pub(super) enum Remembered {
    /// The same, and where its events stand.
    Same(Range<u64>),
    /// Another.
    Other,
}

/// What had come with a key within the last day.
pub(super) fn remembered(connection: &Connection, key: &OnceKey) -> Result<Option<Remembered>, StorageError> {
    let mut statement = connection.prepare_cached(
        "SELECT body_hash, positions_from, count FROM appended_once
         WHERE caller = ?1 AND key = ?2 AND at_ms > ?3",
    )?;
    let parameters = (&key.caller, &key.key, key.now_ms.saturating_sub(ONCE_KEPT_MS));
    let row: Option<(Vec<u8>, i64, i64)> =
        statement.query_row(parameters, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    Ok(row.map(|(body_hash, from, count)| {
        if body_hash != key.body_hash {
            return Remembered::Other;
        }
        let (from, count) = (from.cast_unsigned(), count.cast_unsigned());
        Remembered::Same(from..from.saturating_add(count))
    }))
}

/// Remembers where the events of a batch stand, and forgets some of the batches that are older than a day.
pub(super) fn remember(connection: &Connection, key: &OnceKey, positions: &Range<u64>) -> Result<(), StorageError> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO appended_once (caller, key, body_hash, positions_from, count, at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            &key.caller,
            &key.key,
            key.body_hash.as_slice(),
            positions.start.cast_signed(),
            (positions.end - positions.start).cast_signed(),
            key.now_ms,
        ))?;
    connection
        .prepare_cached(
            "DELETE FROM appended_once WHERE (caller, key) IN
             (SELECT caller, key FROM appended_once WHERE at_ms <= ?1 ORDER BY at_ms LIMIT ?2)",
        )?
        .execute((key.now_ms.saturating_sub(ONCE_KEPT_MS), FORGOTTEN_AT_ONCE))?;
    Ok(())
}
