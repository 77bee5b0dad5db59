//! The doors to language models: OpenAI's chat completions, Anthropic's messages, and the list of models.
//!
//! A body is read once (`read`, `asked`, and one `request` a face), the coordinator is asked, and what comes back goes to
//! the client in the shape it speaks: in the provider's own words where that is the provider's shape too, else written
//! anew (one `answer` a face). What is looked up, which model answers and what becomes of failures is not decided here.

mod read;

mod own;

mod asked;

mod encode;

pub(crate) mod openai;

pub(crate) mod anthropic;

mod stream;

pub(crate) mod models;

#[cfg(test)]
mod samples;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use holdfast_coordinator::{About, Completed, Turn};
use holdfast_llm::Shape;
use holdfast_storage::Caller;
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::{
    asked::MODEL_CHARS_MAX,
    own::{Headers, SESSION_ID},
};
use self::{
    asked::{Asked, Delivery},
    encode::{Named, with_field},
    stream::{Setting, prefix},
};
use crate::{
    Server,
    api::augment::CitationAnswer,
    error::{Code, Failure},
    limits::Meter,
};

const INTERACTION: HeaderName = HeaderName::from_static("x-holdfast-interaction");
const MODEL: HeaderName = HeaderName::from_static("x-holdfast-model");
const CACHE: HeaderName = HeaderName::from_static("x-holdfast-cache");
const CONTEXT: HeaderName = HeaderName::from_static("x-holdfast-context");
const DROPPED: HeaderName = HeaderName::from_static("x-holdfast-dropped");
/// What nginx goes by: an event that waits in a proxy's buffer for the next one is late.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Has a model answer, and puts the answer into the client's shape.
async fn answer(
    server: &Server,
    caller: &Caller,
    meter: Meter,
    headers: Headers,
    (shape, asked): (Shape, Asked),
) -> Result<Response, Failure> {
    let delivery = asked.delivery;
    let is_augmented = asked.own.augmentation.is_some();
    let dropped = asked.dropped(shape);
    let request_id = headers.request_id.clone();
    let turn = turn(asked, headers);
    match delivery {
        Delivery::Whole => {
            let completed = server.coordinator().complete(caller, turn).await?;
            let mut response = whole(&completed, shape, is_augmented)?;
            let is_other = completed.answer.shape != shape;
            head(&mut response, &completed.about, if is_other { &dropped } else { &[] });
            Ok(response)
        }
        Delivery::Stream(counting) => {
            let streaming = server.coordinator().stream(caller, turn).await?;
            let (about, is_other) = (streaming.about.clone(), streaming.shape.is_some_and(|spoken| spoken != shape));
            let (shutdown, grace) = (server.shutdown().clone(), server.config().shutdown_grace);
            let setting = Setting { shape, counting, request_id, meter, shutdown, grace };
            let mut response = Response::new(stream::body(streaming, setting));
            let fields = response.headers_mut();
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            fields.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
            head(&mut response, &about, if is_other { &dropped } else { &[] });
            Ok(response)
        }
    }
}

fn turn(asked: Asked, headers: Headers) -> Turn {
    Turn {
        model: asked.model,
        request: asked.request,
        session: asked.own.session,
        augmentation: asked.own.augmentation,
        cache: headers.cache,
        request_id: headers.request_id,
        trace: headers.trace,
    }
}

/// A whole answer. Where the provider speaks the client's shape, it is the provider's, byte for byte.
fn whole(completed: &Completed, shape: Shape, is_augmented: bool) -> Result<Response, Failure> {
    let Completed { about, answer } = completed;
    let named = Named::new(prefix(shape), about.interaction, &answer.model);
    let body: Bytes = match shape {
        _ if answer.shape == shape && !answer.body.is_empty() => answer.body.clone(),
        Shape::OpenAi => openai::answer::whole(answer, &named).into(),
        Shape::Anthropic => {
            let written = anthropic::answer::whole(answer, &named);
            written.map_err(|unsayable| Failure::new(Code::ProviderFailed, unsayable.as_str()))?.into()
        }
    };
    let body = if is_augmented { with_field(&body, own::FIELD, &OwnAnswer::from(about)) } else { body };
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What this server has to say of an answer, in headers, which no client trips over.
fn head(response: &mut Response, about: &About, dropped: &[&str]) {
    let fields = response.headers_mut();
    let mut put = |name: HeaderName, value: &str| {
        // Names of models may have any letters; a header has them as bytes.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            fields.insert(name, value);
        }
    };
    put(INTERACTION, &about.interaction.to_string());
    put(MODEL, &about.model);
    put(CACHE, if about.is_cached { "hit" } else { "miss" });
    put(CONTEXT, &about.citations.len().to_string());
    if let Some(session) = &about.session {
        put(own::SESSION, session);
    }
    if !dropped.is_empty() {
        put(DROPPED, &dropped.join(", "));
    }
}

/// What a whole answer says of what was looked up for it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Grounding")]
pub(crate) struct OwnAnswer<'a> {
    /// The turn's id in the record
    interaction: String,
    /// The model that answered, as clients call it
    model: &'a str,
    /// Where the passages are from that it was given
    citations: Vec<CitationAnswer>,
}

impl<'a> From<&'a About> for OwnAnswer<'a> {
    fn from(about: &'a About) -> Self {
        Self {
            interaction: about.interaction.to_string(),
            model: &about.model,
            citations: about.citations.iter().cloned().map(CitationAnswer::from).collect(),
        }
    }
}

/// Reads a body as each of the doors does; for the fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read(body: &serde_json::Value) -> impl Iterator<Item = Failure> {
    let headers = Headers::default();
    let openai = openai::request::read(body.clone(), &headers).err();
    let messages = anthropic::request::read(body.clone(), &headers, anthropic::request::For::Message).err();
    let count = anthropic::request::read(body.clone(), &headers, anthropic::request::For::Count).err();
    openai.into_iter().chain(messages).chain(count)
}
