//! Requests to a provider: one attempt, within its deadlines, with nothing believed.
//!
//! One pool of connections an endpoint. Nothing is followed, since somewhere else would be sent the key, and nothing is
//! asked to be compressed, since an event that waits for more of its kind comes late. Connections are driven by tasks of
//! the pool, which end with them: when the endpoint is dropped, when they were idle for a while, or when an answer is
//! dropped before its end.

mod body;
mod connect;

use std::{error::Error, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use metrics::counter;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{timeout, timeout_at};
use zeroize::Zeroizing;

use self::{
    body::Clocks,
    connect::{ConnectError, Connector},
};
pub(crate) use body::Body;

use crate::{
    CallError, Deadlines, ErrorKind,
    failure::{self, RetryAfter},
    redact::Redactor,
};

/// The longest answer that is not streamed.
pub(crate) const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The longest answer of a failure that is looked at.
const WORDS_BYTES_MAX: usize = 64 << 10;
/// How long the words of a failure are waited for; that it is one is known without them.
const WORDS_WITHIN: Duration = Duration::from_secs(2);
/// How often an HTTP/2 connection under way is asked whether it is still there, and how long it has to say so: without
/// that, one whose other end is gone takes every call to the end of its deadline.
const STILL_THERE: Duration = Duration::from_secs(10);
/// Bytes of one answer that may come before they are read. A reader that is slow holds so many,
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// and no other answer of its connection up, unless there are hundreds of its kind.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How long a connection may be idle. Servers close theirs after 5 s (uvicorn) to 75 s (nginx); one that closes first is
/// noticed.
const IDLE: Duration = Duration::from_secs(30);
/// Connections that may be idle where nobody says: as many as a model's calls at once are by default, and some.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// Where a provider is, and how to get in.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What the provider is called, in metrics.
    pub provider: String,
    /// The root of its interface, such as `https://api.openai.com/v1` or `http://127.0.0.1:8080/v1`.
    pub url: String,
    /// What lets us in, where something is needed.
    pub key: Option<SecretString>,
    /// A PEM file with certificates of authorities that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Connections that may be idle.
    pub idle_connections_max: usize,
}

impl Endpoint {
    /// An endpoint without a key, trusting whom the system trusts.
    pub fn new(provider: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            url: url.into(),
            key: None,
            ca_file: None,
            idle_connections_max: IDLE_CONNECTIONS_MAX,
        }
    }
}

/// Why an endpoint can never work.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address is none.
    #[error("the address {url} {problem}")]
    Url {
        /// The address, without a password where it has one.
        url: String,
        /// What is wrong with it, continuing the sentence.
        problem: &'static str,
    },

    /// The key cannot be sent.
    #[error("the key has something in it that no header can have")]
    Key,

    /// The authorities cannot be read.
    #[error("the certificates in {path} cannot be used")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// The system trusts nobody, or TLS cannot be set up for another reason.
    #[error("no HTTPS client can be set up: {0}")]
    Tls(String),
}

/// How a key is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyHeader {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// `x-api-key: KEY`
    Bare,
}

/// The way to one endpoint.
pub(crate) struct Http {
    client: Client<Connector, Full<Bytes>>,
    /// The root without a slash at its end.
    root: String,
    /// What every request has.
    headers: HeaderMap,
    redactor: Redactor,
}

/// What is sent.
pub(crate) struct Outgoing<'a> {
    pub(crate) method: Method,
    pub(crate) uri: &'a Uri,
    /// JSON; empty where there is nothing to say.
    pub(crate) body: Bytes,
    /// The media type that has to come back.
    pub(crate) expected: MediaType,
    pub(crate) trace: &'a [(&'static str, String)],
    /// Headers for this request alone.
    pub(crate) extra: Option<(HeaderName, HeaderValue)>,
    pub(crate) deadlines: &'a Deadlines,
}

/// What an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    EventStream,
}

