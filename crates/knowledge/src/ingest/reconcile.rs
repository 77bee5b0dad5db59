//! Keeps documents in step with the files of their sources.
//!
//! A reconciliation has no input but the source: it walks the files, compares with what is on
//! record, hands over what differs and forgets what is gone. Running it again changes nothing.
//! It is asked for when a source is added or started, when the watcher saw something, by a timer
//! and by hand; requests for one source that come while it runs fold into one more run.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{BuildHasher, RandomState},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_storage::{
    Grants, Storage, StorageError,
    jobs::NewJob,
    sources::{FileProblem, RecordedFile, Source, SourceFile},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    KnownFile, Origin, Pipeline, Target, Targets, Work,
    progress::{Job, Jobs, Outcome},
};
use crate::{
    KnowledgeError, TroubleCode,
    files::{self, FileEntry, FileLimits, Found},
};

/// Files between the walk and the pipeline.
const FOUND_MAX: usize = 128;
/// Rows of the record looked at at once.
const RECORDS_PER_PAGE: usize = 1_000;
/// How long the indexes may take to follow a scan before that counts as a failure.
const FINDABLE_WITHIN: Duration = Duration::from_secs(600);

/// What a reconciliation reads again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every file: the content decides what changed.
    Everything,
    /// Files whose size or time is not what is on record, and those at or below the given paths.
    Changed(BTreeSet<PathBuf>),
}

impl Scope {
    /// Both in one.
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Changed(mut paths), Self::Changed(more)) => {
                paths.extend(more);
                Self::Changed(paths)
            }
            _ => Self::Everything,
        }
    }

    fn reads(&self, path: &Path, entry: &FileEntry, recorded: &SourceFile) -> bool {
        match self {
            Self::Everything => true,
            Self::Changed(paths) => {
                // What could not be read once may well be readable now, looking just the same.
                recorded.problem.as_ref().is_some_and(|problem| files::may_pass(&problem.code))
                    || recorded.size_bytes != entry.size
                    || recorded.modified_ns != entry.modified_ns
                    || paths.iter().any(|changed| path.starts_with(changed))
            }
        }
    }
}

/// The reconciler of all sources; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Sources {
    shared: Arc<Shared>,
}

/// What the reconciler works with.
pub(crate) struct SourcesParts {
    pub storage: Storage,
    pub jobs: Jobs,
    pub pipeline: Pipeline,
    pub targets: Targets,
    pub limits: FileLimits,
    pub shutdown: CancellationToken,
    pub tasks: TaskTracker,
}

struct Shared {
    parts: SourcesParts,
    running: Mutex<BTreeMap<i64, Run>>,
    idle: Notify,
}

/// A source being reconciled, and what was asked for meanwhile.
struct Run {
    job_id: Option<String>,
    again: Option<Scope>,
    /// Ends it before its time.
    stop: CancellationToken,
}

/// What asking for a reconciliation came to.
enum Joined {
    /// None was running: the caller starts one, which this ends.
    Begins(CancellationToken),
    /// The one that runs does it too, under this job.
    Job(String),
    /// The one that runs does it too, under no job.
    Unrecorded,
}

