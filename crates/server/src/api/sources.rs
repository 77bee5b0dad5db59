//! `/api/v1/sources`: folders and files that the knowledge base follows.

use std::path::PathBuf;

use axum::{Json, extract::State, http::StatusCode};
use holdfast_knowledge::{SkippedFile, SourceAdded};
use holdfast_storage::sources::Source;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server,
    api::{DEFAULT_COLLECTION, PAGE_DEFAULT, PAGE_MAX, PageParams, collections::JobStarted},
    description,
    error::Failure,
    input::{Authenticated, Body, Params, Segment, within},
    timestamp,
};

/// The longest path a source may have, in bytes; longer than any system takes.
const PATH_BYTES_MAX: usize = 4_095;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewSource")]
pub(crate) struct AddBody {
    /// An absolute path on the server's machine
    #[schemars(length(min = 1, max = PATH_BYTES_MAX), regex(pattern = "^/[^\\x00]*$"))]
    path: String,
    /// `default` where absent
    #[schemars(regex(pattern = description::COLLECTION_NAME))]
    collection: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AddedSource")]
pub(crate) struct AddAnswer {
    source: SourceAnswer,
    job_id: String,
    /// Whether a source covered the path already
    covered: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SourceList")]
pub(crate) struct ListAnswer {
    sources: Vec<SourceAnswer>,
    next_cursor: Option<String>,
}

/// A source.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Source")]
pub(crate) struct SourceAnswer {
    id: String,
    collection: String,
    path: String,
    files: u64,
    skipped: u64,
    last_error: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    scanned_at: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RemovedSource")]
pub(crate) struct RemoveAnswer {
    documents_removed: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SkippedFiles")]
pub(crate) struct SkippedAnswer {
    skipped: Vec<SkippedEntry>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SkippedFile")]
pub(crate) struct SkippedEntry {
    path: String,
    code: String,
    detail: String,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<ListAnswer>, Failure> {
    let limit = within("limit", page.limit, PAGE_DEFAULT, 1..=PAGE_MAX)?;
    let after = match page.cursor.as_deref().map(str::parse::<i64>) {
        None => i64::MIN,
        Some(Ok(row)) => row,
        Some(Err(_)) => return Err(Failure::field("cursor", "is not one that this list gave")),
    };
    let mut rest = server.knowledge().sources(&caller).await?;
    rest.sort_unstable_by_key(|source| source.id);
    rest.retain(|source| source.id > after);
    let more = rest.len() > limit;
    rest.truncate(limit);
    let next_cursor = rest.last().filter(|_| more).map(|source| source.id.to_string());
    Ok(Json(ListAnswer { sources: rest.into_iter().map(SourceAnswer::from).collect(), next_cursor }))
}

pub(crate) async fn add(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<AddBody>,
) -> Result<(StatusCode, Json<AddAnswer>), Failure> {
    let path = source_path(body.value.path)?;
    let collection = body.value.collection.unwrap_or_else(|| DEFAULT_COLLECTION.to_owned());
    let added = server.knowledge().add_source(&caller, &collection, &path).await?;
    Ok((StatusCode::ACCEPTED, Json(added.into())))
}

/// A path that means the same to the caller and to the server, whose working directory is nobody's business.
fn source_path(path: String) -> Result<PathBuf, Failure> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Failure::field("path", format_args!("must have at most {PATH_BYTES_MAX} bytes")));
    }
    if path.contains('\0') {
        return Err(Failure::field("path", "must not contain NUL"));
    }
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err(Failure::field("path", "must be absolute"));
    }
    Ok(path)
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Json<SourceAnswer>, Failure> {
    Ok(Json(server.knowledge().source(&caller, &id).await?.into()))
}

pub(crate) async fn remove(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Json<RemoveAnswer>, Failure> {
    let documents_removed = server.knowledge().remove_source(&caller, &id).await?;
    Ok(Json(RemoveAnswer { documents_removed }))
}

pub(crate) async fn sync(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<(StatusCode, Json<JobStarted>), Failure> {
    let job_id = server.knowledge().sync_source(&caller, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(JobStarted { job_id })))
}

pub(crate) async fn skipped(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
    Params(page): Params<PageParams>,
) -> Result<Json<SkippedAnswer>, Failure> {
    let limit = within("limit", page.limit, PAGE_DEFAULT, 1..=PAGE_MAX)?;
    let page = server.knowledge().skipped_files(&caller, &id, page.cursor.as_deref(), limit).await?;
    let skipped = page.items.into_iter().map(SkippedEntry::from).collect();
    Ok(Json(SkippedAnswer { skipped, next_cursor: page.next_cursor }))
}

impl From<SourceAdded> for AddAnswer {
    fn from(added: SourceAdded) -> Self {
        Self { source: added.source.into(), job_id: added.job_id, covered: added.covered }
    }
}

impl From<Source> for SourceAnswer {
    fn from(source: Source) -> Self {
        Self {
            id: source.public_id,
            collection: source.collection,
            path: source.root,
            files: source.files,
            skipped: source.skipped,
            last_error: source.last_error,
            created_at: timestamp::from_ms(source.created_at_ms),
            scanned_at: source.scanned_at_ms.map(timestamp::from_ms),
        }
    }
}

impl From<SkippedFile> for SkippedEntry {
    fn from(file: SkippedFile) -> Self {
        Self { path: file.path.to_string_lossy().into_owned(), code: file.code, detail: file.detail }
    }
}
