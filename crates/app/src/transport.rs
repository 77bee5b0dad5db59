//! How a command reaches the program: over the control socket of the server that holds the data directory, or by
//! building the same program in this process. Either way the same request gets the same answer.

use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use axum::{body::Body, http};
use bytes::Bytes;
use holdfast_storage::StorageError;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tower::ServiceExt;

use crate::{
    control,
    hint::Hint,
    settings::{Place, Settings},
    wiring::{Holding, Program},
};

/// How long a data directory may be held by a server that does not answer yet, or no longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the socket is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The way to the program.
pub enum Transport {
    /// The server that holds this data directory.
    Socket(PathBuf),
    /// The program in this process.
    InProcess(Box<Program>),
}

/// A request to the program.
#[derive(Clone, Debug)]
pub struct Request {
    method: http::Method,
    target: String,
    body: Option<Value>,
}

impl Request {
    /// Asks for something.
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: http::Method::GET, target: target.into(), body: None }
    }

    /// Has something done.
    pub fn post(target: impl Into<String>, body: Value) -> Self {
        Self { method: http::Method::POST, target: target.into(), body: Some(body) }
    }

    /// Has something removed.
    pub fn delete(target: impl Into<String>) -> Self {
        Self { method: http::Method::DELETE, target: target.into(), body: None }
    }

    /// Adds a parameter to the query, if there is a value for it.
    pub fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            let mark = if self.target.contains('?') { '&' } else { '?' };
            self.target = format!("{}{mark}{name}={}", self.target, encode(value));
        }
        self
    }
}

/// A part of a path or query with everything but letters, digits and `-._~` percent-encoded (RFC 3986, section 2.3).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The program refused a request: what its problem document (RFC 9457) says.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The stable word for it.
    pub code: String,
    detail: String,
    hint: Option<String>,
    /// The document itself.
    pub document: Value,
}

impl Refusal {
    /// The same where the refusal has the shape of OpenAI's interface, whose message ends with the way out.
    pub fn of_openai(self) -> Self {
        let error = &self.document["error"];
        let Some(message) = error["message"].as_str() else { return self };
        let (detail, hint) = match message.split_once("; ") {
            Some((detail, hint)) => (detail.to_owned(), Some(hint.to_owned())),
            None => (message.to_owned(), None),
        };
        let code = error["code"].as_str().unwrap_or_default().to_owned();
        let document = serde_json::json!({
            "status": self.status, "code": code, "detail": detail, "hint": hint, "field": error["param"],
            "error_id": error["error_id"],
        });
        Self { status: self.status, code, detail, hint, document }
    }
}

