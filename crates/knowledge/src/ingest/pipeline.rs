//! The pipeline's stages. See the parent module for how they are joined.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use half::f16;
use holdfast_embedding::{EmbedError, Embedder, ModelState, Models, Priority, Purpose, Tokens};
use holdfast_resilience::health::Queue;
use holdfast_storage::{
    Grants, Storage, StorageError,
    collections::{Generation, GenerationState, NewSpace},
    documents::{Change, EmbedHash},
    jobs::JobItem,
    sources::{FileProblem, SourceFile},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    accept::Claim,
    prepare::{self, Destination, Incoming, Prepared},
    progress::{Job, Outcome},
};
use crate::{
    KnowledgeError, NewDocument, TroubleCode,
    files::{self, FileEntry, FileLimits},
    split::SplitConfig,
};

/// Work that waits to be prepared.
const QUEUED_MAX: usize = 256;
/// Documents between two stages.
const BETWEEN_STAGES_MAX: usize = 64;
/// Texts of one request: enough for all of the encoder's threads, few enough that the first documents
/// can be found at once.
const TEXTS_PER_REQUEST: usize = 64;
/// Documents committed together.
const WRITES_PER_BATCH: usize = 64;
/// KiB of text in the pipeline at once.
const TEXT_BUDGET_KIB: u32 = 64 * 1024;
/// How many documents are read and split at once.
const PREPARERS: usize = 2;
/// How long a failing disk is left alone before the next try.
const STORAGE_PAUSE: Duration = Duration::from_secs(1);

/// Something to be indexed.
pub(crate) struct Work {
    pub origin: Origin,
    pub target: Arc<Target>,
    /// The job it counts for; accepted documents keep their own account.
    pub job: Option<Arc<Job>>,
    /// Of an accepted document: held until it is settled.
    pub claim: Option<Claim>,
}

/// Where a document comes from.
pub(crate) enum Origin {
    /// A file of a source.
    File { source_id: i64, entry: FileEntry, known: Option<KnownFile> },
    /// A document handed over.
    Accepted { item: JobItem, document: Box<NewDocument> },
    /// A stored document, for another generation.
    Stored { row: i64 },
}

/// A file that is a document already, as it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownFile {
    pub content_hash: [u8; 32],
    pub modified_ns: i64,
}

/// Where documents of a collection go, and what makes their vectors.
pub(crate) struct Target {
    pub collection: String,
    pub generation: Generation,
    pub embedder: Embedder,
    pub tokens: Arc<Tokens>,
    pub split: SplitConfig,
}

/// Finds out where a collection's documents go; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Targets {
    storage: Storage,
    models: Models,
    split: SplitConfig,
}

impl Targets {
    pub(crate) fn new(storage: Storage, models: Models, split: SplitConfig) -> Self {
        Self { storage, models, split }
    }

    /// The collection's active generation, made where there is none. Waits for the model.
    pub(crate) async fn active(&self, collection: &str) -> Result<Arc<Target>, KnowledgeError> {
        let (id, model, _) = self.storage.active_generation(&Grants::All, collection)?;
        self.target(collection, id, &model, GenerationState::Active).await
    }

    /// The generation that re-embedding with `model` builds, made where there is none.
    pub(crate) async fn building(&self, collection: &str, model: &str) -> Result<Arc<Target>, KnowledgeError> {
        let (id, _, _) = self.storage.active_generation(&Grants::All, collection)?;
        self.target(collection, id, model, GenerationState::Building).await
    }

    async fn target(
        &self,
        collection: &str,
        collection_id: i64,
        model: &str,
        state: GenerationState,
    ) -> Result<Arc<Target>, KnowledgeError> {
        let embedder = self.models.get(model)?;
        embedder.ready().await?;
        let tokens = embedder.tokenizer()?;
        let offered = new_space(&embedder)?;
        let generation = self
            .storage
            .ensure_generation(collection_id, state, offered)
            .await
            .map_err(|error| named(error, collection))?;
        let split = prepare::split_config(&self.split, &tokens);
        let collection = collection.to_owned();
        Ok(Arc::new(Target { collection, generation, embedder, tokens, split }))
    }
}

