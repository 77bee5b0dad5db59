//! What every failure is called on the wire: one table of codes, and the way each error gets its code.
//!
//! A [`Failure`] has two audiences. The caller gets code, detail and hint; the operator gets the chain of causes, with
//! paths and all, in the one log line that carries the same `error_id`; of requests refused under load that line is one
//! at `debug`, and a count of them is told now and then; so it is with those over a limit or without a key. Nothing else in this crate chooses a status,
//! and `docs/ERRORS.md` has a section for every code, which a test enforces.

mod learning;
mod turn;

use std::{borrow::Cow, error::Error, io, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_embedding::EmbedError;
use holdfast_knowledge::{KnowledgeError, files::FilesError};
use holdfast_storage::{FilterError, StorageError, lexical::LexicalError, vectors::VectorError};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

pub(crate) use self::turn::cut_short;
use crate::tally::Tally;

/// The media type of RFC 9457, section 3.
const PROBLEM_JSON: &str = "application/problem+json";
/// The longest detail sent, in characters: a detail may quote what the caller sent.
const DETAIL_CHARS_MAX: usize = 400;
/// When to ask again where nothing better is known.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// How often the log tells of requests that were refused under load.
const SHED_TOLD_EVERY: Duration = Duration::from_secs(1);
/// When to ask again after something that takes a person, or other requests, to mend.
const RETRY_LATER: Duration = Duration::from_secs(10);

/// What the clients of OpenAI and Anthropic go by before they go by the status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:ident, $title:literal, $hint:literal;)*) => {
        /// The stable name of a kind of failure.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code there is.

            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$variant => {
                        Row { code: $code, status: StatusCode::$status, title: $title, hint: $hint }
                    })*
                }
            }
        }
    };
}

