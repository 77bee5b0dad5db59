//! `GET /v1/models` and `/v1/models/{name}`, as in <https://platform.openai.com/docs/api-reference/models/list> and
//! `…/retrieve`: the language models and aliases that the caller may ask, and the embedding models that are here.
//!
//! Clients of Anthropic's API ask at the same path; theirs read the same `data` with its `id`s.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use holdfast_storage::Caller;

use crate::{
    Server,
    error::{Code, Failure},
    input::{Authenticated, Segment},
};

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

/// A model, as OpenAI shows it
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ModelName")]
pub(crate) struct ModelAnswer {
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
    Ok(Json(ListAnswer { object: "list", data: all(&server, &caller).await? }))
}

/// A model's name has slashes: `provider/model`.
pub(crate) async fn show(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    Segment(name): Segment,
) -> Result<Json<ModelAnswer>, Failure> {
    let found = all(&server, &caller).await?.into_iter().find(|model| model.id == name);
    found.map(Json).ok_or_else(|| {
        Failure::new(Code::ModelNotFound, format!("there is no model or alias {name:?}"))
            .hint(Some("GET /v1/models lists those there are".to_owned()))
    })
}

/// What the caller may ask.
async fn all(server: &Server, caller: &Caller) -> Result<Vec<ModelAnswer>, Failure> {
    let chat = server.coordinator().models(caller).into_iter().map(|model| ModelAnswer {
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
    Ok(chat.chain(embedding).collect())
}