fn new_space(embedder: &Embedder) -> Result<NewSpace, KnowledgeError> {
    let space = embedder.space()?;
    Ok(NewSpace {
        fingerprint: space.fingerprint(),
        model: space.model.clone(),
        dimensions: space.dimensions,
        description: serde_json::to_string(space.as_ref())
            .map_err(|_| StorageError::Unreadable { what: "the embedding space" })?,
    })
}

/// A refusal of a space names the collection it is about.
fn named(error: StorageError, collection: &str) -> KnowledgeError {
    match error {
        StorageError::OtherSpace { held, offered } if held == offered => {
            KnowledgeError::OtherSpace { collection: collection.to_owned(), model: offered }
        }
        StorageError::OtherSpace { held, offered } => {
            KnowledgeError::OtherModel { collection: collection.to_owned(), held, offered }
        }
        other => other.into(),
    }
}

/// The handle to the pipeline; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Pipeline {
    queue: mpsc::Sender<Work>,
    settled: watch::Sender<u64>,
    standing: Arc<Standing>,
}

/// How the pipeline gets on, for those who look after it.
#[derive(Default)]
struct Standing {
    /// What each stage waits for that is not work, if anything.
    obstacles: Mutex<BTreeMap<&'static str, String>>,
    /// When something was last settled, or work came into an empty pipeline.
    moved: Mutex<Option<Instant>>,
    /// Works handed over and not settled.
    under_way: AtomicU64,
}

impl Standing {
    /// Notes what a stage waits for, or that it gets on.
    fn wait_for(&self, stage: &'static str, obstacle: Option<String>) {
        let mut obstacles = lock(&self.obstacles);
        match obstacle {
            Some(obstacle) => {
                obstacles.insert(stage, obstacle);
            }
            // Most of the time there is nothing to take out.
            None if !obstacles.is_empty() => {
                obstacles.remove(stage);
            }
            None => {}
        }
    }

    fn begun(&self) {
        if self.under_way.fetch_add(1, Ordering::SeqCst) == 0 {
            *lock(&self.moved) = Some(Instant::now());
        }
    }

