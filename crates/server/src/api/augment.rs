//! `POST /api/v1/augment`: passages for a model to read, chosen for a budget of tokens.

use axum::{Json, extract::State};
use holdfast_coordinator::{Augmentation, Augmented, BUDGET_TOKENS_MAX, Citation, PASSAGES_MAX, Refused};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server, description,
    error::{Failure, public},
    input::{Authenticated, Body, at_most, within},
    limits::{self, Meter},
};

/// The most collections that are looked in.
pub(crate) const COLLECTIONS_MAX: usize = 32;
/// Tokens that passages may take where nothing is said.
pub(crate) const BUDGET_TOKENS_DEFAULT: usize = 2_000;
/// Tokens that they may take at most.
const BUDGET_TOKENS_MOST: usize = BUDGET_TOKENS_MAX as usize;
/// Passages at most where nothing is said.
pub(crate) const PASSAGES_DEFAULT: usize = 8;

/// What to look up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AugmentRequest")]
pub(crate) struct AugmentBody {
    /// A question; of a longer one the end counts
    #[schemars(length(min = 1, max = description::QUERY_CHARS_MAX), regex(pattern = description::NOT_BLANK))]
    query: String,
    /// Where to look; `["default"]` where absent
    #[schemars(length(max = COLLECTIONS_MAX), inner(regex(pattern = description::COLLECTION_NAME)))]
    collections: Option<Vec<String>>,
    /// Tokens that all of it may take; 2000 where absent
    #[schemars(range(min = 1, max = BUDGET_TOKENS_MAX))]
    budget_tokens: Option<i64>,
    /// Passages at most; 8 where absent
    #[schemars(range(min = 1, max = PASSAGES_MAX))]
    passages: Option<i64>,
}

/// Passages, and where they are from.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AugmentAnswer")]
pub(crate) struct AugmentAnswer {
    /// The passages, numbered and fenced as data, for a model's system message; empty where nothing was found
    context: String,
    citations: Vec<CitationAnswer>,
    /// What was found and left out
    refused: Vec<RefusedAnswer>,
    /// Tokens of the context
    tokens: u64,
    /// Why search gave less than it could
    degraded: Option<String>,
}

/// Where a passage is from.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Citation")]
pub(crate) struct CitationAnswer {
    /// What the model knows it by: `[1]` is the first
    pub(crate) number: usize,
    pub(crate) collection: String,
    pub(crate) document_id: String,
    pub(crate) chunk_id: String,
    pub(crate) title: Option<String>,
    pub(crate) path: Option<String>,
    /// The headings it stands below
    pub(crate) heading: Option<String>,
    /// Its score in the search
    pub(crate) score: f32,
    /// Tokens it takes
    pub(crate) tokens: u64,
}

/// A passage that was left out.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RefusedPassage")]
pub(crate) struct RefusedAnswer {
    chunk_id: String,
    score: f32,
    /// It says what another one says, does not fit any more, was sent before, or there are as many as may be
    #[schemars(extend("enum" = ["near_duplicate", "budget", "sent_before", "count"]))]
    reason: &'static str,
}

pub(crate) async fn augment(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    meter: Meter,
    body: Body<AugmentBody>,
) -> Result<Json<AugmentAnswer>, Failure> {
    let AugmentBody { query, collections, budget_tokens, passages } = body.value;
    meter.charge(limits::texts([query.len()]))?;
    check_query(&query)?;
    let asked = asked(collections, budget_tokens, passages)?;
    Ok(Json(server.coordinator().augment(&caller, &query, asked).await?.into()))
}

/// Refuses a question that says nothing, or more than any search reads.
pub(crate) fn check_query(query: &str) -> Result<(), Failure> {
    if query.trim().is_empty() {
        return Err(Failure::field("query", "must not be blank"));
    }
    let most = description::QUERY_CHARS_MAX;
    if query.chars().count() > most {
        return Err(Failure::field("query", format_args!("must have at most {most} characters")));
    }
    Ok(())
}

/// What is to be looked up, where what is given makes sense.
pub(crate) fn asked(
    collections: Option<Vec<String>>,
    budget_tokens: Option<i64>,
    passages: Option<i64>,
) -> Result<Augmentation, Failure> {
    let collections = collections.unwrap_or_default();
    at_most("collections", &collections, COLLECTIONS_MAX)?;
    let budget_tokens = within("budget_tokens", budget_tokens, BUDGET_TOKENS_DEFAULT, 1..=BUDGET_TOKENS_MOST)?;
    Ok(Augmentation {
        collections,
        query: None,
        budget_tokens: budget_tokens as u64,
        passages_max: within("passages", passages, PASSAGES_DEFAULT, 1..=PASSAGES_MAX)?,
    })
}

impl From<Augmented> for AugmentAnswer {
    fn from(found: Augmented) -> Self {
        Self {
            context: found.context,
            citations: found.citations.into_iter().map(CitationAnswer::from).collect(),
            refused: found.refused.into_iter().map(RefusedAnswer::from).collect(),
            tokens: found.tokens,
            degraded: found.degraded.map(|reason| public(&reason).into_owned()),
        }
    }
}

impl From<Citation> for CitationAnswer {
    fn from(citation: Citation) -> Self {
        let Citation { number, collection, document_id, chunk_id, title, path, heading, score, tokens, .. } = citation;
        Self { number, collection, document_id, chunk_id, title, path, heading, score, tokens }
    }
}

impl From<Refused> for RefusedAnswer {
    fn from(refused: Refused) -> Self {
        Self { chunk_id: refused.chunk_id, score: refused.score, reason: refused.reason.as_str() }
    }
}
