//! Whether the archive is what its manifest says.

use super::{
    Archive,
    fault::{ArchiveError, Refused},
    manifest,
    segment::Lines,
};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments that there should be.
    pub segments: usize,
    /// Events that there should be.
    pub events: u64,
    /// Events that were erased.
    pub erased: u64,
    /// The first position that the archive stands for; nothing where it is empty.
    pub first_position: Option<u64>,
    /// The last one. What is missing behind it shows where the log begins later than that.
    pub last_position: Option<u64>,
    /// Bytes of all lines.
    pub raw_bytes: u64,
    /// Bytes of all segments.
    pub file_bytes: u64,
    /// Segments that are not what they should be.
    pub damaged: Vec<Refused>,
    /// Files that look like segments and are named nowhere. Where a process ended in the middle they are made again.
    pub unlisted: Vec<String>,
}

impl Report {
    /// Whether everything is there.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }
}

impl Archive {
    /// Reads everything and compares it with the manifest: every hash, every line, every count. Blocks for as long as
    /// that takes, and changes nothing.
    ///
    /// # Errors
    /// [`ArchiveError`] where the manifest itself is not right, or the disk fails.
    pub fn verify(&self) -> Result<Report, ArchiveError> {
        let manifest = self.manifest()?;
        let segments = manifest.segments();
        let mut report = Report {
            segments: segments.len(),
            first_position: manifest.first_position(),
            last_position: manifest.last_position(),
            ..Report::default()
        };
        for segment in segments {
            report.events += segment.count;
            report.erased += segment.erased.map_or(0, |erased| erased.count);
            // A manifest may say anything of bytes; of positions there are only so many.
            report.raw_bytes = report.raw_bytes.saturating_add(segment.raw_bytes);
            report.file_bytes = report.file_bytes.saturating_add(segment.file_bytes);
            if let Err(error) = Lines::open(&self.folder, segment).and_then(Lines::check) {
                report.damaged.push(error.refused()?);
            }
        }
        let is_unlisted =
            |name: &String| manifest::parts(name).is_some() && segments.iter().all(|segment| segment.name != *name);
        report.unlisted = self.folder.names()?.into_iter().filter(is_unlisted).collect();
        Ok(report)
    }
}
