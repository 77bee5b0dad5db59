//! Datasets as files: folders that are written once, versions of a name that count from 1 and are never written over.
//!
//! A version is written beside the others under a name that nobody reads, synced, and renamed: it is there whole or not at
//! all. What a crash left behind is removed at the next start. What the files hold is not known here.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::error::{StorageError, file_error};

/// Bytes that a dataset's name may have.
pub const NAME_BYTES_MAX: usize = 64;
/// Versions of a name that are kept at most; a further one is refused until one is removed.
pub const VERSIONS_MAX: u32 = 1_000;
/// How unfinished versions are called.
const DRAFT: &str = ".draft-";
/// What is left of a version that was removed, so that its number is not given again.
const REMOVED: &str = ".removed-";

/// The folder of all datasets; cloning is shallow.
#[derive(Clone)]
pub struct Datasets {
    root: Arc<Path>,
    /// One version is published at a time, so that no two have one number.
    publishing: Arc<Mutex<()>>,
}

/// A version that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetVersion {
    /// What it is called.
    pub name: String,
    /// Its number, from 1.
    pub version: u32,
}

/// A version that is being written, and gone if it is dropped.
pub struct Draft {
    datasets: Datasets,
    name: String,
    folder: PathBuf,
    is_published: bool,
}

/// A file of a [`Draft`], hashed while it is written.
pub struct DraftFile {
    writer: BufWriter<File>,
    path: PathBuf,
    hasher: blake3::Hasher,
    bytes: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// BLAKE3 of the whole, in hexadecimal digits.
    pub blake3: String,
    /// Its length.
    pub bytes: u64,
}

