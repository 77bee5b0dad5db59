//! The log's oldest events, moved to the archive.
//!
//! In this order: the segment is written, synced, read back and named; the manifest that names it is; the log lets go of
//! its events, some at a time. A process may end anywhere in between. A file that no manifest names and whose events the
//! log has is made again; events that both have are compared, and then the log lets go of them.

use super::{
    Archive,
    due::{self, Stretch},
    fault::ArchiveError,
    folder::UNFINISHED,
    line::Names,
    manifest::{self, MANIFEST, Manifest, Segment},
    rows::{self, LetGo, Positions},
    segment::{Lines, Writer},
    steps::{Step, reached},
};
use crate::{
    EventLog,
    error::StorageError,
    events::{Event, EventFilter, rows as event_rows},
};

/// Events that the log lets go of in one transaction, which turns wait for: a few milliseconds of work beside the sync.
const LET_GO_MAX: usize = if cfg!(test) { 300 } else { 500 };
/// Free pages that are taken off the end of the database's file in one transaction.
const GIVEN_BACK_MAX: u64 = 200;
/// Events that are read at a time.
const PAGE: usize = 1_000;
const DAY_MS: i64 = 86_400_000;

/// How long events stay in the log. With no limit they stay for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How old an event becomes there, in milliseconds.
    pub age_ms: Option<u64>,
    /// How many bytes of the log's database may be in use ([`EventLog::used_bytes`]).
    pub size_bytes: Option<u64>,
    /// How many events are worth a segment: fewer wait until a day has passed since the last one, so that the archive
    /// does not become a heap of small files.
    pub events_min: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age_ms: None, size_bytes: None, events_min: 10_000 }
    }
}

/// What was moved to the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The segment that was made; nothing where the log only let go of what it should have before.
    pub segment: Option<Segment>,
    /// Events that the log let go of.
    pub events: u64,
    /// The last position that is in the archive and no longer in the log.
    pub through: u64,
}

impl EventLog {
    /// The first position from which on nothing was archived: where whoever begins anew can read from. What an import
    /// brought back may be before it.
    pub fn first_position(&self) -> Result<u64, StorageError> {
        self.inner.database.read(|connection| Ok(rows::archived_through(connection)? + 1))
    }

    /// Bytes of the log's database that hold something. The file is larger: what was let go of is used again, and given
    /// back to the system where it is much.
    pub fn used_bytes(&self) -> Result<u64, StorageError> {
        self.inner.database.read_snapshot(rows::used_bytes)
    }

    /// Moves the log's oldest events to the archive, as far as they are due, `allowed` reaches and one segment does: what
    /// is due beyond waits for the next call, so that a long way is gone in steps that take seconds. Nothing where
    /// nothing is due. `allowed` is the last position that every consumer has read. The newest event stays in any case.
    ///
    /// Blocks for as long as that takes. Whatever ends the process, no event is in neither place; one that is in both is
    /// let go of by the next call.
    ///
    /// # Errors
    /// [`ArchiveError`]; the log has let go of nothing that the archive does not have.
    pub fn archive_oldest(
        &self,
        archive: &Archive,
        retention: &Retention,
        allowed: u64,
        now_ms: i64,
    ) -> Result<Option<Archived>, ArchiveError> {
        if retention.age_ms.is_none() && retention.size_bytes.is_none() {
            return Ok(None);
        }
        let _lock = archive.folder.lock()?;
        let archived = self.archive_some(archive, retention, allowed, now_ms)?;
        self.give_back()?;
        Ok(archived)
    }

    fn archive_some(
        &self,
        archive: &Archive,
        retention: &Retention,
        allowed: u64,
        now_ms: i64,
    ) -> Result<Option<Archived>, ArchiveError> {
        let manifest = archive.begun()?;
        archive.tidy(&manifest, Some(self))?;
        // Later ones may be of a commit that failed and whose outcome is not known yet.
        let log_last = self.last_position();
        let allowed = allowed.min(log_last.saturating_sub(1));
        let archive_last = manifest.last_position().unwrap_or(0);
        if archive_last > log_last {
            return Err(ArchiveError::OtherLog { archive_last, log_last });
        }
        if let Some(archived) = self.let_go_again(archive, &manifest, allowed.min(archive_last))? {
            return Ok(Some(archived));
        }
        let log_first = self.first_position()?;
        if archive_last > 0 && log_first > archive_last + 1 {
            return Err(ArchiveError::Apart { archive_last, log_first });
        }
        let after = archive_last.max(log_first - 1);
        let due = self
            .inner
            .database
            .read_snapshot(|connection| due::find(connection, after, allowed, retention, archive.shape, now_ms))?;
        match due {
            Some(due) if is_worth_it(due, &manifest, retention, now_ms) => self
                .archive_stretch(archive, manifest, Positions { first: after + 1, last: due.through }, now_ms)
                .map(Some),
            _ => Ok(None),
        }
    }

