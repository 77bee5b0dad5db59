//! The corpus: collections, sources, documents, chunks, how they come in and how they are found.
//!
//! This crate does not know about language models, sessions or HTTP. It takes and gives plain
//! data; everything it keeps is in `storage`, every vector comes from `embedding`.

mod codes;
mod collections;
mod doctor;
mod documents;
mod error;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod health;
mod ingest;
mod jobs;
mod names;
mod passages;
mod payload;
mod requests;
mod search;
mod sources;
pub mod split;

use std::{sync::Arc, time::Duration};

use holdfast_embedding::Models;
use holdfast_storage::{Caller, Grants, Storage, StorageError, jobs::InterruptedReembedding};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

pub use codes::{FindingCode, TroubleCode};
pub use error::KnowledgeError;
pub use health::HealthReport;
pub use passages::Passage;
pub use requests::*;

use files::FileLimits;
use ingest::{Acceptance, Pipeline, Reembedding, Scope, Sources, Targets, Watcher, progress::Jobs};
use search::Searcher;
use split::SplitConfig;

/// How the knowledge base is to behave.
#[derive(Clone, Debug)]
pub struct Config {
    /// The collection that is made at first and used where none is named.
    pub default_collection: String,
    /// Whether sources are watched for changes.
    pub watch: Watch,
    /// Which files are too much.
    pub files: FileLimits,
    /// How large chunks are, in tokens; a model with a smaller window gets smaller ones.
    pub split: SplitConfig,
    /// Bytes that kept answers, rankings and filters may take.
    pub search_cache_bytes: u64,
    /// Bytes of a document handed over.
    pub document_bytes_max: usize,
    /// Documents handed over at once.
    pub documents_per_request_max: usize,
    /// How long removed documents are remembered.
    pub tombstones_kept: Duration,
    /// How long no document may be finished, though some are under way, before indexing is said to be stuck.
    pub stuck_after: Duration,
}

/// Whether sources are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Changes are followed within seconds.
    Yes,
    /// A source is read when it is added, at every start and when asked.
    No,
    /// A source is read when it is added and when asked; what a former process left unfinished is
    /// left to the next that stays.
    WhenAsked,
}

/// Whether `doctor` puts right what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fix {
    /// It does.
    Yes,
    /// It only looks.
    No,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_collection: "default".to_owned(),
            watch: Watch::Yes,
            files: FileLimits::default(),
            split: SplitConfig::default(),
            search_cache_bytes: 32 * 1024 * 1024,
            document_bytes_max: 8 * 1024 * 1024,
            documents_per_request_max: 256,
            tombstones_kept: Duration::from_secs(30 * 24 * 60 * 60),
            stuck_after: Duration::from_secs(60),
        }
    }
}

/// The handle to the knowledge base; cloning is shallow.
#[derive(Clone)]
pub struct Knowledge {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    storage: Storage,
    models: Models,
    jobs: Jobs,
    pipeline: Pipeline,
    acceptance: Acceptance,
    sources: Sources,
    watcher: Option<Watcher>,
    reembedding: Reembedding,
    searcher: Searcher,
    health: health::Health,
}

