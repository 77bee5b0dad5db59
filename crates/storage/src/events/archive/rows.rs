//! What the log's database knows of the archive: which positions it let go of, and how it lets go of more.

use rusqlite::{Connection, OptionalExtension};

use crate::{
    error::StorageError,
    events::{
        Event,
        rows::{self, column},
    },
};

/// Positions, the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::events) struct Positions {
    pub first: u64,
    pub last: u64,
}

/// The first positions behind one whose events are archived.
pub(in crate::events) fn archived_after(
    connection: &Connection,
    position: u64,
) -> Result<Option<Positions>, StorageError> {
    let mut statement = connection.prepare_cached(
        "SELECT first_position, last_position FROM archived WHERE last_position > ?1 ORDER BY first_position LIMIT 1",
    )?;
    Ok(statement.query_row([column(position)], positions).optional()?)
}

/// The last position whose event is archived; 0 where none is.
pub(in crate::events) fn archived_through(connection: &Connection) -> Result<u64, StorageError> {
    let mut statement =
        connection.prepare_cached("SELECT last_position FROM archived ORDER BY first_position DESC LIMIT 1")?;
    let last: Option<i64> = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(last.unwrap_or(0).cast_unsigned())
}

fn positions(row: &rusqlite::Row<'_>) -> rusqlite::Result<Positions> {
    let position = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(Positions { first: position(0)?, last: position(1)? })
}

/// The archived positions that touch others, or have some in common with them.
fn archived_near(connection: &Connection, near: Positions) -> Result<Vec<Positions>, StorageError> {
    let mut statement = connection.prepare_cached(
        "SELECT first_position, last_position FROM archived
         WHERE last_position >= ?1 AND first_position <= ?2 ORDER BY first_position",
    )?;
    let from = column(near.first.saturating_sub(1));
    let rows = statement.query_map((from, column(near.last.saturating_add(1))), positions)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether the event of a position was archived.
pub(super) fn is_archived(connection: &Connection, position: u64) -> Result<bool, StorageError> {
    let next = archived_after(connection, position.saturating_sub(1))?;
    Ok(next.is_some_and(|next| next.first <= position))
}

/// Notes that events of positions are archived.
pub(super) fn note_archived(connection: &Connection, noted: Positions) -> Result<(), StorageError> {
    let mut whole = noted;
    for near in archived_near(connection, noted)? {
        whole = Positions { first: whole.first.min(near.first), last: whole.last.max(near.last) };
        forget(connection, near)?;
    }
    insert(connection, whole)
}

/// Notes that events of positions are in the log again.
pub(super) fn note_imported(connection: &Connection, noted: Positions) -> Result<(), StorageError> {
    for near in archived_near(connection, noted)? {
        if near.last < noted.first || near.first > noted.last {
            continue;
        }
        forget(connection, near)?;
        if near.first < noted.first {
            insert(connection, Positions { first: near.first, last: noted.first - 1 })?;
        }
        if near.last > noted.last {
            insert(connection, Positions { first: noted.last + 1, last: near.last })?;
        }
    }
    Ok(())
}

fn insert(connection: &Connection, positions: Positions) -> Result<(), StorageError> {
    connection
        .prepare_cached("INSERT INTO archived (first_position, last_position) VALUES (?1, ?2)")?
        .execute((column(positions.first), column(positions.last)))?;
    Ok(())
}

fn forget(connection: &Connection, positions: Positions) -> Result<(), StorageError> {
    connection.prepare_cached("DELETE FROM archived WHERE first_position = ?1")?.execute([column(positions.first)])?;
    Ok(())
}

/// What the log let go of.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetGo {
    /// How many events.
    pub events: u64,
    /// The last position of them, or the last that was to go.
    pub through: u64,
}

