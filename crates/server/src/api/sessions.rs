//! `/api/v1/sessions`: conversations that are remembered. Everybody sees their own.

use axum::{Json, extract::State, http::StatusCode};
use holdfast_coordinator::SaidInSession;
use holdfast_storage::sessions::Session;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Server,
    api::{PAGE_DEFAULT, PAGE_MAX, PageParams},
    error::Failure,
    input::{Authenticated, Params, Segment, within},
    timestamp,
};

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionList")]
pub(crate) struct ListAnswer {
    /// Newest first
    sessions: Vec<SessionAnswer>,
    next_cursor: Option<String>,
}

/// A conversation that is remembered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub(crate) struct SessionAnswer {
    id: String,
    /// Turns it had
    turns: u64,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When it had its last turn
    #[schemars(extend("format" = "date-time"))]
    used_at: String,
    /// When it is forgotten, unless it is used
    #[schemars(extend("format" = "date-time"))]
    expires_at: String,
}

/// A conversation with what was said.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionContent")]
pub(crate) struct ContentAnswer {
    #[serde(flatten)]
    session: SessionAnswer,
    /// What was said in the first messages, once it has become long
    summary: Option<String>,
    /// The last message that the summary tells of; 0 where there is none
    summarised_up_to: u64,
    messages: Vec<MessageAnswer>,
}

/// A message.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionMessage")]
pub(crate) struct MessageAnswer {
    /// Its place in the conversation, from 1
    number: u64,
    role: String,
    /// What was said; calls and results of tools are JSON text
    text: String,
    tokens: u64,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Params(page): Params<PageParams>,
) -> Result<Json<ListAnswer>, Failure> {
    let limit = within("limit", page.limit, PAGE_DEFAULT, 1..=PAGE_MAX)?;
    let before = match page.cursor.as_deref().map(str::parse::<i64>) {
        None => None,
        Some(Ok(number)) => Some(number),
        Some(Err(_)) => return Err(Failure::field("cursor", "is not one that this list gave")),
    };
    let mut sessions = server.coordinator().sessions(&caller, before, limit + 1).await?;
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next_cursor = sessions.last().filter(|_| more).map(|session| session.number.to_string());
    Ok(Json(ListAnswer { sessions: sessions.into_iter().map(SessionAnswer::from).collect(), next_cursor }))
}

pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Json<ContentAnswer>, Failure> {
    let (mut session, said) = server.coordinator().session(&caller, &id).await?;
    Ok(Json(ContentAnswer {
        summary: session.summary.take(),
        summarised_up_to: session.summarised_up_to,
        session: session.into(),
        messages: said.into_iter().map(MessageAnswer::from).collect(),
    }))
}

pub(crate) async fn remove(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<StatusCode, Failure> {
    server.coordinator().remove_session(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<Session> for SessionAnswer {
    fn from(session: Session) -> Self {
        Self {
            id: session.id,
            turns: session.turns,
            created_at: timestamp::from_ms(session.created_at_ms),
            used_at: timestamp::from_ms(session.used_at_ms),
            expires_at: timestamp::from_ms(session.expires_at_ms),
        }
    }
}

impl From<SaidInSession> for MessageAnswer {
    fn from(said: SaidInSession) -> Self {
        let SaidInSession { number, role, text, tokens } = said;
        Self { number, role, text, tokens }
    }
}
