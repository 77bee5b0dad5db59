//! The disk that the database lies on: whether it takes a file, and how much more.
//!
//! It is tried for real, beside the database: a folder that is gone, a disk that is full or has become read-only is seen
//! before a write that somebody waits for meets it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::statvfs;

use crate::error::{StorageError, file_error};

/// What is written: enough to need a block.
const ATTEMPT: [u8; 512] = [0x68; 512];

/// Room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Bytes that it has in all.
    pub size_bytes: u64,
}

/// Writes a small file beside the database, syncs it, reads it back, removes it.
pub(crate) fn attempt(database: &Path) -> Result<DiskSpace, StorageError> {
    let folder = database.parent().unwrap_or(Path::new("."));
    let path = folder.join("disk.probe");
    let tried = write(&path).and_then(|()| read(&path));
    // Removed also where it was written in part only: it must not take room from others.
    let removed = fs::remove_file(&path);
    tried.and(removed).map_err(file_error("write", &path))?;
    let found = statvfs(folder).map_err(|error| file_error("look at the disk of", folder)(error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(DiskSpace { free_bytes: bytes(found.f_bavail), size_bytes: bytes(found.f_blocks) })
}

/// Bytes of all files below a folder. What goes while it is looked at counts as nothing; links are not followed.
pub(crate) fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&ATTEMPT)?;
    file.sync_data()
}

fn read(path: &Path) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(ATTEMPT.len());
    File::open(path)?.take(ATTEMPT.len() as u64 + 1).read_to_end(&mut bytes)?;
    if bytes == ATTEMPT {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "what was read is not what was written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_takes_files_tells_its_room_and_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let space = attempt(&folder.path().join("a.db")).unwrap();
        assert!(space.size_bytes > 0 && space.free_bytes <= space.size_bytes, "{space:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone/a.db");
        assert!(matches!(attempt(&gone), Err(StorageError::File { .. })));
    }
}
