//! `/api/v1/interactions`: turns on record, and why each went as it did.
//!
//! Whoever asked sees their own; those of others are for keys that may read them all.

use axum::{Json, extract::State};
use holdfast_coordinator::{
    InteractionSummary, TurnError, Why,
    record::{
        Finished, Outcome, RecordedAttempt, RecordedCandidate, RecordedContext, RecordedFeatures, RecordedPassage,
        RecordedUsage, Said, Started, Text,
    },
};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Server,
    api::{PAGE_DEFAULT, PAGE_MAX, PageParams},
    error::{Failure, public},
    input::{Authenticated, Params, Segment, within},
    money, timestamp,
};

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InteractionList")]
pub(crate) struct ListAnswer {
    /// Turns that are over, newest first
    interactions: Vec<SummaryAnswer>,
    next_cursor: Option<String>,
}

/// A turn that is over, in short.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Interaction")]
pub(crate) struct SummaryAnswer {
    id: String,
    /// Whose it is: the id of a key, or `owner`
    caller: String,
    session: Option<String>,
    /// When it was over
    #[schemars(extend("format" = "date-time"))]
    at: String,
    #[schemars(extend("enum" = OUTCOMES))]
    outcome: &'static str,
    /// The model that answered, or was the last to be asked
    model: Option<String>,
    /// Calls that were made
    attempts: usize,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    /// Dollars; null where the model has no price
    cost: Option<f64>,
    duration_ms: f64,
}

/// Why a turn went as it did.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Why")]
pub(crate) struct WhyAnswer {
    id: String,
    /// Whose it is: the id of a key, or `owner`
    caller: String,
    session: Option<String>,
    /// When it began
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// The request that asked, as the log knows it
    request_id: String,
    /// The model or alias that was asked for
    asked: String,
    messages: Vec<SaidAnswer>,
    /// What routing went by
    features: FeaturesAnswer,
    /// What put the candidates in order
    policy: String,
    /// Who could have answered, and what was in the way of those who could not
    candidates: Vec<CandidateAnswer>,
    /// What was looked up; null where nothing was asked for
    context: Option<ContextAnswer>,
    /// What was decided about kept answers
    cache: String,
    /// What came of it; null while it is under way, or where the program was ended before it was over
    result: Option<ResultAnswer>,
}

/// A message, as the record has it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RecordedMessage")]
pub(crate) struct SaidAnswer {
    role: String,
    text: Option<TextAnswer>,
}

/// A text, as `llm.texts` of the settings has it recorded.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "RecordedText")]
pub(crate) enum TextAnswer {
    /// Itself
    Full(String),
    /// What stands for it
    Hash {
        /// BLAKE3, in hexadecimal digits
        blake3: String,
        /// Its length
        bytes: usize,
    },
}

/// What routing went by.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Features")]
pub(crate) struct FeaturesAnswer {
    input_tokens: u64,
    /// Whether they were counted; else they were guessed from the length
    is_counted: bool,
    /// Tokens that the answer was allowed
    output_tokens: Option<u64>,
    has_tools: bool,
    has_images: bool,
    has_format: bool,
    messages: usize,
}

/// A model that could have answered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Candidate")]
pub(crate) struct CandidateAnswer {
    model: String,
    #[schemars(extend("enum" = ["local", "remote"]))]
    location: String,
    /// The constraints that ruled it out; none for who could answer
    obstacles: Vec<String>,
    /// Its place in the order, from 0
    rank: Option<usize>,
    /// The policy's score
    score: Option<f64>,
    /// With what probability the policy puts it first
    propensity: Option<f64>,
    /// Its breaker then
    breaker: String,
    /// Dollars for a million tokens
    price: Option<PairAnswer>,
}

/// Dollars for a million tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CandidatePrice")]
pub(crate) struct PairAnswer {
    input: f64,
    output: f64,
}

/// What was looked up.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RecordedContext")]
pub(crate) struct ContextAnswer {
    budget_tokens: u64,
    tokens: u64,
    /// In the order of the citations
    taken: Vec<PassageAnswer>,
    refused: Vec<PassageAnswer>,
    degraded: Option<String>,
}

/// A passage that was found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RecordedPassage")]
pub(crate) struct PassageAnswer {
    chunk_id: String,
    document_id: Option<String>,
    collection: Option<String>,
    score: f32,
    /// Why it was left out
    reason: Option<String>,
}

/// What came of a turn.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TurnResult")]
pub(crate) struct ResultAnswer {
    #[schemars(extend("enum" = OUTCOMES))]
    outcome: &'static str,
    /// The model that answered, or was the last to be asked
    model: Option<String>,
    attempts: Vec<AttemptAnswer>,
    /// Why the answer ended, in OpenAI's words
    finish: Option<String>,
    usage: UsageAnswer,
    /// Dollars; null where the model has no price
    cost: Option<f64>,
    /// To the first visible piece of the answer
    first_visible_ms: Option<f64>,
    duration_ms: f64,
    answer: Option<TextAnswer>,
    /// Where another model went on
    continued: Vec<ContinuedAnswer>,
}

/// A call to a model.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
pub(crate) struct AttemptAnswer {
    model: String,
    /// Since the turn began
    started_ms: f64,
    /// How long was waited before it, after the one before
    waited_ms: f64,
    duration_ms: f64,
    /// `ok`, or what kind of failure it was
    outcome: String,
    /// The HTTP status of a failure
    status: Option<u16>,
    reason: Option<String>,
}

/// Tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TurnUsage")]
pub(crate) struct UsageAnswer {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    /// Whether they were counted here, since the provider did not
    is_estimated: bool,
}

/// Where one model stopped and another went on.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Continuation")]
pub(crate) struct ContinuedAnswer {
    /// Bytes of the answer before
    after_bytes: usize,
    model: String,
}

