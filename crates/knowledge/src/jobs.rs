//! The façade's part on jobs, and how façade methods reach storage without blocking.

use holdfast_storage::{Caller, jobs::Job};

use crate::{Inner, JobReport, Knowledge, KnowledgeError, Page, names};

/// Jobs of a page, at most.
const LIMIT_MAX: usize = 1_000;

impl Knowledge {
    /// A job, how far it is by now, and what became of the documents it was made for.
    pub async fn job(&self, caller: &Caller, id: &str) -> Result<JobReport, KnowledgeError> {
        let (caller, id) = (caller.clone(), id.to_owned());
        self.blocking(move |inner| {
            let job = live(inner, inner.storage.job(caller.grants(), &id)?);
            let documents = inner.storage.job_items(&id)?;
            Ok(JobReport { job, documents })
        })
        .await
    }

    /// Jobs, newest first.
    pub async fn jobs(&self, caller: &Caller, cursor: Option<&str>, limit: usize) -> Result<Page<Job>, KnowledgeError> {
        names::limit(limit, LIMIT_MAX)?;
        let before = cursor.map(str::to_owned);
        if before.as_ref().is_some_and(|cursor| !is_job_id(cursor)) {
            return Err(KnowledgeError::invalid("cursor", "is not one that a list has given"));
        }
        let caller = caller.clone();
        self.blocking(move |inner| {
            let mut items = inner.storage.jobs(caller.grants(), before.as_deref(), limit + 1)?;
            let more = items.len() > limit;
            items.truncate(limit);
            let next_cursor = items.last().filter(|_| more).map(|job| job.id.clone());
            let items = items.into_iter().map(|job| live(inner, job)).collect();
            Ok(Page { items, next_cursor })
        })
        .await
    }

    /// Runs `body` where blocking is allowed.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Inner) -> Result<T, KnowledgeError> + Send + 'static,
    ) -> Result<T, KnowledgeError> {
        let inner = std::sync::Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || body(&inner)).await.map_err(|_| KnowledgeError::ShuttingDown)?
    }
}

/// Whether a text has the form of a job's id.
fn is_job_id(text: &str) -> bool {
    text.strip_prefix("job_")
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A running job's progress is ahead of what is written down.
fn live(inner: &Inner, mut job: Job) -> Job {
    if let Some(progress) = inner.jobs.progress(&job.id) {
        job.progress = progress;
    }
    job
}
