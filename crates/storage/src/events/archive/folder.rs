//! The folder of an archive: files that are made whole or not at all, and names that lead nowhere else.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, FlockOperation, fadvise, flock};

use super::fault::ArchiveError;
use crate::error::{StorageError, file_error};

const LOCK: &str = "lock";
/// What a file that is being written ends with; nothing ever reads one.
pub(super) const UNFINISHED: &str = ".tmp";

/// A folder. Names are those of files in it and come from this program, or were compared with those that it gives.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// Held by whoever writes.
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would not do: a process that is being started has the file open, too, until it is another program.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Folder {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes it where it is missing, in a folder that is there, and keeps others from writing to it.
    pub fn lock(&self) -> Result<Lock, ArchiveError> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file_error("create", &self.path)(error).into());
            }
            _ => {}
        }
        let path = self.at(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(file_error("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(ArchiveError::Busy),
            Err(error) => Err(file_error("lock", &path)(error.into()).into()),
        }
    }

    /// The names of its files, in order; none where there is no folder. Names that are no text are not ours.
    pub fn names(&self) -> Result<Vec<String>, StorageError> {
        let failed = || file_error("read", &self.path);
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed()(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed())?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A file to be read; nothing where there is none, and where something else is found than a plain file, since a link
    /// may lead anywhere and a pipe may keep its reader waiting for ever.
    pub fn open(&self, name: &str) -> Result<Found, StorageError> {
        let path = self.at(name);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(Found::Other),
            Err(error) => return Err(file_error("open", path)(error)),
        };
        let metadata = file.metadata().map_err(file_error("look at", path))?;
        Ok(if metadata.is_file() { Found::File(file, metadata.len()) } else { Found::Other })
    }

    /// Begins a file. What is left of an earlier attempt is removed.
    pub fn begin(&self, name: &str) -> Result<File, StorageError> {
        let path = self.at(&unfinished(name));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error("remove", path)(error)),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(file_error("create", path))
    }

    /// Has a file that was begun reach the disk, and lets go of what memory has of it, so that reading it asks the disk.
    pub fn sync_file(&self, name: &str, file: &File) -> Result<(), StorageError> {
        file.sync_all().map_err(file_error("sync", self.at(&unfinished(name))))?;
        // A file system that cannot do this reads from memory, which is no reason to stop.
        let _ = fadvise(file, 0, None, Advice::DontNeed);
        Ok(())
    }

    /// Gives a file that was begun, and synced, its name. Durable when it returns.
    pub fn finish(&self, name: &str) -> Result<(), StorageError> {
        let path = self.at(name);
        fs::rename(self.at(&unfinished(name)), &path).map_err(file_error("rename to", path))?;
        self.sync()
    }

    /// Removes a file, if it is there. Durable after [`Folder::sync`].
    pub fn remove(&self, name: &str) -> Result<(), StorageError> {
        match fs::remove_file(self.at(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", self.at(name))(error)),
            _ => Ok(()),
        }
    }

    /// Has names reach the disk.
    pub fn sync(&self) -> Result<(), StorageError> {
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(file_error("sync", &self.path))
    }

    /// Has its own name reach the disk.
    pub fn sync_name(&self) -> Result<(), StorageError> {
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(file_error("sync", parent))
    }

    /// What went wrong with a file.
    pub fn failed(&self, action: &'static str, name: &str, error: io::Error) -> StorageError {
        file_error(action, self.at(name))(error)
    }
}

/// What a name stands for.
pub(super) enum Found {
    /// A plain file of so many bytes.
    File(File, u64),
    /// Something that is not to be read.
    Other,
    Nothing,
}

/// What a file is called while it is written.
pub(super) fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED}")
}
