//! Folds the event log into what was learned: which interactions were worth something, what they were like, what of the
//! context was of use.
//!
//! The log is the truth, and everything here can be derived again from it. One worker derives ([`worker`]); everybody
//! reads. Who asked, and who answered them, is not known here: events are data.

pub mod archive;
pub mod batch;
mod cluster;
pub mod dataset;
mod drop_folder;
pub mod evaluate;
pub mod exported;
mod failures;
pub mod fingerprint;
mod health;
mod interactions;
pub mod lessons;
mod line;
pub mod near;
pub mod patterns;
pub mod redact;
mod similar;
#[cfg(test)]
mod tests;
pub mod told;
pub mod useful;
pub mod value;
mod views;
mod worker;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use holdfast_storage::{
    Caller, EventLog, LearningStore, Scope, StorageError,
    datasets::Datasets,
    events::{AppendError, EVENT_BYTES_MAX, EventFilter, NewEvent, archive::ArchiveError},
    learning::{Counts, Evidence, InteractionRow, KindCount, KnownError, LessonCounts, Pattern},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use drop_folder::{DropFolder, FolderError, FolderStatus, FollowedFile, GAP_FOUND, Settings, Taken};
pub use interactions::is_success;
pub use lessons::Lesson;
pub use line::RESERVED_KINDS;
pub use similar::{Encode, Encoded, NotEncoded};
pub use worker::{Role, StageStatus, WorkerStatus};

use similar::blocking;
use told::{BadTold, INTERACTION_TOLD, OUTCOME_TOLD, OutcomeTold, TOLD_VERSION, Told};
use worker::Worker;

/// How often whoever waits for what is derived looks for what another worker did.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How far ahead of this machine's clock a moment may be that somebody tells of.
const AHEAD_MAX_MS: i64 = 5 * 60 * 1_000;

/// What learning is built from.
pub struct Parts {
    /// What is derived.
    pub store: LearningStore,
    /// What it is derived from.
    pub log: EventLog,
    /// Where datasets are.
    pub datasets: Datasets,
    /// Makes vectors; without it nothing is compared.
    pub encode: Option<Arc<dyn Encode>>,
    /// Where what was learned is put to use; without it nothing is.
    pub shelf: Option<Arc<dyn Shelf>>,
    /// Into which other programs write events.
    pub drop_folder: Option<DropFolder>,
    /// Where old events go, and when; without it they stay.
    pub keeping: Option<archive::Keeping>,
    /// Ends everything started here.
    pub shutdown: CancellationToken,
    /// Counts everything started here.
    pub tasks: TaskTracker,
}

/// Where what was learned is put to use.
pub trait Shelf: Send + Sync {
    /// Has documents, named by their ids, moved in rankings by so much from now on, and no others.
    fn rank_by(&self, boosts: Vec<(String, f32)>);

    /// The documents that a search finds, by their ids, best first.
    fn find(&self, caller: Caller, asked: Asked) -> Finding<'_>;

    /// Has search find these lessons of a tenant, and no longer those of these ids. Saying it again changes nothing.
    fn keep(&self, tenant: String, lessons: Vec<Lesson>, remove: Vec<String>) -> Keeping<'_>;

    /// Stands for everything that decides what a search finds, but what is stored and what was learned.
    fn settings(&self) -> String;
}

/// What is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The question.
    pub query: String,
    /// Where; in the default collection where none is named.
    pub collections: Vec<String>,
    /// Documents at most.
    pub limit: usize,
    /// Whether what was learned of documents counts.
    pub by_usefulness: bool,
}

/// The documents of a search, to come, or why there are none, in words that may be shown.
pub type Finding<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + 'a>>;

/// Something that is to be findable, or why it is not, in words that may be shown.
pub type Keeping<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// The handle to what was learned; cloning is shallow.
#[derive(Clone)]
pub struct Learning {
    store: LearningStore,
    log: EventLog,
    datasets: Datasets,
    encode: Option<Arc<dyn Encode>>,
    /// Held while a dataset is built.
    building: Arc<tokio::sync::Mutex<()>>,
    status: Arc<Mutex<WorkerStatus>>,
    shelf: Option<Arc<dyn Shelf>>,
    drop_folder: Option<DropFolder>,
    keeper: Option<Arc<archive::Keeper>>,
    shutdown: CancellationToken,
    health: Arc<health::Watch>,
    progress: watch::Receiver<()>,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// There is no such interaction, or it is somebody else's.
    #[error("there is no interaction of that id")]
    NotFound,

