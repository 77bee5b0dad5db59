//! `/api/v1/documents`: documents handed over, listed, shown and removed.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use holdfast_knowledge::{DocumentContent, DocumentPage, NewDocument, PutDocuments};
use holdfast_storage::{documents::Document, jobs::ItemStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Server,
    api::{DEFAULT_COLLECTION, PAGE_DEFAULT, PAGE_MAX, Trouble},
    distinct,
    error::Failure,
    input::{Authenticated, Body, Idempotency, Params, Segment, at_most, within},
    limits::{self, Meter},
    timestamp,
};

/// Documents to be stored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutBody {
    collection: Option<String>,
    documents: Vec<DocumentBody>,
    #[serde(default = "yes")]
    wait: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentBody {
    id: Option<String>,
    path: Option<String>,
    title: Option<String>,
    content: String,
    content_type: Option<String>,
    #[serde(default, deserialize_with = "distinct::value")]
    metadata: Value,
}

fn yes() -> bool {
    true
}

/// What became of documents that were handed over.
#[derive(Debug, Serialize)]
struct PutAnswer {
    job_id: String,
    documents: Vec<StoredDocument>,
}

/// What became of one.
#[derive(Debug, Serialize)]
pub(crate) struct StoredDocument {
    id: Option<String>,
    revision: Option<i64>,
    chunks: Option<i64>,
    /// `indexed`, `refused`, or `queued` while it waits.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Trouble>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    collection: Option<String>,
    source: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectionParam {
    collection: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ListAnswer {
    documents: Vec<DocumentAnswer>,
    next_cursor: Option<String>,
}

/// A document without its text.
#[derive(Debug, Serialize)]
struct DocumentAnswer {
    id: String,
    collection: String,
    source: Option<String>,
    path: Option<String>,
    title: String,
    content_type: String,
    revision: i64,
    size_bytes: u64,
    metadata: Value,
    created_at: String,
    updated_at: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct ContentAnswer {
    #[serde(flatten)]
    document: DocumentAnswer,
    chunks: u64,
    content: String,
}

pub(crate) async fn put(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    meter: Meter,
    idempotency: Idempotency,
    body: Body<PutBody>,
) -> Result<Response, Failure> {
    at_most("documents", &body.value.documents, server.config().max_documents)?;
    meter.charge(limits::texts(body.value.documents.iter().map(|document| document.content.len())))?;
    let request = PutDocuments {
        collection: body.value.collection.unwrap_or_else(|| DEFAULT_COLLECTION.to_owned()),
        documents: body.value.documents.into_iter().map(NewDocument::from).collect(),
        wait: body.value.wait.then_some(server.config().document_wait),
        idempotency: idempotency.of("POST /api/v1/documents", body.hash),
    };
    let report = server.knowledge().put_documents(&caller, request).await?;
    let status = if report.job.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let documents = report.documents.into_iter().map(StoredDocument::from).collect();
    Ok((status, Json(PutAnswer { job_id: report.job.id, documents })).into_response())
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Params(params): Params<ListParams>,
) -> Result<Json<ListAnswer>, Failure> {
    let page = DocumentPage {
        collection: params.collection.unwrap_or_else(|| DEFAULT_COLLECTION.to_owned()),
        source: params.source,
        cursor: params.cursor,
        limit: within("limit", params.limit, PAGE_DEFAULT, 1..=PAGE_MAX)?,
    };
    let page = server.knowledge().documents(&caller, page).await?;
    let documents = page.items.into_iter().map(DocumentAnswer::from).collect();
    Ok(Json(ListAnswer { documents, next_cursor: page.next_cursor }))
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
    Params(params): Params<CollectionParam>,
) -> Result<Json<ContentAnswer>, Failure> {
    let found = server.knowledge().document(&caller, params.name(), &id).await?;
    Ok(Json(found.into()))
}

pub(crate) async fn remove(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
    Params(params): Params<CollectionParam>,
) -> Result<StatusCode, Failure> {
    server.knowledge().remove_document(&caller, params.name(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl CollectionParam {
    fn name(&self) -> &str {
        self.collection.as_deref().unwrap_or(DEFAULT_COLLECTION)
    }
}

impl From<DocumentBody> for NewDocument {
    fn from(body: DocumentBody) -> Self {
        let DocumentBody { id, path, title, content, content_type, metadata } = body;
        Self { id, path, title, content, content_type, metadata }
    }
}

impl From<ItemStatus> for StoredDocument {
    fn from(item: ItemStatus) -> Self {
        Self {
            id: item.document_id,
            revision: item.revision,
            chunks: item.chunks,
            status: item.status,
            error: item.error.map(Trouble::from),
        }
    }
}

impl From<Document> for DocumentAnswer {
    fn from(document: Document) -> Self {
        Self {
            id: document.public_id,
            collection: document.collection,
            source: document.source,
            path: document.path,
            title: document.title,
            content_type: document.content_type,
            revision: document.revision,
            size_bytes: document.size_bytes,
            metadata: document.metadata,
            created_at: timestamp::from_ms(document.created_at_ms),
            updated_at: timestamp::from_ms(document.updated_at_ms),
        }
    }
}

impl From<DocumentContent> for ContentAnswer {
    fn from(found: DocumentContent) -> Self {
        Self { document: found.document.into(), chunks: found.chunks, content: found.text }
    }
}
