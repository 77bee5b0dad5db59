//! The data directory: where each kind of file lies, and the lock that keeps it to one process.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::error::{StorageError, file_error};

const PARTS: [&str; 6] = ["run", "db", "index", "models", "drop", "archive"];

/// A data directory that this process holds, until dropped.
#[derive(Debug)]
pub struct DataDirectory {
    root: PathBuf,
    /// Held for its `flock`.
    _lock: File,
}

impl DataDirectory {
    /// Takes the directory, creating what is missing with modes 0700 and 0600.
    ///
    /// # Errors
    /// [`StorageError::InUse`] names the process that has it.
    pub fn take(root: &Path) -> Result<Self, StorageError> {
        create(root)?;
        for part in PARTS {
            create(&root.join(part))?;
        }
        let lock = lock(root)?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.root.join("db/holdfast.db")
    }

    /// The database of the event log and of what is spent.
    pub fn events(&self) -> PathBuf {
        self.root.join("db/events.db")
    }

    /// The database of what is derived from the event log.
    pub fn learning(&self) -> PathBuf {
        self.root.join("db/learning.db")
    }

    /// Where other programs write events.
    pub fn drop_folder(&self) -> PathBuf {
        self.root.join("drop")
    }

    /// Where datasets lie.
    pub fn datasets(&self) -> PathBuf {
        self.root.join("datasets")
    }

    /// Where index projections lie; everything below can be rebuilt.
    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// Where events lie that are no longer in their database.
    pub fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// Embeddings kept for the next time.
    pub fn kept_embeddings(&self) -> PathBuf {
        self.root.join("cache/embeddings.db")
    }

    /// Where model files lie.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// The socket the command line talks to.
    pub fn control_socket(root: &Path) -> PathBuf {
        root.join("run/control.sock")
    }
}

fn create(path: &Path) -> Result<(), StorageError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file_error("create", path))?;
    let mode = fs::metadata(path).map_err(file_error("look at", path))?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(file_error("restrict", path))?;
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File, StorageError> {
    let path = root.join("run/lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(file_error("open", &path))?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(file_error("lock", &path)(error.into()));
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(file_error("read", &path))?;
        let holder = match holder.trim() {
            "" => "another process".to_owned(),
            pid => format!("process {pid}"),
        };
        return Err(StorageError::InUse { path: root.to_owned(), holder });
    }
    // Written after the lock is held, so that whoever is refused reads who holds it.
    file.set_len(0).map_err(file_error("write", &path))?;
    file.rewind().map_err(file_error("write", &path))?;
    writeln!(file, "{}", std::process::id()).map_err(file_error("write", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let held = DataDirectory::take(directory.path()).unwrap();
        let refused = DataDirectory::take(directory.path()).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(matches!(&refused, StorageError::InUse { holder, .. } if holder.contains(&pid)), "{refused}");
        drop(held);
        DataDirectory::take(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_others_could_read_is_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        DataDirectory::take(directory.path()).unwrap();
        let mode = fs::metadata(directory.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
