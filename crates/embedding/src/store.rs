//! The models directory: one folder a model, checked against its manifest.
//!
//! Owns what is on disk and the rule by which a file gets there: written under a temporary name, checked by size and
//! hash, synced, renamed. Whoever changes a model's folder holds its lock, so two processes cannot mix their files. It
//! does not know where files come from.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    error::EmbedError,
    manifest::{KnownModel, MAX_FILE_BYTES, Manifest, ModelFile, REQUIRED, WEIGHTS, check_name},
    remote::{DESCRIPTION, Described},
};

/// The manifest of a model imported from a folder, beside its files.
const MANIFEST: &str = "manifest.json";
/// More than a manifest ever has.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// How often a lock held by another process is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(200);

/// A model as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// SHA-256 of its weights, in hexadecimal, as its manifest says.
    pub revision: String,
    /// Size of its files.
    pub size_bytes: u64,
    /// Its files, as its manifest says.
    pub files: Vec<ModelFile>,
    /// Whether the files are there.
    pub installation: Installation,
}

/// Whether a model's files are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installation {
    /// All of them, with the right sizes.
    Complete,
    /// Some are missing or have the wrong size; `models pull` repairs them.
    Incomplete {
        /// Which, as paths below the model's folder.
        files: Vec<String>,
    },
    /// There are none: another server runs it.
    Remote {
        /// Where that is.
        url: String,
    },
}

/// The models directory.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    known: Vec<KnownModel>,
}

/// The right to change one model's folder; given up when dropped.
pub(crate) struct FolderLock {
    _file: File,
}

impl Store {
    pub(crate) fn new(root: PathBuf, known: Vec<KnownModel>) -> Store {
        Store { root, known }
    }

    /// The model of this name that can be fetched.
    pub(crate) fn known(&self, name: &str) -> Option<&KnownModel> {
        self.known.iter().find(|known| known.name == name)
    }

