//! Events of the archive, one after another, with the memory that one segment takes.

use uuid::Uuid;

use super::{
    Archive,
    fault::{ArchiveError, SegmentFault},
    line::{Line, Names},
    manifest::Segment,
    segment::Lines,
};
use crate::events::{Event, EventFilter};

/// How often a segment is looked for anew that was written anew in the moment.
const ATTEMPTS: usize = 3;

/// Which archived events are wanted; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveFilter {
    /// Those of these kinds, this tenant, this caller, this session.
    pub events: EventFilter,
    /// Those of this interaction.
    pub interaction: Option<Uuid>,
    /// Those behind this position.
    pub after: u64,
    /// Those up to this position.
    pub through: Option<u64>,
    /// Those that happened at this moment or later; Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Those that happened before this moment.
    pub until_ms: Option<i64>,
}

impl ArchiveFilter {
    /// Whether a segment may have some of them.
    fn may_be_in(&self, segment: &Segment) -> bool {
        let (Some(earliest), Some(latest)) = (segment.earliest_at_ms, segment.latest_at_ms) else { return false };
        let kinds = &self.events.kinds;
        segment.last_position > self.after
            && self.through.is_none_or(|through| segment.first_position <= through)
            && self.from_ms.is_none_or(|from| latest >= from)
            && self.until_ms.is_none_or(|until| earliest < until)
            && (kinds.is_empty()
                || segment.other_kinds > 0
                || kinds.iter().any(|kind| segment.kinds.contains_key(kind)))
    }

    fn is_wanted(&self, line: &Line<'_>) -> Result<bool, &'static str> {
        Ok(line.position > self.after
            && self.through.is_none_or(|through| line.position <= through)
            && self.from_ms.is_none_or(|from| line.at_ms >= from)
            && self.until_ms.is_none_or(|until| line.at_ms < until)
            && line.is_wanted(&self.events)
            && (self.interaction.is_none() || line.interaction()? == self.interaction))
    }
}

/// Archived events, in the order of their positions. A segment's file was found to have the right hash before the first of
/// its events comes; after an error nothing more comes.
pub struct ArchivedEvents {
    archive: Archive,
    filter: ArchiveFilter,
    names: Names,
    lines: Option<Lines>,
    /// Everything up to here was looked at.
    through: u64,
    has_ended: bool,
}

impl Archive {
    /// Reads the wanted events. Segments that can have none of them are passed over without a look.
    pub fn read(&self, filter: ArchiveFilter) -> ArchivedEvents {
        let through = filter.after;
        ArchivedEvents {
            archive: self.clone(),
            filter,
            names: Names::default(),
            lines: None,
            through,
            has_ended: false,
        }
    }
}

impl ArchivedEvents {
    fn next_wanted(&mut self) -> Result<Option<Event>, ArchiveError> {
        loop {
            let Some(lines) = &mut self.lines else {
                self.lines = self.next_lines(ATTEMPTS)?;
                if self.lines.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let Some((_, line)) = lines.next()? else {
                self.through = lines.segment().last_position;
                self.lines = None;
                continue;
            };
            let event = match self.filter.is_wanted(&line) {
                Ok(false) => continue,
                Ok(true) => line.event(&mut self.names),
                Err(problem) => Err(problem),
            };
            return match event {
                Ok(event) => Ok(Some(event)),
                Err(what) => Err(SegmentFault::Lines { what }.of(&lines.segment().name)),
            };
        }
    }

    /// Opens the next segment that may have some. The manifest is asked anew for each: meanwhile there may be more, and
    /// one may have been written anew.
    fn next_lines(&self, attempts: usize) -> Result<Option<Lines>, ArchiveError> {
        let manifest = self.archive.manifest()?;
        let behind = manifest.segments().iter().filter(|segment| segment.last_position > self.through);
        let Some(segment) = behind.into_iter().find(|segment| self.filter.may_be_in(segment)) else { return Ok(None) };
        match Lines::open(&self.archive.folder, segment) {
            Err(ArchiveError::Segment { fault: SegmentFault::Missing, .. }) if attempts > 1 => {
                self.next_lines(attempts - 1)
            }
            opened => opened.map(Some),
        }
    }
}

impl Iterator for ArchivedEvents {
    type Item = Result<Event, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let next = self.next_wanted().transpose();
        self.has_ended = !matches!(next, Some(Ok(_)));
        if self.has_ended {
            self.lines = None;
        }
        next
    }
}
