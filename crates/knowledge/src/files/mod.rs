//! From a root path to decoded texts: which files are below it, and what they say.
//!
//! Owns the walk (ignore rules, symbolic links, special files), the safe opening of files, and decoding. It
//! does not remember anything between calls, does not watch, and does not know documents or sources. Nothing
//! here spawns or blocks on anything but regular files and directories.
//!
//! Two promises hold against a tree that changes under the walk: what is read lies below the root, because
//! every path is opened component by component without following links; and what is returned is a state the
//! file was in, because a file that changes during the read is read again.

mod decode;
mod ignored;
mod open;
mod read;
mod walk;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::{
    decode::Encoding,
    read::{ReadFile, read},
    walk::walk,
};
use crate::TroubleCode;

/// What is too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLimits {
    /// A larger file is skipped without being read.
    pub max_file_bytes: u64,
    /// Directories this deep below the root are skipped. Each level holds one file descriptor during the walk.
    pub max_depth: usize,
    /// Whether symbolic links that lead to a place below the root are followed. Others never are.
    pub symlinks: Symlinks,
}

/// What to do with symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symlinks {
    /// Follow those that resolve inside the root, report the rest.
    FollowInside,
    /// Report all of them.
    Skip,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self { max_file_bytes: 16 * 1024 * 1024, max_depth: 128, symlinks: Symlinks::FollowInside }
    }
}

/// What a walk meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A regular file that may be read.
    File(FileEntry),
    /// Something that will not be indexed, and why. Hidden and ignored files are not reported.
    Skipped(Skip),
}

/// A regular file below a root, as it was when the walk passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The root without symbolic links: a directory, or the parent of a root that is a file.
    pub root: Arc<Path>,
    /// The path below the root by which the file was found, separated by `/`.
    pub relative: String,
    /// The path below the root that contains no symbolic link; the same as `relative` unless one was followed.
    pub real: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Which file this is, whatever its name.
    pub identity: FileIdentity,
}

impl FileEntry {
    /// The absolute path by which the file was found.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.relative)
    }
}

/// Device and inode: equal for two names of one file, kept by a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIdentity {
    /// The device.
    pub device: u64,
    /// The inode on it.
    pub inode: u64,
}

/// A path that is not indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The absolute path.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

/// Why a path is not indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Not text: a known format, or control characters.
    Binary,
    /// Over [`FileLimits::max_file_bytes`].
    TooLarge {
        /// Size found.
        size_bytes: u64,
        /// Size allowed.
        limit_bytes: u64,
    },
    /// The system refused to open, list or read it.
    Unreadable(io::ErrorKind),
    /// Text in no encoding that could be told.
    Undecodable,
    /// A symbolic link to a place outside the root.
    SymlinkOutside,
    /// A symbolic link that leads back to a directory it is in, or to itself.
    SymlinkLoop,
    /// A symbolic link to nothing.
    SymlinkBroken,
    /// A symbolic link to a directory that another link already led to.
    SymlinkRepeated,
    /// A symbolic link, where none are followed.
    SymlinkSkipped,
    /// A FIFO, socket or device.
    NotRegular,
    /// It changed during each of several attempts to read it.
    ChangedWhileRead,
    /// It was there during the walk and is gone.
    Vanished,
    /// Its name is not UTF-8.
    NameNotUtf8,
    /// A directory deeper than [`FileLimits::max_depth`].
    TooDeep {
        /// Depth allowed.
        limit: usize,
    },
}

/// Whether a file that was skipped for the reason of this code may be readable the next time, looking just the same.
pub(crate) fn may_pass(code: &str) -> bool {
    [TroubleCode::Unreadable, TroubleCode::ChangedWhileRead, TroubleCode::Vanished]
        .iter()
        .any(|passing| passing.as_str() == code)
}

impl SkipReason {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        let code = match self {
            Self::Binary => TroubleCode::Binary,
            Self::TooLarge { .. } => TroubleCode::TooLarge,
            Self::Unreadable(_) => TroubleCode::Unreadable,
            Self::Undecodable => TroubleCode::Undecodable,
            Self::SymlinkOutside => TroubleCode::SymlinkOutside,
            Self::SymlinkLoop => TroubleCode::SymlinkLoop,
            Self::SymlinkBroken => TroubleCode::SymlinkBroken,
            Self::SymlinkRepeated => TroubleCode::SymlinkRepeated,
            Self::SymlinkSkipped => TroubleCode::SymlinkSkipped,
            Self::NotRegular => TroubleCode::NotRegular,
            Self::ChangedWhileRead => TroubleCode::ChangedWhileRead,
            Self::Vanished => TroubleCode::Vanished,
            Self::NameNotUtf8 => TroubleCode::NameNotUtf8,
            Self::TooDeep { .. } => TroubleCode::TooDeep,
        };
        code.as_str()
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary => out.write_str("the file is not text"),
            Self::TooLarge { size_bytes, limit_bytes } => {
                write!(out, "the file has {size_bytes} bytes, more than the {limit_bytes} allowed")
            }
            Self::Unreadable(kind) => write!(out, "the path cannot be read: {kind}"),
            Self::Undecodable => out.write_str("the file is neither UTF-8, UTF-16 nor clearly Windows-1252 text"),
            Self::SymlinkOutside => out.write_str("the symbolic link leads out of the source"),
            Self::SymlinkLoop => out.write_str("the symbolic link leads back to where it is"),
            Self::SymlinkBroken => out.write_str("the symbolic link leads nowhere"),
            Self::SymlinkRepeated => out.write_str("another symbolic link leads to the same directory"),
            Self::SymlinkSkipped => out.write_str("symbolic links are not followed"),
            Self::NotRegular => out.write_str("the path is a FIFO, socket or device"),
            Self::ChangedWhileRead => out.write_str("the file kept changing while it was read"),
            Self::Vanished => out.write_str("the file disappeared before it was read"),
            Self::NameNotUtf8 => out.write_str("the name is not UTF-8"),
            Self::TooDeep { limit } => write!(out, "the directory is more than {limit} levels below the source"),
        }
    }
}

/// Why a root cannot be walked at all.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The root does not exist or cannot be read.
    #[error("cannot read {}", path.display())]
    Root {
        /// The root as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The root is neither a file nor a directory.
    #[error("{} is neither a regular file nor a directory", path.display())]
    NotIndexable {
        /// The root as given.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests;
