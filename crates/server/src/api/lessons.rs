//! What many interactions have in common: problems that came again with what worked, and failures with what solved them.

use axum::{Json, extract::State};
use holdfast_storage::learning::{KnownError, LessonCounts, Pattern};
use schemars::JsonSchema;
use serde::Serialize;

use super::{PAGE_DEFAULT, PAGE_MAX, PageParams};
use crate::{
    Server,
    error::Failure,
    input::{Authenticated, Params, within},
    timestamp,
};

/// A problem that came again, and what worked.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Pattern")]
pub(crate) struct PatternAnswer {
    id: String,
    /// Whose it is: the id of a key, or `owner`
    tenant: String,
    /// What was asked, in the words of one of its interactions, without what is secret or personal
    problem: String,
    /// What worked
    approach: String,
    /// From 0 to 1; it falls by half in 180 days of which nothing new is heard
    value: f64,
    /// Interactions that are part of it
    interactions: u64,
    /// Ids of those that speak for it most, at most 16
    evidence: Vec<String>,
    /// Interactions of the same problem that failed
    against: u64,
    /// The pattern of the same problem with another approach
    contradicts: Option<String>,
    /// How much its interactions are alike, from 0 to 1
    cohesion: f64,
    /// There is little to it: search does not find it
    is_junk: bool,
    #[schemars(extend("format" = "date-time"))]
    first_at: String,
    #[schemars(extend("format" = "date-time"))]
    last_at: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PatternList")]
pub(crate) struct PatternsAnswer {
    /// Worth most first
    patterns: Vec<PatternAnswer>,
    next_cursor: Option<String>,
}

/// A failure that interactions told of.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KnownError")]
pub(crate) struct KnownErrorAnswer {
    /// What it is known by: the hash of what stays the same of it
    id: String,
    /// Whose it is: the id of a key, or `owner`
    tenant: String,
    /// The class of an exception, a code, the name of an errno, or `error`
    class: String,
    /// What its message says, without what changes
    message: String,
    /// The lines it stood in first, without what is secret or personal
    excerpt: String,
    /// Interactions that told of it
    seen: u64,
    #[schemars(extend("format" = "date-time"))]
    first_at: String,
    #[schemars(extend("format" = "date-time"))]
    last_at: String,
    /// The interaction that solved it
    solved_by: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KnownErrorList")]
pub(crate) struct KnownErrorsAnswer {
    /// Seen most first
    errors: Vec<KnownErrorAnswer>,
    next_cursor: Option<String>,
}

/// How many lessons there are.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LessonCounts")]
pub(crate) struct CountsAnswer {
    /// Problems that came again
    patterns: u64,
    /// Of them, those with little to them: as much went wrong as right, or they are as near to others as to themselves
    junk: u64,
    /// Interactions that patterns were looked for in
    interactions: u64,
    /// Of them, those that belong to none
    alone: u64,
    /// Failures
    errors: u64,
    /// Of them, those that something solved
    solved: u64,
    /// Lessons that search finds
    findable: u64,
}

pub(crate) async fn patterns(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<PatternsAnswer>, Failure> {
    let (after, limit) = place(&page)?;
    let mut found = server.learning().patterns(&caller, after, limit + 1).await?;
    let next_cursor = (found.len() > limit).then(|| (after + limit).to_string());
    found.truncate(limit);
    Ok(Json(PatternsAnswer { patterns: found.into_iter().map(PatternAnswer::from).collect(), next_cursor }))
}

pub(crate) async fn errors(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<KnownErrorsAnswer>, Failure> {
    let (after, limit) = place(&page)?;
    let mut found = server.learning().known_errors(&caller, after, limit + 1).await?;
    let next_cursor = (found.len() > limit).then(|| (after + limit).to_string());
    found.truncate(limit);
    Ok(Json(KnownErrorsAnswer { errors: found.into_iter().map(KnownErrorAnswer::from).collect(), next_cursor }))
}

fn place(page: &PageParams) -> Result<(usize, usize), Failure> {
    let limit = within("limit", page.limit, PAGE_DEFAULT, 1..=PAGE_MAX)?;
    let after = match page.cursor.as_deref().map(str::parse::<u32>) {
        None => 0,
        Some(Ok(after)) => after as usize,
        Some(Err(_)) => return Err(Failure::field("cursor", "is not one that this list gave")),
    };
    Ok((after, limit))
}

impl From<Pattern> for PatternAnswer {
    fn from(pattern: Pattern) -> Self {
        Self {
            id: pattern.id.to_string(),
            tenant: pattern.tenant,
            problem: pattern.problem,
            approach: pattern.approach,
            value: pattern.value,
            interactions: pattern.members,
            // It was written as such a list.
            evidence: serde_json::from_str(&pattern.evidence).unwrap_or_default(),
            against: pattern.against,
            contradicts: pattern.contradicts.map(|id| id.to_string()),
            cohesion: pattern.cohesion,
            is_junk: pattern.is_junk,
            first_at: timestamp::from_ms(pattern.first_at_ms),
            last_at: timestamp::from_ms(pattern.last_at_ms),
        }
    }
}

impl From<KnownError> for KnownErrorAnswer {
    fn from(error: KnownError) -> Self {
        Self {
            id: error.error,
            tenant: error.tenant,
            class: error.class,
            message: error.normal,
            excerpt: error.excerpt,
            seen: error.seen,
            first_at: timestamp::from_ms(error.first_at_ms),
            last_at: timestamp::from_ms(error.last_at_ms),
            solved_by: error.solved_by.map(|id| id.to_string()),
        }
    }
}

impl From<LessonCounts> for CountsAnswer {
    fn from(counts: LessonCounts) -> Self {
        let LessonCounts { patterns, junk, points, alone, errors, solved, shelved } = counts;
        Self { patterns, junk, interactions: points, alone, errors, solved, findable: shelved }
    }
}