    fn settled(&self) {
        // Work can be settled that another process handed over; it never was under way here.
        let _ = self.under_way.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
        *lock(&self.moved) = Some(Instant::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every stage has at hand.
#[derive(Clone)]
struct Stage {
    storage: Storage,
    limits: FileLimits,
    shutdown: CancellationToken,
    settled: watch::Sender<u64>,
    standing: Arc<Standing>,
}

/// A prepared document on its way, holding its share of the budget.
struct Moving {
    prepared: Prepared,
    target: Arc<Target>,
    job: Option<Arc<Job>>,
    _claim: Option<Claim>,
    _budget: OwnedSemaphorePermit,
}

impl Pipeline {
    pub(crate) fn start(
        storage: Storage,
        limits: FileLimits,
        shutdown: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUED_MAX);
        let (to_embed, from_prepare) = mpsc::channel(BETWEEN_STAGES_MAX);
        let (to_write, from_embed) = mpsc::channel(BETWEEN_STAGES_MAX);
        let settled = watch::Sender::new(0);
        let standing = Arc::<Standing>::default();
        let stage = Stage { storage, limits, shutdown, settled: settled.clone(), standing: Arc::clone(&standing) };
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let budget = Arc::new(Semaphore::new(TEXT_BUDGET_KIB as usize));
        for _ in 0..PREPARERS {
            tasks.spawn(stage.clone().prepare(Arc::clone(&waiting), Arc::clone(&budget), to_embed.clone()));
        }
        tasks.spawn(stage.clone().embed(from_prepare, to_write));
        tasks.spawn(stage.write(from_embed));
        Self { queue, settled, standing }
    }

    /// Hands work over, waiting for a place.
    pub(crate) async fn submit(&self, work: Work) -> Result<(), KnowledgeError> {
        self.queue.send(work).await.map_err(|_| KnowledgeError::ShuttingDown)?;
        self.standing.begun();
        Ok(())
    }

    /// Changes whenever something was settled.
    pub(crate) fn settled(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    /// What waits to be prepared.
    pub(crate) fn queue(&self) -> Queue {
        Queue { name: "ingest", length: QUEUED_MAX - self.queue.capacity(), limit: QUEUED_MAX }
    }

    /// What it waits for that is not work, if anything.
    pub(crate) fn obstacle(&self) -> Option<String> {
        lock(&self.standing.obstacles).values().next().cloned()
    }

    /// How long nothing was settled although there is something under way.
    pub(crate) fn stuck_for(&self) -> Option<Duration> {
        let busy = self.standing.under_way.load(Ordering::SeqCst) > 0;
        lock(&self.standing.moved).filter(|_| busy).map(|moved| moved.elapsed())
    }
}

impl Stage {
    /// Reads and splits, until the queue is closed or the knowledge base shuts down.
    async fn prepare(
        self,
        waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Work>>>,
        budget: Arc<Semaphore>,
        to_embed: mpsc::Sender<Moving>,
    ) {
        loop {
            let next = async { waiting.lock().await.recv().await };
            let work = tokio::select! {
                () = self.shutdown.cancelled() => return,
                work = next => work,
            };
            let Some(work) = work else { return };
            let share = share_of(&work, &self.limits);
            let Ok(budget) = Arc::clone(&budget).acquire_many_owned(share).await else { return };
            let account = Account { job: work.job.clone(), item: work.origin.item() };
            let stage = self.clone();
            // Reading and splitting block; the blocking pool is where that is allowed.
            let read = tokio::task::spawn_blocking(move || stage.read(work, budget)).await;
            let moving = match read {
                Ok(Ok(read)) => self.follow_up(&account, read).await,
                Ok(Err(failure)) => {
                    self.fail(&account, failure.code, failure.error.as_ref()).await;
                    None
                }
                Err(panic) => {
                    self.fail(&account, TroubleCode::NotSplittable, &panic).await;
                    None
                }
            };
            if let Some(moving) = moving
                && to_embed.send(moving).await.is_err()
            {
                return;
            }
        }
    }

    /// Reads and splits one document; blocks.
    fn read(&self, work: Work, budget: OwnedSemaphorePermit) -> Result<Read, Failure> {
        let Work { origin, target, job, claim } = work;
        let incoming = match self.incoming(origin, &target)? {
            ReadText::Incoming(incoming) => incoming,
            ReadText::Other(read) => return Ok(read),
        };
        let destination =
            Destination { collection_id: target.generation.collection_id, generation_id: target.generation.id };
        let prepared = prepare::prepare(*incoming, destination, &target.tokens, &target.split)
            .map_err(|error| Failure { code: TroubleCode::NotSplittable, error: error.into() })?;
        Ok(Read::Document(Box::new(Moving { prepared, target, job, _claim: claim, _budget: budget })))
    }

    /// Records what reading found out; gives back what goes on to be embedded.
    async fn follow_up(&self, account: &Account, read: Read) -> Option<Moving> {
        let (recorded, outcome) = match read {
            Read::Document(moving) => return Some(*moving),
            Read::Unchanged { touched: None } => (Ok(()), Outcome::Done),
            Read::Unchanged { touched: Some((source_id, path, modified_ns)) } => {
                (self.touch(source_id, path, modified_ns).await, Outcome::Done)
            }
            Read::Skipped { source_id, file } => (self.skip(source_id, *file).await, Outcome::Skipped),
        };
        match recorded {
            Ok(()) => self.settle(account, outcome),
            Err(error) => self.fail(account, TroubleCode::StorageFailed, &error).await,
        }
        None
    }

    async fn touch(&self, source_id: i64, path: String, modified_ns: i64) -> Result<(), StorageError> {
        loop {
            match self.storage.touch_file(source_id, path.clone(), modified_ns).await {
                Err(error) => self.await_disk(error).await?,
                touched => {
                    self.standing.wait_for("disk", None);
                    return touched;
                }
            }
        }
    }

    async fn skip(&self, source_id: i64, file: SourceFile) -> Result<(), StorageError> {
        loop {
            match self.storage.skip_files(source_id, vec![file.clone()]).await {
                Err(error) => self.await_disk(error).await?,
                skipped => {
                    self.standing.wait_for("disk", None);
                    return skipped;
                }
            }
        }
    }

    fn incoming(&self, origin: Origin, target: &Target) -> Result<ReadText, Failure> {
        match origin {
            Origin::File { source_id, entry, known } => Ok(self.read_file(source_id, &entry, known, target)),
            Origin::Accepted { item, document } => {
                let incoming = Incoming::from_request(&target.collection, *document, item);
                Ok(ReadText::Incoming(Box::new(incoming)))
            }
            Origin::Stored { row } => {
                self.read_stored(row).map_err(|error| Failure { code: TroubleCode::StorageFailed, error: error.into() })
            }
        }
    }

    /// A file's text, unless it is what it was.
    fn read_file(&self, source_id: i64, entry: &FileEntry, known: Option<KnownFile>, target: &Target) -> ReadText {
        let path = entry.path().to_string_lossy().into_owned();
        let mut file = SourceFile {
            path: path.clone(),
            size_bytes: entry.size,
            modified_ns: entry.modified_ns,
            content_hash: None,
            problem: None,
        };
        let read = match files::read(entry, &self.limits) {
            Ok(read) => read,
            Err(reason) => {
                file.problem = Some(FileProblem { code: reason.code().to_owned(), detail: reason.to_string() });
                return ReadText::Other(Read::Skipped { source_id, file: Box::new(file) });
            }
        };
        if let Some(known) = known
            && known.content_hash == read.hash
        {
            let newer = known.modified_ns != read.modified_ns;
            let touched = newer.then_some((source_id, path, read.modified_ns));
            return ReadText::Other(Read::Unchanged { touched });
        }
        file.size_bytes = read.size;
        file.modified_ns = read.modified_ns;
        file.content_hash = Some(read.hash);
        let name = entry.relative.rsplit('/').next().unwrap_or(&entry.relative).to_owned();
        ReadText::Incoming(Box::new(Incoming {
            public_id: prepare::file_document_id(&target.collection, &path),
            path: Some(path),
            title: None,
            fallback_title: name,
            content_type: None,
            content_hash: read.hash,
            metadata: serde_json::json!({}),
            text: read.text,
            text_is_split: false,
            source_id: Some(source_id),
            file: Some(file),
            job_item: None,
            made_from: None,
        }))
    }

    /// A stored document as it came in, as far as that can still be told.
    fn read_stored(&self, row: i64) -> Result<ReadText, StorageError> {
        let Some(document) = self.storage.document_by_row(row)? else {
            return Ok(ReadText::Other(Read::Unchanged { touched: None }));
        };
        let text = self.storage.document_text(row)?;
        let file_name = document.path.as_deref().and_then(|path| path.rsplit('/').next());
        let unnamed = file_name.unwrap_or(&document.public_id) == document.title;
        // A file's title is its own or its name; only what was handed over may have been given
        // one.
        let given = document.source_row.is_none() && !unnamed;
        Ok(ReadText::Incoming(Box::new(Incoming {
            title: given.then(|| document.title.clone()),
            fallback_title: document.title,
            source_id: document.source_row,
            public_id: document.public_id,
            path: document.path,
            content_type: Some(document.content_type),
            content_hash: document.content_hash,
            metadata: document.metadata,
            text,
            text_is_split: true,
            file: None,
            job_item: None,
            made_from: Some(document.revision),
        })))
    }

    /// Adds the vectors, until the stage before ends.
    async fn embed(self, mut from_prepare: mpsc::Receiver<Moving>, to_write: mpsc::Sender<Moving>) {
        while let Some(first) = from_prepare.recv().await {
            let group = gather(first, &mut from_prepare);
            for batch in by_generation(group) {
                let embedded = tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    embedded = self.embed_batch(batch) => embedded,
                };
                for moving in embedded {
                    if to_write.send(moving).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The documents of `batch` whose vectors are complete; the others are settled as failed.
    async fn embed_batch(&self, mut batch: Vec<Moving>) -> Vec<Moving> {
        let Some(target) = batch.first().map(|moving| Arc::clone(&moving.target)) else {
            return batch;
        };
        let mut missing = match self.missing(&target, &batch).await {
            Ok(missing) => missing,
            Err(error) => {
                for moving in batch {
                    self.fail(&Account::of(&moving), TroubleCode::StorageFailed, &error).await;
                }
                return Vec::new();
            }
        };
        let mut vectors = HashMap::with_capacity(missing.len());
        while !missing.is_empty() {
            let rest = missing.split_off(missing.len().min(TEXTS_PER_REQUEST));
            let (hashes, texts): (Vec<EmbedHash>, Vec<String>) =
                std::mem::replace(&mut missing, rest).into_iter().unzip();
            match self.embed_texts(&target.embedder, texts).await {
                Ok(embedded) => vectors.extend(hashes.into_iter().zip(embedded)),
                Err(error) => {
                    for moving in batch {
                        self.fail(&Account::of(&moving), TroubleCode::EmbeddingFailed, &error).await;
                    }
                    return Vec::new();
                }
            }
        }
        for moving in &mut batch {
            let texts = std::mem::take(&mut moving.prepared.texts);
            // Every document brings what it needs, also what another of the batch brings: each
            // is stored on its own, and the other may be refused.
            moving.prepared.write.vectors = texts
                .into_iter()
                .filter_map(|(hash, _)| vectors.get(&hash).map(|vector| (hash, vector.clone())))
                .collect();
        }
        batch
    }

    /// What is not embedded yet of a batch, each text once.
    async fn missing(&self, target: &Target, batch: &[Moving]) -> Result<Vec<(EmbedHash, String)>, StorageError> {
        let hashes: Vec<EmbedHash> =
            batch.iter().flat_map(|moving| moving.prepared.texts.iter().map(|(hash, _)| *hash)).collect();
        let mut known = loop {
            match self.storage.stored_vectors(target.generation.space.id, &hashes) {
                Err(error) => self.await_disk(error).await?,
                Ok(known) => {
                    self.standing.wait_for("disk", None);
                    break known;
                }
            }
        };
        let mut missing = Vec::new();
        for (hash, text) in batch.iter().flat_map(|moving| &moving.prepared.texts) {
            if known.insert(*hash) {
                missing.push((*hash, text.clone()));
            }
        }
        Ok(missing)
    }

    /// After an error of the disk, a pause before the next try: a full or failing disk gets better
    /// or it does not; giving up would not help, and what waits meanwhile is bounded. Any other
    /// error comes back.
    async fn await_disk(&self, error: StorageError) -> Result<(), StorageError> {
        if !is_of_the_disk(&error) {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "the disk fails; indexing waits for it");
        self.standing.wait_for("disk", Some(format!("indexing waits for the disk: {error}")));
        tokio::select! {
            () = self.shutdown.cancelled() => Err(StorageError::Closed),
            () = tokio::time::sleep(STORAGE_PAUSE) => Ok(()),
        }
    }

    /// Vectors for `texts`, waiting as long as the model needs to be able to make them.
    async fn embed_texts(&self, embedder: &Embedder, texts: Vec<String>) -> Result<Vec<Vec<f16>>, EmbedError> {
        let model = |obstacle| self.standing.wait_for("model", obstacle);
        let outcome = loop {
            if *embedder.watch().borrow() != ModelState::Ready {
                model(Some(format!("indexing waits for the model, which is {}", embedder.state())));
            }
            embedder.ready().await?;
            let request = embedder.embed(texts.clone(), Purpose::Document, Priority::Bulk);
            match request.await {
                Ok(vectors) => break Ok(vectors.iter().map(|vector| to_half(vector)).collect()),
                Err(EmbedError::NotReady { .. }) => {}
                Err(EmbedError::Overloaded { .. }) => tokio::time::sleep(STORAGE_PAUSE / 10).await,
                // Its server was asked several times already; until it answers, or is left alone, there is time.
                Err(error @ EmbedError::RemoteFailed { is_transient: true, .. }) => {
                    model(Some(format!("indexing waits for the model: {error}")));
                    tokio::time::sleep(STORAGE_PAUSE).await;
                }
                Err(error) => break Err(error),
            }
        };
        model(None);
        outcome
    }

    /// Commits, until the stage before ends.
    async fn write(self, mut from_embed: mpsc::Receiver<Moving>) {
        let mut batch = Vec::new();
        while from_embed.recv_many(&mut batch, WRITES_PER_BATCH).await > 0 {
            self.write_batch(std::mem::take(&mut batch)).await;
        }
    }

    async fn write_batch(&self, mut batch: Vec<Moving>) {
        loop {
            let writes = batch.iter().map(|moving| moving.prepared.write.clone()).collect();
            let results = match self.storage.write_documents(writes).await {
                Ok(results) => results,
                Err(StorageError::Closed) => return,
                Err(error) if is_of_the_disk(&error) => {
                    if self.await_disk(error).await.is_err() {
                        return;
                    }
                    continue;
                }
                Err(error) => {
                    for moving in &batch {
                        self.fail(&Account::of(moving), TroubleCode::StorageFailed, &error).await;
                    }
                    return;
                }
            };
            let mut again = Vec::new();
            for (moving, result) in batch.into_iter().zip(results) {
                match result {
                    Ok(written) => self.written(&moving, written.change),
                    Err(error) if is_of_the_disk(&error) => again.push(moving),
                    Err(StorageError::Superseded) => self.superseded(&moving),
                    Err(StorageError::Closed) => return,
                    Err(error) => {
                        self.fail(&Account::of(&moving), TroubleCode::StorageFailed, &error).await;
                    }
                }
            }
            if again.is_empty() {
                self.standing.wait_for("disk", None);
                return;
            }
            self.standing.wait_for("disk", Some("indexing waits for the disk, which takes no writes".to_owned()));
            batch = again;
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(STORAGE_PAUSE) => {}
            }
        }
    }

    fn written(&self, moving: &Moving, change: Change) {
        let changed = match change {
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Unchanged => "unchanged",
        };
        metrics::counter!("holdfast_documents_written_total", "change" => changed).increment(1);
        self.settle(&Account::of(moving), Outcome::Done);
    }

    /// The collection or the document moved on meanwhile. Whoever submitted the work looks again
    /// at what is left to do; here it only is no longer under way.
    fn superseded(&self, moving: &Moving) {
        tracing::debug!("a document changed while it was prepared; it will be taken up anew");
        if let Some(job) = &moving.job {
            job.settle(Outcome::Done);
        }
        self.standing.settled();
        self.settled.send_modify(|count| *count += 1);
    }

    fn settle(&self, account: &Account, outcome: Outcome) {
        if let Some(job) = &account.job {
            job.settle(outcome);
        }
        self.standing.settled();
        self.settled.send_modify(|count| *count += 1);
    }

    /// Settles something as failed; an accepted document is refused with the reason.
    async fn fail(
        &self,
        account: &Account,
        code: TroubleCode,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) {
        let code = code.as_str();
        tracing::error!(error = error as &dyn std::error::Error, code, "failed to index a document");
        metrics::counter!("holdfast_documents_failed_total").increment(1);
        // What is interrupted still waits, and is taken up at the next start.
        if let Some(item) = account.item.as_ref().filter(|_| !self.shutdown.is_cancelled()) {
            let refused = self.storage.refuse_item(item.clone(), code.to_owned(), error.to_string());
            if let Err(error) = refused.await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "failed to record a refusal; the document will be tried again"
                );
            }
        }
        self.settle(account, Outcome::Failed);
    }
}

/// Who is to be told what became of a document.
struct Account {
    job: Option<Arc<Job>>,
    item: Option<JobItem>,
}

impl Account {
    fn of(moving: &Moving) -> Self {
        Self { job: moving.job.clone(), item: moving.prepared.write.job_item.clone() }
    }
}

impl Origin {
    fn item(&self) -> Option<JobItem> {
        match self {
            Self::Accepted { item, .. } => Some(item.clone()),
            Self::File { .. } | Self::Stored { .. } => None,
        }
    }
}

/// Whether an error lies in the disk, and not in what was asked of it. SQLite calls a page that
/// could not be read damage, too.
fn is_of_the_disk(error: &StorageError) -> bool {
    use StorageError::{Damaged, Device, Full, ReadOnly};
    matches!(error, Full(_) | Device(_) | ReadOnly(_) | Damaged(_))
}

/// What reading came to.
enum Read {
    /// A document that lacks its vectors.
    Document(Box<Moving>),
    /// It is what it was; perhaps with a new time, to be noted for the file.
    Unchanged { touched: Option<(i64, String, i64)> },
    /// The file is no document.
    Skipped { source_id: i64, file: Box<SourceFile> },
}

/// A text to go on with, or an end.
enum ReadText {
    Incoming(Box<Incoming>),
    Other(Read),
}

/// Why a document cannot be had.
struct Failure {
    code: TroubleCode,
    error: Box<dyn std::error::Error + Send + Sync>,
}

/// The KiB of the budget that a document takes, from its size before it is read.
fn share_of(work: &Work, limits: &FileLimits) -> u32 {
    let bytes = match &work.origin {
        Origin::File { entry, .. } => entry.size.min(limits.max_file_bytes),
        Origin::Accepted { document, .. } => document.content.len() as u64,
        // Not known without reading; the size of a large page.
        Origin::Stored { .. } => 256 * 1024,
    };
    u32::try_from(bytes / 1024 + 1).unwrap_or(TEXT_BUDGET_KIB).min(TEXT_BUDGET_KIB)
}

/// What is ready to go on together: one request's worth of texts, without waiting for more.
fn gather(first: Moving, from_prepare: &mut mpsc::Receiver<Moving>) -> Vec<Moving> {
    let mut texts = first.prepared.texts.len();
    let mut group = vec![first];
    while texts < TEXTS_PER_REQUEST
        && let Ok(next) = from_prepare.try_recv()
    {
        texts += next.prepared.texts.len();
        group.push(next);
    }
    group
}

fn by_generation(group: Vec<Moving>) -> Vec<Vec<Moving>> {
    let mut batches: Vec<Vec<Moving>> = Vec::new();
    for moving in group {
        let id = moving.target.generation.id;
        let place =
            batches.iter_mut().find(|batch| batch.first().is_some_and(|first| first.target.generation.id == id));
        match place {
            Some(batch) => batch.push(moving),
            None => batches.push(vec![moving]),
        }
    }
    batches
}

fn to_half(vector: &[f32]) -> Vec<f16> {
    vector.iter().map(|&component| f16::from_f32(component)).collect()
}