    /// There is one of that id, and it is somebody else's or another one.
    #[error("there is already an interaction of that id")]
    Exists,

    /// There is no such dataset.
    #[error("there is no dataset of that name and version")]
    NoDataset,

    /// There is nothing to search with, or nothing to ask.
    #[error("{reason}")]
    NotEvaluated {
        /// Which.
        reason: String,
    },

    /// A dataset is being built.
    #[error("a dataset is being built; one is at a time")]
    Busy,

    /// What was told makes no sense.
    #[error(transparent)]
    Bad(#[from] BadTold),

    /// An event of a batch cannot be put on record.
    #[error("event {index} of the batch: {problem}")]
    BadEvent {
        /// Which, counted from 0.
        index: usize,
        /// What about it.
        problem: String,
    },

    /// The key came with another batch within the last day.
    #[error("the key was used for another batch of events")]
    KeyReused,

    /// It is larger than an event may be.
    #[error("what is told has {size_bytes} bytes; at most {EVENT_BYTES_MAX} are taken")]
    TooLarge {
        /// How large it is.
        size_bytes: usize,
    },

    /// The archive of the log is not what it should be.
    #[error(transparent)]
    Archive(ArchiveError),

    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<ArchiveError> for LearnError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Storage(error) => Self::Storage(error),
            other => Self::Archive(other),
        }
    }
}

/// What is known of an interaction.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its row.
    pub row: InteractionRow,
    /// What its value is made of.
    pub parts: value::Parts,
    /// What was said about it, in the order in which it came.
    pub evidence: Vec<Evidence>,
}

/// How far learning is.
#[derive(Clone, Debug)]
pub struct Stats {
    /// What the worker shows of itself.
    pub worker: WorkerStatus,
    /// The last event of the log.
    pub log_position: u64,
    /// Each stage that folds the log: its name, the last event that it has folded, and what it folded, skipped and could not
    /// read.
    pub checkpoints: Vec<(String, holdfast_storage::learning::Checkpoint)>,
    /// Interactions there are, and those in which something has to be derived anew.
    pub interactions: Counts,
    /// Events of each kind.
    pub kinds: Vec<KindCount>,
    /// Bytes of what is derived.
    pub size_bytes: u64,
    /// Patterns and failures.
    pub lessons: LessonCounts,
    /// How it is with the drop folder.
    pub drop_folder: Option<FolderStatus>,
}

impl Learning {
    /// Begins to derive in the background.
    pub fn start(parts: Parts) -> Self {
        let Parts { store, log, datasets, encode, shelf, drop_folder, keeping, shutdown, tasks } = parts;
        let keeper = keeping.map(|keeping| Arc::new(archive::Keeper::new(keeping)));
        let status = Arc::<Mutex<WorkerStatus>>::default();
        let (sender, progress) = watch::channel(());
        let worker = Worker {
            store: store.clone(),
            log: log.clone(),
            encode: encode.clone(),
            shelf: shelf.clone(),
            status: Arc::clone(&status),
            progress: sender,
            archive: keeper.as_ref().map(|keeper| keeper.keeping.archive.clone()),
            shutdown: shutdown.clone(),
        };
        tasks.spawn(worker.run());
        if let Some(folder) = drop_folder.clone() {
            let stop = shutdown.clone();
            tasks.spawn(async move { folder.run(stop).await });
        }
        let this = Self {
            store,
            log,
            datasets,
            encode,
            building: Arc::default(),
            status,
            shelf,
            drop_folder,
            keeper,
            shutdown: shutdown.clone(),
            health: Arc::default(),
            progress,
        };
        if this.keeper.is_some() {
            tasks.spawn(this.clone().keep_archive(shutdown));
        }
        this
    }

    /// Puts an interaction on record that did not go through here, durably. One that is told again under the same id,
    /// word for word, changes nothing.
    ///
    /// # Errors
    /// [`LearnError::Bad`] and [`LearnError::TooLarge`] for what cannot be put on record, [`LearnError::Exists`] for an
    /// id that is taken.
    pub async fn tell(
        &self,
        caller: &Caller,
        id: Option<Uuid>,
        session: Option<String>,
        at_ms: Option<i64>,
        told: &Told,
    ) -> Result<Uuid, LearnError> {
        told.check()?;
        let at_ms = moment(at_ms)?;
        let body = body(told)?;
        if let Some(id) = id
            && let Some(known) = self.first_event(id).await?
        {
            let is_same = &*known.kind == INTERACTION_TOLD && *known.caller == *caller.id() && known.body == body;
            return if is_same { Ok(id) } else { Err(LearnError::Exists) };
        }
        let id = id.unwrap_or_else(Uuid::now_v7);
        self.append(caller, INTERACTION_TOLD, id, session, at_ms, body).await?;
        Ok(id)
    }