/// How turns end.
const OUTCOMES: [&str; 5] = ["answered", "cached", "failed", "cut", "abandoned"];

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => OUTCOMES[0],
        Outcome::Cached => OUTCOMES[1],
        Outcome::Failed => OUTCOMES[2],
        Outcome::Cut => OUTCOMES[3],
        Outcome::Abandoned => OUTCOMES[4],
    }
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<ListAnswer>, Failure> {
    let limit = within("limit", page.limit, PAGE_DEFAULT, 1..=PAGE_MAX)?;
    let before = match page.cursor.as_deref().map(str::parse::<u64>) {
        None => None,
        Some(Ok(position)) => Some(position),
        Some(Err(_)) => return Err(Failure::field("cursor", "is not one that this list gave")),
    };
    let page = server.coordinator().interactions(&caller, before, limit).await?;
    let next_cursor = page.next.map(|position| position.to_string());
    Ok(Json(ListAnswer { interactions: page.items.into_iter().map(SummaryAnswer::from).collect(), next_cursor }))
}

pub(crate) async fn why(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Json<WhyAnswer>, Failure> {
    // What is no id is nobody's.
    let id = Uuid::parse_str(&id).map_err(|_| TurnError::InteractionNotFound)?;
    Ok(Json(server.coordinator().why(&caller, id).await?.into()))
}

impl From<InteractionSummary> for SummaryAnswer {
    fn from(summary: InteractionSummary) -> Self {
        let InteractionSummary { interaction, caller, session, at_ms, finished } = summary;
        Self {
            id: interaction.to_string(),
            caller,
            session,
            at: timestamp::from_ms(at_ms),
            outcome: outcome(finished.outcome),
            model: finished.model,
            attempts: finished.attempts.len(),
            input_tokens: finished.usage.input_tokens,
            output_tokens: finished.usage.output_tokens,
            cost: finished.cost.map(money::dollars),
            duration_ms: finished.duration_ms,
        }
    }
}

impl From<Why> for WhyAnswer {
    fn from(why: Why) -> Self {
        let Why { interaction, caller, session, at_ms, started, finished } = why;
        let Started { request_id, asked, policy, messages, input_tokens, features, candidates, context, cache } =
            started;
        let RecordedFeatures { output_tokens, has_tools, has_images, has_format, messages: count, is_counted } =
            features;
        Self {
            id: interaction.to_string(),
            caller,
            session,
            at: timestamp::from_ms(at_ms),
            request_id,
            asked,
            messages: messages.into_iter().map(SaidAnswer::from).collect(),
            features: FeaturesAnswer {
                input_tokens,
                is_counted,
                output_tokens,
                has_tools,
                has_images,
                has_format,
                messages: count,
            },
            policy,
            candidates: candidates.into_iter().map(CandidateAnswer::from).collect(),
            context: context.map(ContextAnswer::from),
            cache,
            result: finished.map(ResultAnswer::from),
        }
    }
}

impl From<Said> for SaidAnswer {
    fn from(said: Said) -> Self {
        Self { role: said.role, text: said.text.map(TextAnswer::from) }
    }
}

impl From<Text> for TextAnswer {
    fn from(text: Text) -> Self {
        match text {
            Text::Full(text) => Self::Full(text),
            Text::Hash { blake3, bytes } => Self::Hash { blake3, bytes },
        }
    }
}

impl From<RecordedCandidate> for CandidateAnswer {
    fn from(candidate: RecordedCandidate) -> Self {
        let RecordedCandidate { model, location, obstacles, rank, score, propensity, breaker, price } = candidate;
        let price =
            price.map(|(input, output)| PairAnswer { input: money::dollars(input), output: money::dollars(output) });
        Self { model, location, obstacles, rank, score, propensity, breaker, price }
    }
}

impl From<RecordedContext> for ContextAnswer {
    fn from(context: RecordedContext) -> Self {
        let passages =
            |passages: Vec<RecordedPassage>| passages.into_iter().map(PassageAnswer::from).collect::<Vec<_>>();
        Self {
            budget_tokens: context.budget_tokens,
            tokens: context.tokens,
            taken: passages(context.taken),
            refused: passages(context.refused),
            degraded: context.degraded.map(|reason| public(&reason).into_owned()),
        }
    }
}

impl From<RecordedPassage> for PassageAnswer {
    fn from(passage: RecordedPassage) -> Self {
        let RecordedPassage { chunk_id, document_id, collection, score, reason } = passage;
        Self { chunk_id, document_id, collection, score, reason }
    }
}

impl From<Finished> for ResultAnswer {
    fn from(finished: Finished) -> Self {
        let RecordedUsage { input_tokens, output_tokens, cached_input_tokens, is_estimated } = finished.usage;
        Self {
            outcome: outcome(finished.outcome),
            model: finished.model,
            attempts: finished.attempts.into_iter().map(AttemptAnswer::from).collect(),
            finish: finished.finish,
            usage: UsageAnswer { input_tokens, output_tokens, cached_input_tokens, is_estimated },
            cost: finished.cost.map(money::dollars),
            first_visible_ms: finished.first_visible_ms,
            duration_ms: finished.duration_ms,
            answer: finished.answer.map(TextAnswer::from),
            continued: finished
                .continued
                .into_iter()
                .map(|(after_bytes, model)| ContinuedAnswer { after_bytes, model })
                .collect(),
        }
    }
}

impl From<RecordedAttempt> for AttemptAnswer {
    fn from(attempt: RecordedAttempt) -> Self {
        let RecordedAttempt { model, started_ms, waited_ms, duration_ms, outcome, status, reason } = attempt;
        Self { model, started_ms, waited_ms, duration_ms, outcome, status, reason }
    }
}
