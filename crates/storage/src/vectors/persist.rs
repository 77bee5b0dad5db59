//! Checkpoints on disk: one file of rows, and beside it one of the graph over them.
//!
//! Owns the format, and the order of writes that lets the former checkpoint survive anything:
//! everything goes to a temporary name, is synced, renamed over the old, and the directory is
//! synced; the graph comes first, under a name of its own generation, and counts once the file of
//! rows names it with its checksum. Nothing is mapped: a full disk is an error and not a signal.
//! Does not know what a graph's bytes mean, and hands none out whose checksum is wrong.
//! What is in the file of rows is told in [`format`].

mod format;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use self::format::{GraphEntry, ReadError, Sink, Source, read_rows, write_rows};
use super::{VectorError, bits::Bits, table::Snapshot};

const ROWS_FILE: &str = "rows.holdfast";
const GRAPH_SUFFIX: &str = ".graph";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// One index's files.
pub(super) struct Files {
    directory: PathBuf,
    dimensions: usize,
    fingerprint: String,
    durable_position: AtomicU64,
    /// Held while a checkpoint is written.
    last: Mutex<Last>,
}

/// What the checkpoint on disk is of.
#[derive(Default)]
struct Last {
    /// The snapshot's version and position; none if nothing was written by this process.
    written: Option<(u64, u64)>,
    generation: u64,
    graph: Option<GraphEntry>,
    /// The version that the graph on disk has in memory, if it has one.
    graph_version: Option<u64>,
}

/// What a checkpoint held.
pub(super) struct Checkpoint {
    /// The rows.
    pub snapshot: Snapshot,
    /// The graph over them, if one was written.
    pub graph: SavedGraph,
}

/// A graph as found on disk.
pub(super) enum SavedGraph {
    /// None was written.
    Absent,
    /// The very bytes that were written, and the slots they refer to.
    Intact { members: Bits, bytes: Vec<u8> },
    /// One was written, and its file is missing or not what was written. The rows are whole.
    Damaged(VectorError),
}

/// A graph to be written.
pub(super) struct GraphImage {
    /// Differs whenever the graph does.
    pub version: u64,
    /// The slots it refers to.
    pub members: Bits,
    /// Its bytes; none are needed of the version on disk.
    pub bytes: Vec<u8>,
}

