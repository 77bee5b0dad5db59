//! Servers that speak OpenAI's chat completions: OpenAI itself, llama.cpp, vLLM, Ollama, LM Studio and many more.
//!
//! They imitate it more or less well. What comes is read leniently where only details differ, and refused where it cannot
//! be an answer at all.

mod answer;
mod body;
mod chunk;
mod wire;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::{Method, Uri};
use serde::Deserialize;

use self::{
    body::{Bound, Manner},
    chunk::Chunks,
};
use crate::{
    Answer, Call, CallError, Deadlines, ErrorKind, EventStream, Listed, Provider, Shape,
    http::{ANSWER_BYTES_MAX, Endpoint, EndpointError, Http, KeyHeader, MediaType, Outgoing, peer},
    stream::Events,
};
#[cfg(any(test, feature = "fuzzing"))]
use crate::{redact::Redactor, stream::Decode};

/// A server that speaks OpenAI's chat completions.
#[derive(Debug)]
pub struct OpenAi {
    http: Http,
    chat: Uri,
    models: Uri,
    peer: String,
    bound: Bound,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<ModelEntry>,
}

#[derive(Deserialize)]
struct ModelEntry {
    id: String,
    /// vLLM.
    max_model_len: Option<u64>,
    /// OpenRouter, Together.
    context_length: Option<u64>,
    /// Groq.
    context_window: Option<u64>,
    /// Mistral.
    max_context_length: Option<u64>,
    /// llama.cpp.
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    n_ctx: Option<u64>,
}

impl OpenAi {
    /// A provider whose interface begins at the endpoint's address: `…/v1`, where there is one.
    ///
    /// # Errors
    ///
    /// [`EndpointError`], where it could never work.
    pub fn new(endpoint: &Endpoint) -> Result<Self, EndpointError> {
        let http = Http::new(endpoint, endpoint.url.trim_end_matches('/'), KeyHeader::Bearer)?;
        let chat = http.address("chat/completions")?;
        let is_openai = chat.host().is_some_and(|host| host == "openai.com" || host.ends_with(".openai.com"));
        Ok(Self {
            models: http.address("models")?,
            peer: peer(&chat),
            bound: if is_openai { Bound::MaxCompletionTokens } else { Bound::MaxTokens },
            chat,
            http,
        })
    }

    async fn ask(&self, call: &Call, manner: Manner) -> Result<crate::http::Body, CallError> {
        let expected = match manner {
            Manner::Whole => MediaType::Json,
            Manner::Streamed => MediaType::EventStream,
        };
        let outgoing = Outgoing {
            method: Method::POST,
            uri: &self.chat,
            body: body::body(call, manner, self.bound)?,
            expected,
            trace: &call.trace,
            extra: None,
            deadlines: &call.deadlines,
        };
        self.http.send(outgoing).await
    }
}

impl Provider for OpenAi {
    fn shape(&self) -> Shape {
        Shape::OpenAi
    }

    fn peer(&self) -> &str {
        &self.peer
    }

    fn complete<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(async move {
            let body = self.ask(call, Manner::Whole).await?.whole(ANSWER_BYTES_MAX).await?;
            answer::parse(body, self.http.redactor())
        })
    }

    fn stream<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<EventStream, CallError>> {
        Box::pin(async move {
            let body = self.ask(call, Manner::Streamed).await?;
            let chunks = Chunks::new(body::wants_usage(&call.request), self.http.redactor().clone());
            Ok(Box::pin(Events::new(body, chunks)) as EventStream)
        })
    }

    fn count_tokens<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Option<u64>, CallError>> {
        Box::pin(async { Ok(None) })
    }

    fn models<'a>(&'a self, deadlines: &'a Deadlines) -> BoxFuture<'a, Result<Vec<Listed>, CallError>> {
        Box::pin(async move {
            let outgoing = Outgoing {
                method: Method::GET,
                uri: &self.models,
                body: Bytes::new(),
                expected: MediaType::Json,
                trace: &[],
                extra: None,
                deadlines,
            };
            let body = self.http.send(outgoing).await?.whole(ANSWER_BYTES_MAX).await?;
            let not_understood =
                |_| CallError::new(ErrorKind::Malformed, "its list of models is not what such a server has");
            let models: Models = serde_json::from_slice(&body).map_err(not_understood)?;
            Ok(models.data.into_iter().map(Listed::from).collect())
        })
    }
}

impl From<ModelEntry> for Listed {
    fn from(entry: ModelEntry) -> Self {
        let context_tokens = entry
            .max_model_len
            .or(entry.context_length)
            .or(entry.context_window)
            .or(entry.max_context_length)
            .or(entry.meta.and_then(|meta| meta.n_ctx));
        Self { name: entry.id, context_tokens }
    }
}

/// What would be sent for a whole answer, for tests of other modules.
#[cfg(test)]
pub(crate) fn body_of(call: &Call) -> Result<Bytes, CallError> {
    body::body(call, Manner::Whole, Bound::MaxTokens)
}

/// What a whole answer is read as, for the fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn parsed(body: Bytes, redactor: &Redactor) -> Result<Answer, CallError> {
    answer::parse(body, redactor)
}

/// What reads a streamed one, for the fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn decoder(redactor: &Redactor) -> Box<dyn Decode> {
    Box::new(Chunks::new(true, redactor.clone()))
}
