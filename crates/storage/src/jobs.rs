//! Jobs: work that was accepted, how far it is, and what became of each part.
//!
//! Documents that arrive over the API are accepted here: once the job is stored they will be
//! indexed, whatever happens to the process.

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use crate::{Grants, Storage, caller::GRANTED, error::StorageError, now_ms};

/// Finished jobs that are kept, newest first.
const FINISHED_JOBS_MAX: u32 = 1_000;
/// How long an idempotency key is remembered.
const IDEMPOTENCY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A piece of accepted work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id; sorts by time.
    pub id: String,
    /// `documents`, `source` or `reembed`.
    pub kind: String,
    /// The collection it is about.
    pub collection: Option<String>,
    /// The source it is about.
    pub source: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// How far it is.
    pub progress: Progress,
    /// Why it failed: a stable word and a sentence.
    pub error: Option<(String, String)>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub finished_at_ms: Option<i64>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Accepted.
    Queued,
    /// Being worked on.
    Running,
    /// Finished; single parts may have failed.
    Done,
    /// Given up as a whole.
    Failed,
}

impl JobState {
    /// The word it is stored and shown as.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Done, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// Documents or files counted by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Known so far.
    pub total: u64,
    /// Indexed or found unchanged.
    pub done: u64,
    /// Skipped with a reason.
    pub skipped: u64,
    /// Failed.
    pub failed: u64,
}

/// What a job is made for.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// `documents`, `source` or `reembed`.
    pub kind: &'static str,
    /// The collection it is about.
    pub collection_id: i64,
    /// The source it is about.
    pub source_id: Option<i64>,
    /// The model it moves the collection to.
    pub model: Option<String>,
}

/// A re-embedding that a former process did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptedReembedding {
    /// The collection.
    pub collection_id: i64,
    /// Its name.
    pub collection: String,
    /// The model it was to be moved to.
    pub model: String,
}

/// A request that must not be carried out twice.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// Who asks.
    pub caller: String,
    /// Which route.
    pub route: &'static str,
    /// The key they chose.
    pub key: String,
    /// BLAKE3 of the body.
    pub body_hash: [u8; 32],
}

/// Names one accepted document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobItem {
    /// The job.
    pub job_id: String,
    /// Its place in the request.
    pub ordinal: i64,
}

/// An accepted document that waits to be indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingItem {
    /// Which.
    pub item: JobItem,
    /// The collection it goes to.
    pub collection: String,
    /// The document, as the caller of [`Storage::accept_documents`] wrote it down.
    pub payload: String,
}

/// A document as it is handed over to [`Storage::accept_documents`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handover {
    /// It will be indexed; written down as its caller can read it again.
    Accepted(String),
    /// It cannot be, and the others can.
    Refused {
        /// A stable word.
        code: String,
        /// A sentence.
        detail: String,
    },
}

/// What became of an accepted document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobItemResult {
    /// It is stored.
    Indexed {
        /// Its id.
        document_id: String,
        /// Its revision.
        revision: i64,
        /// How many chunks it has.
        chunks: usize,
    },
    /// It was refused.
    Refused {
        /// A stable word.
        code: String,
        /// A sentence.
        detail: String,
    },
}

/// An accepted document and what became of it, so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemStatus {
    /// Its place in the request.
    pub ordinal: i64,
    /// `queued`, `indexed` or `refused`.
    pub status: String,
    /// Its id, once known.
    pub document_id: Option<String>,
    /// Its revision.
    pub revision: Option<i64>,
    /// How many chunks it has.
    pub chunks: Option<i64>,
    /// Why it was refused.
    pub error: Option<(String, String)>,
}

impl Storage {
    /// Makes a job.
    pub async fn create_job(&self, job: NewJob) -> Result<String, StorageError> {
        self.database.write(move |connection| insert(connection, &job, JobState::Running, 0)).await
    }

    /// Accepts documents: once this returns they will be indexed, but for those that are refused
    /// already. The same idempotent request again returns the same job.
    pub async fn accept_documents(
        &self,
        collection_id: i64,
        documents: Vec<Handover>,
        idempotency: Option<Idempotency>,
    ) -> Result<String, StorageError> {
        self.database
            .write(move |connection| {
                if let Some(request) = &idempotency
                    && let Some(job) = remembered(connection, request)?
                {
                    return Ok(job);
                }
                let job = NewJob { kind: "documents", collection_id, source_id: None, model: None };
                let id = insert(connection, &job, JobState::Queued, documents.len())?;
                let mut statement = connection.prepare_cached(
                    "INSERT INTO job_documents (job_id, ordinal, payload, status)
                     VALUES (?1, ?2, ?3, 'queued')",
                )?;
                for (ordinal, document) in (0..).zip(&documents) {
                    let payload = match document {
                        Handover::Accepted(payload) => Some(payload),
                        Handover::Refused { .. } => None,
                    };
                    statement.execute((&id, ordinal, payload))?;
                    if let Handover::Refused { code, detail } = document {
                        let item = JobItem { job_id: id.clone(), ordinal };
                        let result = JobItemResult::Refused { code: code.clone(), detail: detail.clone() };
                        settle_item(connection, &item, &result)?;
                    }
                }
                if let Some(request) = &idempotency {
                    remember(connection, request, &id)?;
                }
                Ok(id)
            })
            .await
    }