    /// Puts on record how an interaction went, durably. It may be said late, twice, and corrected: of each part what was
    /// said last counts.
    ///
    /// # Errors
    /// [`LearnError::NotFound`] also for somebody else's interaction.
    pub async fn outcome(
        &self,
        caller: &Caller,
        id: Uuid,
        at_ms: Option<i64>,
        told: &OutcomeTold,
    ) -> Result<(), LearnError> {
        told.check()?;
        if told.is_empty() {
            return Err(BadTold { field: "outcome", problem: "and all else is missing".into() }.into());
        }
        let at_ms = moment(at_ms)?;
        let body = body(told)?;
        if !self.is_theirs(caller, id).await? {
            return Err(LearnError::NotFound);
        }
        self.append(caller, OUTCOME_TOLD, id, None, at_ms, body).await
    }

    /// What is known of an interaction of the caller's, or of anybody's for who may read all. It is as new as the stages
    /// are, which [`Learning::stats`] tells.
    ///
    /// # Errors
    /// [`LearnError::NotFound`] also for somebody else's interaction, and for one that was not folded yet.
    pub async fn known(&self, caller: &Caller, id: Uuid) -> Result<Known, LearnError> {
        let store = self.store.clone();
        let read = move || {
            store.read(|fold| match fold.interaction(id)? {
                Some(row) => Ok(Some((row, fold.evidence(id)?))),
                None => Ok(None),
            })
        };
        let found = blocking(read).await.map_err(|_| StorageError::Closed)??;
        let (mut row, evidence) = found.filter(|(row, _)| may_see(caller, &row.caller)).ok_or(LearnError::NotFound)?;
        if !caller.may(Scope::InteractionsRead) {
            // It may be somebody else's.
            row.nearest_id = None;
        }
        Ok(Known { parts: value::Parts::of(&row), row, evidence })
    }

    /// The patterns of the caller's interactions, or of everybody's for who may read all, worth most first, without the
    /// first so many.
    ///
    /// # Errors
    /// [`LearnError::Storage`].
    pub async fn patterns(&self, caller: &Caller, after: usize, limit: usize) -> Result<Vec<Pattern>, LearnError> {
        let (store, whose) = (self.store.clone(), whose(caller));
        let read = move || store.read(|fold| fold.patterns(whose.as_deref(), after, limit));
        Ok(blocking(read).await.map_err(|_| StorageError::Closed)??)
    }

    /// The failures that the caller's interactions told of, or everybody's for who may read all, seen most first, without
    /// the first so many.
    ///
    /// # Errors
    /// [`LearnError::Storage`].
    pub async fn known_errors(
        &self,
        caller: &Caller,
        after: usize,
        limit: usize,
    ) -> Result<Vec<KnownError>, LearnError> {
        let (store, whose) = (self.store.clone(), whose(caller));
        let read = move || store.read(|fold| fold.known_errors(whose.as_deref(), after, limit));
        Ok(blocking(read).await.map_err(|_| StorageError::Closed)??)
    }

    /// How far learning is.
    ///
    /// # Errors
    /// [`LearnError::Storage`].
    pub async fn stats(&self) -> Result<Stats, LearnError> {
        let (store, worker) = (self.store.clone(), self.status());
        let drop_folder = self.drop_folder.as_ref().map(DropFolder::status);
        let log_position = self.log.last_position();
        let read = move || {
            let checkpoints = store.checkpoints()?;
            let (interactions, kinds, lessons) =
                store.read(|fold| Ok((fold.counts()?, fold.kinds()?, fold.lesson_counts()?)))?;
            let size_bytes = store.size_bytes();
            Ok(Stats { worker, log_position, checkpoints, interactions, kinds, size_bytes, lessons, drop_folder })
        };
        blocking(read).await.map_err(|_| StorageError::Closed)?
    }