impl MediaType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::EventStream => "text/event-stream",
        }
    }

    fn is_of(self, headers: &HeaderMap) -> bool {
        let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(self.as_str().as_bytes())
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Http {
    pub(crate) fn new(endpoint: &Endpoint, root: &str, key_header: KeyHeader) -> Result<Self, EndpointError> {
        let is_https = check(root)?;
        let opened = counter!("holdfast_llm_connections_opened_total", "provider" => endpoint.provider.clone());
        let connector = Connector::new(is_https, endpoint.ca_file.as_deref(), opened)?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(endpoint.idle_connections_max)
            .http2_keep_alive_interval(STILL_THERE)
            .http2_keep_alive_timeout(STILL_THERE)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .build(connector);
        let mut headers = HeaderMap::new();
        let agent = concat!("holdfast/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(key) = &endpoint.key {
            let (name, value) = key_header.of(key)?;
            headers.insert(name, value);
        }
        Ok(Self { client, root: root.to_owned(), headers, redactor: Redactor::new(endpoint.key.clone()) })
    }

    /// A header that every request has.
    pub(crate) fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// The address of a path below the root.
    pub(crate) fn address(&self, path: &str) -> Result<Uri, EndpointError> {
        let whole = format!("{}/{path}", self.root);
        whole.parse().map_err(|_| EndpointError::Url { url: self.root.clone(), problem: "is not one" })
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Asks once, and comes back with the body of an answer that is neither a failure nor of another media type.
    pub(crate) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Body, CallError> {
        let clocks = Clocks::start(outgoing.deadlines);
        let expected = outgoing.expected;
        let connect = outgoing.deadlines.connect;
        let request = self.client.request(self.request(outgoing));
        let response = timeout_at(clocks.first_due(), connect::within(connect, request)).await;
        let response = response.map_err(|_| clocks.nothing_came())?;
        let response = response.map_err(|error| self.of_request(&error))?;
        let (parts, incoming) = response.into_parts();
        let body = Body::new(incoming, clocks);
        if parts.status != StatusCode::OK {
            let retry_after = RetryAfter::of(&parts.headers);
            let told = words(body).await;
            return Err(failure::of_answer(parts.status, retry_after, &told, &self.redactor));
        }
        if is_encoded(&parts.headers) {
            return Err(CallError::new(ErrorKind::Malformed, "its answer is encoded, which nobody asked for"));
        }
        if !expected.is_of(&parts.headers) {
            return Err(self.another_type(expected, body).await);
        }
        Ok(body)
    }

    fn request(&self, outgoing: Outgoing<'_>) -> Request<Full<Bytes>> {
        let has_body = !outgoing.body.is_empty();
        let mut request = Request::new(Full::new(outgoing.body));
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = outgoing.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(ACCEPT, HeaderValue::from_static(outgoing.expected.as_str()));
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in outgoing.trace {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers.extend(outgoing.extra);
        request
    }

    /// An answer of another type: some servers tell of failures in JSON with status 200.
    async fn another_type(&self, expected: MediaType, body: Body) -> CallError {
        let told = words(body).await;
        let reason = format!("its answer is not {}", expected.as_str());
        failure::told_in(&told, &self.redactor).unwrap_or_else(|| CallError::new(ErrorKind::Malformed, reason))
    }

    fn of_request(&self, error: &legacy::Error) -> CallError {
        let source = error.source();
        if let Some(unreached) = source.and_then(|source| source.downcast_ref::<ConnectError>()) {
            let failed = CallError::new(unreached.kind, unreached.reason);
            return CallError { words: self.redactor.clean(&unreached.words), ..failed };
        }
        match source.and_then(|source| source.downcast_ref::<hyper::Error>()) {
            Some(error) => of_transport(error),
            None => CallError::new(ErrorKind::Reset, "the connection ended before an answer came"),
        }
    }
}

/// What a failure says. It is worth having, and no reason to fail otherwise or to wait for long.
async fn words(body: Body) -> Bytes {
    let told = timeout(WORDS_WITHIN, body.whole(WORDS_BYTES_MAX)).await;
    told.ok().and_then(Result::ok).unwrap_or_default()
}

/// Whether a body is not as it is written. Some say that it is.
fn is_encoded(headers: &HeaderMap) -> bool {
    let is_identity = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    !headers.get_all(CONTENT_ENCODING).iter().all(is_identity)
}

/// What a failure between two open ends means.
fn of_transport(error: &hyper::Error) -> CallError {
    let failed = if error.is_parse() {
        CallError::new(ErrorKind::Malformed, "its answer is not HTTP")
    } else {
        CallError::new(ErrorKind::Reset, "the connection ended before the answer was whole")
    };
    CallError { words: Some(innermost(error)), ..failed }
}

/// The innermost cause, which the outer ones repeat or hide. Of the transport's own, so that no key is in it.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl KeyHeader {
    fn of(self, key: &SecretString) -> Result<(HeaderName, HeaderValue), EndpointError> {
        let (name, text) = match self {
            Self::Bearer => (AUTHORIZATION, Zeroizing::new(format!("Bearer {}", key.expose_secret()))),
            Self::Bare => (HeaderName::from_static("x-api-key"), Zeroizing::new(key.expose_secret().to_owned())),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| EndpointError::Key)?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

/// Refuses an address that could never work; whether it asks for TLS.
fn check(url: &str) -> Result<bool, EndpointError> {
    // What stands after the path is not repeated, since it may be a key.
    let path_end = url.find(['?', '#']).unwrap_or(url.len());
    let refused = |problem| EndpointError::Url { url: url[..path_end].to_owned(), problem };
    let uri: Uri = url.parse().map_err(|_| EndpointError::Url { url: "given".to_owned(), problem: "is none" })?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        // It is not repeated: what stands before the @ is a password.
        let url = uri.host().unwrap_or_default().to_owned();
        return Err(EndpointError::Url { url, problem: "has a user name in it: give the key on its own" });
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(refused("has no host"));
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(refused("has something after its path"));
    }
    match uri.scheme_str() {
        Some("http") => Ok(false),
        Some("https") => Ok(true),
        _ => Err(refused("does not begin with http:// or https://")),
    }
}

/// The host and port of an endpoint, for spans and records.
pub(crate) fn peer(uri: &Uri) -> String {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    format!("{}:{port}", uri.host().unwrap_or_default())
}
