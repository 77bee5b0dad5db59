//! What is asked of the knowledge base and what it answers: plain data.

use std::{path::PathBuf, time::Duration};

use holdfast_storage::{
    ChunkKey, Filter,
    documents::Document,
    jobs::{ItemStatus, Job},
    sources::Source,
};
use serde_json::Value;

/// Documents to be stored.
#[derive(Clone, Debug)]
pub struct PutDocuments {
    /// The collection they go to.
    pub collection: String,
    /// The documents.
    pub documents: Vec<NewDocument>,
    /// How long to wait for them to be findable; not at all where absent.
    pub wait: Option<Duration>,
    /// Makes repeating the request harmless.
    pub idempotency: Option<IdempotencyKey>,
}

/// A document as it comes in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewDocument {
    /// Its id; derived from its path or its content where absent.
    pub id: Option<String>,
    /// Where it lies, or what it is known by.
    pub path: Option<String>,
    /// What it is called; its first heading where absent.
    pub title: Option<String>,
    /// Its text.
    pub content: String,
    /// Its media type; found out from path and content where absent.
    pub content_type: Option<String>,
    /// A JSON object to filter by.
    pub metadata: Value,
}

/// A caller's key for a request, and what the request was.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// The route it was sent to.
    pub route: &'static str,
    /// The key.
    pub key: String,
    /// BLAKE3 of the request's body.
    pub body_hash: [u8; 32],
}

/// A job and, where documents were handed over, what became of each.
#[derive(Clone, Debug)]
pub struct JobReport {
    /// The job.
    pub job: Job,
    /// Its documents in the order of the request; empty for other kinds of jobs.
    pub documents: Vec<ItemStatus>,
}

/// A collection, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionInfo {
    /// Its name.
    pub name: String,
    /// The model its vectors are made with.
    pub model: String,
    /// The fingerprint of its embedding space; absent before the first document.
    pub space: Option<String>,
    /// Components a vector has; absent before the first document.
    pub dimensions: Option<usize>,
    /// Live documents.
    pub documents: u64,
    /// Chunks that search sees.
    pub chunks: u64,
    /// The model of the generation that re-embedding is building.
    pub building: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A page of documents.
#[derive(Clone, Debug)]
pub struct DocumentPage {
    /// The collection.
    pub collection: String,
    /// Only documents of this source.
    pub source: Option<String>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// At most so many, 1 to 1 000.
    pub limit: usize,
}

/// Some of a list, and how to get more.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last.
    pub next_cursor: Option<String>,
}

/// A document with its text.
#[derive(Clone, Debug)]
pub struct DocumentContent {
    /// All but the text.
    pub document: Document,
    /// The text.
    pub text: String,
    /// How many chunks it has.
    pub chunks: u64,
}

/// What came of adding a source.
#[derive(Clone, Debug)]
pub struct SourceAdded {
    /// The source that now covers the path.
    pub source: Source,
    /// The job that brings it in.
    pub job_id: String,
    /// Whether a source covered the path already.
    pub covered: bool,
}

/// A file of a source that is no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedFile {
    /// The file.
    pub path: PathBuf,
    /// A stable word for why.
    pub code: String,
    /// A sentence.
    pub detail: String,
}

/// How to search.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// The question, 1 to 10 000 characters.
    pub query: String,
    /// Where; the default collection where empty.
    pub collections: Vec<String>,
    /// By what.
    pub mode: Mode,
    /// At most so many results, 1 to 100.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Chunks, or the best chunk of each document.
    pub group: Group,
    /// Only these.
    pub filter: Option<Filter>,
    /// Only at least so similar; dense search only.
    pub min_score: Option<f32>,
    /// Whether to say where each result comes from.
    pub explain: Explain,
    /// Whether what was learned of documents counts.
    pub learned: Learned,
}

/// By what to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By meaning and by words.
    Hybrid,
    /// By meaning.
    Dense,
    /// By words.
    Lexical,
}

impl Mode {
    /// The word users write.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Dense => "dense",
            Self::Lexical => "lexical",
        }
    }
}

/// What a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// A chunk.
    Chunk,
    /// A document, shown by its best chunk.
    Document,
}

/// Whether results say where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Explain {
    /// They do.
    Yes,
    /// They do not.
    No,
}

/// Whether a ranking goes by what was learned of documents, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Learned {
    /// It does, where the mode is hybrid.
    #[default]
    Used,
    /// It does not.
    Ignored,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct SearchResponse {
    /// Best first.
    pub results: Vec<SearchResult>,
    /// Where the next page begins; absent where there is none.
    pub next_cursor: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// Why the answer is less than it should be, if it is.
    pub degraded: Option<String>,
    /// Whether the answer was in the cache.
    pub cached: bool,
}

/// One found chunk.
#[derive(Clone, Debug)]
pub struct SearchResult {
    /// The document's id.
    pub document_id: String,
    /// The chunk.
    pub chunk_id: ChunkKey,
    /// The collection.
    pub collection: String,
    /// The document's title.
    pub title: String,
    /// Where the document lies.
    pub path: Option<String>,
    /// The headings above the chunk.
    pub heading: String,
    /// The part of the chunk that matches, whole words, at most about 300 characters.
    pub snippet: String,
    /// How good it is among these results; larger is better.
    pub score: f32,
    /// The document's metadata.
    pub metadata: Value,
    /// Where it comes from, if asked.
    pub explanation: Option<Explanation>,
}

/// Where a result comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// Its place in the dense list.
    pub dense: Option<Standing>,
    /// Its place in the lexical list.
    pub lexical: Option<Standing>,
    /// What was added to its score for how useful its document was to others, if anything.
    pub usefulness: Option<f32>,
}

/// A place in a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// From 1; none where the list as far as it was read does not contain the chunk, and only
    /// its score was looked up.
    pub rank: Option<usize>,
    /// Cosine similarity, or BM25.
    pub score: f32,
}

/// Something `doctor` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable word.
    pub code: &'static str,
    /// A sentence.
    pub detail: String,
    /// Whether it was put right.
    pub fixed: bool,
}