impl Knowledge {
    /// Starts everything that runs by itself: the pipeline, the watcher, unfinished work of a
    /// former process, a scan of every source. Returns before any of that is done.
    pub async fn start(
        config: Config,
        storage: Storage,
        models: Models,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> Result<Self, KnowledgeError> {
        names::collection(&config.default_collection)?;
        let jobs = Jobs::new(storage.clone(), shutdown.clone());
        let limits = config.files.clone();
        let pipeline = Pipeline::start(storage.clone(), limits.clone(), shutdown.clone(), &tasks);
        let targets = Targets::new(storage.clone(), models.clone(), config.split.clone());
        let acceptance =
            Acceptance::start(storage.clone(), pipeline.clone(), targets.clone(), shutdown.clone(), &tasks);
        let sources = Sources::new(ingest::SourcesParts {
            storage: storage.clone(),
            jobs: jobs.clone(),
            pipeline: pipeline.clone(),
            targets: targets.clone(),
            limits,
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        });
        let watcher = (config.watch == Watch::Yes)
            .then(|| Watcher::start(storage.clone(), sources.clone(), shutdown.clone(), &tasks));
        let reembedding = Reembedding::new(
            storage.clone(),
            jobs.clone(),
            pipeline.clone(),
            targets,
            watcher.clone(),
            shutdown.clone(),
            tasks.clone(),
        );
        let searcher =
            Searcher::new(storage.clone(), models.clone(), &config.default_collection, config.search_cache_bytes);
        let health = health::Health::new();
        let inner = Inner {
            config,
            storage,
            models,
            jobs,
            pipeline,
            acceptance,
            sources,
            watcher,
            reembedding,
            searcher,
            health,
        };
        let knowledge = Self { inner: Arc::new(inner) };
        knowledge.take_up().await?;
        // Once here, so that nobody who asks at once is told that nothing was tried yet.
        knowledge.try_everything().await;
        tasks.spawn(knowledge.clone().keep_watch(shutdown.clone()));
        tasks.spawn(knowledge.clone().housekeeping(shutdown));
        Ok(knowledge)
    }

    /// The embedding models.
    pub fn models(&self) -> &Models {
        &self.inner.models
    }

    /// Whether any job is running.
    pub fn is_busy(&self) -> bool {
        self.inner.jobs.running() > 0
    }

    /// Searches. See [`SearchRequest`] for what can be asked and the limits.
    ///
    /// # Errors
    /// A hybrid search answers by words, and says so, while the model cannot answer; a dense one
    /// is refused with [`KnowledgeError::ModelNotReady`].
    pub async fn search(&self, caller: &Caller, request: SearchRequest) -> Result<SearchResponse, KnowledgeError> {
        let (mode, limit, collections) = (request.mode.as_str(), request.limit, request.collections.len().max(1));
        let span = tracing::info_span!("search", mode, limit, collections);
        self.inner.searcher.search(caller, request).instrument(span).await
    }

    /// Stands for what decides a ranking, but the documents and what was learned of them: the weights of the fusion and the
    /// form of what is embedded. Figures of two evaluations with the same word compare.
    pub fn search_settings(&self) -> String {
        format!("hybrid, {} a point of BM25, {}", search::fuse::LEXICAL_WEIGHT, self.inner.models.default_model())
    }

    /// Has documents, named by their ids, moved in rankings by so much from now on, and no others: what was learned of
    /// how useful they are. In cosine similarity, at most a tenth.
    pub fn rank_by(&self, boosts: Vec<(String, f32)>) {
        self.inner.searcher.rank_by(boosts);
    }

    /// Searches with a given query vector and without caches, blocking; for measuring what comes
    /// after the embedding.
    pub fn search_with_vector(
        &self,
        caller: &Caller,
        request: SearchRequest,
        vector: Vec<f32>,
    ) -> Result<SearchResponse, KnowledgeError> {
        self.inner.searcher.search_with_vector(caller, request, vector)
    }

    /// Takes up what a former process left, and looks at every source.
    async fn take_up(&self) -> Result<(), KnowledgeError> {
        let inner = &self.inner;
        let name = inner.config.default_collection.clone();
        let model = inner.models.default_model().to_owned();
        match inner.storage.create_collection(name, model).await {
            Ok(_) | Err(StorageError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if inner.config.watch == Watch::WhenAsked {
            return Ok(());
        }
        let moves = inner.storage.interrupted_reembeddings()?;
        let interrupted = inner.storage.close_interrupted_jobs(TroubleCode::Interrupted.as_str()).await?;
        if interrupted > 0 {
            tracing::info!(interrupted, "taking up what the last run left unfinished");
        }
        for collection in inner.storage.collections(&Grants::All)? {
            if let Some(building) = &collection.building {
                let model = building.space.model.clone();
                inner.reembedding.start(&collection.name, collection.id, &model).await?;
            }
        }
        for interrupted in moves {
            if !inner.reembedding.is_running(interrupted.collection_id) {
                let InterruptedReembedding { collection, collection_id, model } = interrupted;
                inner.reembedding.start(&collection, collection_id, &model).await?;
            }
        }
        for source in inner.storage.sources(&Grants::All)? {
            inner.sources.sync(&source, Scope::Everything).await?;
        }
        Ok(())
    }

    /// Keeps what grows within bounds: woken by a timer, ends with the knowledge base.
    async fn housekeeping(self, shutdown: CancellationToken) {
        const INTERVAL: Duration = Duration::from_secs(10 * 60);
        const VECTORS_PER_SWEEP: usize = 10_000;
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer.reset();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = timer.tick() => {}
            }
            let kept = self.inner.config.tombstones_kept;
            let swept = async {
                self.inner.storage.sweep_vectors(VECTORS_PER_SWEEP).await?;
                self.inner.storage.sweep_tombstones(kept).await
            };
            if let Err(error) = swept.await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to sweep what is no longer needed; trying again"
                );
            }
        }
    }
}
