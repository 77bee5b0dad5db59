//! Requests to a server that embeds: one attempt has a deadline, what may pass is tried again, nothing is believed.
//!
//! Wakes for nothing by itself. What a server says is kept apart from what is said of it here: it goes into logs,
//! shortened, and to nobody else.

use std::{
    error::Error,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};
use futures::StreamExt;
use metrics::{Counter, Histogram, counter, histogram};
use reqwest::{
    Response, StatusCode,
    header::{AUTHORIZATION, HeaderValue, RETRY_AFTER},
    redirect,
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tower::{Layer, Service};
use zeroize::Zeroizing;

use super::{RemoteApi, RemoteModel};
use crate::{Propagate, error::EmbedError, secret_file};

/// How often a request is sent before its failure is told.
const ATTEMPTS: usize = 3;
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The longest answer without vectors that is looked at.
const WORDS_BYTES_MAX: usize = 64 << 10;
/// What is told of a server's own words.
const WORDS_CHARS_MAX: usize = 200;
/// How often it is looked whether a server that could not be reached takes connections again, and how long that may take.
pub(crate) const REACHABLE_EVERY: Duration = Duration::from_secs(1);
const REACHABLE_WITHIN: Duration = Duration::from_secs(1);

/// Why a server gave no vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// In words of our own.
    pub(crate) reason: String,
    /// In theirs, or the system's.
    pub(crate) words: Option<Words>,
    /// Whether the same may succeed later.
    pub(crate) is_transient: bool,
    /// Whether other texts may succeed: it is these that were refused.
    pub(crate) is_about_texts: bool,
    /// When the server said to ask again.
    pub(crate) retry_after: Option<Duration>,
    /// Whether there was no connection to be had.
    pub(crate) is_unreached: bool,
}

/// What somebody else said of a failure; for those who look after this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Words(String);

impl Trouble {
    pub(crate) fn passing(reason: impl Into<String>) -> Trouble {
        Trouble {
            reason: reason.into(),
            words: None,
            is_transient: true,
            is_about_texts: false,
            retry_after: None,
            is_unreached: false,
        }
    }

    pub(crate) fn lasting(reason: impl Into<String>) -> Trouble {
        Trouble { is_transient: false, ..Trouble::passing(reason) }
    }

    fn unreached(error: &reqwest::Error) -> Trouble {
        let trouble = Trouble::passing("it cannot be reached").saying(&innermost(error));
        Trouble { is_unreached: error.is_connect(), ..trouble }
    }

    fn saying(self, words: &str) -> Trouble {
        let words: String = words.chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect();
        Trouble { words: (!words.is_empty()).then_some(Words(words)), ..self }
    }

    pub(crate) fn into_error(self, model: &str) -> EmbedError {
        let Trouble { reason, words, is_transient, .. } = self;
        EmbedError::RemoteFailed { model: model.to_owned(), reason, words, is_transient }
    }
}

/// The way to one remote model.
pub(crate) struct Client {
    http: reqwest::Client,
    api: RemoteApi,
    url: String,
    model: String,
    key: Option<HeaderValue>,
    deadline: Duration,
    /// Its host and port.
    peer: String,
    propagate: Option<Arc<dyn Propagate>>,
    meters: Meters,
}

/// What is counted of the way to one model.
struct Meters {
    ok: Counter,
    error: Counter,
    seconds: Histogram,
}

/// Counts the connections that are opened: requests beyond them found one that was open.
#[derive(Clone)]
struct Counted<S> {
    opener: S,
    opened: Counter,
}

#[derive(Clone)]
struct CountedLayer(Counter);

impl<S> Layer<S> for CountedLayer {
    type Service = Counted<S>;

    fn layer(&self, opener: S) -> Counted<S> {
        Counted { opener, opened: self.0.clone() }
    }
}

impl<S: Service<R>, R> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.opener.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.opened.increment(1);
        self.opener.call(request)
    }
}

#[derive(Deserialize)]
struct OpenAiAnswer {
    data: Vec<OpenAiDatum>,
}

#[derive(Deserialize)]
struct OpenAiDatum {
    index: usize,
    embedding: Vec<f32>,
}

impl Client {
    /// A client of a model that is called `name` here. Reads the key.
    pub(crate) fn new(
        name: &str,
        remote: &RemoteModel,
        deadline: Duration,
        propagate: Option<Arc<dyn Propagate>>,
    ) -> Result<Client, Trouble> {
        // Fails when a provider is installed already, which is just as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let opened = counter!("holdfast_remote_connections_opened_total", "model" => name.to_owned());
        let http = reqwest::Client::builder()
            .connector_layer(CountedLayer(opened))
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(deadline / 3)
            // Somewhere else is another server than the one that was connected, and would be sent the key.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| Trouble::lasting("no HTTPS client could be set up").saying(&error.to_string()))?;
        let key = remote.key_file.as_deref().map(read_key).transpose()?;
        Ok(Client {
            http,
            api: remote.api,
            url: remote.url.trim_end_matches('/').to_owned(),
            model: remote.model.clone().unwrap_or_else(|| name.to_owned()),
            key,
            deadline,
            peer: peer(&remote.url),
            propagate,
            meters: Meters::new(name),
        })
    }

    /// The host and port of the server.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// Comes back when the server takes connections.
    pub(crate) async fn reachable(&self) {
        loop {
            let connected = tokio::time::timeout(REACHABLE_WITHIN, TcpStream::connect(&self.peer)).await;
            if connected.is_ok_and(|connected| connected.is_ok()) {
                return;
            }
            tokio::time::sleep(REACHABLE_EVERY).await;
        }
    }