    /// Where a model's files are.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The files a model should have: pinned for a known one, else as recorded at its import.
    pub(crate) fn manifest(&self, name: &str) -> Result<Option<Manifest>, EmbedError> {
        check_name(name)?;
        if let Some(known) = self.known(name) {
            return Ok(Some(Manifest { files: known.files.clone() }));
        }
        let path = self.folder(name).join(MANIFEST);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(EmbedError::io("open", path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes).map_err(EmbedError::io("read", &path))?;
        match serde_json::from_slice::<Manifest>(&bytes) {
            Ok(manifest) if manifest.is_sane() => Ok(Some(manifest)),
            _ => Err(EmbedError::CorruptFile { path, reason: "it is not a manifest of this program".to_owned() }),
        }
    }

    /// The error for a name without a model.
    pub(crate) fn unknown(&self, name: &str) -> EmbedError {
        let mut known: Vec<String> = self.known.iter().map(|known| known.name.clone()).collect();
        known.extend(self.folders());
        known.sort_unstable();
        known.dedup();
        EmbedError::UnknownModel { name: name.to_owned(), known }
    }

    /// All models of which there is something on disk. Sizes are compared, contents are not.
    pub(crate) fn list(&self) -> Vec<ModelInfo> {
        let mut infos = Vec::new();
        for name in self.folders() {
            match self.manifest(&name) {
                Ok(Some(manifest)) => infos.push(self.info(&name, manifest)),
                Ok(None) => infos.extend(self.remote_info(&name)),
                Err(error) => tracing::warn!(model = %name, %error, "the model {name} cannot be listed: {error}"),
            }
        }
        infos
    }

    fn folders(&self) -> Vec<String> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(%error, "the models directory cannot be read: {error}");
                }
                return Vec::new();
            }
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir())?.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort_unstable();
        names
    }

    fn info(&self, name: &str, manifest: Manifest) -> ModelInfo {
        let folder = self.folder(name);
        let wrong_size = |file: &&ModelFile| {
            !fs::metadata(folder.join(&file.path)).is_ok_and(|found| found.is_file() && found.len() == file.size_bytes)
        };
        let files: Vec<String> = manifest.files.iter().filter(wrong_size).map(|file| file.path.clone()).collect();
        ModelInfo {
            name: name.to_owned(),
            revision: manifest.sha256(WEIGHTS).unwrap_or_default().to_owned(),
            size_bytes: manifest.total_bytes(),
            files: manifest.files,
            installation: if files.is_empty() { Installation::Complete } else { Installation::Incomplete { files } },
            path: folder,
        }
    }

    /// A model that another server runs.
    fn remote_info(&self, name: &str) -> Option<ModelInfo> {
        let described = match Described::read(&self.folder(name)) {
            Ok(described) => described?,
            Err(error) => {
                tracing::warn!(model = %name, %error, "the model {name} cannot be listed: {error}");
                return None;
            }
        };
        Some(ModelInfo {
            name: name.to_owned(),
            revision: described.space(name).revision,
            size_bytes: 0,
            files: Vec::new(),
            installation: Installation::Remote { url: described.remote.url },
            path: self.folder(name),
        })
    }

    /// Records a remote model in place of what was there.
    pub(crate) fn write_description(&self, name: &str, described: &Described) -> Result<ModelInfo, EmbedError> {
        make_private_folder(&self.folder(name))?;
        self.write_json(name, DESCRIPTION, described)?;
        self.remote_info(name).ok_or_else(|| self.unknown(name))
    }

    /// Reads every file of a model and compares it with the manifest.
    pub(crate) fn verify(&self, name: &str) -> Result<ModelInfo, EmbedError> {
        let manifest = self.manifest(name)?.ok_or_else(|| self.unknown(name))?;
        let folder = self.folder(name);
        for file in &manifest.files {
            check_file(&folder.join(&file.path), file)?;
        }
        Ok(self.info(name, manifest))
    }

    /// The files of a manifest that are missing or not what it says.
    pub(crate) fn wanting(&self, name: &str, manifest: &Manifest) -> Result<Vec<ModelFile>, EmbedError> {
        let folder = self.folder(name);
        let mut wanting = Vec::new();
        for file in &manifest.files {
            match check_file(&folder.join(&file.path), file) {
                Ok(()) => {}
                Err(EmbedError::CorruptFile { .. }) => wanting.push(file.clone()),
                Err(error) => return Err(error),
            }
        }
        Ok(wanting)
    }

    /// Waits for the right to change a model's folder.
    pub(crate) async fn lock(&self, name: &str) -> Result<FolderLock, EmbedError> {
        check_name(name)?;
        make_private_folder(&self.root)?;
        let path = self.root.join(format!(".{name}.lock"));
        let file = private_file(OpenOptions::new().create(true).write(true).truncate(false), &path)
            .map_err(EmbedError::io("open", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(FolderLock { _file: file }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
                Err(TryLockError::Error(error)) => return Err(EmbedError::io("lock", path)(error)),
            }
        }
    }

    /// Where a file of a model is written before it is checked. Kept when the transfer breaks off, to be resumed.
    pub(crate) fn partial(&self, name: &str, file: &ModelFile) -> Result<PathBuf, EmbedError> {
        let path = self.folder(name).join(format!("{}.partial", file.path));
        if let Some(parent) = path.parent() {
            make_private_folder(parent)?;
        }
        Ok(path)
    }

    /// An empty directory for what a model's files come in; gone when dropped. What a killed process left of such is
    /// deleted, so hold the model's lock.
    pub(crate) fn staging(&self, name: &str) -> Result<TempDir, EmbedError> {
        // No model's name has a tilde, so this is never the beginning of another one's.
        let prefix = format!(".{name}~");
        let failed = |action| EmbedError::io(action, &self.root);
        for entry in fs::read_dir(&self.root).map_err(failed("read"))? {
            let entry = entry.map_err(failed("read"))?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                fs::remove_dir_all(entry.path()).map_err(EmbedError::io("delete", entry.path()))?;
            }
        }
        tempfile::Builder::new().prefix(&prefix).tempdir_in(&self.root).map_err(failed("create a directory in"))
    }

    /// Checks a file written under its temporary name and gives it its real one. A wrong one is deleted.
    pub(crate) fn install(&self, name: &str, file: &ModelFile) -> Result<(), EmbedError> {
        let partial = self.partial(name, file)?;
        if let Err(error) = check_file(&partial, file) {
            if matches!(error, EmbedError::CorruptFile { .. }) {
                fs::remove_file(&partial).or_else(absent_is_fine).map_err(EmbedError::io("delete", &partial))?;
            }
            return Err(error);
        }
        commit(&partial, &self.folder(name).join(&file.path))
    }

    /// Records what an imported model consists of. Written last: an interrupted import has no manifest, or an old one
    /// that its files do not match.
    pub(crate) fn write_manifest(&self, name: &str, manifest: &Manifest) -> Result<(), EmbedError> {
        self.write_json(name, MANIFEST, manifest)
    }

    fn write_json(&self, name: &str, file: &str, content: &impl Serialize) -> Result<(), EmbedError> {
        let path = self.folder(name).join(file);
        let partial = self.folder(name).join(format!("{file}.partial"));
        let bytes = serde_json::to_vec_pretty(content)
            .map_err(|error| EmbedError::io("write", &path)(io::Error::other(error)))?;
        let mut file = create_private(&partial).map_err(EmbedError::io("create", &partial))?;
        io::Write::write_all(&mut file, &bytes).map_err(EmbedError::io("write", &partial))?;
        commit(&partial, &path)
    }
}