codes! {
    // The request itself.
    InvalidJson = "invalid_json", BAD_REQUEST, "The body is not JSON", "";
    JsonTooDeep = "json_too_deep", BAD_REQUEST, "The body nests too deep", "flatten it";
    InvalidBody = "invalid_body", BAD_REQUEST, "The body could not be read", "send the request again";
    InvalidRequest = "invalid_request", BAD_REQUEST, "The request is not valid", "";
    InvalidField = "invalid_field", UNPROCESSABLE_ENTITY, "A field is not valid", "";
    EmptyInput = "empty_input", UNPROCESSABLE_ENTITY, "There is no text", "send at least one text that is not blank";
    InvalidFilter = "invalid_filter", UNPROCESSABLE_ENTITY, "The filter is not valid", "";
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY,
        "The idempotency key was used for another request", "send a new Idempotency-Key with a new request";
    Unauthorized = "unauthorized", UNAUTHORIZED, "A valid key is needed",
        "send `Authorization: Bearer KEY`; `holdfast keys create NAME` makes one";
    Forbidden = "forbidden", FORBIDDEN, "The key may not do this", "use a key that may";
    ForbiddenHost = "forbidden_host", FORBIDDEN, "The Host or Origin is not allowed",
        "call the server by a loopback name, such as 127.0.0.1 or localhost";
    HttpsRequired = "https_required", FORBIDDEN, "The request has to be encrypted",
        "use https://, and make a new key for one that was sent without";
    RouteNotFound = "route_not_found", NOT_FOUND, "There is no such route", "";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The route does not have this method",
        "the Allow header names the methods it has";
    NotAcceptable = "not_acceptable", NOT_ACCEPTABLE, "The answer cannot have the media type asked for",
        "accept both application/json and text/event-stream";
    BodyTooSlow = "body_too_slow", REQUEST_TIMEOUT, "The body came too slowly", "send the request again";
    UpgradeRequired = "upgrade_required", UPGRADE_REQUIRED, "The route is only for another protocol",
        "use `holdfast mcp`, which speaks it";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "send fewer or shorter documents at a time";
    TextTooLong = "text_too_long", PAYLOAD_TOO_LARGE, "A text is longer than the model reads",
        "split the text, or ask for it to be truncated";
    TooManyTexts = "too_many_texts", PAYLOAD_TOO_LARGE, "The request has too many texts", "split the request";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body has an unsupported media type",
        "send it with `Content-Type: application/json`";

    // What the request is about.
    CollectionNotFound = "collection_not_found", NOT_FOUND, "There is no such collection",
        "list them with `holdfast collections list`";
    DocumentNotFound = "document_not_found", NOT_FOUND, "There is no such document",
        "list them with `holdfast documents list`";
    SourceNotFound = "source_not_found", NOT_FOUND, "There is no such source",
        "list them with `holdfast sources list`";
    JobNotFound = "job_not_found", NOT_FOUND, "There is no such job", "finished jobs are kept up to a number only";
    KeyNotFound = "key_not_found", NOT_FOUND, "There is no such key", "list them with `holdfast keys list`";
    ModelNotFound = "model_not_found", NOT_FOUND, "There is no such model",
        "list them with `holdfast models list`";
    SessionNotFound = "session_not_found", NOT_FOUND, "There is no such session", "begin a new one";
    DatasetNotFound = "dataset_not_found", NOT_FOUND, "There is no such dataset",
        "GET /api/v1/datasets lists those there are";
    InteractionNotFound = "interaction_not_found", NOT_FOUND, "There is no such interaction",
        "the header X-Holdfast-Interaction of an answer names it";
    NotFound = "not_found", NOT_FOUND, "There is no such thing", "";
    CollectionExists = "collection_exists", CONFLICT, "The collection exists already", "choose another name";
    TooManyKeys = "too_many_keys", CONFLICT, "There are as many keys as may be", "";
    AlreadyExists = "already_exists", CONFLICT, "It exists already", "choose another name";
    EmbeddingSpaceMismatch = "embedding_space_mismatch", CONFLICT, "The collection has vectors of another embedding space",
        "move it with `holdfast collections reembed NAME --model MODEL`";
    InProgress = "in_progress", CONFLICT, "It is in progress already", "wait for the job under way to finish";
    Superseded = "superseded", CONFLICT, "It changed in the meantime", "try again";
    CursorExpired = "cursor_expired", GONE, "The cursor is no longer valid", "start again without a cursor";
    SourceUnreadable = "source_unreadable", UNPROCESSABLE_ENTITY, "The path cannot be a source",
        "give a folder or a file that the server may read";
    ModelUnsupported = "model_unsupported", UNPROCESSABLE_ENTITY, "The model cannot be used",
        "use a BERT model with model.safetensors, config.json and tokenizer.json";

    // What a language model is asked.
    NoModelFits = "no_model_fits", UNPROCESSABLE_ENTITY, "No model can answer this request",
        "ask for less, or for another model; GET /v1/models lists them";
    NotExpressible = "not_expressible", UNPROCESSABLE_ENTITY, "The request cannot be put to this model",
        "leave it out, or ask a model whose provider speaks the same API";
    ContextTooLong = "context_too_long", PAYLOAD_TOO_LARGE, "The conversation is longer than the model reads",
        "shorten it, or ask a model that reads more";
    ProviderRejected = "provider_rejected", UNPROCESSABLE_ENTITY, "The model's server does not accept the request",
        "the server's log has that server's own words";
    ContentFiltered = "content_filtered", UNPROCESSABLE_ENTITY, "The model's provider withheld the answer",
        "ask in another way, or ask another model";
    PriceMissing = "price_missing", CONFLICT, "A budget in money applies, and the model has no price",
        "give the model a price, or ask another one";
    SessionBusy = "session_busy", CONFLICT, "Another turn of the session is under way",
        "send one turn of a session at a time";
    SessionFull = "session_full", CONFLICT, "The session has as much in it as may be", "begin a new one";

    DocumentRefused = "document_refused", UNPROCESSABLE_ENTITY, "The document was refused", "";

    // The server's state.
    ModelNotReady = "model_not_ready", SERVICE_UNAVAILABLE, "The embedding model is not ready",
        "wait for it; `holdfast status` shows how far it is";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "More is asked for than may be",
        "wait for as long as `Retry-After` says";
    NoProvider = "no_provider", SERVICE_UNAVAILABLE, "No language model is configured",
        "add one with `holdfast providers add`";
    BudgetExceeded = "budget_exceeded", TOO_MANY_REQUESTS, "A budget is used up",
        "wait until it begins anew, or have it raised";
    NotCached = "not_cached", GATEWAY_TIMEOUT, "No answer to this request is kept",
        "ask without `Cache-Control: only-if-cached`";
    ProviderRateLimited = "provider_rate_limited", TOO_MANY_REQUESTS, "The model's provider wants to be asked less often",
        "wait for as long as `Retry-After` says, or ask another model";
    ProviderOverloaded = "provider_overloaded", SERVICE_UNAVAILABLE, "The model has too much to do, or is being spared",
        "try again shortly, or ask another model";
    ProviderFailed = "provider_failed", BAD_GATEWAY, "The model's server failed",
        "try again, or ask another model";
    ProviderTimeout = "provider_timeout", GATEWAY_TIMEOUT, "The model took longer than it may",
        "try again, ask for less, or ask another model";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too much is being done at once", "try again shortly";
    ShuttingDown = "shutting_down", SERVICE_UNAVAILABLE, "The server is shutting down", "";
    DeadlineExceeded = "deadline_exceeded", GATEWAY_TIMEOUT, "It took longer than it may",
        "ask for less at a time, or try again";
    StorageFull = "storage_full", INSUFFICIENT_STORAGE, "The disk is full",
        "free some disk space; writing resumes by itself";
    StorageReadOnly = "storage_read_only", SERVICE_UNAVAILABLE, "The data directory cannot be written",
        "make the data directory writable";
    StorageUnavailable = "storage_unavailable", SERVICE_UNAVAILABLE, "The disk failed", "look at the log";
    StorageDamaged = "storage_damaged", INTERNAL_SERVER_ERROR, "Stored data is damaged", "run `holdfast doctor`";
    IndexUnavailable = "index_unavailable", SERVICE_UNAVAILABLE, "A search index failed",
        "try again; if it lasts, run `holdfast doctor --fix`";
    ModelTooLarge = "model_too_large", INSUFFICIENT_STORAGE, "The model does not fit into the memory for models", "";
    ModelDamaged = "model_damaged", INTERNAL_SERVER_ERROR, "A model file is damaged",
        "`holdfast models pull` fetches what is damaged again";
    ModelFetchFailed = "model_fetch_failed", BAD_GATEWAY, "The model could not be fetched",
        "check the network, or give a folder that has the model";
    RemoteModelFailed = "remote_model_failed", BAD_GATEWAY, "The server of a remote model failed",
        "look at that server and at the log, or try again shortly";
    EmbeddingFailed = "embedding_failed", INTERNAL_SERVER_ERROR, "The text could not be embedded", "";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong in the server",
        "look for the error_id in the server's log";

    // Providers and budgets, and models that are run here.
    ProviderNotFound = "provider_not_found", NOT_FOUND, "There is no such provider",
        "list them with `holdfast providers list`";
    BudgetNotFound = "budget_not_found", NOT_FOUND, "There is no such budget",
        "list them with `holdfast budgets list`";
    TooMany = "too_many", CONFLICT, "There are as many as may be", "remove one that is no longer needed";
    ModelFileUnusable = "model_file_unusable", UNPROCESSABLE_ENTITY, "The file is no model that can be run",
        "give a model's .gguf file that the server may read";
    ModelServerMissing = "model_server_missing", UNPROCESSABLE_ENTITY, "There is no program that runs such a model",
        "install llama-server, or `pip install 'llama-cpp-python[server]'`, or name a program with --command";
}

