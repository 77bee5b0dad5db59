//! Events as rows.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::{
    Event, EventFilter, EventPage, INTERACTION_EVENTS_MAX, NewEvent, PAGE_BYTES_MAX, SCAN_MAX, archive::rows as archive,
};
use crate::error::StorageError;

/// Writes events within a transaction.
pub(crate) struct Appender<'a> {
    connection: &'a Connection,
    insert: CachedStatement<'a>,
    /// The numbers of names that were met, and whether each is of something that stays. Kept for one transaction only:
    /// one that fails takes its names with it, and a session's name goes with its last event.
    names: HashMap<String, (i64, bool)>,
    /// What the next position must be, where SQLite would give one again that was archived.
    next: Option<u64>,
    last: Option<u64>,
    count: u64,
}

/// An event as it is written.
struct Parts<'a> {
    id: &'a Uuid,
    kind: &'a str,
    version: u16,
    tenant: &'a str,
    interaction: Option<&'a Uuid>,
    session: Option<&'a str>,
    caller: &'a str,
    at_ms: i64,
    body: &'a [u8],
}

impl<'a> From<&'a NewEvent> for Parts<'a> {
    fn from(event: &'a NewEvent) -> Self {
        Self {
            id: &event.id,
            kind: &event.kind,
            version: event.version,
            tenant: &event.tenant,
            interaction: event.interaction.as_ref(),
            session: event.session.as_deref(),
            caller: &event.caller,
            at_ms: event.at_ms,
            body: &event.body,
        }
    }
}

impl<'a> From<&'a Event> for Parts<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            id: &event.id,
            kind: &event.kind,
            version: event.version,
            tenant: &event.tenant,
            interaction: event.interaction.as_ref(),
            session: event.session.as_deref(),
            caller: &event.caller,
            at_ms: event.at_ms,
            body: &event.body,
        }
    }
}

