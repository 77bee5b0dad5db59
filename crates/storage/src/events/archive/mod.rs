//! The archive: events that were taken out of the log, in compressed files that a person can read.
//!
//! An archive is a folder with segments and a manifest. A segment is a zstd file of JSON lines, one an event, in the order
//! of positions: `zstdcat` shows it. The manifest names the segments in order, each with its positions, its hashes and the
//! hash of the entry before it, so that a segment that is missing, cut, exchanged or put in another place is found. It is
//! the manifest that makes a file part of the archive, and it is replaced as a whole: whatever ends a process whenever,
//! the archive is what it was before or what it is after.
//!
//! An event is taken out of the log once it is on disk here, synced, read back and found to be the same. Where both have
//! it, the manifest tells, and the log lets go of it at the next run. Only whoever holds the folder's lock writes; reading
//! takes none, and goes by the manifest of the moment.
//!
//! There is no thread here, and nothing is interpreted: which events may go is the caller's to say ([`Retention`], and
//! how far every consumer has read). The log's side stands in [`EventLog::archive_oldest`] and [`EventLog::import`].

mod due;
mod erase;
mod fault;
mod folder;
mod import;
mod line;
mod manifest;
mod read;
mod retain;
pub(super) mod rows;
mod segment;
mod steps;
#[cfg(test)]
mod tests;
mod verify;

use std::path::PathBuf;

pub use self::{
    erase::Erased,
    fault::{ArchiveError, Refused, SegmentFault},
    import::Imported,
    manifest::{ErasedBefore, Manifest, Segment},
    read::{ArchiveFilter, ArchivedEvents},
    retain::{Archived, Retention},
    verify::Report,
};
use self::{folder::Folder, segment::Shape};
use crate::{DataDirectory, disk};

/// A handle to an archive; cloning is cheap. Nothing is read or written before it is asked for.
#[derive(Clone, Debug)]
pub struct Archive {
    folder: Folder,
    shape: Shape,
}

impl Archive {
    /// The archive of a data directory.
    pub fn of(directory: &DataDirectory) -> Self {
        Self::at(directory.archive())
    }

    /// The archive in a folder. It need not exist yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Folder::new(folder.into()), shape: Shape::default() }
    }

    /// What there is, as the archive itself says; an empty manifest where there is no archive yet.
    ///
    /// # Errors
    /// [`ArchiveError`] where the manifest cannot be read, or cannot be right.
    pub fn manifest(&self) -> Result<Manifest, ArchiveError> {
        Manifest::load(&self.folder)
    }

    /// Bytes of the archive on disk.
    pub fn size_bytes(&self) -> u64 {
        disk::size_of(self.folder.path())
    }
}
