//! What every request passes, from the outside in: admitted, observed, caught when it panics, found to be meant for this
//! server (`site`), let in (`access`), timed. Every answer is shielded (`shield`) on its way out.
//!
//! One function wraps the whole router, fallbacks included, so nothing is reachable beside it. Bodies, query strings
//! and keys appear in no log line, span or metric made here.

use std::{any::Any, fmt, time::Instant};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use holdfast_resilience::admission::Permit;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use crate::{
    Server, access,
    error::{Code, Failure, SOMETHING_WENT_WRONG, Shed},
    face::Face,
    routes::{self, Entry, NEED_NO_PLACE, Patience},
    shield::Shield,
    site,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The longest request id that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// The route in logs and metrics of a request that matched none.
pub(crate) const NO_ROUTE: &str = "none";

/// Puts a router behind the gate.
pub(crate) fn wrap(router: Router<Server>, server: &Server, entry: Entry) -> Router {
    // The last layer is the outermost.
    router
        .layer(from_fn_with_state(server.clone(), time))
        .layer(from_fn_with_state((server.clone(), entry), access::check))
        .layer(from_fn_with_state((server.clone(), entry), site::check))
        .layer(CatchPanicLayer::custom(on_panic))
        .layer(from_fn_with_state(server.clone(), observe))
        .with_state(server.clone())
}

/// Names a request in every line that is about it; in the extensions of each.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// The client's own where it is harmless, else a new one.
    fn of(headers: &HeaderMap) -> Self {
        Self::given(headers).unwrap_or_else(|| Self(Uuid::now_v7().simple().to_string()))
    }

    fn given(headers: &HeaderMap) -> Option<Self> {
        let sane = |id: &&str| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        };
        let given = headers.get(&REQUEST_ID)?.to_str().ok();
        given.filter(sane).map(|id| Self(id.to_owned()))
    }

    /// Names the request that a response is to, also where clients of that API look for it.
    pub(crate) fn put(&self, response: &mut Response, face: Face) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            if face == Face::Anthropic {
                response.headers_mut().insert(ANTHROPIC_REQUEST_ID, value.clone());
            }
            response.headers_mut().insert(REQUEST_ID, value);
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The trace a request belongs to: W3C Trace Context, section 3.2, version 00.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(&TRACEPARENT)?.to_str().ok()?;
    let mut parts = value.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let valid = version.len() == 2 && hex(version) && version != "ff" && trace.len() == 32 && hex(trace);
    (valid && trace.bytes().any(|byte| byte != b'0')).then_some(trace)
}

/// The headers by which whoever is asked on behalf of a request makes that a part of its trace.
pub(crate) fn trace(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    if trace_id(headers).is_none() {
        return Vec::new();
    }
    let header = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let [parent, state] = [("traceparent", &TRACEPARENT), ("tracestate", &TRACESTATE)];
    [parent, state].into_iter().filter_map(|(name, known)| Some((name, header(known)?))).collect()
}

/// The request as it may be shown: its template, not its path.
pub(crate) fn route(request: &Request) -> &'static str {
    let matched = request.extensions().get::<MatchedPath>();
    matched.and_then(|path| routes::find(path.as_str())).map_or(NO_ROUTE, |route| route.path)
}

/// Clients may invent methods, and a metric's labels are bounded.
pub(crate) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Counts a request for as long as it is worked on, also when its client goes away.
struct InFlight;

