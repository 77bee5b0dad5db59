//! `/api/v1/jobs`: accepted work and how far it is.

use axum::{Json, extract::State};
use holdfast_knowledge::JobReport;
use holdfast_storage::jobs::{Job, Progress};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Server,
    api::{PAGE_DEFAULT, PAGE_MAX, PageParams, Trouble, documents::StoredDocument},
    error::Failure,
    input::{Authenticated, Params, Segment, within},
    timestamp,
};

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "JobList")]
pub(crate) struct ListAnswer {
    jobs: Vec<JobAnswer>,
    next_cursor: Option<String>,
}

/// A job.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Job")]
pub(crate) struct JobAnswer {
    id: String,
    #[schemars(extend("enum" = ["documents", "source", "reembed"]))]
    kind: String,
    #[schemars(extend("enum" = ["queued", "running", "done", "failed"]))]
    state: &'static str,
    collection: Option<String>,
    source: Option<String>,
    progress: ProgressAnswer,
    error: Option<Trouble>,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    finished_at: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Progress")]
pub(crate) struct ProgressAnswer {
    total: u64,
    done: u64,
    skipped: u64,
    failed: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "JobReport")]
pub(crate) struct ReportAnswer {
    #[serde(flatten)]
    job: JobAnswer,
    documents: Vec<StoredDocument>,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<ListAnswer>, Failure> {
    let limit = within("limit", page.limit, PAGE_DEFAULT, 1..=PAGE_MAX)?;
    let page = server.knowledge().jobs(&caller, page.cursor.as_deref(), limit).await?;
    let jobs = page.items.into_iter().map(JobAnswer::from).collect();
    Ok(Json(ListAnswer { jobs, next_cursor: page.next_cursor }))
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Json<ReportAnswer>, Failure> {
    Ok(Json(server.knowledge().job(&caller, &id).await?.into()))
}

impl From<Job> for JobAnswer {
    fn from(job: Job) -> Self {
        let Progress { total, done, skipped, failed } = job.progress;
        Self {
            id: job.id,
            kind: job.kind,
            state: job.state.as_str(),
            collection: job.collection,
            source: job.source,
            progress: ProgressAnswer { total, done, skipped, failed },
            error: job.error.map(Trouble::from),
            created_at: timestamp::from_ms(job.created_at_ms),
            finished_at: job.finished_at_ms.map(timestamp::from_ms),
        }
    }
}

impl From<JobReport> for ReportAnswer {
    fn from(report: JobReport) -> Self {
        let documents = report.documents.into_iter().map(StoredDocument::from).collect();
        Self { job: report.job.into(), documents }
    }
}
