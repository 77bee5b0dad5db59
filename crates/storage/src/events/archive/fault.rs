//! What can be wrong with an archive.

use crate::error::StorageError;

/// Why an archive could not be written, read or imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A newer program has written it.
    #[error("the archive has format {found}, this program knows {known}")]
    Newer {
        /// The format it has.
        found: u64,
        /// The newest format known.
        known: u64,
    },

    /// Its manifest is not what it should be.
    #[error("the archive's manifest cannot be right: {problem}")]
    Manifest {
        /// What is wrong with it.
        problem: String,
    },

    /// There are segments, and nothing that says what they should be.
    #[error("the archive has segments and no manifest")]
    NoManifest,

    /// There is a segment that the manifest does not know, and whose events are not in the log.
    #[error("the archive has a file {segment} that its manifest does not name, and the log does not have its events")]
    Unlisted {
        /// Its name.
        segment: String,
    },

    /// A segment is not what the manifest says.
    #[error("the segment {segment} is damaged")]
    Segment {
        /// Its name.
        segment: String,
        /// In what.
        #[source]
        fault: SegmentFault,
    },

    /// There is another event at a position.
    #[error("the log has another event at position {position} than the archive")]
    Taken {
        /// The position.
        position: u64,
    },

    /// The archive has an event where the log never had one that it let go of.
    #[error("the archive has an event at position {position}, where the log has none and archived none")]
    Outside {
        /// The position.
        position: u64,
    },

    /// The archive has an event that no log takes.
    #[error("the archive has an event at position {position} that cannot be stored")]
    Unstorable {
        /// The position.
        position: u64,
    },

    /// The archive reaches further than the log ever did.
    #[error("the archive reaches to position {archive_last}, the log to {log_last}: it is the archive of another log")]
    OtherLog {
        /// Its last position.
        archive_last: u64,
        /// The log's.
        log_last: u64,
    },

    /// There are events in neither.
    #[error("the archive ends at position {archive_last} and the log begins at {log_first}")]
    Apart {
        /// The archive's last position.
        archive_last: u64,
        /// The log's first.
        log_first: u64,
    },

    /// Somebody else writes it.
    #[error("the archive is being written by somebody else")]
    Busy,

    /// The disk or the database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// In what a segment differs from what the manifest says of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// It is not there.
    #[error("it is missing")]
    Missing,

    /// It is a link, a folder or something else.
    #[error("it is no plain file")]
    NotAFile,

    /// It was cut, or has grown.
    #[error("it has {found} bytes instead of {expected}")]
    Size {
        /// Bytes that the manifest says.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },

    /// Its bytes hash to something else.
    #[error("its hash is not the one that the manifest names")]
    FileHash,

    /// It cannot be decompressed.
    #[error("it cannot be decompressed")]
    Compression,

    /// Its lines are not those that the manifest speaks of.
    #[error("its lines are not those that the manifest speaks of: {what}")]
    Lines {
        /// In what they differ.
        what: &'static str,
    },

    /// A line is no event.
    #[error("line {number} is no event of this segment: {problem}")]
    Line {
        /// Its number, from 1.
        number: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A segment that was left alone since it is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub segment: String,
    /// What is wrong with it.
    pub fault: SegmentFault,
}

impl SegmentFault {
    /// Its stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "archive_segment_missing",
            Self::NotAFile | Self::Size { .. } | Self::FileHash => "archive_segment_altered",
            Self::Compression | Self::Lines { .. } | Self::Line { .. } => "archive_segment_unreadable",
        }
    }

    /// It, of a segment.
    pub(super) fn of(self, segment: &str) -> ArchiveError {
        ArchiveError::Segment { segment: segment.to_owned(), fault: self }
    }
}

impl ArchiveError {
    /// Its stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Newer { .. } => "archive_newer",
            Self::Manifest { .. } => "archive_manifest_damaged",
            Self::NoManifest => "archive_manifest_missing",
            Self::Unlisted { .. } => "archive_segment_unlisted",
            Self::Segment { fault, .. } => fault.code(),
            Self::Taken { .. } => "archive_position_taken",
            Self::Outside { .. } => "archive_position_unknown",
            Self::Unstorable { .. } => "archive_event_unstorable",
            Self::OtherLog { .. } => "archive_of_another_log",
            Self::Apart { .. } => "archive_events_missing",
            Self::Busy => "archive_busy",
            Self::Storage(_) => "storage",
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Newer { .. } => "use the version of holdfast that wrote it, or a newer one",
            Self::Manifest { .. } | Self::NoManifest | Self::Unlisted { .. } => {
                "put `manifest.json` back from a copy of the archive"
            }
            Self::Segment { .. } => "put the file back from a copy of the archive",
            Self::Taken { .. } | Self::Outside { .. } => {
                "import it into the log that it was made from, or into an empty one"
            }
            Self::OtherLog { .. } | Self::Apart { .. } => {
                "put the log and the archive back that belong together, or move this archive out of the data directory"
            }
            Self::Unstorable { .. } => return None,
            Self::Busy => "try again when that is done",
            Self::Storage(error) => return error.hint(),
        };
        Some(hint.to_owned())
    }

    pub(super) fn manifest(problem: impl Into<String>) -> Self {
        Self::Manifest { problem: problem.into() }
    }

    /// A damaged segment, where that is all that is wrong.
    pub(super) fn refused(self) -> Result<Refused, Self> {
        match self {
            Self::Segment { segment, fault } => Ok(Refused { segment, fault }),
            other => Err(other),
        }
    }
}
