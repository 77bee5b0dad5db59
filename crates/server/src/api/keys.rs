//! `/api/v1/keys`: API keys made, listed and revoked. A key's secret is in the answer that makes it and nowhere else.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_storage::keys::ApiKey;
use serde::{Deserialize, Serialize};

use crate::{
    Server,
    error::Failure,
    input::{Authenticated, Body, Segment},
    timestamp,
};

/// The longest name of a key, in characters.
const NAME_CHARS_MAX: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    name: String,
}

#[derive(Serialize)]
struct CreateAnswer<'a> {
    id: String,
    name: String,
    key: &'a str,
    created_at: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct ListAnswer {
    keys: Vec<KeyAnswer>,
    next_cursor: Option<String>,
}

/// A key, without its secret.
#[derive(Debug, Serialize)]
struct KeyAnswer {
    id: String,
    name: String,
    created_at: String,
    revoked_at: Option<String>,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(_): Authenticated,
) -> Result<Json<ListAnswer>, Failure> {
    let keys = server.blocking(|server| server.storage().keys()).await??;
    // There are few keys: they are one page.
    Ok(Json(ListAnswer { keys: keys.into_iter().map(KeyAnswer::from).collect(), next_cursor: None }))
}

pub(crate) async fn create(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<CreateBody>,
) -> Result<Response, Failure> {
    let name = body.value.name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Failure::field("name", format_args!("must be 1 to {NAME_CHARS_MAX} printable characters")));
    }
    let (key, secret) = server.storage().create_key(name.to_owned()).await?;
    tracing::info!(key_id = key.id, caller = caller.id(), "made the key {}", key.id);
    let created_at = timestamp::from_ms(key.created_at_ms);
    let answer = CreateAnswer { id: key.id, name: key.name, key: secret.reveal(), created_at };
    let mut response = (StatusCode::CREATED, Json(answer)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(crate) async fn revoke(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<StatusCode, Failure> {
    server.storage().revoke_key(id.clone()).await?;
    tracing::info!(key_id = id, caller = caller.id(), "revoked the key {id}");
    Ok(StatusCode::NO_CONTENT)
}

impl From<ApiKey> for KeyAnswer {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            created_at: timestamp::from_ms(key.created_at_ms),
            revoked_at: key.revoked_at_ms.map(timestamp::from_ms),
        }
    }
}