struct Row {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    hint: &'static str,
}

impl Code {
    /// The word clients tell failures apart by.
    pub(crate) const fn as_str(self) -> &'static str {
        self.row().code
    }

    /// What it means, in a few words.
    pub(crate) const fn title(self) -> &'static str {
        self.row().title
    }

    /// The HTTP status that goes with it.
    pub(crate) const fn status(self) -> StatusCode {
        self.row().status
    }

    /// When asking again makes sense, where that is known of all such failures.
    const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Overloaded
            | Self::IndexUnavailable
            | Self::Superseded
            | Self::SessionBusy
            | Self::ProviderOverloaded
            | Self::ProviderRateLimited => Some(RETRY_SOON),
            Self::StorageFull | Self::StorageReadOnly | Self::StorageUnavailable | Self::ShuttingDown => {
                Some(RETRY_LATER)
            }
            _ => None,
        }
    }

    /// Whether it passes by itself, so that answers can say when to ask again.
    pub(crate) const fn passes(self) -> bool {
        self.retry_after().is_some() || matches!(self, Self::ModelNotReady | Self::RateLimited | Self::BudgetExceeded)
    }

    /// Whether it lasts until a person does something, though its status is one that clients try again at.
    const fn lasts(self) -> bool {
        matches!(
            self,
            Self::NoProvider
                | Self::BudgetExceeded
                | Self::PriceMissing
                | Self::NotCached
                | Self::SessionFull
                | Self::TooMany
        )
    }
}