    /// Accepted documents that wait, oldest job first.
    pub fn waiting_documents(&self, limit: usize) -> Result<Vec<WaitingItem>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT i.job_id, i.ordinal, c.name, i.payload
                 FROM job_documents i
                 JOIN jobs j ON j.id = i.job_id
                 JOIN collections c ON c.id = j.collection_id
                 WHERE i.status = 'queued'
                 ORDER BY i.job_id, i.ordinal LIMIT ?1",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map([limit], |row| {
                Ok(WaitingItem {
                    item: JobItem { job_id: row.get(0)?, ordinal: row.get(1)? },
                    collection: row.get(2)?,
                    payload: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Records that an accepted document was refused.
    pub async fn refuse_item(&self, item: JobItem, code: String, detail: String) -> Result<(), StorageError> {
        self.database
            .write(move |connection| settle_item(connection, &item, &JobItemResult::Refused { code, detail }))
            .await
    }

    /// Writes down how far a job is; with a final state, that it is over.
    pub async fn update_job(
        &self,
        id: String,
        state: JobState,
        progress: Progress,
        error: Option<(String, String)>,
    ) -> Result<(), StorageError> {
        self.database
            .write(move |connection| {
                let (code, detail) = error.unzip();
                connection
                    .prepare_cached(
                        "UPDATE jobs SET state = ?2, total = ?3, done = ?4, skipped = ?5,
                             failed = ?6, error_code = ?7, error_detail = ?8,
                             finished_at_ms = ?9
                         WHERE id = ?1",
                    )?
                    .execute((
                        &id,
                        state.as_str(),
                        progress.total,
                        progress.done,
                        progress.skipped,
                        progress.failed,
                        code,
                        detail,
                        state.is_final().then(now_ms),
                    ))?;
                if state.is_final() {
                    forget_old(connection)?;
                }
                Ok(())
            })
            .await
    }

    /// Re-embeddings that a former process left running, of collections that are not moved yet;
    /// to be asked before [`Storage::close_interrupted_jobs`].
    pub fn interrupted_reembeddings(&self) -> Result<Vec<InterruptedReembedding>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT c.id, c.name, j.model FROM jobs j JOIN collections c ON c.id = j.collection_id
                 WHERE j.kind = 'reembed' AND j.state = 'running' AND j.model <> c.model ORDER BY j.id",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(InterruptedReembedding { collection_id: row.get(0)?, collection: row.get(1)?, model: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Ends the jobs that a former process left running; what they did stands, and what they
    /// were for is taken up anew. Accepted documents are not among them: they still wait.
    /// `code` is what they are told to have failed with.
    pub async fn close_interrupted_jobs(&self, code: &'static str) -> Result<usize, StorageError> {
        self.database
            .write(move |connection| {
                Ok(connection.execute(
                    "UPDATE jobs SET state = 'failed', error_code = ?2,
                         error_detail = 'the server stopped; the work goes on under a new job',
                         finished_at_ms = ?1
                     WHERE state = 'running' AND kind <> 'documents'",
                    (now_ms(), code),
                )?)
            })
            .await
    }

    /// The job of that id, if it is about a collection that is granted.
    pub fn job(&self, grants: &Grants, id: &str) -> Result<Job, StorageError> {
        self.database.read(|connection| {
            connection
                .prepare_cached(&format!("{JOB} WHERE {GRANTED} AND j.id = ?2"))?
                .query_row((grants.parameter(), id), job_row)
                .optional()?
                .ok_or_else(|| StorageError::NotFound { what: "job", name: id.to_owned() })
        })
    }

    /// Jobs about collections that are granted, newest first, older than `before`.
    pub fn jobs(&self, grants: &Grants, before: Option<&str>, limit: usize) -> Result<Vec<Job>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{JOB} WHERE {GRANTED} AND (?2 IS NULL OR j.id < ?2) ORDER BY j.id DESC LIMIT ?3"
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map((grants.parameter(), before, limit), job_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The documents of a job, in the order of the request.
    pub fn job_items(&self, id: &str) -> Result<Vec<ItemStatus>, StorageError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT ordinal, status, document_id, revision, chunks, error_code, error_detail
                 FROM job_documents WHERE job_id = ?1 ORDER BY ordinal",
            )?;
            let rows = statement.query_map([id], |row| {
                Ok(ItemStatus {
                    ordinal: row.get(0)?,
                    status: row.get(1)?,
                    document_id: row.get(2)?,
                    revision: row.get(3)?,
                    chunks: row.get(4)?,
                    error: row.get::<_, Option<String>>(5)?.zip(row.get(6)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

const JOB: &str = "SELECT j.id, j.kind, c.name, s.public_id, j.state, j.total, j.done, j.skipped,
        j.failed, j.error_code, j.error_detail, j.created_at_ms, j.finished_at_ms
    FROM jobs j
    LEFT JOIN collections c ON c.id = j.collection_id
    LEFT JOIN sources s ON s.id = j.source_id";

fn job_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    let state: String = row.get(4)?;
    Ok(Job {
        id: row.get(0)?,
        kind: row.get(1)?,
        collection: row.get(2)?,
        source: row.get(3)?,
        state: JobState::parse(&state).ok_or(rusqlite::Error::InvalidQuery)?,
        progress: Progress { total: row.get(5)?, done: row.get(6)?, skipped: row.get(7)?, failed: row.get(8)? },
        error: row.get::<_, Option<String>>(9)?.zip(row.get(10)?),
        created_at_ms: row.get(11)?,
        finished_at_ms: row.get(12)?,
    })
}

fn insert(connection: &Connection, job: &NewJob, state: JobState, total: usize) -> Result<String, StorageError> {
    let id = format!("job_{}", Uuid::now_v7().simple());
    connection
        .prepare_cached(
            "INSERT INTO jobs (id, kind, collection_id, source_id, model, state, total, created_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((&id, job.kind, job.collection_id, job.source_id, &job.model, state.as_str(), total, now_ms()))?;
    Ok(id)
}

/// Records what became of an accepted document; with the last one its job is done. A second
/// settlement of the same item changes nothing.
pub(crate) fn settle_item(connection: &Connection, item: &JobItem, result: &JobItemResult) -> Result<(), StorageError> {
    let settled = match result {
        JobItemResult::Indexed { document_id, revision, chunks } => connection
            .prepare_cached(
                "UPDATE job_documents SET status = 'indexed', payload = NULL, document_id = ?3,
                     revision = ?4, chunks = ?5
                 WHERE job_id = ?1 AND ordinal = ?2 AND status = 'queued'",
            )?
            .execute((&item.job_id, item.ordinal, document_id, revision, chunks))?,
        JobItemResult::Refused { code, detail } => connection
            .prepare_cached(
                "UPDATE job_documents SET status = 'refused', payload = NULL, error_code = ?3,
                     error_detail = ?4
                 WHERE job_id = ?1 AND ordinal = ?2 AND status = 'queued'",
            )?
            .execute((&item.job_id, item.ordinal, code, detail))?,
    };
    if settled == 0 {
        return Ok(());
    }
    let refused = matches!(result, JobItemResult::Refused { .. });
    connection
        .prepare_cached(
            "UPDATE jobs SET state = CASE WHEN done + failed + 1 >= total THEN 'done'
                                          ELSE 'running' END,
                 finished_at_ms = CASE WHEN done + failed + 1 >= total THEN ?2 END,
                 done = done + ?3, failed = failed + ?4
             WHERE id = ?1",
        )?
        .execute((&item.job_id, now_ms(), !refused, refused))?;
    let ended = connection
        .prepare_cached("SELECT state = 'done' FROM jobs WHERE id = ?1")?
        .query_row([&item.job_id], |row| row.get(0))?;
    if ended { forget_old(connection) } else { Ok(()) }
}

fn remembered(connection: &Connection, request: &Idempotency) -> Result<Option<String>, StorageError> {
    let found: Option<([u8; 32], String)> = connection
        .prepare_cached(
            "SELECT body_hash, job_id FROM idempotency_keys
             WHERE caller = ?1 AND route = ?2 AND key = ?3 AND created_at_ms > ?4",
        )?
        .query_row((&request.caller, request.route, &request.key, now_ms() - IDEMPOTENCY_MS), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    match found {
        Some((hash, job)) if hash == request.body_hash => Ok(Some(job)),
        Some(_) => Err(StorageError::KeyReused),
        None => Ok(None),
    }
}

fn remember(connection: &Connection, request: &Idempotency, job_id: &str) -> Result<(), StorageError> {
    connection.execute("DELETE FROM idempotency_keys WHERE created_at_ms <= ?1", [now_ms() - IDEMPOTENCY_MS])?;
    connection.execute(
        "INSERT OR REPLACE INTO idempotency_keys
             (caller, route, key, body_hash, job_id, created_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (&request.caller, request.route, &request.key, request.body_hash.as_slice(), job_id, now_ms()),
    )?;
    Ok(())
}

fn forget_old(connection: &Connection) -> Result<(), StorageError> {
    connection.execute(
        "DELETE FROM jobs WHERE state IN ('done', 'failed') AND id IN (
             SELECT id FROM jobs ORDER BY id DESC LIMIT -1 OFFSET ?1)",
        [FINISHED_JOBS_MAX],
    )?;
    Ok(())
}
