//! Keeps the indexes in step with SQL.
//!
//! One thread an index kind reads the outbox after the position its indexes have reached and
//! applies what is there. It is woken when the outbox grows, when generations come or go, and
//! by a timer; it stops when [`Projections::stop`] is called. A failure is shown in
//! [`Projections::status`] and tried again at the next waking: nothing is skipped, since the
//! position moves only with what was applied.

mod lane;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    collections::{self, Generation},
    disk,
    error::{StorageError, file_error},
    lexical::{LexicalIndex, TantivyIndex},
    outbox,
    sql::Database,
    vectors::{UsearchIndex, VectorIndex},
};

pub(crate) use lane::Kind;
use lane::{Lane, Signal};

/// A generation's two indexes.
pub struct Indexes {
    /// Whose.
    pub generation: Generation,
    directory: PathBuf,
    vectors: RwLock<Arc<dyn VectorIndex>>,
    lexical: RwLock<Arc<dyn LexicalIndex>>,
    failures: Mutex<BTreeMap<Kind, String>>,
}

/// How far one index of one generation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionStatus {
    /// The generation.
    pub generation_id: i64,
    /// `vectors` or `lexical`.
    pub index: &'static str,
    /// Chunks in it.
    pub chunks: usize,
    /// Changes it has yet to apply.
    pub backlog: u64,
    /// Why it does not get on, if so.
    pub failure: Option<String>,
}

/// What a comparison of an index with SQL found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexDifference {
    /// The generation.
    pub generation_id: i64,
    /// `vectors` or `lexical`.
    pub index: &'static str,
    /// Chunks of SQL that the index lacks.
    pub missing: usize,
    /// Chunks of the index that SQL does not have.
    pub surplus: usize,
}

/// The handle to every index; cloning is shallow.
#[derive(Clone)]
pub struct Projections {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    database: Database,
    root: PathBuf,
    generations: RwLock<BTreeMap<i64, Arc<Indexes>>>,
    signals: [Arc<Signal>; 2],
    /// Counts applied steps, so that a reader can wait for its own write.
    applied: watch::Sender<u64>,
    /// Counts writes that the indexes are to follow.
    changes: AtomicU64,
    stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Projections {
    pub(crate) fn start(database: Database, root: PathBuf) -> Result<Self, StorageError> {
        let shared = Arc::new(Shared {
            database,
            root,
            generations: RwLock::default(),
            signals: [Arc::default(), Arc::default()],
            applied: watch::Sender::new(0),
            changes: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            threads: Mutex::default(),
        });
        shared.refresh_generations()?;
        let mut threads = Vec::new();
        for kind in [Kind::Vectors, Kind::Lexical] {
            let lane = Lane::new(kind, Arc::clone(&shared));
            let thread = std::thread::Builder::new()
                .name(format!("holdfast-{}", kind.as_str()))
                .spawn(move || lane.run())
                .map_err(file_error("start the projections of", &shared.root))?;
            threads.push(thread);
        }
        *lock(&shared.threads) = threads;
        Ok(Self { shared })
    }

    /// Finishes the step under way, makes the indexes durable, ends the threads.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.wake();
        for thread in std::mem::take(&mut *lock(&self.shared.threads)) {
            if thread.join().is_err() {
                tracing::error!("a projection thread had panicked");
            }
        }
    }

