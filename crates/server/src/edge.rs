//! Turning away at the door what comes while as many requests are being worked on as may be.
//!
//! Under four times the load a server can bear, three of four requests are refused, and what that costs is taken from
//! those that were let in. So it is done here, before anything is known of a request but its path, with an answer that
//! was written beforehand: only the `error_id` is put in. The gate has the last word all the same, on paths with
//! variables and when the last place is taken in between, and says it in the same words.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
    routing::future::RouteFuture,
};
use futures::{FutureExt, future::Either};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::Service;
use uuid::Uuid;

use crate::{
    Server,
    error::{Shed, note_shed},
    face::Face,
    gate,
    listen::{
        life::{Answer, Life, Paced, Turn},
        redirect::Doorman,
    },
    routes::{self, NEED_NO_PLACE, NOWHERE},
    shield::Shield,
};

/// Who is at the other end of a TCP connection; in the extensions of each of its requests. A request that came over the
/// control socket, or from this very process, has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its address as the system has it, which is a proxy's where one stands in front.
    pub(crate) address: SocketAddr,
    /// Whether the connection is encrypted.
    pub(crate) is_tls: bool,
}

/// The way into the server for the requests of one listener, and of one connection.
#[derive(Clone)]
pub(crate) struct Edge {
    router: Router,
    server: Server,
    refusals: Arc<Refusals>,
    peer: Option<Peer>,
    life: Arc<Life>,
    /// Answers every request, where nothing is served.
    doorman: Option<Doorman>,
}

/// The refusal under load in each shape.
struct Refusals {
    own: Prepared,
    open_ai: Prepared,
    anthropic: Prepared,
    tei: Prepared,
    mcp: Prepared,
}

/// An answer without its ids.
struct Prepared {
    status: StatusCode,
    headers: HeaderMap,
    /// What stands before, between and after them.
    texts: Vec<(String, Id)>,
    end: String,
}

/// What is put into an answer that was written beforehand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Error,
    Request,
}

/// What stands for the request's id meanwhile: no request has it.
const SOME_REQUEST: &str = "{request_id}";

impl Edge {
    pub(crate) fn new(router: Router, server: Server) -> Self {
        let [own, open_ai, anthropic, tei, mcp] =
            [Face::Own, Face::OpenAi, Face::Anthropic, Face::Tei, Face::Mcp].map(Prepared::new);
        let refusals = Arc::new(Refusals { own, open_ai, anthropic, tei, mcp });
        Self { router, server, refusals, peer: None, life: Life::new(None, false), doorman: None }
    }

    /// A way that leads nowhere: the doorman answers.
    pub(crate) fn guarded(server: Server, doorman: Doorman) -> Self {
        Self { doorman: Some(doorman), ..Self::new(Router::new(), server) }
    }

    /// The same way for the requests of one connection.
    pub(crate) fn of_connection(&self, peer: Option<Peer>, life: Arc<Life>) -> Self {
        Self { peer, life, ..self.clone() }
    }

    /// The answer of somebody who does not have to know what is asked for.
    fn at_once(&self, request: &hyper::Request<Incoming>) -> Option<Response> {
        let Some(doorman) = &self.doorman else { return self.refusal(request) };
        let started = Instant::now();
        let mut response = doorman.answer(request);
        gate::id_of(request.headers(), Uuid::now_v7()).put(&mut response, Face::Own);
        gate::record(NOWHERE.path, gate::method(request.method()), &response, started);
        Some(response)
    }

    /// The answer to a request for which there is no place.
    fn refusal(&self, request: &hyper::Request<Incoming>) -> Option<Response> {
        if !self.server.admission().is_full() {
            return None;
        }
        let started = Instant::now();
        let route = routes::find(request.uri().path()).filter(|route| !NEED_NO_PLACE.contains(&route.path))?;
        let prepared = match route.face {
            Face::Own => &self.refusals.own,
            Face::OpenAi => &self.refusals.open_ai,
            Face::Anthropic => &self.refusals.anthropic,
            Face::Tei => &self.refusals.tei,
            Face::Mcp => &self.refusals.mcp,
        };
        let id = Uuid::now_v7();
        note_shed(id);
        let request_id = gate::id_of(request.headers(), id);
        let mut response = prepared.with(id, &request_id.to_string());
        // What comes after a body in chunks may be read differently by others: the connection ends with it, as it does
        // behind the gate.
        if request.headers().contains_key(header::TRANSFER_ENCODING) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        request_id.put(&mut response, route.face);
        gate::record(route.path, gate::method(request.method()), &response, started);
        Some(response)
    }
}

