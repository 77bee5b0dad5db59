//! How far jobs are, while they run: counted in memory, written down now and then and at the end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use holdfast_storage::{
    Storage, StorageError,
    jobs::{JobState, NewJob, Progress},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often a running job's progress is written down.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Every running job; cloning is shallow.
#[derive(Clone)]
pub(crate) struct Jobs {
    storage: Storage,
    running: Arc<Mutex<HashMap<String, Arc<Job>>>>,
    shutdown: CancellationToken,
}

/// One running job.
pub(crate) struct Job {
    id: String,
    counts: Mutex<Counts>,
    settled: Notify,
}

struct Counts {
    progress: Progress,
    /// How much there will be to do, as far as somebody has counted ahead.
    foreseen: u64,
    written_at: Instant,
}

impl Counts {
    fn reported(&self) -> Progress {
        Progress { total: self.progress.total.max(self.foreseen), ..self.progress }
    }
}

/// What became of one file or document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Skipped,
    Failed,
}

impl Jobs {
    pub(crate) fn new(storage: Storage, shutdown: CancellationToken) -> Self {
        Self { storage, running: Arc::default(), shutdown }
    }

    pub(crate) async fn start(&self, job: NewJob) -> Result<Arc<Job>, StorageError> {
        let id = self.storage.create_job(job).await?;
        let counts = Counts { progress: Progress::default(), foreseen: 0, written_at: Instant::now() };
        let job = Arc::new(Job { id: id.clone(), counts: Mutex::new(counts), settled: Notify::new() });
        self.lock().insert(id, Arc::clone(&job));
        Ok(job)
    }

    /// Work that nobody asked for and nobody will ask about: counted, not written down.
    pub(crate) fn unrecorded() -> Arc<Job> {
        let counts = Counts { progress: Progress::default(), foreseen: 0, written_at: Instant::now() };
        Arc::new(Job { id: String::new(), counts: Mutex::new(counts), settled: Notify::new() })
    }

    /// How far a job is, if it runs.
    pub(crate) fn progress(&self, id: &str) -> Option<Progress> {
        self.lock().get(id).map(|job| job.progress())
    }

    /// How many jobs run.
    pub(crate) fn running(&self) -> usize {
        self.lock().len()
    }

    /// Ends a job once all that was counted is settled; `error` ends it as failed.
    pub(crate) async fn finish(&self, job: &Job, error: Option<(String, String)>) {
        if error.is_none() && !self.settled(job).await {
            // Shutting down: the next start ends the job as interrupted and goes on.
            return;
        }
        if job.is_unrecorded() {
            return;
        }
        let state = if error.is_some() { JobState::Failed } else { JobState::Done };
        let written = self.storage.update_job(job.id.clone(), state, job.progress(), error).await;
        if let Err(error) = written {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                job = job.id,
                "failed to write down the end of a job"
            );
        }
        self.lock().remove(&job.id);
    }

    /// Waits until all that was counted so far is settled; false if the knowledge base shuts
    /// down first.
    pub(crate) async fn settled(&self, job: &Job) -> bool {
        tokio::select! {
            () = self.shutdown.cancelled() => false,
            () = job.all_settled() => true,
        }
    }

    /// Writes a job's progress down if that is due.
    pub(crate) async fn note(&self, job: &Job) {
        if job.is_unrecorded() {
            return;
        }
        let due = job.with(|counts| {
            let due = counts.written_at.elapsed() >= WRITE_INTERVAL;
            if due {
                counts.written_at = Instant::now();
            }
            due.then_some(counts.reported())
        });
        let Some(progress) = due else { return };
        let written = self.storage.update_job(job.id.clone(), JobState::Running, progress, None).await;
        if let Err(error) = written {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                job = job.id,
                "failed to write down the progress of a job"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn is_unrecorded(&self) -> bool {
        self.id.is_empty()
    }

    /// How far it is, of what is to do as far as that is known.
    pub(crate) fn progress(&self) -> Progress {
        self.with(|counts| counts.reported())
    }

    /// There will be this much to do in all; what is counted one by one decides in the end.
    pub(crate) fn foresee(&self, total: u64) {
        self.with(|counts| counts.foreseen = total);
    }

    /// One more to do.
    pub(crate) fn expect_one(&self) {
        self.with(|counts| counts.progress.total += 1);
    }

    /// One is settled.
    pub(crate) fn settle(&self, outcome: Outcome) {
        self.with(|counts| match outcome {
            Outcome::Done => counts.progress.done += 1,
            Outcome::Skipped => counts.progress.skipped += 1,
            Outcome::Failed => counts.progress.failed += 1,
        });
        self.settled.notify_waiters();
    }

    async fn all_settled(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Enabled before the look, so that what settles in between is not missed.
            settled.as_mut().enable();
            let progress = self.with(|counts| counts.progress);
            if progress.done + progress.skipped + progress.failed >= progress.total {
                return;
            }
            settled.await;
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Counts) -> T) -> T {
        look(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