    pub(crate) fn outbox_grew(&self) {
        self.shared.changes.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Opens the indexes of new generations, drops those of removed ones.
    pub(crate) fn generations_changed(&self) {
        self.shared.changes.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.shared.refresh_generations() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "failed to follow a change of generations; trying again"
            );
        }
        self.wake();
    }

    fn wake(&self) {
        for signal in &self.shared.signals {
            signal.raise();
        }
    }

    /// Another number after every write of documents, from before that write is acknowledged:
    /// what was read from SQL at one number holds as long as the number does. Starts anew with
    /// the process.
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::SeqCst)
    }

    /// The indexes of a generation.
    pub fn indexes(&self, generation_id: i64) -> Option<Arc<Indexes>> {
        read(&self.shared.generations).get(&generation_id).cloned()
    }

    /// Waits until `position` of the generation can be found in both indexes; true if so, false
    /// if `deadline` passed first. A generation that is gone has nothing to wait for.
    pub async fn wait_applied(&self, generation_id: i64, position: u64, deadline: Duration) -> bool {
        let mut applied = self.shared.applied.subscribe();
        let reached = || {
            self.indexes(generation_id).is_none_or(|indexes| {
                indexes.vectors().position() >= position && indexes.lexical().position() >= position
            })
        };
        let wait = async {
            while !reached() {
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(deadline, wait).await.is_ok()
    }

    /// Waits until everything written to the generation so far can be found; true if so.
    pub async fn wait_current(&self, generation_id: i64, deadline: Duration) -> Result<bool, StorageError> {
        let position = outbox::newest(&self.shared.database, generation_id)?;
        Ok(self.wait_applied(generation_id, position, deadline).await)
    }

    /// Where every index stands.
    pub fn status(&self) -> Result<Vec<ProjectionStatus>, StorageError> {
        let mut statuses = Vec::new();
        for indexes in self.shared.all() {
            let failures = lock(&indexes.failures).clone();
            for kind in [Kind::Vectors, Kind::Lexical] {
                let (position, chunks) = indexes.extent(kind);
                let id = indexes.generation.id;
                statuses.push(ProjectionStatus {
                    generation_id: id,
                    index: kind.as_str(),
                    chunks,
                    backlog: outbox::backlog(&self.shared.database, id, position)?,
                    failure: failures.get(&kind).cloned(),
                });
            }
        }
        Ok(statuses)
    }

    /// Compares every index with SQL, once both have applied what there is.
    pub fn compare(&self) -> Result<Vec<IndexDifference>, StorageError> {
        let mut differences = Vec::new();
        for indexes in self.shared.all() {
            let wanted = outbox::all_keys(&self.shared.database, indexes.generation.id)?;
            for kind in [Kind::Vectors, Kind::Lexical] {
                let held: std::collections::HashSet<_> = match kind {
                    Kind::Vectors => indexes.vectors().keys().into_iter().collect(),
                    Kind::Lexical => indexes.lexical().keys()?.into_iter().collect(),
                };
                let difference = IndexDifference {
                    generation_id: indexes.generation.id,
                    index: kind.as_str(),
                    missing: wanted.difference(&held).count(),
                    surplus: held.difference(&wanted).count(),
                };
                if difference.missing + difference.surplus > 0 {
                    differences.push(difference);
                }
            }
        }
        Ok(differences)
    }

    /// Looks whether the files of every index of a kind are there: the first that is not in order, with its generation.
    pub fn examine(&self, index: &str) -> Option<(i64, StorageError)> {
        self.shared.all().iter().find_map(|indexes| {
            let looked = if index == Kind::Vectors.as_str() {
                indexes.vectors().examine().map_err(StorageError::from)
            } else {
                indexes.lexical().examine().map_err(StorageError::from)
            };
            Some((indexes.generation.id, looked.err()?))
        })
    }

    /// Throws an index away and builds it anew from SQL, at the next waking.
    pub fn rebuild(&self, generation_id: i64, index: &str) -> Result<(), StorageError> {
        if let Some(indexes) = self.indexes(generation_id) {
            for kind in [Kind::Vectors, Kind::Lexical] {
                if kind.as_str() == index {
                    indexes.reset(kind)?;
                }
            }
        }
        self.wake();
        Ok(())
    }

    /// Bytes that the files of each kind of index have on disk. Blocks.
    pub fn disk_bytes(&self) -> [(&'static str, u64); 2] {
        let all = self.shared.all();
        [Kind::Vectors, Kind::Lexical].map(|kind| {
            let folders = all.iter().map(|indexes| indexes.directory.join(kind.as_str()));
            (kind.as_str(), folders.map(|folder| disk::size_of(&folder)).sum())
        })
    }

    /// Bytes the vector indexes hold in memory.
    pub fn memory_bytes(&self) -> usize {
        self.shared.all().iter().map(|indexes| indexes.vectors().memory_bytes()).sum()
    }
}

impl Shared {
    fn all(&self) -> Vec<Arc<Indexes>> {
        read(&self.generations).values().cloned().collect()
    }

    fn refresh_generations(&self) -> Result<(), StorageError> {
        // Held throughout, so that two refreshes cannot open one directory twice.
        let mut open = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.database.read(collections::generations)?;
        let gone: Vec<i64> =
            open.keys().filter(|id| !wanted.iter().any(|generation| generation.id == **id)).copied().collect();
        for id in gone {
            open.remove(&id);
        }
        for generation in wanted {
            if !open.contains_key(&generation.id) {
                let id = generation.id;
                open.insert(id, Arc::new(Indexes::open(&self.root, generation)?));
            }
        }
        remove_orphans(&self.root, &open)
    }

    /// Removes what a step under way has put back into the folder of a removed generation.
    fn sweep(&self) {
        if let Err(error) = remove_orphans(&self.root, &read(&self.generations)) {
            tracing::debug!(error = &error as &dyn std::error::Error, "an old index is still in use");
        }
    }
}

/// Index directories of generations that are no more, from now or from before a crash.
fn remove_orphans(root: &Path, open: &BTreeMap<i64, Arc<Indexes>>) -> Result<(), StorageError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file_error("list", root)(error)),
    };
    for entry in entries {
        let path = entry.map_err(file_error("list", root))?.path();
        let id = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix('g'))
            .and_then(|id| id.parse::<i64>().ok());
        if id.is_some_and(|id| !open.contains_key(&id)) {
            fs::remove_dir_all(&path).map_err(file_error("remove", &path))?;
        }
    }
    Ok(())
}