impl<'a> Appender<'a> {
    pub fn new(connection: &'a Connection) -> Result<Self, StorageError> {
        let insert = connection.prepare_cached(
            "INSERT INTO events (id, kind, version, tenant, caller, session, interaction, at_ms, body, position)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let archived = archive::archived_through(connection)?;
        let next = (archived > 0 && archived >= newest(connection)?).then_some(archived + 1);
        Ok(Self { connection, insert, names: HashMap::new(), next, last: None, count: 0 })
    }

    /// Writes an event and returns its position.
    pub fn append(&mut self, event: &NewEvent) -> Result<u64, StorageError> {
        let next = self.next.take();
        let position = self.insert(&event.into(), next)?;
        self.last = Some(position);
        Ok(position)
    }

    /// Writes an event under the position that it had.
    pub fn restore(&mut self, event: &Event) -> Result<(), StorageError> {
        self.insert(&event.into(), Some(event.position)).map(drop)
    }

    fn insert(&mut self, event: &Parts<'_>, position: Option<u64>) -> Result<u64, StorageError> {
        let kind = self.name(event.kind, true)?;
        let tenant = self.name(event.tenant, true)?;
        let caller = self.name(event.caller, true)?;
        let session = event.session.map(|session| self.name(session, false)).transpose()?;
        let position = self.insert.insert((
            event.id.as_bytes().as_slice(),
            kind,
            event.version,
            tenant,
            caller,
            session,
            event.interaction.map(|id| id.as_bytes().as_slice()),
            event.at_ms,
            event.body,
            position.map(column),
        ))?;
        self.count += 1;
        Ok(position.cast_unsigned())
    }

    /// The position of the last event that was appended.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// How many were written.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number of a name. One that stays does so from then on, whatever else it is of.
    fn name(&mut self, name: &str, stays: bool) -> Result<i64, StorageError> {
        if let Some((number, is_lasting)) = self.names.get(name)
            && (*is_lasting || !stays)
        {
            return Ok(*number);
        }
        let mut find = self.connection.prepare_cached("SELECT id, is_lasting FROM names WHERE name = ?1")?;
        let found: Option<(i64, bool)> = find.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let known = match found {
            Some((number, false)) if stays => {
                self.connection.prepare_cached("UPDATE names SET is_lasting = 1 WHERE id = ?1")?.execute([number])?;
                (number, true)
            }
            Some(known) => known,
            None => {
                let mut add = self.connection.prepare_cached("INSERT INTO names (name, is_lasting) VALUES (?1, ?2)")?;
                (add.insert((name, stays))?, stays)
            }
        };
        self.names.insert(name.to_owned(), known);
        Ok(known.0)
    }
}

fn number_of(connection: &Connection, name: &str) -> Result<Option<i64>, StorageError> {
    let mut statement = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// The last position that was given, whether or not its event was archived since; 0 where none was.
pub(super) fn last_position(connection: &Connection) -> Result<u64, StorageError> {
    Ok(newest(connection)?.max(archive::archived_through(connection)?))
}

/// The position of the newest event that is here; 0 where there is none.
fn newest(connection: &Connection) -> Result<u64, StorageError> {
    let newest: Option<i64> =
        connection.prepare_cached("SELECT max(position) FROM events")?.query_row([], |row| row.get(0))?;
    Ok(newest.unwrap_or(0).cast_unsigned())
}

/// The ids of the events after a position.
pub(super) fn ids_after(connection: &Connection, position: u64) -> Result<HashSet<Uuid>, StorageError> {
    let mut statement = connection.prepare_cached("SELECT id FROM events WHERE position > ?1")?;
    let rows = statement.query_map([column(position)], |row| row.get(0).map(Uuid::from_bytes))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn read_after(
    connection: &Connection,
    position: u64,
    limit: usize,
    filter: &EventFilter,
) -> Result<EventPage, StorageError> {
    let end = match archive::archived_after(connection, position)? {
        // What is wanted would be missing, and nobody would know.
        Some(archived) if archived.first <= position.saturating_add(1) => {
            return Err(StorageError::Archived { position, first_position: archived.last + 1 });
        }
        Some(archived) => archived.first - 1,
        None => last_position(connection)?.max(position),
    };
    let Some(wanted) = Wanted::of(connection, filter)? else {
        return Ok(EventPage { events: Vec::new(), through: end });
    };
    let condition = wanted.condition();
    let query = format!("{EVENT} {condition} AND position > ?1 AND position <= ?3 ORDER BY position LIMIT {SCAN_MAX}");
    read(connection, &query, (position, end), limit, &wanted)
}

pub(super) fn read_before(
    connection: &Connection,
    position: Option<u64>,
    limit: usize,
    filter: &EventFilter,
) -> Result<EventPage, StorageError> {
    let Some(wanted) = Wanted::of(connection, filter)? else { return Ok(EventPage::default()) };
    let condition = wanted.condition();
    let query =
        format!("{EVENT} {condition} AND position < ?1 AND position > ?3 ORDER BY position DESC LIMIT {SCAN_MAX}");
    read(connection, &query, (position.unwrap_or(u64::MAX), 0), limit, &wanted)
}

pub(super) fn of_interaction(
    connection: &Connection,
    interaction: Uuid,
    filter: &EventFilter,
) -> Result<Vec<Event>, StorageError> {
    let Some(wanted) = Wanted::of(connection, filter)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(&format!("{EVENT} WHERE interaction = ?1 ORDER BY position"))?;
    let mut rows = statement.query([interaction.as_bytes().as_slice()])?;
    let mut found = Found::new(connection);
    while !found.is_full(INTERACTION_EVENTS_MAX)
        && let Some(row) = rows.next()?
    {
        if wanted.is(row)? {
            found.add(row)?;
        }
    }
    Ok(found.events)
}

/// The first events of some positions.
pub(super) fn between(
    connection: &Connection,
    first: u64,
    last: u64,
    limit: usize,
) -> Result<Vec<Event>, StorageError> {
    let mut statement =
        connection.prepare_cached(&format!("{EVENT} WHERE position BETWEEN ?1 AND ?2 ORDER BY position LIMIT ?3"))?;
    let mut rows = statement.query((column(first), column(last), i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut found = Found::new(connection);
    while let Some(row) = rows.next()? {
        found.add(row)?;
    }
    Ok(found.events)
}

/// The event of a position, where it is here.
pub(super) fn at(connection: &Connection, position: u64) -> Result<Option<Event>, StorageError> {
    Ok(between(connection, position, position, 1)?.pop())
}

/// Reads a page from a position on; `end` is how far it reaches if nothing ends it before, and no further.
fn read(
    connection: &Connection,
    query: &str,
    (from, end): (u64, u64),
    limit: usize,
    wanted: &Wanted,
) -> Result<EventPage, StorageError> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query((column(from), wanted.looked_up(), column(end)))?;
    let mut found = Found::new(connection);
    let (mut through, mut looked_at) = (from, 0);
    while !found.is_full(limit) {
        let Some(row) = rows.next()? else {
            // Either all was looked at, or as much as may be for one page.
            let through = if looked_at < SCAN_MAX { end } else { through };
            return Ok(EventPage { events: found.events, through });
        };
        looked_at += 1;
        through = row.get::<_, i64>(0)?.cast_unsigned();
        if wanted.is(row)? {
            found.add(row)?;
        }
    }
    Ok(EventPage { events: found.events, through })
}

const EVENT: &str = "SELECT position, kind, tenant, caller, session, id, version, interaction, at_ms, body FROM events";

/// A filter in numbers.
struct Wanted {
    /// Of any where empty.
    kinds: Vec<i64>,
    tenant: Option<i64>,
    caller: Option<i64>,
    session: Option<i64>,
}

impl Wanted {
    /// Nothing where no event can be wanted, since a name is on record nowhere.
    fn of(connection: &Connection, filter: &EventFilter) -> Result<Option<Self>, StorageError> {
        let mut kinds = Vec::new();
        for kind in &filter.kinds {
            kinds.extend(number_of(connection, kind)?);
        }
        if kinds.is_empty() && !filter.kinds.is_empty() {
            return Ok(None);
        }
        let mut wanted = Self { kinds, tenant: None, caller: None, session: None };
        let names = [
            (&filter.tenant, &mut wanted.tenant),
            (&filter.caller, &mut wanted.caller),
            (&filter.session, &mut wanted.session),
        ];
        for (name, number) in names {
            let Some(name) = name else { continue };
            *number = number_of(connection, name)?;
            if number.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(wanted))
    }

    /// What an index can find: a session rather than a caller, who has many. The index is named, since a planner that
    /// has counted prefers to read everything where there are few callers, which is wrong for the rare one.
    fn condition(&self) -> &'static str {
        match (self.session, self.caller) {
            (Some(_), _) => "INDEXED BY events_by_session WHERE session = ?2",
            (None, Some(_)) => "INDEXED BY events_by_caller WHERE caller = ?2",
            (None, None) => "WHERE ?2 IS NULL",
        }
    }

    fn looked_up(&self) -> Option<i64> {
        self.session.or(self.caller)
    }

    fn is(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let is = |column, wanted: Option<i64>| -> rusqlite::Result<bool> {
            Ok(wanted.is_none() || row.get::<_, Option<i64>>(column)? == wanted)
        };
        Ok((self.kinds.is_empty() || self.kinds.contains(&row.get(1)?))
            && is(2, self.tenant)?
            && is(3, self.caller)?
            && is(4, self.session)?)
    }
}

/// Events that were found, with the names they need.
struct Found<'a> {
    connection: &'a Connection,
    names: HashMap<i64, Arc<str>>,
    events: Vec<Event>,
    bytes: usize,
}

impl<'a> Found<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self { connection, names: HashMap::new(), events: Vec::new(), bytes: 0 }
    }