    fn archive_stretch(
        &self,
        archive: &Archive,
        mut manifest: Manifest,
        positions: Positions,
        now_ms: i64,
    ) -> Result<Archived, ArchiveError> {
        let segment = self.write_segment(archive, positions, now_ms)?;
        manifest.push(segment.clone())?;
        manifest.save(&archive.folder)?;
        reached(Step::ManifestNamed);
        let events = self.let_go(positions)?;
        tracing::info!(
            first = positions.first,
            last = positions.last,
            raw_bytes = segment.raw_bytes,
            file_bytes = segment.file_bytes,
            "events were archived"
        );
        Ok(Archived { segment: Some(segment), events, through: positions.last })
    }

    /// Writes the events of some positions.
    fn write_segment(&self, archive: &Archive, positions: Positions, now_ms: i64) -> Result<Segment, ArchiveError> {
        let mut through = positions.first - 1;
        let name = Segment::name_of(positions.first, positions.last, 1);
        let mut writer = Writer::begin(&archive.folder, name, archive.shape)?;
        let everything = EventFilter::default();
        while through < positions.last {
            let page = self
                .inner
                .database
                .read_snapshot(|connection| event_rows::read_after(connection, through, PAGE, &everything))?;
            for event in page.events.iter().take_while(|event| event.position <= positions.last) {
                writer.add(event)?;
            }
            through = page.through;
        }
        writer.finish(positions.first, positions.last, now_ms)
    }

    /// Lets go of events that are in the archive, some at a time.
    fn let_go(&self, positions: Positions) -> Result<u64, ArchiveError> {
        let mut left = positions;
        let mut events = 0;
        loop {
            let of = left;
            let gone: LetGo =
                self.inner.database.write_blocking(move |connection| rows::let_go(connection, of, LET_GO_MAX))?;
            events += gone.events;
            if gone.through >= positions.last {
                return Ok(events);
            }
            reached(Step::RowsRemoved);
            left.first = gone.through + 1;
        }
    }

    /// Makes the database's file smaller, some pages at a time.
    fn give_back(&self) -> Result<(), ArchiveError> {
        let mut left = self.inner.database.read_snapshot(rows::pages_to_spare)?;
        while left > 0 {
            let pages = left.min(GIVEN_BACK_MAX);
            self.inner.database.write_blocking(move |connection| rows::give_back(connection, pages))?;
            left -= pages;
        }
        Ok(())
    }

    /// Lets go of events that the archive has for certain: after an end in the middle, or after an import. Of a segment,
    /// where there are some.
    fn let_go_again(
        &self,
        archive: &Archive,
        manifest: &Manifest,
        through: u64,
    ) -> Result<Option<Archived>, ArchiveError> {
        let Some(archive_first) = manifest.first_position() else { return Ok(None) };
        let oldest = self.inner.database.read(|connection| rows::oldest(connection, archive_first))?;
        let Some(oldest) = oldest.filter(|oldest| *oldest <= through) else { return Ok(None) };
        let Some((_, segment)) = manifest.after(oldest - 1) else { return Ok(None) };
        let positions = Positions { first: segment.first_position, last: segment.last_position.min(through) };
        let events = self.let_go_of_same(archive, segment, positions)?;
        Ok(Some(Archived { segment: None, events, through: positions.last }))
    }