/// A failed request: what its caller is told, and what the operator needs.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    // Boxed, since a failure travels in the `Err` of nearly every function here.
    detail: Box<str>,
    hint: Option<Box<str>>,
    field: Option<Box<str>>,
    retry_after: Option<Duration>,
    cause: Option<Box<dyn Error + Send + Sync>>,
    error_id: Uuid,
}

/// The body of a failed response, in the shape of RFC 9457.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// `urn:holdfast:error:` and the code
    #[serde(rename = "type")]
    kind: String,
    /// What the code means
    title: &'static str,
    pub(crate) status: u16,
    /// What programs decide by; `docs/ERRORS.md` has a section for each
    pub(crate) code: &'static str,
    /// A sentence for people
    pub(crate) detail: String,
    /// The field that is to blame, as a path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    /// What to do about it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// What the server's log knows this failure by
    pub(crate) error_id: String,
}

impl Failure {
    /// A failure with the hint of its code.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let hint = code.row().hint;
        Self {
            code,
            detail: cut(detail.into()).into(),
            hint: (!hint.is_empty()).then(|| hint.into()),
            field: None,
            retry_after: code.retry_after(),
            cause: None,
            error_id: Uuid::now_v7(),
        }
    }

    /// A field of the request that is not acceptable. `problem` continues the sentence that the field begins.
    pub(crate) fn field(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        let field = cut(field.into());
        let mut failure = Self::new(Code::InvalidField, format!("{field} {problem}"));
        failure.field = Some(field.into());
        failure
    }

    /// With the fields that are to blame.
    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(cut(field.into()).into());
        self
    }

    /// With a hint that knows more than the code's own.
    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        if let Some(hint) = hint {
            self.hint = Some(hint.into());
        }
        self
    }

    /// With the time after which asking again makes sense.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// With what only the log may know.
    pub(crate) fn cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With an id of its own.
    pub(crate) fn called(mut self, error_id: Uuid) -> Self {
        self.error_id = error_id;
        self
    }

    /// What the caller is told. Writes the log line, so it is called once, where the failure leaves the server.
    pub(crate) fn report(self) -> Problem {
        self.note();
        self.problem()
    }

    /// Writes the log line, and counts.
    fn note(&self) {
        if self.code == Code::Overloaded {
            return note_shed(self.error_id);
        }
        let row = self.code.row();
        let error_id = self.error_id.simple().to_string();
        let cause = self.cause.as_deref().map(chain);
        let cause = cause.as_deref().unwrap_or("");
        // The detail is not logged: it may quote what the caller sent.
        if row.status.is_server_error() && !matches!(self.code, Code::ModelNotReady | Code::NoProvider) {
            tracing::warn!(error_id, code = row.code, cause, "a request failed: {}", row.title);
        } else {
            tracing::debug!(error_id, code = row.code, cause, "a request was refused: {}", row.title);
        }
        metrics::counter!("holdfast_errors_total", "code" => row.code).increment(1);
    }

    fn problem(self) -> Problem {
        let row = self.code.row();
        Problem {
            kind: format!("urn:holdfast:error:{}", row.code),
            title: row.title,
            status: row.status.as_u16(),
            code: row.code,
            detail: self.detail.into(),
            field: self.field.map(Into::into),
            hint: self.hint.map(Into::into),
            error_id: self.error_id.simple().to_string(),
        }
    }

    /// The response, of which neither log nor metrics know.
    pub(crate) fn unreported(self) -> Response {
        let (code, retry_after) = (self.code, self.retry_after);
        let problem = self.problem();
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"holdfast\""));
        }
        if let Some(after) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(after)));
        }
        if code.lasts() {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if matches!(code, Code::Overloaded | Code::RateLimited | Code::Unauthorized) {
            response.extensions_mut().insert(Shed);
        }
        // For those who need another shape.
        response.extensions_mut().insert(problem);
        response
    }
}