impl Datasets {
    /// Opens the folder, making it where it is missing, and removes what was never finished. Blocks.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(file_error("create", root))?;
        for name in folders(root)? {
            for entry in entries(&root.join(&name))? {
                if entry.starts_with(DRAFT) {
                    let path = root.join(&name).join(entry);
                    fs::remove_dir_all(&path).map_err(file_error("remove", &path))?;
                }
            }
        }
        Ok(Self { root: root.into(), publishing: Arc::default() })
    }

    /// Every version there is, by name and number. Blocks.
    pub fn list(&self) -> Result<Vec<DatasetVersion>, StorageError> {
        let mut all = Vec::new();
        for name in folders(&self.root)? {
            let versions = self.versions(&name)?;
            all.extend(versions.into_iter().map(|version| DatasetVersion { name: name.clone(), version }));
        }
        Ok(all)
    }

    /// The versions of a name, oldest first; none where there is no such dataset. Blocks.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for what is no name.
    pub fn versions(&self, name: &str) -> Result<Vec<u32>, StorageError> {
        let folder = self.folder(name)?;
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut versions: Vec<u32> = entries(&folder)?.iter().filter_map(|entry| number(entry)).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// A whole file of a version. Blocks.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] where there is no such version or file.
    pub fn read(&self, name: &str, version: u32, file: &str) -> Result<Vec<u8>, StorageError> {
        let path = self.path(name, version, file)?;
        fs::read(&path).map_err(|error| missing(error, &path, name, version))
    }

    /// Where a file of a version lies, for who reads it piece by piece.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for what is no name of a dataset or a file.
    pub fn path(&self, name: &str, version: u32, file: &str) -> Result<PathBuf, StorageError> {
        if !is_name(file) {
            return Err(StorageError::NotFound { what: "dataset file", name: file.to_owned() });
        }
        Ok(self.folder(name)?.join(folder_of(version)).join(file))
    }

    /// Begins a version. Blocks.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for what is no name.
    pub fn begin(&self, name: &str) -> Result<Draft, StorageError> {
        let folder = self.folder(name)?.join(format!("{DRAFT}{}", uuid::Uuid::now_v7()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(file_error("create", &folder))?;
        Ok(Draft { datasets: self.clone(), name: name.to_owned(), folder, is_published: false })
    }

    /// Removes a version. Its number is not given again. Blocks.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] where there is no such version.
    pub fn remove(&self, name: &str, version: u32) -> Result<(), StorageError> {
        let folder = self.folder(name)?;
        let path = folder.join(folder_of(version));
        if path.is_dir() {
            let mark = folder.join(format!("{REMOVED}{version}"));
            File::create(&mark).map_err(file_error("create", &mark))?;
        }
        // Renamed first, so that it is gone whole.
        let hidden = folder.join(format!("{DRAFT}{}", uuid::Uuid::now_v7()));
        fs::rename(&path, &hidden).map_err(|error| missing(error, &path, name, version))?;
        sync_folder(&folder)?;
        fs::remove_dir_all(&hidden).map_err(file_error("remove", &hidden))
    }

    /// The greatest number that was given.
    fn last_number(&self, name: &str) -> Result<u32, StorageError> {
        let used = |entry: &String| number(entry).or_else(|| entry.strip_prefix(REMOVED)?.parse().ok());
        Ok(entries(&self.folder(name)?)?.iter().filter_map(used).max().unwrap_or(0))
    }

    fn folder(&self, name: &str) -> Result<PathBuf, StorageError> {
        if !is_name(name) {
            return Err(StorageError::NotFound { what: "dataset", name: name.to_owned() });
        }
        Ok(self.root.join(name))
    }
}

/// Whether something can be the name of a dataset: letters, digits, `-`, `_` and `.` within, at most 64 bytes.
pub fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_inner)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

impl Draft {
    /// Begins a file.
    ///
    /// # Errors
    /// [`StorageError::File`], also where there is one of that name already.
    pub fn file(&self, name: &str) -> Result<DraftFile, StorageError> {
        if !is_name(name) {
            return Err(StorageError::NotFound { what: "dataset file", name: name.to_owned() });
        }
        let path = self.folder.join(name);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(file_error("create", &path))?;
        Ok(DraftFile { writer: BufWriter::new(file), path, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    /// Makes the version one that is there, durably, and gives its number.
    ///
    /// # Errors
    /// [`StorageError::Exists`] where there are too many; then the draft is gone.
    pub fn publish(mut self) -> Result<u32, StorageError> {
        let publishing = Arc::clone(&self.datasets.publishing);
        let _one = publishing.lock().unwrap_or_else(PoisonError::into_inner);
        sync_folder(&self.folder)?;
        let version = self.datasets.last_number(&self.name)? + 1;
        if version > VERSIONS_MAX {
            return Err(StorageError::Exists { what: "dataset", name: format!("{} {VERSIONS_MAX}", self.name) });
        }
        let folder = self.datasets.folder(&self.name)?;
        let path = folder.join(folder_of(version));
        fs::rename(&self.folder, &path).map_err(file_error("rename to", &path))?;
        self.is_published = true;
        sync_folder(&folder)?;
        sync_folder(&self.datasets.root)?;
        Ok(version)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "failed to remove an unfinished dataset; the next start does");
        }
    }
}

impl DraftFile {
    /// Writes a line and its end.
    pub fn line(&mut self, line: &[u8]) -> Result<(), StorageError> {
        self.write(line)?;
        self.write(b"\n")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.writer.write_all(bytes).map_err(file_error("write", &self.path))
    }

    /// Ends the file, on disk.
    pub fn end(self) -> Result<Written, StorageError> {
        let Self { writer, path, hasher, bytes } = self;
        let file = writer.into_inner().map_err(|error| file_error("write", &path)(error.into_error()))?;
        file.sync_all().map_err(file_error("sync", &path))?;
        Ok(Written { blake3: hasher.finalize().to_hex().to_string(), bytes })
    }
}

fn folder_of(version: u32) -> String {
    format!("v{version}")
}

fn number(folder: &str) -> Option<u32> {
    let version = folder.strip_prefix('v')?.parse().ok()?;
    (folder == folder_of(version)).then_some(version)
}

/// Folders whose names are those of datasets, in order.
fn folders(root: &Path) -> Result<Vec<String>, StorageError> {
    let mut folders: Vec<String> =
        entries(root)?.into_iter().filter(|name| is_name(name) && root.join(name).is_dir()).collect();
    folders.sort_unstable();
    Ok(folders)
}

fn entries(folder: &Path) -> Result<Vec<String>, StorageError> {
    let entries = fs::read_dir(folder).map_err(file_error("list", folder))?;
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
    let names: io::Result<Vec<Option<String>>> = entries.map(name).collect();
    Ok(names.map_err(file_error("list", folder))?.into_iter().flatten().collect())
}

fn sync_folder(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(file_error("sync", path))
}

fn missing(error: io::Error, path: &Path, name: &str, version: u32) -> StorageError {
    if error.kind() == io::ErrorKind::NotFound {
        return StorageError::NotFound { what: "dataset", name: format!("{name} {version}") };
    }
    file_error("read", path)(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(datasets: &Datasets, name: &str, text: &str) -> u32 {
        let draft = datasets.begin(name).unwrap();
        let mut file = draft.file("train.jsonl").unwrap();
        file.line(text.as_bytes()).unwrap();
        let written = file.end().unwrap();
        assert_eq!(written.blake3, blake3::hash(format!("{text}\n").as_bytes()).to_hex().to_string());
        draft.publish().unwrap()
    }

    #[test]
    fn versions_count_and_are_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let datasets = Datasets::open(folder.path()).unwrap();
        assert_eq!(datasets.list().unwrap(), []);
        assert_eq!(
            [publish(&datasets, "a", "one"), publish(&datasets, "a", "two"), publish(&datasets, "b", "x")],
            [1, 2, 1]
        );
        assert_eq!(datasets.read("a", 1, "train.jsonl").unwrap(), b"one\n");
        datasets.remove("a", 2).unwrap();
        assert_eq!(publish(&datasets, "a", "three"), 3);
        assert_eq!(datasets.versions("a").unwrap(), [1, 3]);
        datasets.remove("a", 1).unwrap();
        let missing = datasets.read("a", 1, "train.jsonl");
        assert!(matches!(missing, Err(StorageError::NotFound { .. })), "{missing:?}");
        assert!(matches!(datasets.remove("a", 1), Err(StorageError::NotFound { .. })));
    }

    #[test]
    fn what_was_never_finished_is_not_there_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let datasets = Datasets::open(folder.path()).unwrap();
        let dropped = datasets.begin("a").unwrap();
        dropped.file("train.jsonl").unwrap().line(b"x").unwrap();
        drop(dropped);
        let forgotten = datasets.begin("a").unwrap();
        forgotten.file("train.jsonl").unwrap().line(b"x").unwrap();
        std::mem::forget(forgotten);
        assert_eq!(datasets.list().unwrap(), []);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
        Datasets::open(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let datasets = Datasets::open(folder.path()).unwrap();
        for name in ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0", "ä", &"x".repeat(65)] {
            assert!(datasets.begin(name).is_err() && datasets.read(name, 1, "train.jsonl").is_err(), "{name:?}");
            assert!(datasets.read("a", 1, name).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_at_once_have_two_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let datasets = Datasets::open(folder.path()).unwrap();
        let mut numbers: Vec<u32> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| publish(&datasets, "a", "x"))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
