//! Which events are due to be archived.
//!
//! The oldest go first, whatever makes them due. When an event happened is said by whoever tells of it, and one that says
//! it will happen next year must not keep everything behind it in the log: so what counts is not its own age but that of
//! most of the events around it.

use std::collections::VecDeque;

use rusqlite::Connection;

use super::{retain::Retention, rows, segment::Shape};
use crate::{error::StorageError, events::rows::column};

/// Events that decide together whether their first one is old.
const WITNESSES: usize = 100;
/// Bytes that an event takes in the database beside its body, about: its columns and its places in three indexes.
const BESIDE_BODY_BYTES: u64 = 110;
/// Bytes that a line has beside the body, about.
const BESIDE_LINE_BYTES: u64 = 250;
/// Of how much more room is made than is needed: a part in so many, so that not every event moves another.
const SLACK: u64 = 8;

/// Up to where events are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The last one's position.
    pub through: u64,
    /// How many they are.
    pub events: u64,
    /// Whether there are as many as a segment takes.
    pub is_full: bool,
}

/// What makes an event due.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Before this it is old.
    old_before_ms: Option<i64>,
    /// So many bytes have to go.
    excess_bytes: u64,
}

impl Limits {
    fn of(connection: &Connection, retention: &Retention, now_ms: i64) -> Result<Self, StorageError> {
        let age_ms = retention.age_ms.map(|age_ms| i64::try_from(age_ms).unwrap_or(i64::MAX));
        let used_bytes = rows::used_bytes(connection)?;
        let excess_bytes = match retention.size_bytes {
            Some(size_bytes) if used_bytes > size_bytes => used_bytes - (size_bytes - size_bytes / SLACK),
            _ => 0,
        };
        Ok(Self { old_before_ms: age_ms.map(|age_ms| now_ms.saturating_sub(age_ms)), excess_bytes })
    }
}

/// An event, as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    position: u64,
    is_young: bool,
    bytes: u64,
}

/// The first events behind a position that are due, and no more than a segment takes.
pub(super) fn find(
    connection: &Connection,
    after: u64,
    allowed: u64,
    retention: &Retention,
    shape: Shape,
    now_ms: i64,
) -> Result<Option<Stretch>, StorageError> {
    let limits = Limits::of(connection, retention, now_ms)?;
    if limits.old_before_ms.is_none() && limits.excess_bytes == 0 {
        return Ok(None);
    }
    let mut statement = connection
        .prepare_cached("SELECT position, at_ms, length(body) FROM events WHERE position > ?1 ORDER BY position")?;
    let mut candidates = statement.query_map([column(after)], |row| {
        Ok(Candidate {
            position: row.get::<_, i64>(0)?.cast_unsigned(),
            is_young: limits.old_before_ms.is_none_or(|before| row.get::<_, i64>(1).is_ok_and(|at_ms| at_ms >= before)),
            bytes: row.get::<_, i64>(2)?.cast_unsigned(),
        })
    })?;
    let mut witnesses: VecDeque<Candidate> = VecDeque::with_capacity(WITNESSES);
    let mut young = 0;
    let (mut found, mut bytes, mut raw_bytes) = (None, 0, 0);
    loop {
        while witnesses.len() < WITNESSES
            && let Some(candidate) = candidates.next().transpose()?
        {
            young += usize::from(candidate.is_young);
            witnesses.push_back(candidate);
        }
        let is_old = young * 2 < witnesses.len();
        let Some(candidate) = witnesses.pop_front() else { break };
        young -= usize::from(candidate.is_young);
        if candidate.position > allowed || !(is_old || bytes < limits.excess_bytes) {
            break;
        }
        bytes += candidate.bytes + BESIDE_BODY_BYTES;
        raw_bytes += candidate.bytes + BESIDE_LINE_BYTES;
        let events = found.map_or(0, |found: Stretch| found.events) + 1;
        let is_full = raw_bytes >= shape.raw_bytes || events >= shape.events;
        found = Some(Stretch { through: candidate.position, events, is_full });
        if is_full {
            break;
        }
    }
    Ok(found)
}
