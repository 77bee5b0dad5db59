//! Archived events, put back into a log.
//!
//! An event comes back under its old position, and only there: where the log let go of it, or into a log that is empty,
//! which goes on behind the archive. The newest segments come first, so that the log grows at its beginning. Nothing
//! is written before every segment was read to its end and every event compared with what the log has.

use std::{borrow::Cow, sync::Arc};

use rusqlite::Connection;

use super::{
    Archive,
    fault::{ArchiveError, Refused},
    line::Names,
    manifest::Segment,
    rows::{self, Positions, Standing},
    segment::Lines,
    steps::{Step, reached},
};
use crate::{
    EventLog,
    error::StorageError,
    events::{EVENT_BYTES_MAX, Event, NewEvent, rows as event_rows},
};

/// Events that are written in one transaction, which turns wait for,
const CHUNK_EVENTS: usize = 500;
/// and bytes of their bodies.
const CHUNK_BYTES: usize = 4 << 20;

/// What was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a segment that is damaged was not imported"]
pub struct Imported {
    /// Events that are in the log again.
    pub events: u64,
    /// Events that were there.
    pub present: u64,
    /// Segments that are damaged, of which nothing was imported.
    pub refused: Vec<Refused>,
}

/// Events that follow one another in a segment, and the positions that they stand for.
struct Chunk {
    positions: Positions,
    events: Vec<Event>,
}

impl EventLog {
    /// Puts the events of an archive back, those that the log does not have. A segment that is damaged is left out as a
    /// whole, and named. Blocks for as long as that takes; where the process ends in the middle, doing it again does the
    /// rest.
    ///
    /// # Errors
    /// [`ArchiveError`]. Where the archive and the log do not belong together nothing is written.
    pub fn import(&self, archive: &Archive) -> Result<Imported, ArchiveError> {
        let manifest = archive.manifest()?;
        let mut imported = Imported::default();
        let Some(archive_last) = manifest.last_position() else { return Ok(imported) };
        let is_empty = self.inner.database.read(event_rows::last_position)? == 0;
        let mut whole = Vec::new();
        for segment in manifest.segments() {
            match self.check_segment(archive, segment, is_empty) {
                Ok(()) => whole.push(segment),
                Err(error) => imported.refused.push(error.refused()?),
            }
        }
        if whole.is_empty() {
            return Ok(imported);
        }
        if is_empty {
            self.inner.database.write_blocking(move |connection| rows::begin_behind(connection, archive_last))?;
            self.inner.shared.advance(archive_last);
        }
        for segment in whole.into_iter().rev() {
            let mut chunks = Chunks::open(archive, segment)?;
            while let Some(chunk) = chunks.next()? {
                let (events, present) = self.import_chunk(chunk)?;
                imported.events += events;
                imported.present += present;
                reached(Step::RowsImported);
            }
        }
        Ok(imported)
    }

    /// Reads a segment to its end, and compares it with the log.
    fn check_segment(&self, archive: &Archive, segment: &Segment, is_empty: bool) -> Result<(), ArchiveError> {
        let mut chunks = Chunks::open(archive, segment)?;
        while let Some(chunk) = chunks.next()? {
            if is_empty {
                continue;
            }
            let standings = self.inner.database.read_snapshot(|connection| standings(connection, &chunk))?;
            check(&standings, &chunk.events)?;
        }
        Ok(())
    }

    /// How many events were written, and how many were there.
    fn import_chunk(&self, chunk: Chunk) -> Result<(u64, u64), ArchiveError> {
        self.inner.database.write_blocking(move |connection| {
            let standings = standings(connection, &chunk)?;
            if let Err(error) = check(&standings, &chunk.events) {
                return Ok(Err(error));
            }
            let mut appender = event_rows::Appender::new(connection)?;
            let absent = chunk.events.iter().zip(&standings).filter(|(_, standing)| **standing == Standing::Absent);
            for (event, _) in absent {
                appender.restore(event)?;
            }
            let count = appender.count();
            rows::note_imported(connection, chunk.positions)?;
            rows::note_end(connection, chunk.positions.last)?;
            Ok(Ok((count, chunk.events.len() as u64 - count)))
        })?
    }
}

/// How the events of a chunk stand to the log.
fn standings(connection: &Connection, chunk: &Chunk) -> Result<Vec<Standing>, StorageError> {
    chunk.events.iter().map(|event| rows::standing(connection, event)).collect()
}

/// Whether every event may be put back, or is there.
fn check(standings: &[Standing], events: &[Event]) -> Result<(), ArchiveError> {
    for (standing, event) in standings.iter().zip(events) {
        let position = event.position;
        match standing {
            Standing::Absent | Standing::Present => {}
            Standing::Taken => return Err(ArchiveError::Taken { position }),
            Standing::Outside => return Err(ArchiveError::Outside { position }),
        }
        if !is_storable(event) {
            return Err(ArchiveError::Unstorable { position });
        }
    }
    Ok(())
}

/// Whether the log would have taken it.
fn is_storable(event: &Event) -> bool {
    let without_body = NewEvent {
        id: event.id,
        kind: Cow::Owned(event.kind.to_string()),
        version: event.version,
        tenant: Arc::clone(&event.tenant),
        interaction: event.interaction,
        session: event.session.clone(),
        caller: Arc::clone(&event.caller),
        at_ms: event.at_ms,
        body: Vec::new(),
    };
    event.body.len() <= EVENT_BYTES_MAX && without_body.check().is_ok()
}

/// A segment, some events at a time.
struct Chunks {
    lines: Lines,
    names: Names,
    /// Where the next chunk begins; nothing after the last.
    first: Option<u64>,
    /// The first event of the next chunk.
    ahead: Option<Event>,
}

impl Chunks {
    fn open(archive: &Archive, segment: &Segment) -> Result<Self, ArchiveError> {
        let lines = Lines::open(&archive.folder, segment)?;
        Ok(Self { lines, names: Names::default(), first: Some(segment.first_position), ahead: None })
    }

    fn next(&mut self) -> Result<Option<Chunk>, ArchiveError> {
        let Some(first) = self.first else { return Ok(None) };
        let mut events: Vec<Event> = self.ahead.take().into_iter().collect();
        let mut bytes = 0;
        loop {
            let Some(event) = self.lines.next_event(&mut self.names)? else {
                self.first = None;
                return Ok(Some(Chunk {
                    positions: Positions { first, last: self.lines.segment().last_position },
                    events,
                }));
            };
            if events.len() >= CHUNK_EVENTS || bytes >= CHUNK_BYTES {
                let last = event.position - 1;
                self.first = Some(event.position);
                self.ahead = Some(event);
                return Ok(Some(Chunk { positions: Positions { first, last }, events }));
            }
            bytes += event.body.len();
            events.push(event);
        }
    }
}
