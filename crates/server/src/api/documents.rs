//! `/api/v1/documents`: documents handed over, listed, shown and removed.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use holdfast_knowledge::{DocumentContent, DocumentPage, NewDocument, PutDocuments};
use holdfast_storage::{documents::Document, jobs::ItemStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Server,
    api::{DEFAULT_COLLECTION, PAGE_DEFAULT, PAGE_MAX, Trouble},
    description, distinct,
    error::Failure,
    input::{Authenticated, Hashed, Idempotency, Params, Segment, at_most, within},
    limits::{self, Meter},
    timestamp,
};

/// Documents to be stored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PutDocuments")]
pub(crate) struct PutBody {
    /// `default` where absent
    #[schemars(regex(pattern = description::COLLECTION_NAME))]
    collection: Option<String>,
    /// The documents; the server's `limits.max_documents` bounds how many
    #[schemars(length(min = 1, max = description::DOCUMENTS_MAX))]
    documents: Vec<DocumentBody>,
    /// Whether to wait until they are findable, up to 30 s; then the answer is 202
    #[serde(default = "yes")]
    wait: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewDocument")]
pub(crate) struct DocumentBody {
    /// Replaces the document of this id; derived from path or content where absent
    #[schemars(length(min = 1, max = description::TEXT_MAX), regex(pattern = description::NO_CONTROL))]
    id: Option<String>,
    /// What it is known by; it also tells the type of the content
    #[schemars(length(min = 1, max = description::TEXT_MAX), regex(pattern = description::NO_CONTROL))]
    path: Option<String>,
    /// The first heading where absent
    #[schemars(length(min = 1, max = description::TEXT_MAX), regex(pattern = description::NO_CONTROL))]
    title: Option<String>,
    content: String,
    /// A media type; found out where absent
    #[schemars(length(min = 1, max = description::TEXT_MAX), regex(pattern = description::NO_CONTROL))]
    content_type: Option<String>,
    /// What filters can ask for: at most 16 KiB, 8 levels deep
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    #[serde(default, deserialize_with = "distinct::value")]
    metadata: Value,
}

fn yes() -> bool {
    true
}

/// What became of documents that were handed over.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StoredDocuments")]
pub(crate) struct PutAnswer {
    job_id: String,
    documents: Vec<StoredDocument>,
}

/// What became of one.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StoredDocument {
    id: Option<String>,
    revision: Option<i64>,
    chunks: Option<i64>,
    /// `indexed`, `refused`, or `queued` while it waits
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Trouble>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    /// The collection; `default` where absent
    #[schemars(regex(pattern = description::COLLECTION_NAME))]
    collection: Option<String>,
    /// Only documents of the source of this id
    source: Option<String>,
    /// `next_cursor` of the page before; the first page where absent
    cursor: Option<String>,
    /// The most items of the page; 100 where absent
    #[schemars(range(min = 1, max = PAGE_MAX))]
    limit: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectionParam {
    /// The collection; `default` where absent
    #[schemars(regex(pattern = description::COLLECTION_NAME))]
    collection: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DocumentList")]
pub(crate) struct ListAnswer {
    documents: Vec<DocumentAnswer>,
    next_cursor: Option<String>,
}

/// A document without its text.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Document")]
pub(crate) struct DocumentAnswer {
    id: String,
    collection: String,
    source: Option<String>,
    path: Option<String>,
    title: String,
    content_type: String,
    revision: i64,
    size_bytes: u64,
    #[schemars(with = "serde_json::Map<String, Value>")]
    metadata: Value,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DocumentContent")]
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
    Hashed { body, hash }: Hashed<PutBody>,
) -> Result<Response, Failure> {
    at_most("documents", &body.value.documents, server.config().max_documents)?;
    meter.charge(limits::texts(body.value.documents.iter().map(|document| document.content.len())))?;
    let request = PutDocuments {
        collection: body.value.collection.unwrap_or_else(|| DEFAULT_COLLECTION.to_owned()),
        documents: body.value.documents.into_iter().map(NewDocument::from).collect(),
        wait: body.value.wait.then_some(server.config().document_wait),
        idempotency: idempotency.of("POST /api/v1/documents", hash),
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