impl Problem {
    /// The same for people, in three short lines.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}: {}", self.code, self.detail);
        if let Some(hint) = &self.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        text.push_str("\nerror_id: ");
        text.push_str(&self.error_id);
        text
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.note();
        self.unreported()
    }
}

/// Marks the response to a request that was refused for a reason of which the log is told in sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shed;

/// Notes that a request was refused under load. One line each would fill the log: that one is for debugging.
pub(crate) fn note_shed(error_id: Uuid) {
    let code = Code::Overloaded.row().code;
    tracing::debug!(error_id = %error_id.simple(), code, "a request was refused: too much is being done");
    metrics::counter!("holdfast_errors_total", "code" => code).increment(1);
    SHED.note("full");
}

/// What was refused under load and is not in the log yet.
pub(crate) static SHED: Tally =
    Tally::new(("refused", "requests: too much is being done"), Code::Overloaded.as_str(), SHED_TOLD_EVERY);

/// Whole seconds, at least one: a `Retry-After` of 0 invites a busy loop.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1_000).clamp(1, 86_400) as u64
}

/// An error and all its causes, one after the other.
fn chain(error: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(DETAIL_CHARS_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}

impl From<KnowledgeError> for Failure {
    fn from(error: KnowledgeError) -> Self {
        let hint = error.hint();
        let told = error.to_string();
        match error {
            KnowledgeError::Invalid { field, problem } => Self::field(field, problem),
            KnowledgeError::Filter(filter) => filter.into(),
            KnowledgeError::NotFound { what, .. } => Self::new(not_found(what), told).hint(hint),
            KnowledgeError::NotGranted { .. } => Self::new(Code::Forbidden, told).hint(hint),
            KnowledgeError::Exists { what, .. } => Self::new(exists(what), told).hint(hint),
            KnowledgeError::ModelNotReady { stage, retry_after } => {
                Self::new(Code::ModelNotReady, format!("the embedding model is not ready: {}", public(&stage)))
                    .hint(hint)
                    .retry_after(retry_after)
                    .cause(told)
            }
            KnowledgeError::OtherModel { .. } | KnowledgeError::OtherSpace { .. } => {
                Self::new(Code::EmbeddingSpaceMismatch, told).hint(hint)
            }
            KnowledgeError::CursorExpired => Self::new(Code::CursorExpired, told).hint(hint),
            KnowledgeError::Overloaded => Self::new(Code::Overloaded, told).hint(hint),
            KnowledgeError::InProgress { .. } => Self::new(Code::InProgress, told).hint(hint),
            KnowledgeError::Deadline { .. } => Self::new(Code::DeadlineExceeded, told).hint(hint),
            KnowledgeError::Source(files) => files.into(),
            KnowledgeError::Embedding(embedding) => embedding.into(),
            KnowledgeError::Storage(storage) => storage.into(),
            KnowledgeError::Incomplete { .. } => Self::new(Code::EmbeddingFailed, told).hint(hint),
            KnowledgeError::ShuttingDown => Self::new(Code::ShuttingDown, told).hint(hint),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let hint = error.hint();
        let told = error.to_string();
        let code = match &error {
            StorageError::Full(_) => Code::StorageFull,
            StorageError::Device(_) => Code::StorageUnavailable,
            StorageError::ReadOnly(_) => Code::StorageReadOnly,
            StorageError::Damaged(_) | StorageError::Unreadable { .. } => Code::StorageDamaged,
            StorageError::File { source, .. } => file_code(source),
            StorageError::Vectors(vectors) => vectors_code(vectors),
            StorageError::Lexical(lexical) => lexical_code(lexical),
            StorageError::NotFound { what, .. } => return Self::new(not_found(what), told).hint(hint),
            StorageError::Exists { what, .. } => return Self::new(exists(what), told).hint(hint),
            StorageError::OtherSpace { .. } => return Self::new(Code::EmbeddingSpaceMismatch, told).hint(hint),
            StorageError::Forbidden { .. } => return Self::new(Code::Forbidden, told).hint(hint),
            StorageError::TooManyKeys { .. } => return Self::new(Code::TooManyKeys, told).hint(hint),
            StorageError::Superseded => Code::Superseded,
            StorageError::KeyReused => Code::IdempotencyKeyReused,
            StorageError::Closed => Code::ShuttingDown,
            // At a request these are defects: they belong to opening the data directory, or to who follows the log.
            StorageError::Statement(_)
            | StorageError::Archived { .. }
            | StorageError::Newer { .. }
            | StorageError::ForeignSchema { .. }
            | StorageError::InUse { .. } => return Self::new(Code::Internal, SOMETHING_WENT_WRONG).cause(error),
        };
        // The title says all that a caller may know: the error's own words have paths in them.
        Self::new(code, code.row().title).hint(hint).cause(error)
    }
}

impl From<EmbedError> for Failure {
    fn from(error: EmbedError) -> Self {
        let hint = error.hint();
        let told = error.to_string();
        match &error {
            EmbedError::NotReady { stage, retry_after, .. } => {
                Self::new(Code::ModelNotReady, format!("the embedding model is not ready: {}", public(stage)))
                    .retry_after(*retry_after)
                    .cause(told)
            }
            EmbedError::UnknownModel { .. } => Self::new(Code::ModelNotFound, told).hint(hint),
            EmbedError::InvalidName { .. } => Self::new(Code::InvalidField, told).at("name").hint(hint),
            EmbedError::Overloaded { .. } => Self::new(Code::Overloaded, told).hint(hint),
            EmbedError::TooManyTexts { .. } | EmbedError::TooManyTokens { .. } => {
                Self::new(Code::TooManyTexts, told).hint(hint)
            }
            EmbedError::TooLong { .. } => Self::new(Code::TextTooLong, told).hint(hint),
            EmbedError::UnknownToken { .. } => Self::new(Code::InvalidField, told).hint(hint),
            EmbedError::RemoteFailed { .. } => Self::new(Code::RemoteModelFailed, told).hint(hint).cause(error),
            EmbedError::InvalidRemote { .. } => Self::new(Code::InvalidRequest, told).hint(hint),
            EmbedError::OnlyLocal { .. } => Self::new(Code::ModelUnsupported, told).hint(hint),
            EmbedError::NoSuchDimensions { .. } => Self::new(Code::InvalidField, told).at("dimensions").hint(hint),
            EmbedError::Expired { .. } => Self::new(Code::DeadlineExceeded, told).hint(hint),
            EmbedError::NoRoom { .. } => Self::new(Code::ModelTooLarge, told).hint(hint),
            EmbedError::CorruptFile { .. } => Self::new(Code::ModelDamaged, Code::ModelDamaged.row().title).cause(told),
            EmbedError::FetchFailed { model, .. } => {
                Self::new(Code::ModelFetchFailed, format!("no source gave the model {model}")).hint(hint).cause(told)
            }
            EmbedError::InvalidModel { .. } => {
                Self::new(Code::ModelUnsupported, Code::ModelUnsupported.row().title).hint(hint).cause(told)
            }
            EmbedError::UnusableVector { .. } => Self::new(Code::EmbeddingFailed, told),
            EmbedError::Encoder { .. } => {
                Self::new(Code::EmbeddingFailed, Code::EmbeddingFailed.row().title).cause(told)
            }
            EmbedError::ShutDown => Self::new(Code::ShuttingDown, Code::ShuttingDown.row().title),
            EmbedError::Io { source, .. } => {
                let code = file_code(source);
                Self::new(code, code.row().title).hint(hint).cause(error)
            }
        }
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        let field = match &error {
            FilterError::TooDeep | FilterError::TooLarge => "filter".to_owned(),
            FilterError::TooLong { at, .. }
            | FilterError::UnknownField { at, .. }
            | FilterError::UnknownOperator { at, .. }
            | FilterError::Unexpected { at, .. } => at.replacen('$', "filter", 1),
        };
        Self::new(Code::InvalidFilter, error.to_string()).at(field).hint(Some(error.hint()))
    }
}

impl From<FilesError> for Failure {
    fn from(error: FilesError) -> Self {
        // The path is the caller's own, as given; the system's reason is told by its kind only.
        let told = match &error {
            FilesError::Root { path, source } => format!("cannot read {}: {}", path.display(), source.kind()),
            FilesError::NotIndexable { .. } => error.to_string(),
        };
        Self::new(Code::SourceUnreadable, told).at("path").cause(error)
    }
}

/// What is said where the cause is nobody's business.
pub(crate) const SOMETHING_WENT_WRONG: &str = "the server could not do this; its log says why";

fn not_found(what: &str) -> Code {
    match what {
        "collection" => Code::CollectionNotFound,
        "document" => Code::DocumentNotFound,
        "source" => Code::SourceNotFound,
        "job" => Code::JobNotFound,
        "key" => Code::KeyNotFound,
        "model" => Code::ModelNotFound,
        "provider" => Code::ProviderNotFound,
        "budget" => Code::BudgetNotFound,
        _ => Code::NotFound,
    }
}

fn exists(what: &str) -> Code {
    if what == "collection" { Code::CollectionExists } else { Code::AlreadyExists }
}

fn file_code(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Code::StorageFull,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Code::StorageReadOnly,
        _ => Code::StorageUnavailable,
    }
}

fn vectors_code(error: &VectorError) -> Code {
    match error {
        VectorError::Io { source, .. } => file_code(source),
        VectorError::Damaged { .. } | VectorError::Engine(_) => Code::IndexUnavailable,
        // What is searched with comes from our own encoder.
        VectorError::WrongDimensions { .. } | VectorError::NotFinite | VectorError::Zero => Code::Internal,
    }
}

fn lexical_code(error: &LexicalError) -> Code {
    match error {
        LexicalError::Io { source, .. } => file_code(source),
        LexicalError::Damaged { .. } | LexicalError::Engine { .. } => Code::IndexUnavailable,
    }
}

/// A sentence without its clauses from the first on that names a file or an address: those are for the log.
pub(crate) fn public(text: &str) -> Cow<'_, str> {
    let Some(at) = text.find(['/', '\\']) else { return text.into() };
    let before = text[..at].trim_end_matches(':');
    let said = before.rfind([',', ':']).map_or("failing", |end| &text[..end]);
    format!("{said}; the server's log says why").into()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The page that users and operators look codes up in.
    const PAGE: &str = include_str!("../../../docs/ERRORS.md");

    #[test]
    fn every_code_has_its_section_and_every_section_its_code() {
        let sections: Vec<(&str, &str)> =
            PAGE.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap_or((section, ""))).collect();
        for code in Code::ALL {
            let heading = format!("`{}` ({})", code.as_str(), code.status().as_u16());
            let (_, text) = sections
                .iter()
                .find(|(found, _)| *found == heading)
                .unwrap_or_else(|| panic!("docs/ERRORS.md has no section {heading}"));
            let text = text.split("\n## ").next().unwrap_or(text);
            for part in ["**You:**", "**Operator:**"] {
                assert!(text.contains(part), "{heading} lacks {part}");
            }
        }
        assert_eq!(sections.len(), Code::ALL.len(), "docs/ERRORS.md has a section of no code");
    }

    /// The page that goes on where a section ends.
    const TROUBLESHOOTING: &str = include_str!("../../../docs/TROUBLESHOOTING.md");

    /// What a heading is called in a link, as GitHub makes it.
    fn anchor(heading: &str) -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    }

    #[test]
    fn a_section_with_something_to_do_leads_to_troubleshooting() {
        let headings = TROUBLESHOOTING.lines().filter_map(|line| line.strip_prefix("### ")).map(anchor);
        let headings: Vec<String> = headings.collect();
        let mut leading = 0;
        for section in PAGE.split("\n### ").skip(1) {
            let section = section.split("\n## ").next().unwrap_or(section);
            let heading = section.lines().next().unwrap_or_default();
            let operator = section.split("**Operator:**").nth(1).unwrap_or_default().trim();
            let mut links = operator.split("(TROUBLESHOOTING.md#").skip(1).peekable();
            assert!(operator.starts_with("nothing") || links.peek().is_some(), "{heading} leads nowhere");
            leading += usize::from(links.peek().is_some());
        }
        assert!(leading > 20, "only {leading} sections lead on");
        for link in PAGE.split("(TROUBLESHOOTING.md#").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            assert!(headings.iter().any(|heading| heading == link), "docs/TROUBLESHOOTING.md has no section {link}");
        }
    }

    #[test]
    fn codes_are_words_and_none_stands_twice() {
        for (at, code) in Code::ALL.iter().enumerate() {
            let word = code.as_str();
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{word}");
            assert!(Code::ALL[at + 1..].iter().all(|other| other.as_str() != word), "{word} stands twice");
            assert!(!code.row().title.is_empty(), "{word}");
        }
    }

    fn check(error: impl Into<Failure>, code: Code, status: u16, retry: Option<u64>) -> Problem {
        let failure: Failure = error.into();
        assert_eq!(failure.code, code, "{failure:?}");
        assert_eq!(code.status().as_u16(), status);
        assert_eq!(failure.retry_after.map(seconds), retry, "{failure:?}");
        failure.report()
    }

    #[test]
    fn internals_stay_in_the_log() {
        let secret = PathBuf::from("/private/someone/secret");
        let io = |kind| io::Error::new(kind, "deep in /private/someone");
        let file = |kind| StorageError::File { action: "open", path: secret.clone(), source: io(kind) };
        let vectors = |kind| VectorError::Io { path: secret.clone(), source: io(kind) };
        let full = io::ErrorKind::StorageFull;
        for problem in [
            check(file(full), Code::StorageFull, 507, Some(10)),
            check(file(io::ErrorKind::Other), Code::StorageUnavailable, 503, Some(10)),
            check(KnowledgeError::Storage(vectors(full).into()), Code::StorageFull, 507, Some(10)),
            check(
                StorageError::Vectors(VectorError::Damaged { path: secret.clone(), what: "a bit".into() }),
                Code::IndexUnavailable,
                503,
                Some(1),
            ),
            check(
                EmbedError::CorruptFile { path: secret.clone(), reason: "a bit".into() },
                Code::ModelDamaged,
                500,
                None,
            ),
            check(
                EmbedError::NotReady {
                    model: "m".into(),
                    stage: "failed, failed to open /private/someone/secret".into(),
                    retry_after: Duration::from_millis(1_500),
                },
                Code::ModelNotReady,
                503,
                Some(2),
            ),
            check(StorageError::InUse { path: secret.clone(), holder: "x".into() }, Code::Internal, 500, None),
        ] {
            let told = serde_json::to_string(&problem).unwrap();
            assert!(!told.contains("someone"), "{told}");
            assert!(problem.error_id.len() == 32, "{told}");
        }
    }

    #[test]
    fn clauses_that_name_files_or_addresses_are_left_out() {
        for (text, expected) in [
            ("fetching, 3 of 90 MB", "fetching, 3 of 90 MB"),
            ("failed, /data/models/m is damaged: it is missing", "failed; the server's log says why"),
            (
                "words only: not ready: failed, failed to open /x",
                "words only: not ready: failed; the server's log says why",
            ),
            ("failed, hub: cannot reach (https://hub.example/m)", "failed, hub; the server's log says why"),
            ("failed to open C:\\secret", "failing; the server's log says why"),
        ] {
            assert_eq!(public(text), expected);
        }
    }

    #[test]
    fn what_a_caller_can_mend_is_said() {
        let problem = check(
            KnowledgeError::Invalid { field: "query", problem: "must not be empty".into() },
            Code::InvalidField,
            422,
            None,
        );
        assert_eq!((problem.detail.as_str(), problem.field.as_deref()), ("query must not be empty", Some("query")));
        let unknown = FilterError::UnknownField { at: "$.all[2].not".into(), field: "x".into() };
        let problem = check(KnowledgeError::Filter(unknown), Code::InvalidFilter, 422, None);
        assert_eq!(problem.field.as_deref(), Some("filter.all[2].not"));
        assert!(problem.hint.unwrap().contains("metadata.NAME"));
        let missing = |what| KnowledgeError::NotFound { what, name: "x".into() };
        check(missing("collection"), Code::CollectionNotFound, 404, None);
        check(missing("anything else"), Code::NotFound, 404, None);
        check(KnowledgeError::Overloaded, Code::Overloaded, 503, Some(1));
        check(KnowledgeError::CursorExpired, Code::CursorExpired, 410, None);
        check(StorageError::KeyReused, Code::IdempotencyKeyReused, 422, None);
    }

    #[test]
    fn a_quoted_name_cannot_blow_up_an_answer() {
        let name = "x".repeat(100_000);
        let problem = check(KnowledgeError::NotFound { what: "job", name }, Code::JobNotFound, 404, None);
        assert_eq!(problem.detail.chars().count(), DETAIL_CHARS_MAX + 1);
    }
}
