//! What can go wrong with persisted state, in few words.

use std::{io, path::PathBuf};

use crate::{lexical::LexicalError, vectors::VectorError};

/// Why storage could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk, or the file system's quota, is used up. Nothing was changed.
    #[error("no space left for the database")]
    Full(#[source] rusqlite::Error),

    /// The device or the file system failed. Nothing was changed.
    #[error("the database's storage failed")]
    Device(#[source] rusqlite::Error),

    /// The directory or the file system does not allow writing.
    #[error("the database cannot be written")]
    ReadOnly(#[source] rusqlite::Error),

    /// The database file is not what it should be.
    #[error("the database is damaged")]
    Damaged(#[source] rusqlite::Error),

    /// The statement failed for a reason that is a defect of ours.
    #[error("a database statement failed")]
    Statement(#[source] rusqlite::Error),

    /// A newer program has written this database.
    #[error("the database has schema {found}, this program knows {known}")]
    Newer {
        /// The newest migration found.
        found: u32,
        /// The newest migration known.
        known: u32,
    },

    /// A migration of that number was applied, with other text.
    #[error("migration {version} ({name}) of the database is not this program's")]
    ForeignSchema {
        /// Its number.
        version: u32,
        /// Its name in the database.
        name: String,
    },

    /// Another process has the data directory open.
    #[error("{path} is in use by {holder}")]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },

    /// A file or directory operation failed.
    #[error("failed to {action} {path}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },

    /// The vector index failed.
    #[error("the vector index failed")]
    Vectors(#[from] VectorError),

    /// The lexical index failed.
    #[error("the lexical index failed")]
    Lexical(#[from] LexicalError),

    /// Something stored cannot be read as what it should be.
    #[error("{what} is stored in a form that cannot be read")]
    Unreadable {
        /// What it was supposed to be.
        what: &'static str,
    },

    /// The named thing is not there.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// Which kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
    },

    /// The named thing is there already.
    #[error("there is already a {what} {name:?}")]
    Exists {
        /// Which kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
    },

    /// A collection's generation changed while a write for the old one was prepared.
    #[error("the collection's generation changed while the write was prepared")]
    Superseded,

    /// The collection's vectors are of another embedding space.
    #[error("the collection holds vectors of {held}, not of {offered}")]
    OtherSpace {
        /// The model whose space the collection has.
        held: String,
        /// The model whose vectors were offered.
        offered: String,
    },

    /// An idempotency key was used before, with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,

    /// The caller may not do this.
    #[error("this key may not {what}")]
    Forbidden {
        /// What was to be done, as a verb.
        what: &'static str,
    },

    /// There are as many keys as may be.
    #[error("there are {limit} keys already, and no more may be made")]
    TooManyKeys {
        /// How many there may be.
        limit: usize,
    },

    /// The events that were asked for are no longer in the log.
    #[error("the events after position {position} are archived; the log goes on at {first_position}")]
    Archived {
        /// The position behind which they are.
        position: u64,
        /// The next position from which the log can be read.
        first_position: u64,
    },

    /// Storage is shutting down.
    #[error("storage is closed")]
    Closed,
}

impl StorageError {
    /// Whether trying again later may succeed without anyone changing the request.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Full(_)
                | Self::Device(_)
                | Self::ReadOnly(_)
                | Self::Superseded
                | Self::Vectors(_)
                | Self::Lexical(_)
        )
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full(_) => Some("free some disk space; writing resumes by itself".into()),
            Self::ReadOnly(_) => Some("make the data directory writable".into()),
            Self::Damaged(_) => Some("run `holdfast doctor`".into()),
            Self::Newer { .. } => Some("use the version of holdfast that wrote it, or a newer one".into()),
            Self::InUse { .. } => Some("stop that process, or give another --data-dir".into()),
            Self::OtherSpace { held, .. } => Some(format!(
                "use {held}, or move the collection with `holdfast collections reembed NAME --model MODEL`"
            )),
            Self::Archived { .. } => Some("read them from the archive, or import it".into()),
            Self::TooManyKeys { .. } => {
                Some("revoke keys that are no longer used; they are forgotten after 90 days".into())
            }
            Self::KeyReused => Some("send a new Idempotency-Key with a new request".into()),
            _ => None,
        }
    }
}

/// Why something that is set by hand was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// There are as many as may be.
    #[error("there are {limit} {what} already, and no more may be made")]
    TooMany {
        /// Of what, in the plural.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },

    /// A part of it makes no sense.
    #[error("{field} {problem}")]
    Invalid {
        /// The part.
        field: &'static str,
        /// What is wrong with it, continuing the sentence.
        problem: &'static str,
    },

    /// It could not be stored.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl PutError {
    /// Refuses an identifier that is empty, too long, or not readable on one line.
    pub(crate) fn check_name(field: &'static str, name: &str, bytes_max: usize) -> Result<(), Self> {
        let problem = match name {
            "" => "is empty",
            _ if name.len() > bytes_max => "is too long",
            _ if name.chars().any(char::is_control) => "has control characters",
            _ => return Ok(()),
        };
        Err(Self::Invalid { field, problem })
    }
}

impl From<rusqlite::Error> for PutError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Self::Device(error),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(error),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            _ => Self::Statement(error),
        }
    }
}

pub(crate) fn file_error(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.into();
    move |source| StorageError::File { action, path, source }
}