    /// Lets go of events of some positions, after each was found in a segment.
    fn let_go_of_same(&self, archive: &Archive, segment: &Segment, positions: Positions) -> Result<u64, ArchiveError> {
        // Once to the end, since only that shows that nothing is damaged, and once to compare.
        Lines::open(&archive.folder, segment)?.check()?;
        let mut comparison = Comparison {
            lines: Lines::open(&archive.folder, segment)?,
            names: Names::default(),
            ahead: None,
            may_be_erased: segment.erased.map_or(0, |erased| erased.count),
        };
        let mut events = 0;
        let mut first = positions.first;
        while first <= positions.last {
            let page = self
                .inner
                .database
                .read_snapshot(|connection| event_rows::between(connection, first, positions.last, LET_GO_MAX))?;
            let last = match page.last() {
                Some(event) if page.len() == LET_GO_MAX => event.position,
                _ => positions.last,
            };
            comparison.check(&page)?;
            events += self.let_go(Positions { first, last })?;
            reached(Step::RowsRemoved);
            first = last + 1;
        }
        Ok(events)
    }
}

/// Whether events make a segment now, or wait for company.
fn is_worth_it(due: Stretch, manifest: &Manifest, retention: &Retention, now_ms: i64) -> bool {
    let last = manifest.segments().last();
    due.is_full
        || due.events >= retention.events_min
        || last.is_none_or(|last| now_ms.saturating_sub(last.created_at_ms) >= DAY_MS)
}

/// Events of the log, compared with those of a segment.
struct Comparison {
    lines: Lines,
    names: Names,
    /// The next event of the segment, where it was read already.
    ahead: Option<Event>,
    /// Events that the log may have and the segment not, since they were erased from it.
    may_be_erased: u64,
}

impl Comparison {
    fn check(&mut self, page: &[Event]) -> Result<(), ArchiveError> {
        for event in page {
            while self.ahead.as_ref().is_none_or(|ahead| ahead.position < event.position) {
                let Some(next) = self.next()? else { break };
                self.ahead = Some(next);
            }
            match &self.ahead {
                Some(ahead) if ahead == event => {}
                Some(ahead) if ahead.position == event.position => {
                    return Err(ArchiveError::Taken { position: event.position });
                }
                _ => {
                    let left = self.may_be_erased.checked_sub(1);
                    self.may_be_erased = left.ok_or(ArchiveError::Taken { position: event.position })?;
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Event>, ArchiveError> {
        let Self { lines, names, .. } = self;
        lines.next_event(names)
    }
}

impl Archive {
    /// The manifest, after one was made where there is no archive yet: from then on a segment without a manifest is a
    /// manifest that was lost.
    pub(super) fn begun(&self) -> Result<Manifest, ArchiveError> {
        let manifest = self.manifest()?;
        if !Manifest::is_there(&self.folder)? {
            self.folder.sync_name()?;
            manifest.save(&self.folder)?;
        }
        Ok(manifest)
    }

    /// Removes what a process left that ended before its time. A segment that no manifest names goes only where its
    /// events are somewhere else: in segments that are named, or in the log. Whoever has no log at hand leaves that to
    /// who has.
    pub(super) fn tidy(&self, manifest: &Manifest, log: Option<&EventLog>) -> Result<(), ArchiveError> {
        let mut is_changed = false;
        for name in self.folder.names()? {
            let is_leftover = match (name.strip_suffix(UNFINISHED), manifest::parts(&name)) {
                (Some(name), _) => name == MANIFEST || manifest::parts(name).is_some(),
                (None, Some((first, last, _))) => is_leftover(manifest, log, &name, Positions { first, last })?,
                (None, None) => false,
            };
            if is_leftover {
                self.folder.remove(&name)?;
                is_changed = true;
            }
        }
        if is_changed {
            self.folder.sync()?;
        }
        Ok(())
    }
}

/// Whether a segment's file is one that nobody needs.
fn is_leftover(
    manifest: &Manifest,
    log: Option<&EventLog>,
    name: &str,
    positions: Positions,
) -> Result<bool, ArchiveError> {
    if manifest.after(positions.first - 1).is_some_and(|(_, segment)| segment.name == name) {
        return Ok(false);
    }
    let unlisted = || ArchiveError::Unlisted { segment: name.to_owned() };
    if manifest.first_position().is_some_and(|first| positions.first < first) {
        return Err(unlisted());
    }
    let first_elsewhere = positions.first.max(manifest.last_position().unwrap_or(0) + 1);
    if first_elsewhere > positions.last {
        return Ok(true);
    }
    match log {
        None => Ok(false),
        Some(log) if first_elsewhere >= log.first_position()? => Ok(true),
        Some(_) => Err(unlisted()),
    }
}
