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
    routes::{self, NEED_NO_PLACE},
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
    tei: Prepared,
    mcp: Prepared,
}

/// An answer without its `error_id`.
struct Prepared {
    status: StatusCode,
    headers: HeaderMap,
    before_id: String,
    after_id: String,
}

impl Edge {
    pub(crate) fn new(router: Router, server: Server) -> Self {
        let [own, open_ai, tei, mcp] = [Face::Own, Face::OpenAi, Face::Tei, Face::Mcp].map(Prepared::new);
        let refusals = Arc::new(Refusals { own, open_ai, tei, mcp });
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
        gate::identify(request.headers(), Uuid::now_v7(), &mut response);
        gate::record(gate::NO_ROUTE, gate::method(request.method()), &response, started);
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
            Face::Tei => &self.refusals.tei,
            Face::Mcp => &self.refusals.mcp,
        };
        let id = Uuid::now_v7();
        note_shed(id);
        let mut response = prepared.with(id);
        // What comes after a body in chunks may be read differently by others: the connection ends with it, as it does
        // behind the gate.
        if request.headers().contains_key(header::TRANSFER_ENCODING) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        gate::identify(request.headers(), id, &mut response);
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
        let (parts, body) = face.reshape(gate::full().called(id).unreported()).into_parts();
        // What is written already is there at once.
        let body = body.collect().now_or_never().and_then(Result::ok).unwrap_or_default().to_bytes();
        let text = String::from_utf8_lossy(&body);
        let (before, after) = text.split_once(&id.simple().to_string()).unwrap_or((&text, ""));
        let mut headers = parts.headers;
        // None of these routes is a page.
        Shield::of_route("").put_fixed(&mut headers);
        Self { status: parts.status, headers, before_id: before.to_owned(), after_id: after.to_owned() }
    }

    fn with(&self, id: Uuid) -> Response {
        let mut buffer = Uuid::encode_buffer();
        let body = [&*self.before_id, id.simple().encode_lower(&mut buffer), &*self.after_id].concat();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        response.extensions_mut().insert(Shed);
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn what_is_prepared_is_what_the_gate_would_say() {
        for face in [Face::Own, Face::OpenAi, Face::Tei, Face::Mcp] {
            let id = Uuid::now_v7();
            let mut said = face.reshape(gate::full().called(id).unreported());
            Shield::of_route("").put(&mut said);
            let prepared = Prepared::new(face).with(id);
            assert_eq!((said.status(), said.headers()), (prepared.status(), prepared.headers()), "{face:?}");
            let [said, prepared] = [said, prepared].map(Response::into_body).map(BodyExt::collect);
            let (said, prepared) = (said.await.unwrap().to_bytes(), prepared.await.unwrap().to_bytes());
            assert_eq!(said, prepared, "{face:?}");
            assert!(said.windows(32).any(|part| part == id.simple().to_string().as_bytes()), "{face:?}");
            serde_json::from_slice::<Value>(&prepared).unwrap();
        }
    }
}