    /// Returns once everything that is on record now is derived, but for vectors where there is no model to make them.
    /// Never, while a stage fails or nobody derives.
    ///
    /// # Errors
    /// [`LearnError::Storage`], also at shutdown.
    pub async fn caught_up(&self) -> Result<(), LearnError> {
        self.log.flush().await?;
        let target = self.log.last_position();
        let mut progress = self.progress.clone();
        loop {
            progress.mark_unchanged();
            let store = self.store.clone();
            let read = move || {
                let stages = store.checkpoints()?;
                let counts = store.read(|fold| fold.counts())?;
                Ok::<_, StorageError>((stages, counts))
            };
            let (stages, counts) = blocking(read).await.map_err(|_| StorageError::Closed)??;
            let is_folded = stages.iter().any(|(name, at)| name == interactions::STAGE && at.position >= target);
            let due =
                counts.values_due + counts.failures_due + if self.encode.is_some() { counts.vectors_due } else { 0 };
            if (is_folded || target == 0) && due == 0 {
                return Ok(());
            }
            // Where another worker derives, nothing here changes but the rows.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_EVERY, progress.changed()).await {
                return Err(StorageError::Closed.into());
            }
        }
    }

    /// What the worker shows of itself.
    pub fn status(&self) -> WorkerStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the check of the file of what is derived complains of. It can be removed while no server runs: it is derived anew.
    ///
    /// # Errors
    /// [`LearnError::Storage`] where it cannot be read.
    pub async fn doctor(&self) -> Result<Vec<String>, LearnError> {
        let store = self.store.clone();
        Ok(blocking(move || store.integrity()).await.map_err(|_| StorageError::Closed)??)
    }

    async fn append(
        &self,
        caller: &Caller,
        kind: &'static str,
        interaction: Uuid,
        session: Option<String>,
        at_ms: i64,
        body: Vec<u8>,
    ) -> Result<(), LearnError> {
        let event = NewEvent {
            id: Uuid::now_v7(),
            kind: kind.into(),
            version: TOLD_VERSION,
            // A key's data is its own, as the coordinator has it.
            tenant: caller.id().into(),
            interaction: Some(interaction),
            session: session.map(Into::into),
            caller: caller.id().into(),
            at_ms,
            body,
        };
        match self.log.append(vec![event]).await {
            Ok(_) => Ok(()),
            Err(AppendError::Storage(error)) => Err(error.into()),
            Err(AppendError::Bad(bad)) => Err(BadTold { field: "session", problem: bad.to_string().into() }.into()),
            Err(AppendError::TooMany { size_bytes, .. }) => Err(LearnError::TooLarge { size_bytes }),
            // What only marks and keys can fail with, of which there are none here.
            Err(other) => Err(BadTold { field: "body", problem: other.to_string().into() }.into()),
        }
    }

    /// The event that first told of an interaction. What a turn recorded a moment ago is waited for.
    async fn first_event(&self, id: Uuid) -> Result<Option<holdfast_storage::events::Event>, LearnError> {
        self.log.flush().await?;
        let log = self.log.clone();
        let read = move || log.of_interaction(id, &EventFilter::default());
        let events = blocking(read).await.map_err(|_| StorageError::Closed)??;
        Ok(events.into_iter().next())
    }

    /// Whether an interaction is there and the caller's. Where the log has let go of it, its row tells.
    async fn is_theirs(&self, caller: &Caller, id: Uuid) -> Result<bool, LearnError> {
        if let Some(event) = self.first_event(id).await? {
            return Ok(may_see(caller, &event.caller));
        }
        match self.known(caller, id).await {
            Ok(_) => Ok(true),
            Err(LearnError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whose data a caller sees; everybody's where nothing.
fn whose(caller: &Caller) -> Option<String> {
    (!caller.may(Scope::InteractionsRead)).then(|| caller.id().to_owned())
}

fn may_see(caller: &Caller, whose: &str) -> bool {
    caller.id() == whose || caller.may(Scope::InteractionsRead)
}

fn body(told: &impl serde::Serialize) -> Result<Vec<u8>, LearnError> {
    let body =
        serde_json::to_vec(told).map_err(|_| BadTold { field: "body", problem: "cannot be written as JSON".into() })?;
    if body.len() > EVENT_BYTES_MAX {
        return Err(LearnError::TooLarge { size_bytes: body.len() });
    }
    Ok(body)
}

/// When something happened: now, where nobody said. What has not happened yet is refused, since of two corrections the
/// later one counts.
fn moment(at_ms: Option<i64>) -> Result<i64, LearnError> {
    let now_ms = now_ms();
    let Some(at_ms) = at_ms else { return Ok(now_ms) };
    if at_ms < 0 || at_ms > now_ms.saturating_add(AHEAD_MAX_MS) {
        return Err(BadTold { field: "at_ms", problem: "is before 1970 or in the future".into() }.into());
    }
    Ok(at_ms)
}

/// Unix milliseconds.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
