//! Moves a collection to another model: builds a whole generation beside the present one and
//! swaps it in.
//!
//! The loop has no state of its own: it asks which documents the new generation lacks, brings
//! them in, and asks again until it lacks none, which the swap itself checks once more in its
//! transaction. Documents that change meanwhile are lacking again. So a restart simply goes on.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_storage::{Storage, jobs::NewJob};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Origin, Pipeline, Target, Targets, Watcher, Work,
    progress::{Job, Jobs},
};
use crate::{KnowledgeError, TroubleCode};

/// Documents brought in before looking again.
const DOCUMENTS_PER_ROUND: usize = 256;
/// How long the new indexes may take to follow before that counts as a failure.
const FINDABLE_WITHIN: Duration = Duration::from_secs(600);

/// Runs re-embeddings, one a collection at a time; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Reembedding {
    storage: Storage,
    jobs: Jobs,
    pipeline: Pipeline,
    targets: Targets,
    watcher: Option<Watcher>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    running: Arc<Mutex<BTreeSet<i64>>>,
}

impl Reembedding {
    pub(crate) fn new(
        storage: Storage,
        jobs: Jobs,
        pipeline: Pipeline,
        targets: Targets,
        watcher: Option<Watcher>,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self { storage, jobs, pipeline, targets, watcher, shutdown, tasks, running: Arc::default() }
    }

    /// Starts moving a collection to `model`; the job's id.
    pub(crate) async fn start(
        &self,
        collection: &str,
        collection_id: i64,
        model: &str,
    ) -> Result<String, KnowledgeError> {
        if !self.lock().insert(collection_id) {
            return Err(KnowledgeError::InProgress { what: format!("re-embedding of collection {collection:?}") });
        }
        let new_job = NewJob { kind: "reembed", collection_id, source_id: None, model: Some(model.to_owned()) };
        let job = match self.jobs.start(new_job).await {
            Ok(job) => job,
            Err(error) => {
                self.lock().remove(&collection_id);
                return Err(error.into());
            }
        };
        let id = job.id().to_owned();
        let this = self.clone();
        let (collection, model) = (collection.to_owned(), model.to_owned());
        self.tasks.spawn(async move {
            let outcome = this.run(&collection, collection_id, &model, &job).await;
            this.lock().remove(&collection_id);
            this.end(&job, collection_id, outcome).await;
        });
        Ok(id)
    }

    /// Whether a collection is being moved.
    pub(crate) fn is_running(&self, collection_id: i64) -> bool {
        self.lock().contains(&collection_id)
    }

    async fn run(
        &self,
        collection: &str,
        collection_id: i64,
        model: &str,
        job: &Arc<Job>,
    ) -> Result<(), KnowledgeError> {
        let target = tokio::select! {
            () = self.shutdown.cancelled() => return Err(KnowledgeError::ShuttingDown),
            target = self.targets.building(collection, model) => target?,
        };
        loop {
            self.bring_in_lacking(&target, job).await?;
            let projections = self.storage.projections();
            let applied = projections.wait_current(target.generation.id, FINDABLE_WITHIN).await?;
            if !applied {
                return Err(KnowledgeError::Deadline { deadline: FINDABLE_WITHIN });
            }
            if self.storage.activate_building(collection_id, model.to_owned()).await? == 0 {
                tracing::info!(collection, model, "a collection was moved to another model");
                return Ok(());
            }
        }
    }

    async fn bring_in_lacking(&self, target: &Arc<Target>, job: &Arc<Job>) -> Result<(), KnowledgeError> {
        loop {
            let failed_before = job.progress().failed;
            let rows = self.storage.documents_lacking(&target.generation, DOCUMENTS_PER_ROUND)?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                job.expect_one();
                let work = Work {
                    origin: Origin::Stored { row },
                    target: Arc::clone(target),
                    job: Some(Arc::clone(job)),
                    claim: None,
                };
                self.pipeline.submit(work).await?;
            }
            if !self.jobs.settled(job).await {
                return Err(KnowledgeError::ShuttingDown);
            }
            self.jobs.note(job).await;
            if job.progress().failed > failed_before {
                // It would be tried for ever; the present generation stays in use.
                return Err(KnowledgeError::Incomplete { failed: job.progress().failed });
            }
        }
    }

    async fn end(&self, job: &Job, collection_id: i64, outcome: Result<(), KnowledgeError>) {
        let error = match outcome {
            Ok(()) => {
                // Its sources could not be followed while the collection was in another space than its model.
                if let Some(watcher) = &self.watcher {
                    watcher.sources_changed();
                }
                None
            }
            // The next start goes on with what is there.
            Err(KnowledgeError::ShuttingDown) => return,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "failed to move a collection to another model; the present one stays in use"
                );
                if let Err(error) = self.storage.abandon_building(collection_id).await {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "failed to throw an unfinished generation away"
                    );
                }
                Some((TroubleCode::ReembedFailed.as_str().to_owned(), error.to_string()))
            }
        };
        self.jobs.finish(job, error).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<i64>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
