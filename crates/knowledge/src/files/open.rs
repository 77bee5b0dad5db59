//! Opening what lies below a directory without leaving it.
//!
//! Every component is opened relative to the one before and never through a symbolic link, so a directory that
//! is swapped for a link between two calls makes an error and not an escape. Opening never blocks: a FIFO put
//! in a file's place is opened without waiting for its writer, and then refused.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Component, Path},
};

use rustix::fs::{Mode, OFlags};

use super::{FileIdentity, SkipReason};

/// Opens a directory by a trusted path.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a directory in a directory.
pub(super) fn open_directory(parent: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Opens the directory at `relative`, which has no symbolic link in it.
pub(super) fn open_directory_beneath(root: &Path, relative: &Path) -> io::Result<OwnedFd> {
    let mut directory = open_root(root)?;
    for component in relative.components() {
        let Component::Normal(name) = component else { return Err(io::ErrorKind::InvalidInput.into()) };
        directory = open_directory(&directory, Path::new(name))?;
    }
    Ok(directory)
}

/// Opens a regular file in a directory, without following a link and without blocking.
pub(super) fn open_regular(parent: &OwnedFd, name: &Path) -> Result<(File, Stamp), SkipReason> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A socket cannot be opened, nor a device without a driver.
        Err(rustix::io::Errno::NXIO | rustix::io::Errno::NODEV) => return Err(SkipReason::NotRegular),
        Err(error) => return Err(reason_of(&error.into())),
    };
    let stamp = Stamp::of(&file)?;
    Ok((file, stamp))
}

/// Opens the regular file at `relative`, which has no symbolic link in it.
pub(super) fn open_regular_beneath(root: &Path, relative: &Path) -> Result<(File, Stamp), SkipReason> {
    let parent = relative.parent().unwrap_or(Path::new(""));
    let name = relative.file_name().ok_or(SkipReason::NotRegular)?;
    let parent = open_directory_beneath(root, parent).map_err(|error| reason_of(&error))?;
    open_regular(&parent, Path::new(name))
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified_ns: i64,
    pub(super) changed_ns: i64,
    pub(super) identity: FileIdentity,
}

impl Stamp {
    /// The present state of an open file, which must be a regular one.
    pub(super) fn of(file: &File) -> Result<Self, SkipReason> {
        let metadata = file.metadata().map_err(|error| reason_of(&error))?;
        if !metadata.is_file() {
            return Err(SkipReason::NotRegular);
        }
        Ok(Self {
            size: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            identity: FileIdentity { device: metadata.dev(), inode: metadata.ino() },
        })
    }
}

pub(super) fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// What an error on a path below the root means to the user.
pub(super) fn reason_of(error: &io::Error) -> SkipReason {
    match error.kind() {
        io::ErrorKind::NotFound => SkipReason::Vanished,
        kind => SkipReason::Unreadable(kind),
    }
}