impl Files {
    /// Reads what is in the directory; one that is missing or has no checkpoint is empty.
    pub(super) fn open(
        directory: &Path,
        dimensions: usize,
        fingerprint: &str,
    ) -> Result<(Self, Checkpoint), VectorError> {
        if dimensions == 0 {
            return Err(VectorError::WrongDimensions { expected: 1, got: 0 });
        }
        let files = Self {
            directory: directory.to_owned(),
            dimensions,
            fingerprint: fingerprint.to_owned(),
            durable_position: AtomicU64::new(0),
            last: Mutex::default(),
        };
        let empty = Checkpoint { snapshot: Snapshot::empty(dimensions), graph: SavedGraph::Absent };
        let checkpoint = match File::open(files.rows_path()) {
            Ok(file) => files.read(file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => empty,
            Err(error) => return Err(io_error(&files.rows_path(), error)),
        };
        files.durable_position.store(checkpoint.snapshot.position, Ordering::Release);
        files.sweep(&files.lock());
        Ok((files, checkpoint))
    }

    /// The position of the checkpoint on disk.
    pub(super) fn durable_position(&self) -> u64 {
        self.durable_position.load(Ordering::Acquire)
    }

    /// Looks whether the checkpoint is where it was written, and begins as it should.
    pub(super) fn examine(&self) -> Result<(), VectorError> {
        // Held, so that no checkpoint takes its predecessor away meanwhile.
        let last = self.lock();
        if self.durable_position() == 0 {
            return Ok(());
        }
        let path = self.rows_path();
        let mut begin = [0; format::MAGIC.len()];
        match File::open(&path).and_then(|mut file| file.read_exact(&mut begin)) {
            Ok(()) if begin == format::MAGIC => {}
            Ok(()) => return Err(self.damaged("it is something else".into())),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(self.damaged("it is truncated".into()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.damaged("it is missing".into())),
            Err(error) => return Err(io_error(&path, error)),
        }
        let Some(graph) = &last.graph else { return Ok(()) };
        let path = self.directory.join(graph_name(graph.generation));
        let length = fs::metadata(&path).map_err(|error| io_error(&path, error))?.len();
        if length == graph.length { Ok(()) } else { Err(VectorError::Damaged { path, what: "it is truncated".into() }) }
    }

    /// The graph that was read is in memory now, under this version.
    pub(super) fn graph_adopted(&self, version: u64) {
        self.lock().graph_version = Some(version);
    }

    /// An error that blames the file of rows.
    pub(super) fn damaged(&self, what: String) -> VectorError {
        VectorError::Damaged { path: self.rows_path(), what }
    }

    /// Writes a checkpoint of what `take` returns. It is given the version of the graph on disk,
    /// whose bytes need not be saved again, and called when no other checkpoint is being written.
    pub(super) fn store(
        &self,
        take: impl FnOnce(Option<u64>) -> Result<(Arc<Snapshot>, Option<GraphImage>), VectorError>,
    ) -> Result<(), VectorError> {
        let mut last = self.lock();
        let (snapshot, image) = take(last.graph_version)?;
        let same_graph = match &image {
            Some(image) => last.graph_version == Some(image.version),
            None => last.graph.is_none(),
        };
        if same_graph && last.written == Some((snapshot.version, snapshot.position)) {
            return Ok(());
        }
        create_directory(&self.directory)?;
        // A generation that failed is not tried again: its file may have got its name already.
        last.generation += 1;
        let generation = last.generation;
        let graph_version = image.as_ref().map(|image| image.version);
        let graph = match image {
            Some(_) if same_graph => last.graph.clone(),
            Some(image) => Some(self.write_graph(image, generation)?),
            None => None,
        };
        self.replace(ROWS_FILE, |sink| write_rows(sink, &snapshot, &self.fingerprint, graph.as_ref()))?;
        let written = Some((snapshot.version, snapshot.position));
        *last = Last { written, generation, graph, graph_version };
        self.durable_position.store(snapshot.position, Ordering::Release);
        self.sweep(&last);
        Ok(())
    }

    fn write_graph(&self, image: GraphImage, generation: u64) -> Result<GraphEntry, VectorError> {
        self.replace(&graph_name(generation), |sink| sink.write_all(&image.bytes))?;
        Ok(GraphEntry {
            members: image.members,
            generation,
            length: image.bytes.len() as u64,
            hash: *blake3::hash(&image.bytes).as_bytes(),
        })
    }

    /// Puts a new file in the place of `name`, all of it or nothing.
    fn replace(&self, name: &str, fill: impl FnOnce(&mut Sink) -> io::Result<()>) -> Result<(), VectorError> {
        let temporary = self.directory.join(format!("{name}{TEMPORARY_SUFFIX}"));
        let written = create_file(&temporary).and_then(|file| {
            let mut sink = Sink::new(file);
            fill(&mut sink)?;
            sink.finish()
        });
        let renamed = written.and_then(|()| fs::rename(&temporary, self.directory.join(name)));
        if let Err(error) = renamed {
            // What was half written must not take room from the next attempt. If it cannot be
            // removed, that attempt truncates it.
            fs::remove_file(&temporary).ok();
            return Err(io_error(&temporary, error));
        }
        sync_directory(&self.directory)
    }

    /// Removes what no checkpoint names: left-overs of a crash and graphs of former generations.
    fn sweep(&self, last: &MutexGuard<'_, Last>) {
        let current = last.graph.as_ref().map(|graph| graph_name(graph.generation));
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let leftover =
                name.ends_with(TEMPORARY_SUFFIX) || (name.ends_with(GRAPH_SUFFIX) && Some(name) != current.as_deref());
            if leftover && let Err(error) = fs::remove_file(entry.path()) {
                // It is only in the way; the next checkpoint tries again.
                tracing::debug!(%error, file = name, "could not remove a left-over index file");
            }
        }
    }

    fn read(&self, file: File) -> Result<Checkpoint, VectorError> {
        let path = self.rows_path();
        let size = file.metadata().map_err(|error| io_error(&path, error))?.len();
        let mut source = Source::new(file);
        let (snapshot, graph) =
            read_rows(&mut source, size, self.dimensions, &self.fingerprint).map_err(|error| match error {
                ReadError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.damaged("it is truncated".into())
                }
                ReadError::Io(error) => io_error(&path, error),
                ReadError::Damaged(what) => self.damaged(what),
            })?;
        let Some(entry) = graph else {
            return Ok(Checkpoint { snapshot, graph: SavedGraph::Absent });
        };
        let graph = self.read_graph(&entry);
        let mut last = self.lock();
        last.generation = entry.generation;
        last.graph = matches!(graph, SavedGraph::Intact { .. }).then_some(entry);
        drop(last);
        Ok(Checkpoint { snapshot, graph })
    }

    fn read_graph(&self, entry: &GraphEntry) -> SavedGraph {
        let path = self.directory.join(graph_name(entry.generation));
        let damaged = |what: &str| SavedGraph::Damaged(VectorError::Damaged { path: path.clone(), what: what.into() });
        match read_whole(&path, entry.length) {
            Ok(bytes) if *blake3::hash(&bytes).as_bytes() == entry.hash => {
                SavedGraph::Intact { members: entry.members.clone(), bytes }
            }
            Ok(_) => damaged("its checksum is wrong"),
            Err(error) if error.kind() == ErrorKind::NotFound => damaged("it is missing"),
            Err(error) => SavedGraph::Damaged(io_error(&path, error)),
        }
    }

    fn rows_path(&self) -> PathBuf {
        self.directory.join(ROWS_FILE)
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        // Assigned as a whole once a checkpoint is complete.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file that must be `length` bytes long; a longer one is cut there and so hashes wrong.
fn read_whole(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    if file.metadata()?.len() == length {
        bytes.reserve_exact(usize::try_from(length).map_err(io::Error::other)?);
        file.take(length).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn graph_name(generation: u64) -> String {
    format!("{generation:016x}{GRAPH_SUFFIX}")
}

fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create_directory(path: &Path) -> Result<(), VectorError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| io_error(path, error))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), VectorError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| io_error(path, error))
}

fn io_error(path: &Path, source: io::Error) -> VectorError {
    VectorError::Io { path: path.to_owned(), source }
}