impl InFlight {
    fn enter() -> Self {
        metrics::gauge!("holdfast_http_requests_in_flight").increment(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("holdfast_http_requests_in_flight").decrement(1.0);
    }
}

/// Lets in as many requests at once as may be, and writes down how each ended. What is turned away costs as little as it
/// can; whoever had to wait for that would find others turned away too.
async fn observe(State(server): State<Server>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let (route, method) = (route(&request), method(request.method()));
    let shield = Shield::of(&request, route);
    let mut response = match enter(&server, route) {
        Ok(_place) => serve(&server, &id, (route, method), started, request, next).await,
        Err(refused) => {
            let response = shape(route, refused.into_response(), &id);
            record(route, method, &response, started);
            response
        }
    };
    id.put(&mut response, face(route));
    shield.put(&mut response);
    response
}

/// A place among those that are worked on. Probes and metrics need none: they are asked most when it is full.
fn enter(server: &Server, route: &'static str) -> Result<Option<Permit>, Failure> {
    if NEED_NO_PLACE.contains(&route) {
        return Ok(None);
    }
    server.admission().try_enter().map(Some).map_err(|_| full())
}

/// What is said where there is no place.
pub(crate) fn full() -> Failure {
    Failure::new(Code::Overloaded, "as many requests are being worked on as may be")
}

/// The id of a request: as its client names it, or else `otherwise`.
pub(crate) fn id_of(headers: &HeaderMap, otherwise: Uuid) -> RequestId {
    RequestId::given(headers).unwrap_or_else(|| RequestId(otherwise.simple().to_string()))
}

fn shape(route: &'static str, response: Response, id: &RequestId) -> Response {
    face(route).reshape(response, &id.0)
}

fn face(route: &str) -> Face {
    routes::find(route).map_or(Face::Own, |route| route.face)
}

/// Works on a request in a span of its own.
async fn serve(
    server: &Server,
    id: &RequestId,
    (route, method): (&'static str, &'static str),
    started: Instant,
    mut request: Request,
    next: Next,
) -> Response {
    let span = tracing::info_span!("request", request_id = %id, method, route, trace_id = Empty, status = Empty);
    join_trace(server, &span, request.headers());
    // MCP answers in a task of its own, and streams go on after their headers: they have to find their way back to this.
    request.extensions_mut().insert(span.clone());
    request.extensions_mut().insert(id.clone());

    let in_flight = InFlight::enter();
    let response = shape(route, next.run(request).instrument(span.clone()).await, id);
    drop(in_flight);
    span.record("status", response.status().as_u16());
    span.in_scope(|| record(route, method, &response, started));
    response
}

/// Makes a request part of the trace that its headers name, or of a new one, and notes which that is where it is kept
/// or where the client named it.
fn join_trace(server: &Server, span: &Span, headers: &HeaderMap) {
    let header = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let named = trace_id(headers);
    let kept = server.tracing().and_then(|tracing| {
        let parent = named.and_then(|_| header(&TRACEPARENT));
        tracing.join(span, parent, header(&TRACESTATE))
    });
    if let Some(trace) = kept.as_deref().or(named) {
        span.record("trace_id", trace);
    }
}

pub(crate) fn record(route: &'static str, method: &'static str, response: &Response, started: Instant) {
    let (status, took) = (response.status(), started.elapsed());
    let class = match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics::counter!("holdfast_http_requests_total", "route" => route, "method" => method, "status" => class)
        .increment(1);
    metrics::histogram!("holdfast_http_request_duration_seconds", "route" => route).record(took.as_secs_f64());
    let (status, duration_ms) = (status.as_u16(), took.as_millis() as u64);
    // What went as it should is in the metrics; the log is for what did not. Refusals under load would fill it: the error
    // table sums them up.
    if status < 400 || response.extensions().get::<Shed>().is_some() {
        tracing::debug!(status, duration_ms, "{method} {route} answered {status} in {duration_ms} ms");
    } else {
        tracing::info!(status, duration_ms, "{method} {route} answered {status} in {duration_ms} ms");
    }
}

/// The process survives a defect in a handler, and the client hears of it.
fn on_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    panicked(panic.as_ref()).into_response()
}

/// What a panic is to the caller; its message is for the log.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    Failure::new(Code::Internal, SOMETHING_WENT_WRONG).cause(format!("a handler panicked: {message}"))
}

/// Works on a request for so long.
async fn time(State(server): State<Server>, request: Request, next: Next) -> Result<Response, Failure> {
    let deadline = match routes::find(route(&request)).map(|route| route.patience) {
        Some(Patience::Long) => server.config().long_request_timeout,
        Some(Patience::Usual) | None => server.config().request_timeout,
    };
    tokio::time::timeout(deadline, next.run(request))
        .await
        .map_err(|_| Failure::new(Code::DeadlineExceeded, format!("not finished within {} s", deadline.as_secs_f32())))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failed_request_and_no_more() {
        async fn defect() {
            panic!("the secret reason")
        }
        let router = Router::new().route("/", get(defect)).layer(CatchPanicLayer::custom(on_panic));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let told = String::from_utf8_lossy(&body);
        assert!(told.contains("\"internal\"") && !told.contains("secret"), "{told}");
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_sane_request_id_is_kept_and_another_replaced() {
        let kept = |id: &str| RequestId::of(&headers("x-request-id", id)).0 == id;
        assert!(kept("a-B_9.:"));
        for id in ["", "a b", "a\"b", "<script>", &"x".repeat(129)] {
            assert!(!kept(id), "{id:?}");
        }
        assert_eq!(RequestId::of(&HeaderMap::new()).0.len(), 32);
    }

    #[test]
    fn only_a_valid_trace_parent_is_honoured() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let of = |value: &str| trace_id(&headers("traceparent", value)).map(str::to_owned);
        assert_eq!(of(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        for value in ["", "00", &format!("ff-{trace}-x-01"), &format!("00-{}-x-01", "0".repeat(32)), "00-XY-z-01"] {
            assert_eq!(of(value), None, "{value}");
        }
    }
}