/// Lets go of the first events of some positions, so many at most.
pub(super) fn let_go(connection: &Connection, of: Positions, events_max: usize) -> Result<LetGo, StorageError> {
    let last_of_some: Option<i64> = connection
        .prepare_cached(
            "SELECT position FROM events WHERE position BETWEEN ?1 AND ?2 ORDER BY position LIMIT 1 OFFSET ?3",
        )?
        .query_row((column(of.first), column(of.last), events_max.saturating_sub(1)), |row| row.get(0))
        .optional()?;
    let gone = Positions { first: of.first, last: last_of_some.map_or(of.last, i64::cast_unsigned) };
    let range = (column(gone.first), column(gone.last));
    let sessions: Vec<i64> = connection
        .prepare_cached("SELECT DISTINCT session FROM events WHERE position BETWEEN ?1 AND ?2 AND session IS NOT NULL")?
        .query_map(range, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let events = connection.prepare_cached("DELETE FROM events WHERE position BETWEEN ?1 AND ?2")?.execute(range)?;
    let mut forget_name = connection.prepare_cached(
        "DELETE FROM names WHERE id = ?1 AND is_lasting = 0
             AND NOT EXISTS (SELECT 1 FROM events INDEXED BY events_by_session WHERE session = ?1)",
    )?;
    for session in sessions {
        forget_name.execute([session])?;
    }
    note_archived(connection, gone)?;
    Ok(LetGo { events: events as u64, through: gone.last })
}

/// The position of the oldest event that is in the log, from a position on; nothing where there is none.
pub(super) fn oldest(connection: &Connection, from: u64) -> Result<Option<u64>, StorageError> {
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(position) FROM events WHERE position >= ?1")?
        .query_row([column(from)], |row| row.get(0))?;
    Ok(oldest.map(i64::cast_unsigned))
}

/// Bytes of the database that hold something. Its file is larger by what was let go of and not used again.
pub(in crate::events) fn used_bytes(connection: &Connection) -> Result<u64, StorageError> {
    let used = number(connection, "page_count")?.saturating_sub(number(connection, "freelist_count")?);
    Ok(used.saturating_mul(number(connection, "page_size")?))
}

fn number(connection: &Connection, pragma: &str) -> Result<u64, StorageError> {
    let number: i64 = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
    Ok(number.cast_unsigned())
}

/// Pages that are free and more than what is needed soon: what is archived in one step, the next events take up.
pub(super) fn pages_to_spare(connection: &Connection) -> Result<u64, StorageError> {
    const KEPT_PAGES: u64 = 4_096;
    const INCREMENTAL: u64 = 2;
    // A file that was made before it could do so keeps them.
    if number(connection, "auto_vacuum")? != INCREMENTAL {
        return Ok(0);
    }
    let free = number(connection, "freelist_count")?;
    let used = number(connection, "page_count")?.saturating_sub(free);
    Ok(free.saturating_sub(KEPT_PAGES.max(used / 4)))
}

/// Takes free pages off the end of the file.
pub(super) fn give_back(connection: &Connection, pages: u64) -> Result<(), StorageError> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut steps = statement.query([])?;
    // Each step takes one.
    while steps.next()?.is_some() {}
    Ok(())
}

/// Whether an event that comes back is in the log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its place is free.
    Absent,
    /// It is there.
    Present,
    /// Another one is.
    Taken,
    /// The log never let go of an event there.
    Outside,
}

/// How an archived event stands to the log.
pub(super) fn standing(connection: &Connection, event: &Event) -> Result<Standing, StorageError> {
    Ok(match rows::at(connection, event.position)? {
        Some(found) if found == *event => Standing::Present,
        Some(_) => Standing::Taken,
        None if is_archived(connection, event.position)? => Standing::Absent,
        None => Standing::Outside,
    })
}

/// Has a log that is empty go on behind a position, as if it had archived what is before.
pub(super) fn begin_behind(connection: &Connection, last: u64) -> Result<(), StorageError> {
    if rows::last_position(connection)? == 0 {
        note_archived(connection, Positions { first: 1, last })?;
    }
    Ok(())
}

/// Sees to it that no position up to one is given again, also where the events at the end were erased.
pub(super) fn note_end(connection: &Connection, last: u64) -> Result<(), StorageError> {
    let reached = rows::last_position(connection)?;
    if reached < last {
        note_archived(connection, Positions { first: reached + 1, last })?;
    }
    Ok(())
}