impl Indexes {
    fn open(root: &Path, generation: Generation) -> Result<Self, StorageError> {
        let directory = root.join(format!("g{}", generation.id));
        let vectors = open_vectors(&directory, &generation)?;
        let lexical = open_lexical(&directory)?;
        Ok(Self {
            generation,
            directory,
            vectors: RwLock::new(vectors),
            lexical: RwLock::new(lexical),
            failures: Mutex::default(),
        })
    }

    /// The vectors.
    pub fn vectors(&self) -> Arc<dyn VectorIndex> {
        read(&self.vectors).clone()
    }

    /// The words.
    pub fn lexical(&self) -> Arc<dyn LexicalIndex> {
        read(&self.lexical).clone()
    }

    /// Changes with every change that a search could see.
    pub fn version(&self) -> (u64, u64) {
        (self.vectors().position(), self.lexical().position())
    }

    fn extent(&self, kind: Kind) -> (u64, usize) {
        match kind {
            Kind::Vectors => {
                let index = self.vectors();
                (index.position(), index.len())
            }
            Kind::Lexical => {
                let index = self.lexical();
                (index.position(), index.len())
            }
        }
    }

    /// An empty index in the place of the present one.
    fn reset(&self, kind: Kind) -> Result<(), StorageError> {
        let path = self.directory.join(kind.as_str());
        match kind {
            Kind::Vectors => {
                let mut held = self.vectors.write().unwrap_or_else(PoisonError::into_inner);
                remove_all(&path)?;
                *held = open_vectors(&self.directory, &self.generation)?;
            }
            Kind::Lexical => {
                let mut held = self.lexical.write().unwrap_or_else(PoisonError::into_inner);
                // A merge that still ran would write into the folder of the new one.
                if let Err(error) = held.rest() {
                    tracing::debug!(%error, "the old lexical index did not come to rest in order");
                }
                remove_all(&path)?;
                *held = open_lexical(&self.directory)?;
            }
        }
        Ok(())
    }

    fn set_failure(&self, kind: Kind, failure: Option<String>) {
        let mut failures = lock(&self.failures);
        match failure {
            Some(reason) => failures.insert(kind, reason),
            None => failures.remove(&kind),
        };
    }
}

fn open_vectors(directory: &Path, generation: &Generation) -> Result<Arc<dyn VectorIndex>, StorageError> {
    let path = directory.join(Kind::Vectors.as_str());
    let open = || UsearchIndex::open(&path, generation.space.dimensions, &generation.space.fingerprint);
    match open() {
        Err(error) if error.is_damage() => {
            tracing::warn!(%error, "the vector index is damaged; building it anew");
            remove_all(&path)?;
            Ok(Arc::new(open()?))
        }
        opened => Ok(Arc::new(opened?)),
    }
}

fn open_lexical(directory: &Path) -> Result<Arc<dyn LexicalIndex>, StorageError> {
    let path = directory.join(Kind::Lexical.as_str());
    match TantivyIndex::open(&path) {
        Err(error) if error.is_damage() => {
            tracing::warn!(%error, "the lexical index is damaged; building it anew");
            remove_all(&path)?;
            Ok(Arc::new(TantivyIndex::open(&path)?))
        }
        opened => Ok(Arc::new(opened?)),
    }
}

fn remove_all(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error("remove", path)(error)),
        _ => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
