//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

pub(super) mod answer;

pub(crate) mod request;

#[cfg(test)]
mod tests;

use axum::{Json, extract::State, response::Response};
use holdfast_llm::Shape;
use schemars::JsonSchema;
use serde::Serialize;

use self::request::For;
use super::{Headers, asked::Asked};
use crate::{
    Server,
    distinct::Distinct,
    error::Failure,
    input::{Authenticated, Body},
    limits::Meter,
};

/// How long a request is
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TokenCount")]
pub(crate) struct CountAnswer {
    input_tokens: u64,
}

pub(crate) async fn messages(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    meter: Meter,
    headers: Headers,
    body: Body<Distinct>,
) -> Result<Response, Failure> {
    headers.take(&meter, body.bytes)?;
    let asked = request::read(body.value.0, &headers, For::Message)?;
    super::answer(&server, &caller, meter, headers, (Shape::Anthropic, asked)).await
}

pub(crate) async fn count_tokens(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    meter: Meter,
    headers: Headers,
    body: Body<Distinct>,
) -> Result<Json<CountAnswer>, Failure> {
    headers.take(&meter, body.bytes)?;
    let Asked { model, request, .. } = request::read(body.value.0, &headers, For::Count)?;
    let input_tokens = server.coordinator().count_tokens(&caller, &model, request).await?;
    Ok(Json(CountAnswer { input_tokens }))
}
