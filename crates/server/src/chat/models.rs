//! `GET /v1/models`, as in <https://platform.openai.com/docs/api-reference/models/list>: the language models and aliases
//! that the caller may ask, and the embedding models that are here.
//!
//! Clients of Anthropic's API ask at the same path; theirs read the same `data` with its `id`s.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Server, error::Failure, input::Authenticated};

/// Who has a model that no provider has: an alias, or an embedding model.
const OURS: &str = "holdfast";

/// Models, as OpenAI lists them
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ModelNames")]
pub(crate) struct ListAnswer {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    data: Vec<ModelAnswer>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ModelName")]
struct ModelAnswer {
    /// What to ask for
    id: String,
    #[schemars(extend("const" = "model"))]
    object: &'static str,
    /// When it was added; Unix seconds, 0 where nobody noted it
    created: i64,
    /// The provider that has it; `holdfast` for aliases and embedding models
    owned_by: String,
    /// What it does
    #[schemars(extend("enum" = ["chat", "embedding"]))]
    kind: &'static str,
    /// Tokens that it reads, those of the answer included, where known
    #[serde(skip_serializing_if = "Option::is_none")]
    context_tokens: Option<u64>,
}

pub(crate) async fn list(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
) -> Result<Json<ListAnswer>, Failure> {
    let chat = server.coordinator().models(&caller).into_iter().map(|model| ModelAnswer {
        id: model.name,
        object: "model",
        created: model.created_s,
        owned_by: model.provider.unwrap_or_else(|| OURS.to_owned()),
        kind: "chat",
        context_tokens: model.context_tokens,
    });
    let local = server.blocking(|server| server.models().local()).await?;
    let embedding = local.into_iter().map(|model| ModelAnswer {
        id: model.name,
        object: "model",
        created: 0,
        owned_by: OURS.to_owned(),
        kind: "embedding",
        context_tokens: None,
    });
    Ok(Json(ListAnswer { object: "list", data: chat.chain(embedding).collect() }))
}
