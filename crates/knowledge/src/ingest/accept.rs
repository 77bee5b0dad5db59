//! Takes up accepted documents and hands them to the pipeline.
//!
//! One task, woken when documents were accepted, when something was settled, and by a timer; it
//! ends when the knowledge base shuts down. It has no state but what is under way: what waits is
//! in storage, so documents accepted before a crash are found again.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_storage::{
    Storage,
    jobs::{JobItem, WaitingItem},
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Origin, Pipeline, Targets, Work};
use crate::{KnowledgeError, NewDocument, TroubleCode};

/// Accepted documents in the pipeline at once.
const UNDER_WAY_MAX: usize = 256;
/// The timer: how long a document that could not be taken up waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The handle to the task; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Acceptance {
    accepted: Arc<Notify>,
}

struct Task {
    accepted: Arc<Notify>,
    storage: Storage,
    pipeline: Pipeline,
    targets: Targets,
    under_way: Arc<Mutex<HashSet<JobItem>>>,
}

/// Says that an accepted document is in the pipeline, until dropped: then it is settled, or it
/// still waits and is to be taken up once more.
pub(crate) struct Claim {
    item: JobItem,
    under_way: Arc<Mutex<HashSet<JobItem>>>,
}

impl Claim {
    fn new(item: JobItem, under_way: &Arc<Mutex<HashSet<JobItem>>>) -> Option<Self> {
        let new = lock(under_way).insert(item.clone());
        new.then(|| Self { item, under_way: Arc::clone(under_way) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.item);
    }
}

fn lock(items: &Mutex<HashSet<JobItem>>) -> std::sync::MutexGuard<'_, HashSet<JobItem>> {
    items.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acceptance {
    pub(crate) fn start(
        storage: Storage,
        pipeline: Pipeline,
        targets: Targets,
        shutdown: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let accepted = Arc::new(Notify::new());
        let task = Task { accepted: Arc::clone(&accepted), storage, pipeline, targets, under_way: Arc::default() };
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task.run() => {}
            }
        });
        Self { accepted }
    }

    /// Tells that documents were accepted.
    pub(crate) fn wake(&self) {
        self.accepted.notify_one();
    }
}

impl Task {
    async fn run(self) {
        let accepted = Arc::clone(&self.accepted);
        let mut settled = self.pipeline.settled();
        let mut timer = tokio::time::interval(LOOK_INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Err(error) = self.take_up().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to take up accepted documents; trying again"
                );
                timer.tick().await;
            }
            tokio::select! {
                () = accepted.notified() => {}
                changed = settled.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = timer.tick() => {}
            }
        }
    }

    /// Hands over what waits and is not under way.
    async fn take_up(&self) -> Result<(), KnowledgeError> {
        for waiting in self.storage.waiting_documents(UNDER_WAY_MAX)? {
            if let Some(claim) = Claim::new(waiting.item.clone(), &self.under_way) {
                self.submit(waiting, claim).await?;
            }
        }
        Ok(())
    }

    async fn submit(&self, waiting: WaitingItem, claim: Claim) -> Result<(), KnowledgeError> {
        let WaitingItem { item, collection, payload } = waiting;
        let document = match NewDocument::from_payload(&payload) {
            Ok(document) => document,
            Err(error) => {
                let detail = error.to_string();
                self.storage.refuse_item(item, TroubleCode::Unreadable.as_str().to_owned(), detail).await?;
                return Ok(());
            }
        };
        let target = match self.targets.active(&collection).await {
            Ok(target) => target,
            Err(error @ (KnowledgeError::OtherModel { .. } | KnowledgeError::OtherSpace { .. })) => {
                let detail = error.to_string();
                self.storage.refuse_item(item, TroubleCode::OtherModel.as_str().to_owned(), detail).await?;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let origin = Origin::Accepted { item, document: Box::new(document) };
        self.pipeline.submit(Work { origin, target, job: None, claim: Some(claim) }).await
    }
}