/// The manifest of a folder with a model's files, read in full.
pub(crate) fn describe_folder(folder: &Path, candidates: &[&str]) -> Result<Manifest, EmbedError> {
    let mut files = Vec::new();
    for path in candidates {
        let full = folder.join(path);
        match hash(&full) {
            Ok((size_bytes, _)) if size_bytes > MAX_FILE_BYTES => {
                return Err(EmbedError::CorruptFile {
                    path: full,
                    reason: "it is too large for a model file".to_owned(),
                });
            }
            Ok((size_bytes, sha256)) => files.push(ModelFile { path: (*path).to_owned(), size_bytes, sha256 }),
            Err(error) if error.kind() == ErrorKind::NotFound && !REQUIRED.contains(path) => {}
            Err(error) => return Err(EmbedError::io("read", full)(error)),
        }
    }
    Ok(Manifest { files })
}

/// Compares a file with its entry in a manifest.
pub(crate) fn check_file(path: &Path, expected: &ModelFile) -> Result<(), EmbedError> {
    let corrupt = |reason: String| EmbedError::CorruptFile { path: path.to_owned(), reason };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(corrupt("it is missing".to_owned()));
        }
        Err(error) => return Err(EmbedError::io("read", path)(error)),
    };
    if !metadata.is_file() {
        return Err(corrupt("it is not a file".to_owned()));
    }
    if metadata.len() != expected.size_bytes {
        return Err(corrupt(format!("it has {} bytes instead of {}", metadata.len(), expected.size_bytes)));
    }
    let (_, found) = hash(path).map_err(EmbedError::io("read", path))?;
    if found != expected.sha256 {
        return Err(corrupt(format!("its SHA-256 is {found} instead of {}", expected.sha256)));
    }
    Ok(())
}

/// Size and SHA-256 of a file. Anything but a regular file is refused: a pipe would never end.
fn hash(path: &Path) -> io::Result<(u64, String)> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            break;
        }
        size += count as u64;
        hasher.update(&block[..count]);
    }
    let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((size, hex))
}

/// Makes a written file permanent under its real name.
fn commit(partial: &Path, path: &Path) -> Result<(), EmbedError> {
    File::open(partial).and_then(|file| file.sync_all()).map_err(EmbedError::io("sync", partial))?;
    fs::rename(partial, path).map_err(EmbedError::io("rename", partial))?;
    let parent = path.parent().unwrap_or(path);
    // The rename itself is durable only once the directory is synced.
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(EmbedError::io("sync", parent))
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Creates a directory, and its parents, that only its owner can enter.
fn make_private_folder(path: &Path) -> Result<(), EmbedError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(EmbedError::io("create", path))
}

/// Opens a file that only its owner can read.
pub(crate) fn private_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Creates a file, or empties one, that only its owner can read.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    private_file(OpenOptions::new().create(true).write(true).truncate(true), path)
}
