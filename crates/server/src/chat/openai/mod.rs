//! `POST /v1/chat/completions`.

pub(super) mod answer;

pub(crate) mod request;

#[cfg(test)]
mod tests;

use axum::{extract::State, response::Response};
use holdfast_llm::Shape;

use super::Headers;
use crate::{
    Server,
    distinct::Distinct,
    error::Failure,
    input::{Authenticated, Body},
    limits::Meter,
};

pub(crate) async fn completions(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    meter: Meter,
    headers: Headers,
    body: Body<Distinct>,
) -> Result<Response, Failure> {
    headers.take(&meter, body.bytes)?;
    let asked = request::read(body.value.0, &headers)?;
    super::answer(&server, &caller, meter, headers, (Shape::OpenAi, asked)).await
}
