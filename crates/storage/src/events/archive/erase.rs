//! Events taken out of the archive, for whoever asks to be forgotten.
//!
//! A segment that has some of them is written anew without them, and the former file goes once the manifest names the new
//! one. How many events were erased is noted, and when; not whose. What the log still has is the log's.

use super::{
    Archive,
    fault::{ArchiveError, Refused},
    line::Names,
    manifest::{ErasedBefore, Segment},
    segment::{Lines, Writer},
    steps::{Step, reached},
};
use crate::events::Event;

/// What was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a segment that is damaged may have events that were to be erased"]
pub struct Erased {
    /// How many events.
    pub events: u64,
    /// Segments that had some.
    pub segments: usize,
    /// Segments that are damaged, and were left alone.
    pub refused: Vec<Refused>,
}

impl Archive {
    /// Erases events. Every segment is read, one that has some of them is written anew. Blocks for as long as that takes.
    /// Where the process ends in the middle, doing it again does the rest. Whoever began to read a segment before may still
    /// be given what was in it.
    ///
    /// # Errors
    /// [`ArchiveError`]; some of them may be erased then.
    pub fn erase(&self, now_ms: i64, is_meant: impl Fn(&Event) -> bool) -> Result<Erased, ArchiveError> {
        let mut erased = Erased::default();
        if self.manifest()?.segments().is_empty() {
            return Ok(erased);
        }
        let _lock = self.folder.lock()?;
        let mut manifest = self.manifest()?;
        self.tidy(&manifest, None)?;
        for (at, segment) in manifest.clone().segments().iter().enumerate() {
            let rewritten = match self.without(segment, &is_meant, now_ms) {
                Ok(rewritten) => rewritten,
                Err(error) => {
                    erased.refused.push(error.refused()?);
                    continue;
                }
            };
            let Some(rewritten) = rewritten else { continue };
            erased.events += segment.count - rewritten.count;
            erased.segments += 1;
            manifest.replace(at, rewritten)?;
            manifest.save(&self.folder)?;
            reached(Step::SegmentReplaced);
            self.folder.remove(&segment.name)?;
            self.folder.sync()?;
        }
        Ok(erased)
    }

    /// Writes a segment anew without some of its events; nothing where it has none of them.
    fn without(
        &self,
        segment: &Segment,
        is_meant: &impl Fn(&Event) -> bool,
        now_ms: i64,
    ) -> Result<Option<Segment>, ArchiveError> {
        let mut names = Names::default();
        let mut lines = Lines::open(&self.folder, segment)?;
        let mut has_some = false;
        // To the end: what is damaged must not be written anew as if it were whole.
        while let Some(event) = lines.next_event(&mut names)? {
            has_some |= is_meant(&event);
        }
        if !has_some {
            return Ok(None);
        }
        let (first, last) = (segment.first_position, segment.last_position);
        let name = Segment::name_of(first, last, segment.generation().saturating_add(1));
        let mut writer = Writer::begin(&self.folder, name, self.shape)?;
        let mut lines = Lines::open(&self.folder, segment)?;
        while let Some((raw, line)) = lines.next()? {
            // Every line was an event a moment ago.
            if line.event(&mut names).is_ok_and(|event| !is_meant(&event)) {
                writer.add_line(raw, &line)?;
            }
        }
        let mut rewritten = writer.finish(first, last, now_ms)?;
        let before = segment.erased.map_or(0, |erased| erased.count);
        rewritten.erased = Some(ErasedBefore { count: before + (segment.count - rewritten.count), at_ms: now_ms });
        Ok(Some(rewritten))
    }
}