impl Sources {
    pub(crate) fn new(parts: SourcesParts) -> Self {
        let shared = Shared { parts, running: Mutex::default(), idle: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Reconciles a source under a new job, or has the running one go on once more. The job's id.
    pub(crate) async fn sync(&self, source: &Source, scope: Scope) -> Result<String, KnowledgeError> {
        let mut scope = scope;
        let stop = loop {
            match self.join(source.id, &scope) {
                Joined::Begins(stop) => break stop,
                Joined::Job(id) => return Ok(id),
                // What the watcher started has no job to answer with, and may be waiting for a model: it is done over.
                Joined::Unrecorded => {
                    scope = Scope::Everything;
                    self.end(source.id).await;
                }
            }
        };
        let new_job =
            NewJob { kind: "source", collection_id: source.collection_id, source_id: Some(source.id), model: None };
        let job = match self.shared.parts.jobs.start(new_job).await {
            Ok(job) => job,
            Err(error) => {
                self.lock().remove(&source.id);
                self.shared.idle.notify_waiters();
                return Err(error.into());
            }
        };
        let id = job.id().to_owned();
        if let Some(run) = self.lock().get_mut(&source.id) {
            run.job_id = Some(id.clone());
        }
        self.spawn(source, scope, job, stop);
        Ok(id)
    }

    /// Reconciles a source because something may have changed, without a job on record.
    pub(crate) fn follow(&self, source: &Source, scope: Scope) {
        if let Joined::Begins(stop) = self.join(source.id, &scope) {
            self.spawn(source, scope, Jobs::unrecorded(), stop);
        }
    }

    fn spawn(&self, source: &Source, scope: Scope, job: Arc<Job>, stop: CancellationToken) {
        let (sources, source) = (self.clone(), source.clone());
        self.shared.parts.tasks.spawn(async move { sources.run(source, scope, job, stop).await });
    }

    /// Adds to a running reconciliation; where none runs, notes that one begins.
    fn join(&self, source_id: i64, scope: &Scope) -> Joined {
        let mut running = self.lock();
        let Some(run) = running.get_mut(&source_id) else {
            let stop = CancellationToken::new();
            running.insert(source_id, Run { job_id: None, again: None, stop: stop.clone() });
            return Joined::Begins(stop);
        };
        let again = run.again.take();
        run.again = Some(match again {
            Some(before) => before.merge(scope.clone()),
            None => scope.clone(),
        });
        run.job_id.clone().map_or(Joined::Unrecorded, Joined::Job)
    }

    /// Has a source's reconciliation end soon, whatever it waits for, and waits for that.
    pub(crate) async fn end(&self, source_id: i64) {
        if let Some(run) = self.lock().get_mut(&source_id) {
            run.again = None;
            run.stop.cancel();
        }
        self.quiet(source_id).await;
    }

    /// Waits until a source is not being reconciled.
    async fn quiet(&self, source_id: i64) {
        loop {
            let idle = self.shared.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if !self.lock().contains_key(&source_id) {
                return;
            }
            idle.await;
        }
    }

    async fn run(self, source: Source, scope: Scope, job: Arc<Job>, stop: CancellationToken) {
        let mut failure = self.pass(&source, &scope, &job, &stop).await.err();
        while let Some(scope) = self.again_or_end(source.id) {
            failure = self.pass(&source, &scope, &job, &stop).await.err();
        }
        if stop.is_cancelled() {
            // Whoever ended it removes the source or does it over.
            let ended =
                (TroubleCode::SourceEnded.as_str().to_owned(), "the source was removed or read anew".to_owned());
            return self.shared.parts.jobs.finish(&job, Some(ended)).await;
        }
        if matches!(failure, Some(KnowledgeError::ShuttingDown)) {
            // The next start ends the job as interrupted and scans anew.
            return;
        }
        let message = failure.as_ref().map(describe);
        if let Err(error) = self.record_end(&source, &job, message.clone()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to record the end of a scan");
        }
        let error = message.map(|message| (TroubleCode::SourceFailed.as_str().to_owned(), message));
        self.shared.parts.jobs.finish(&job, error).await;
    }

    /// Notes how a look ended. One that nobody asked for is worth a write only where it ended in another way than the
    /// last; what that was, the record knows: `source` may be as old as the watching of it.
    async fn record_end(&self, source: &Source, job: &Job, failure: Option<String>) -> Result<(), StorageError> {
        let storage = &self.shared.parts.storage;
        if job.is_unrecorded() && storage.source(&Grants::All, &source.public_id)?.last_error == failure {
            return Ok(());
        }
        storage.source_scanned(source.id, failure).await
    }

    /// What was asked for during the last pass; where nothing was, the run is over. One look
    /// under one lock, so that no request falls between the two.
    fn again_or_end(&self, source_id: i64) -> Option<Scope> {
        let mut running = self.lock();
        let again = running.get_mut(&source_id).and_then(|run| run.again.take());
        if again.is_none() {
            running.remove(&source_id);
            self.shared.idle.notify_waiters();
        }
        again
    }

    /// One walk over the source.
    async fn pass(
        &self,
        source: &Source,
        scope: &Scope,
        job: &Arc<Job>,
        stop: &CancellationToken,
    ) -> Result<(), KnowledgeError> {
        let target = tokio::select! {
            () = self.shared.parts.shutdown.cancelled() => return Err(KnowledgeError::ShuttingDown),
            () = stop.cancelled() => return Ok(()),
            target = self.shared.parts.targets.active(&source.collection) => target?,
        };
        let (found, mut arriving) = mpsc::channel(FOUND_MAX);
        let counting = self.count_ahead(source, scope, job);
        let walk = self.walk(PathBuf::from(&source.root), found);
        let mut seen = Seen::default();
        while let Some(found) = arriving.recv().await {
            if stop.is_cancelled() {
                drop(arriving);
                // What is in the pipeline names the source, and is let through.
                self.shared.parts.jobs.settled(job).await;
                return Ok(());
            }
            self.meet(source, scope, &target, job, found, &mut seen).await?;
            self.shared.parts.jobs.note(job).await;
        }
        let walked = walk.await.map_err(|_| KnowledgeError::ShuttingDown)?;
        // Everything was met by now, so what was foreseen has no more to say.
        if let Some(counting) = counting {
            counting.await.map_err(|_| KnowledgeError::ShuttingDown)?;
            job.foresee(0);
        }
        // A root that cannot be read says nothing about what is gone: an unmounted disk must not
        // empty the index.
        walked?;
        if self.shared.parts.shutdown.is_cancelled() {
            return Err(KnowledgeError::ShuttingDown);
        }
        self.forget_missing(source, &seen, job).await?;
        self.findable(&target, stop).await
    }

    /// Done means that a search finds it.
    async fn findable(&self, target: &Target, stop: &CancellationToken) -> Result<(), KnowledgeError> {
        let projections = self.shared.parts.storage.projections();
        tokio::select! {
            () = self.shared.parts.shutdown.cancelled() => Err(KnowledgeError::ShuttingDown),
            () = stop.cancelled() => Ok(()),
            applied = projections.wait_current(target.generation.id, FINDABLE_WITHIN) => {
                if applied? { Ok(()) } else { Err(KnowledgeError::Deadline { deadline: FINDABLE_WITHIN }) }
            }
        }
    }

    /// Counts the files of a job that will read all of them, ahead of the walk that waits for the
    /// pipeline, so that the time left can be told from the beginning.
    fn count_ahead(&self, source: &Source, scope: &Scope, job: &Arc<Job>) -> Option<tokio::task::JoinHandle<()>> {
        if job.is_unrecorded() || *scope != Scope::Everything {
            return None;
        }
        let (root, limits) = (PathBuf::from(&source.root), self.shared.parts.limits.clone());
        let (job, shutdown) = (Arc::clone(job), self.shared.parts.shutdown.clone());
        let mut total = job.progress().total;
        Some(self.shared.parts.tasks.spawn_blocking(move || {
            let counted = files::walk(&root, &limits, &mut |_| {
                total += 1;
                if shutdown.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            // The walk that reads says what is wrong.
            if counted.is_ok() {
                job.foresee(total);
            }
        }))
    }

    fn walk(&self, root: PathBuf, found: mpsc::Sender<Found>) -> tokio::task::JoinHandle<Result<(), KnowledgeError>> {
        let limits = self.shared.parts.limits.clone();
        let shutdown = self.shared.parts.shutdown.clone();
        self.shared.parts.tasks.spawn_blocking(move || {
            let mut visit = |item| {
                if shutdown.is_cancelled() || found.blocking_send(item).is_err() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            Ok(files::walk(&root, &limits, &mut visit)?)
        })
    }

    async fn meet(
        &self,
        source: &Source,
        scope: &Scope,
        target: &Arc<Target>,
        job: &Arc<Job>,
        found: Found,
        seen: &mut Seen,
    ) -> Result<(), KnowledgeError> {
        match found {
            Found::File(entry) => {
                let path = entry.path();
                let name = path.to_string_lossy().into_owned();
                seen.insert(&name);
                let recorded = self.shared.parts.storage.recorded_file(source.id, &name)?;
                if let Some(RecordedFile { file, .. }) = &recorded
                    && !scope.reads(&path, &entry, file)
                {
                    return Ok(());
                }
                job.expect_one();
                let known = recorded.as_ref().and_then(known_file);
                let origin = Origin::File { source_id: source.id, entry, known };
                let work = Work { origin, target: Arc::clone(target), job: Some(Arc::clone(job)), claim: None };
                self.shared.parts.pipeline.submit(work).await
            }
            Found::Skipped(skip) => {
                let path = skip.path.to_string_lossy().into_owned();
                seen.insert(&path);
                let problem = FileProblem { code: skip.reason.code().to_owned(), detail: skip.reason.to_string() };
                let recorded = self.shared.parts.storage.recorded_file(source.id, &path)?;
                let same = recorded.is_some_and(|r| r.file.problem.as_ref() == Some(&problem));
                if !same {
                    let file =
                        SourceFile { path, size_bytes: 0, modified_ns: 0, content_hash: None, problem: Some(problem) };
                    self.shared.parts.storage.skip_files(source.id, vec![file]).await?;
                }
                job.expect_one();
                job.settle(Outcome::Skipped);
                Ok(())
            }
        }
    }

    /// Removes what is on record and was not met, once everything met is in: a file that was
    /// renamed has found its vectors again by then.
    async fn forget_missing(&self, source: &Source, seen: &Seen, job: &Job) -> Result<(), KnowledgeError> {
        if !self.shared.parts.jobs.settled(job).await {
            return Err(KnowledgeError::ShuttingDown);
        }
        let mut after = String::new();
        loop {
            let page = self.shared.parts.storage.recorded_files(source.id, &after, RECORDS_PER_PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.file.path);
            let gone: Vec<String> =
                page.into_iter().map(|recorded| recorded.file.path).filter(|path| !seen.contains(path)).collect();
            if !gone.is_empty() {
                self.shared.parts.storage.forget_files(source.id, gone).await?;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i64, Run>> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known_file(recorded: &RecordedFile) -> Option<KnownFile> {
    recorded.document?;
    Some(KnownFile { content_hash: recorded.file.content_hash?, modified_ns: recorded.file.modified_ns })
}

/// The error with its causes, for the source's record.
fn describe(error: &KnowledgeError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The paths met in a walk, as 64-bit hashes: some megabytes for a million files. A path whose
/// hash another one has would be kept although it is gone, once in billions of walks, until the
/// next walk with another seed.
#[derive(Default)]
struct Seen {
    hashes: HashSet<u64>,
    seed: RandomState,
}

impl Seen {
    fn insert(&mut self, path: &str) {
        self.hashes.insert(self.seed.hash_one(path));
    }

    fn contains(&self, path: &str) -> bool {
        self.hashes.contains(&self.seed.hash_one(path))
    }
}
