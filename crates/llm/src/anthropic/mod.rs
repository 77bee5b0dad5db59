//! Servers that speak Anthropic's messages: Anthropic itself, and those that imitate it.

pub(crate) mod answer;
pub(crate) mod body;
mod events;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::{
    Method, Uri,
    header::{HeaderName, HeaderValue},
};
use serde::Deserialize;

use self::{body::Purpose, events::Events as Decoder};
use crate::{
    Answer, Call, CallError, Deadlines, ErrorKind, EventStream, Listed, Provider, Shape,
    http::{ANSWER_BYTES_MAX, Endpoint, EndpointError, Http, KeyHeader, MediaType, Outgoing, peer},
    stream::Events,
};
#[cfg(any(test, feature = "fuzzing"))]
use crate::{redact::Redactor, stream::Decode};

pub use body::MAX_TOKENS_DEFAULT;

/// The one version there is of the interface.
const VERSION: &str = "2023-06-01";
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
/// The most models of a page, so that there is one page.
const MODELS: &str = "models?limit=1000";

/// A server that speaks Anthropic's messages.
#[derive(Debug)]
pub struct Anthropic {
    http: Http,
    messages: Uri,
    count: Uri,
    models: Uri,
    peer: String,
}

#[derive(Deserialize)]
struct Counted {
    input_tokens: u64,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<ModelEntry>,
}

#[derive(Deserialize)]
struct ModelEntry {
    id: String,
    max_input_tokens: Option<u64>,
}

impl Anthropic {
    /// A provider at the endpoint's address, which may end in `/v1` or not.
    ///
    /// # Errors
    ///
    /// [`EndpointError`], where it could never work.
    pub fn new(endpoint: &Endpoint) -> Result<Self, EndpointError> {
        let url = endpoint.url.trim_end_matches('/');
        let root = format!("{}/v1", url.strip_suffix("/v1").unwrap_or(url));
        let http = Http::new(endpoint, &root, KeyHeader::Bare)?.with_header("anthropic-version", VERSION);
        let messages = http.address("messages")?;
        Ok(Self {
            count: http.address("messages/count_tokens")?,
            models: http.address(MODELS)?,
            peer: peer(&messages),
            messages,
            http,
        })
    }

    async fn ask(&self, call: &Call, purpose: Purpose) -> Result<crate::http::Body, CallError> {
        let is_streamed = purpose == Purpose::Streamed;
        let outgoing = Outgoing {
            method: Method::POST,
            uri: if purpose == Purpose::Count { &self.count } else { &self.messages },
            body: body::body(call, purpose)?,
            expected: if is_streamed { MediaType::EventStream } else { MediaType::Json },
            trace: &call.trace,
            extra: betas(call),
            deadlines: &call.deadlines,
        };
        self.http.send(outgoing).await
    }
}

/// The client's own, where it speaks this shape.
fn betas(call: &Call) -> Option<(HeaderName, HeaderValue)> {
    let is_own = call.request.original.as_ref().is_some_and(|original| original.shape == Shape::Anthropic);
    let value = (is_own && !call.request.betas.is_empty()).then(|| call.request.betas.join(","))?;
    Some((BETA, HeaderValue::from_str(&value).ok()?))
}

impl Provider for Anthropic {
    fn shape(&self) -> Shape {
        Shape::Anthropic
    }

    fn peer(&self) -> &str {
        &self.peer
    }

    fn complete<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(async move {
            let body = self.ask(call, Purpose::Whole).await?.whole(ANSWER_BYTES_MAX).await?;
            answer::parse(body, self.http.redactor())
        })
    }

    fn stream<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<EventStream, CallError>> {
        Box::pin(async move {
            let body = self.ask(call, Purpose::Streamed).await?;
            let decoder = Decoder::new(call.continued.as_deref(), self.http.redactor().clone());
            Ok(Box::pin(Events::new(body, decoder)) as EventStream)
        })
    }

    fn count_tokens<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<u64>, CallError>> {
        Box::pin(async move {
            let body = self.ask(call, Purpose::Count).await?.whole(ANSWER_BYTES_MAX).await?;
            let not_understood = |_| CallError::new(ErrorKind::Malformed, "its count is not what such a server has");
            let counted: Counted = serde_json::from_slice(&body).map_err(not_understood)?;
            Ok(Some(counted.input_tokens))
        })
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
            let listed = |entry: ModelEntry| Listed { name: entry.id, context_tokens: entry.max_input_tokens };
            Ok(models.data.into_iter().map(listed).collect())
        })
    }
}

/// What would be sent for a whole answer, for tests of other modules.
#[cfg(test)]
pub(crate) fn body_of(call: &Call) -> Result<Bytes, CallError> {
    body::body(call, Purpose::Whole)
}

/// What a whole answer is read as, for the fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn parsed(body: Bytes, redactor: &Redactor) -> Result<Answer, CallError> {
    answer::parse(body, redactor)
}

/// What reads a streamed one, for the fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn decoder(redactor: &Redactor) -> Box<dyn Decode> {
    Box::new(Decoder::new(Some("so far "), redactor.clone()))
}