impl hyper::service::Service<hyper::Request<Incoming>> for Edge {
    type Response = hyper::Response<Answer>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Self::Response, Infallible>>, Routed>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        let turn = self.life.begin(self.server.bodies().hold());
        if let Some(response) = self.at_once(&request) {
            return Either::Left(ready(Ok(response.map(|body| Answer::new(body, turn)))));
        }
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        request.extensions_mut().insert(turn.clone());
        let grace = self.server.config().body_timeout;
        let request = request.map(|body| Paced::new(body, turn.clone(), grace));
        Either::Right(Routed { answering: self.router.clone().call(request), turn })
    }
}

pin_project! {
    /// An answer that is being made.
    pub(crate) struct Routed {
        #[pin]
        answering: RouteFuture<Infallible>,
        turn: Turn,
    }
}

impl Future for Routed {
    type Output = Result<hyper::Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = std::task::ready!(this.answering.poll(context));
        let turn = this.turn.clone();
        Poll::Ready(Ok(response.map(|body| Answer::new(body, turn))))
    }
}

impl Prepared {
    fn new(face: Face) -> Self {
        let id = Uuid::nil();
        let (parts, body) = face.reshape(gate::full().called(id).unreported(), SOME_REQUEST).into_parts();
        // What is written already is there at once.
        let body = body.collect().now_or_never().and_then(Result::ok).unwrap_or_default().to_bytes();
        let text = String::from_utf8_lossy(&body);
        let (mut texts, mut rest) = (Vec::new(), &*text);
        let id = id.simple().to_string();
        while let Some((at, length, which)) = next_id(rest, &id) {
            texts.push((rest[..at].to_owned(), which));
            rest = &rest[at + length..];
        }
        let mut headers = parts.headers;
        // None of these routes is a page.
        Shield::of_route("").put_fixed(&mut headers);
        Self { status: parts.status, headers, texts, end: rest.to_owned() }
    }

    fn with(&self, id: Uuid, request_id: &str) -> Response {
        let mut buffer = Uuid::encode_buffer();
        let error_id = &*id.simple().encode_lower(&mut buffer);
        let mut body = String::with_capacity(512);
        for (text, id) in &self.texts {
            body.push_str(text);
            body.push_str(match id {
                Id::Error => error_id,
                Id::Request => request_id,
            });
        }
        body.push_str(&self.end);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        response.extensions_mut().insert(Shed);
        response
    }
}

/// Where the next id has to be put in, how long that is which stands for it, and which one it is.
fn next_id(text: &str, error_id: &str) -> Option<(usize, usize, Id)> {
    let error = text.find(error_id).map(|at| (at, error_id.len(), Id::Error));
    let request = text.find(SOME_REQUEST).map(|at| (at, SOME_REQUEST.len(), Id::Request));
    error.into_iter().chain(request).min_by_key(|(at, ..)| *at)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn what_is_prepared_is_what_the_gate_would_say() {
        for face in [Face::Own, Face::OpenAi, Face::Anthropic, Face::Tei, Face::Mcp] {
            let id = Uuid::now_v7();
            let mut said = face.reshape(gate::full().called(id).unreported(), "one-request");
            Shield::of_route("").put(&mut said);
            let prepared = Prepared::new(face).with(id, "one-request");
            assert_eq!((said.status(), said.headers()), (prepared.status(), prepared.headers()), "{face:?}");
            let [said, prepared] = [said, prepared].map(Response::into_body).map(BodyExt::collect);
            let (said, prepared) = (said.await.unwrap().to_bytes(), prepared.await.unwrap().to_bytes());
            assert_eq!(said, prepared, "{face:?}");
            assert!(said.windows(32).any(|part| part == id.simple().to_string().as_bytes()), "{face:?}");
            serde_json::from_slice::<Value>(&prepared).unwrap();
        }
    }
}