    /// One vector for each text, in order, all of one width.
    pub(crate) async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Trouble> {
        let backoff = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(BACKOFF_MIN)
            .with_max_delay(BACKOFF_MAX)
            .with_max_times(ATTEMPTS - 1);
        let deadline = tokio::time::Instant::now() + self.deadline;
        let attempts = (|| self.attempt(texts, deadline))
            .retry(backoff)
            .when(|trouble: &Trouble| trouble.is_transient)
            .adjust(|trouble, pause| {
                // Whoever is to be asked again after the deadline is not asked again.
                let pause = pause?.max(trouble.retry_after.unwrap_or_default());
                (pause < self.deadline).then_some(pause)
            });
        tokio::time::timeout_at(deadline, attempts).await.unwrap_or_else(|_| Err(self.no_answer()))
    }

    fn no_answer(&self) -> Trouble {
        Trouble::passing(format!("no answer within {} s", self.deadline.as_secs_f32()))
    }

    async fn attempt(&self, texts: &[String], deadline: tokio::time::Instant) -> Result<Vec<Vec<f32>>, Trouble> {
        let began = Instant::now();
        // One that hangs is counted too.
        let outcome =
            tokio::time::timeout_at(deadline, self.ask(texts)).await.unwrap_or_else(|_| Err(self.no_answer()));
        self.meters.seconds.record(began.elapsed().as_secs_f64());
        match &outcome {
            Ok(_) => self.meters.ok.increment(1),
            Err(trouble) => {
                self.meters.error.increment(1);
                tracing::Span::current().record("error", &trouble.reason);
            }
        }
        outcome
    }

    /// One request, and what it came to.
    async fn ask(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Trouble> {
        let (path, body) = match self.api {
            RemoteApi::OpenAi => {
                ("embeddings", json!({"model": self.model, "input": texts, "encoding_format": "float"}))
            }
            RemoteApi::Tei => ("embed", json!({"inputs": texts, "truncate": false})),
        };
        let mut request = self.http.post(format!("{}/{path}", self.url)).json(&body);
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.clone());
        }
        let span = tracing::Span::current();
        for (name, value) in self.propagate.iter().flat_map(|propagate| propagate.headers(&span)) {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(|error| Trouble::unreached(&error))?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        span.record("status", status.as_u16());
        let body = bounded(response, if status == StatusCode::OK { ANSWER_BYTES_MAX } else { WORDS_BYTES_MAX }).await?;
        if status != StatusCode::OK {
            let is_transient = status.is_server_error()
                || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
            let trouble = Trouble::lasting(format!("it answered {status}")).saying(&words(&body));
            let is_about_texts = matches!(
                status,
                StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
            );
            return Err(Trouble { is_transient, is_about_texts, retry_after, ..trouble });
        }
        let vectors = self.vectors(&body, texts.len())?;
        let width = vectors.first().map_or(0, Vec::len);
        if vectors.len() != texts.len() || vectors.iter().any(|vector| vector.len() != width || width == 0) {
            return Err(Trouble::lasting("it answered with another number of vectors, or of different widths"));
        }
        Ok(vectors)
    }

    fn vectors(&self, body: &[u8], count: usize) -> Result<Vec<Vec<f32>>, Trouble> {
        let not_understood = |_| Trouble::lasting("its answer is not what this interface answers");
        match self.api {
            RemoteApi::Tei => serde_json::from_slice(body).map_err(not_understood),
            RemoteApi::OpenAi => {
                let answer: OpenAiAnswer = serde_json::from_slice(body).map_err(not_understood)?;
                let mut vectors = vec![Vec::new(); count];
                for datum in answer.data {
                    let place = vectors
                        .get_mut(datum.index)
                        .ok_or_else(|| Trouble::lasting("it answered with a vector for a text that was not sent"))?;
                    *place = datum.embedding;
                }
                Ok(vectors)
            }
        }
    }
}

impl Meters {
    fn new(model: &str) -> Meters {
        let requests = |outcome: &'static str| counter!("holdfast_remote_requests_total", "model" => model.to_owned(), "outcome" => outcome);
        let seconds = histogram!("holdfast_remote_request_duration_seconds", "model" => model.to_owned());
        Meters { ok: requests("ok"), error: requests("error"), seconds }
    }
}

/// The host and port of an address that was checked.
fn peer(url: &str) -> String {
    let parsed = reqwest::Url::parse(url).ok();
    let host_and_port = parsed.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
    host_and_port.map_or_else(String::new, |(host, port)| format!("{host}:{port}"))
}

fn read_key(path: &Path) -> Result<HeaderValue, Trouble> {
    let key = secret_file::read(path).map_err(|error| {
        let words = error.source().map(ToString::to_string).unwrap_or_default();
        Trouble::passing(format!("the file with its key {error}: {}", error.hint())).saying(&words)
    })?;
    let bearer = Zeroizing::new(format!("Bearer {}", key.expose_secret()));
    let mut value = HeaderValue::from_str(&bearer)
        .map_err(|_| Trouble::lasting("the file with its key has something that no header can have"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whole seconds; a date is not honoured, as no embedding server sends one.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn bounded(response: Response, bytes_max: usize) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(block) = stream.next().await {
        let block = block.map_err(|error| Trouble::unreached(&error))?;
        if body.len() + block.len() > bytes_max {
            return Err(Trouble::lasting(format!("its answer has more than {bytes_max} bytes")));
        }
        body.extend_from_slice(&block);
    }
    Ok(body)
}

/// What a server says went wrong, where its interface has it.
fn words(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let told = json.as_ref().and_then(|json| {
        let error = json.get("error")?;
        error.as_str().or_else(|| error.get("message")?.as_str())
    });
    told.unwrap_or_default().to_owned()
}

/// The innermost cause of an HTTP error, where the reason is; the outer ones repeat the address.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