impl Hint for Refusal {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl Transport {
    /// Finds the server, or builds the program here. A server that is starting or stopping is waited for briefly. The
    /// settings are those of a program that lives for one command.
    pub async fn open(place: &Place, settings: Settings) -> Result<Self> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if control::connect(&place.data_dir).await.is_ok() {
                return Ok(Self::Socket(place.data_dir.clone()));
            }
            match Holding::take(place) {
                Ok(holding) => {
                    let program = Program::build(holding, settings).await?;
                    return Ok(Self::InProcess(Box::new(program)));
                }
                Err(StorageError::InUse { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The way to the server, if one runs.
    pub async fn to_server(place: &Place) -> Option<Self> {
        let connected = control::connect(&place.data_dir).await;
        connected.is_ok().then(|| Self::Socket(place.data_dir.clone()))
    }

    /// The program, where it is in this process.
    pub fn program(&self) -> Option<&Program> {
        match self {
            Self::Socket(_) => None,
            Self::InProcess(program) => Some(program),
        }
    }

    /// Sends a request and gives the JSON that it is answered with.
    ///
    /// # Errors
    /// [`Refusal`] where the program refuses; others where it cannot be reached or says what cannot be understood.
    pub async fn send(&self, request: Request) -> Result<Value> {
        let (status, body) = match self {
            Self::Socket(data_dir) => send_to_socket(data_dir, request).await?,
            Self::InProcess(program) => send_in_process(program, request).await?,
        };
        let value = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
        match value {
            Ok(value) if status.is_success() => Ok(value),
            Ok(document) => Err(refusal(status, document).into()),
            Err(error) => {
                Err(anyhow!(error).context(format!("the server answered {status} with something that is not JSON")))
            }
        }
    }

    /// Sends a request whose answer comes piece by piece, and hands on each. Gives the headers of the answer.
    ///
    /// # Errors
    /// As [`Transport::send`], and what `take` fails with.
    pub async fn stream(&self, request: Request, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<http::HeaderMap> {
        match self {
            Self::Socket(data_dir) => {
                let (mut sender, connection) = connected(data_dir).await?;
                let exchange = async {
                    let response = sender.send_request(http_request(request)?.map(Full::new)).await.context(LOST)?;
                    pieces(response, &mut take).await
                };
                driven(connection, exchange).await
            }
            Self::InProcess(program) => {
                let response = program.server.owner().oneshot(http_request(request)?.map(Body::from)).await?;
                pieces(response, &mut take).await
            }
        }
    }

    /// Stops what was started for the command.
    pub async fn close(self) {
        if let Self::InProcess(program) = self {
            program.stop().await;
        }
    }
}

const LOST: &str = "the connection to the server was lost";

/// What drives a connection for as long as an answer is awaited.
type Connection = hyper::client::conn::http1::Connection<TokioIo<tokio::net::UnixStream>, Full<Bytes>>;

async fn connected(data_dir: &Path) -> Result<(hyper::client::conn::http1::SendRequest<Full<Bytes>>, Connection)> {
    let stream = control::connect(data_dir).await.context("the server has gone")?;
    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context(LOST)
}

/// The connection has to be driven while the answer is awaited, and is of no use after it.
async fn driven<T>(connection: Connection, exchange: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(io::Error::other(error)).context(LOST),
        },
    }
}

async fn send_to_socket(data_dir: &Path, request: Request) -> Result<(http::StatusCode, Bytes)> {
    let (mut sender, connection) = connected(data_dir).await?;
    let exchange = async {
        let response = sender.send_request(http_request(request)?.map(Full::new)).await.context(LOST)?;
        let status = response.status();
        let body = response.into_body().collect().await.context(LOST)?.to_bytes();
        anyhow::Ok((status, body))
    };
    driven(connection, exchange).await
}

/// Hands on the pieces of an answer, or tells why there is none.
async fn pieces<B>(response: http::Response<B>, take: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<http::HeaderMap>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (head, mut body) = response.into_parts();
    let status = head.status;
    if !status.is_success() {
        let document = body.collect().await.context(LOST)?.to_bytes();
        return Err(refusal(status, serde_json::from_slice(&document).unwrap_or_default()).into());
    }
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.context(LOST)?.into_data() {
            take(&data)?;
        }
    }
    Ok(head.headers)
}

async fn send_in_process(program: &Program, request: Request) -> Result<(http::StatusCode, Bytes)> {
    let response = program.server.owner().oneshot(http_request(request)?.map(Body::from)).await?;
    let status = response.status();
    let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
    Ok((status, body))
}

fn http_request(request: Request) -> Result<http::Request<Bytes>> {
    let Request { method, target, body } = request;
    let body = match body {
        Some(body) => serde_json::to_vec(&body)?.into(),
        None => Bytes::new(),
    };
    http::Request::builder()
        .method(method)
        .uri(target)
        .header(http::header::HOST, "localhost")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .context("the request cannot be written down")
}

fn refusal(status: http::StatusCode, document: Value) -> Refusal {
    let text = |name: &str| document[name].as_str().map(str::to_owned);
    Refusal {
        status: status.as_u16(),
        code: text("code").unwrap_or_default(),
        detail: text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("the server answered {status}")),
        hint: text("hint"),
        document,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_can_be_a_part_of_a_path() {
        assert_eq!(encode("a b/ä?"), "a%20b%2F%C3%A4%3F");
        let request = Request::get("/x").with("a", Some("1&2")).with("b", None).with("c", Some(""));
        assert_eq!(request.target, "/x?a=1%262&c=");
    }

    #[test]
    fn a_refusal_of_openais_shape_reads_as_ours() {
        let error = serde_json::json!({ "error": {
            "message": "no language model is configured; add one with `holdfast providers add`", "type": "server_error",
            "param": null, "code": "no_provider", "error_id": "e1",
        }});
        let refused = refusal(http::StatusCode::SERVICE_UNAVAILABLE, error).of_openai();
        assert_eq!(
            (refused.code.as_str(), refused.to_string().as_str()),
            ("no_provider", "no language model is configured")
        );
        assert_eq!(refused.hint().as_deref(), Some("add one with `holdfast providers add`"));
        assert_eq!(refused.document["error_id"], "e1");
        let own = serde_json::json!({ "code": "overloaded", "detail": "full" });
        assert_eq!(refusal(http::StatusCode::SERVICE_UNAVAILABLE, own).of_openai().code, "overloaded");
    }
}