    fn is_full(&self, limit: usize) -> bool {
        self.events.len() >= limit || self.bytes >= PAGE_BYTES_MAX
    }

    fn add(&mut self, row: &Row<'_>) -> Result<(), StorageError> {
        let body: Vec<u8> = row.get(9)?;
        self.bytes += body.len();
        let event = Event {
            position: row.get::<_, i64>(0)?.cast_unsigned(),
            kind: self.name(row.get(1)?)?,
            tenant: self.name(row.get(2)?)?,
            caller: self.name(row.get(3)?)?,
            session: row.get::<_, Option<i64>>(4)?.map(|number| self.name(number)).transpose()?,
            id: Uuid::from_bytes(row.get(5)?),
            version: row.get(6)?,
            interaction: row.get::<_, Option<[u8; 16]>>(7)?.map(Uuid::from_bytes),
            at_ms: row.get(8)?,
            body,
        };
        self.events.push(event);
        Ok(())
    }

    fn name(&mut self, number: i64) -> Result<Arc<str>, StorageError> {
        if let Some(name) = self.names.get(&number) {
            return Ok(Arc::clone(name));
        }
        let name: String = self
            .connection
            .prepare_cached("SELECT name FROM names WHERE id = ?1")?
            .query_row([number], |row| row.get(0))
            .optional()?
            .ok_or(StorageError::Unreadable { what: "an event's name" })?;
        let name: Arc<str> = name.into();
        self.names.insert(number, Arc::clone(&name));
        Ok(name)
    }
}

/// A position as a column; SQLite has no larger number.
pub(super) fn column(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}
