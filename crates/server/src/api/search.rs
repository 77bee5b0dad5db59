//! `POST /api/v1/search`.

use axum::{Json, extract::State};
use holdfast_knowledge::{
    Explain, Explanation, Group, Learned, Mode, SearchRequest, SearchResponse, SearchResult, Standing,
};
use holdfast_storage::Filter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Server, description, distinct,
    error::{Failure, public},
    input::{Authenticated, Body, at_most, one_of, within},
    limits::{self, Meter},
};

/// The most collections one search may name.
const COLLECTIONS_MAX: usize = 32;
/// The results of a page where no limit is given.
pub(crate) const LIMIT_DEFAULT: usize = 10;
/// The most results of a page.
pub(crate) const LIMIT_MAX: usize = 100;

/// What to search for, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SearchRequest")]
pub(crate) struct SearchBody {
    /// A question, key words or an exact identifier
    #[schemars(length(min = 1, max = description::QUERY_CHARS_MAX), regex(pattern = description::NOT_BLANK))]
    query: String,
    /// Where to look; `["default"]` where absent
    #[schemars(length(max = COLLECTIONS_MAX), inner(regex(pattern = description::COLLECTION_NAME)))]
    collections: Option<Vec<String>>,
    /// By words, by meaning (`dense`), or by both, which is the default
    #[schemars(extend("enum" = description::words(&MODES)))]
    mode: Option<String>,
    /// The most results of the page; 10 where absent
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<i64>,
    /// `next_cursor` of the page before, with everything else as it was then
    cursor: Option<String>,
    /// Whether each result is a chunk, which is the default, or a document's best chunk
    #[schemars(extend("enum" = description::words(&GROUPS)))]
    group: Option<String>,
    /// Which chunks may be found at all
    #[schemars(with = "Option<description::Filter>")]
    #[serde(default, deserialize_with = "distinct::optional")]
    filter: Option<Value>,
    /// The least cosine; with the mode `dense` only
    min_score: Option<f32>,
    /// Whether each result says how it was found
    #[serde(default)]
    explain: bool,
    /// Whether how useful documents were to others moves them, which it does by default; in the mode `hybrid` only
    usefulness: Option<bool>,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SearchAnswer")]
pub(crate) struct SearchAnswer {
    results: Vec<FoundChunk>,
    /// What the next page is asked for with; null on the last
    next_cursor: Option<String>,
    /// How long it took within the server
    took_ms: f64,
    /// Why the answer may be worse than usual
    degraded: Option<String>,
    /// Whether it is an answer that was kept
    cached: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FoundChunk {
    document_id: String,
    chunk_id: String,
    collection: String,
    title: String,
    path: Option<String>,
    heading: String,
    snippet: String,
    score: f32,
    #[schemars(with = "serde_json::Map<String, Value>")]
    metadata: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Reasons>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Reasons {
    dense: Option<Place>,
    lexical: Option<Place>,
    /// What was added to the score for how useful its document was
    usefulness: Option<f32>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Standing")]
pub(crate) struct Place {
    /// Its place in that list; null where only the score was looked up
    rank: Option<usize>,
    score: f32,
}

pub(crate) async fn search(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    meter: Meter,
    body: Body<SearchBody>,
) -> Result<Json<SearchAnswer>, Failure> {
    meter.charge(limits::texts([body.value.query.len()]))?;
    let request = body.value.into_request()?;
    let found = server.knowledge().search(&caller, request).await?;
    Ok(Json(found.into()))
}

/// The words for how to search.
pub(crate) const MODES: [(&str, Mode); 3] =
    [("hybrid", Mode::Hybrid), ("dense", Mode::Dense), ("lexical", Mode::Lexical)];
const GROUPS: [(&str, Group); 2] = [("chunk", Group::Chunk), ("document", Group::Document)];

impl SearchBody {
    fn into_request(self) -> Result<SearchRequest, Failure> {
        let collections = self.collections.unwrap_or_default();
        at_most("collections", &collections, COLLECTIONS_MAX)?;
        Ok(SearchRequest {
            query: self.query,
            collections,
            mode: one_of("mode", self.mode.as_deref(), Mode::Hybrid, &MODES)?,
            limit: within("limit", self.limit, LIMIT_DEFAULT, 1..=LIMIT_MAX)?,
            cursor: self.cursor,
            group: one_of("group", self.group.as_deref(), Group::Chunk, &GROUPS)?,
            filter: self.filter.as_ref().map(Filter::parse).transpose()?,
            min_score: self.min_score,
            explain: if self.explain { Explain::Yes } else { Explain::No },
            learned: if self.usefulness == Some(false) { Learned::Ignored } else { Learned::Used },
        })
    }
}

impl From<SearchResponse> for SearchAnswer {
    fn from(found: SearchResponse) -> Self {
        Self {
            results: found.results.into_iter().map(FoundChunk::from).collect(),
            next_cursor: found.next_cursor,
            // A cached answer takes microseconds.
            took_ms: found.took.as_micros() as f64 / 1_000.0,
            degraded: found.degraded.map(|reason| public(&reason).into_owned()),
            cached: found.cached,
        }
    }
}

impl From<SearchResult> for FoundChunk {
    fn from(result: SearchResult) -> Self {
        Self {
            document_id: result.document_id,
            chunk_id: result.chunk_id.to_string(),
            collection: result.collection,
            title: result.title,
            path: result.path,
            heading: result.heading,
            snippet: result.snippet,
            score: result.score,
            metadata: result.metadata,
            explain: result.explanation.map(Reasons::from),
        }
    }
}

impl From<Explanation> for Reasons {
    fn from(explanation: Explanation) -> Self {
        let place = |standing: Standing| Place { rank: standing.rank, score: standing.score };
        Self {
            dense: explanation.dense.map(place),
            lexical: explanation.lexical.map(place),
            usefulness: explanation.usefulness,
        }
    }
}
