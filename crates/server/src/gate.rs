//! What every request passes, from the outside in: admitted, observed, caught when it panics, found to be meant for this
//! server (`site`), let in (`access`), timed. Every answer is shielded (`shield`) on its way out.
//!
//! One function wraps the whole router, fallbacks included, so nothing is reachable beside it. It is one layer too: each
//! of its own would box the request's future anew and be polled through. Bodies, query strings and keys appear in no log
//! line, span or metric made here.

use std::{any::Any, fmt, panic::AssertUnwindSafe, time::Instant};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use holdfast_resilience::admission::Permit;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use crate::{
    Server, access,
    error::{Code, Failure, SOMETHING_WENT_WRONG, Shed},
    face::Face,
    routes::{self, Entry, NEED_NO_PLACE, NOWHERE, Patience, Route},
    shield::Shield,
    site,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The longest request id that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Puts a router behind the gate.
pub(crate) fn wrap(router: Router<Server>, server: &Server, entry: Entry) -> Router {
    router.layer(from_fn_with_state((server.clone(), entry), pass)).with_state(server.clone())
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

/// Where a request leads. It is shown as its template, not as its path.
fn route(request: &Request) -> &'static Route {
    let matched = request.extensions().get::<MatchedPath>();
    matched.and_then(|path| routes::find(path.as_str())).unwrap_or(&NOWHERE)
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
async fn pass(State((server, entry)): State<(Server, Entry)>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let (route, method) = (route(&request), method(request.method()));
    let shield = Shield::of(&request, route.path);
    let mut response = match enter(&server, route) {
        Ok(_place) => serve((&server, entry), &id, (route, method), started, request, next).await,
        Err(refused) => {
            let response = route.face.reshape(refused.into_response(), &id.0);
            record(route.path, method, &response, started);
            response
        }
    };
    id.put(&mut response, route.face);
    shield.put(&mut response);
    response
}

/// A place among those that are worked on. Probes and metrics need none: they are asked most when it is full.
fn enter(server: &Server, route: &Route) -> Result<Option<Permit>, Failure> {
    if NEED_NO_PLACE.contains(&route.path) {
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

/// Works on a request in a span of its own.
async fn serve(
    (server, entry): (&Server, Entry),
    id: &RequestId,
    (route, method): (&'static Route, &'static str),
    started: Instant,
    mut request: Request,
    next: Next,
) -> Response {
    let path = route.path;
    let span = tracing::info_span!("request", request_id = %id, method, route = path, trace_id = Empty, status = Empty);
    join_trace(server, &span, request.headers());
    // MCP answers in a task of its own, and streams go on after their headers: they have to find their way back to this.
    request.extensions_mut().insert(span.clone());
    request.extensions_mut().insert(id.clone());

    let in_flight = InFlight::enter();
    let answering = survived(admitted(server, entry, route, request, next));
    let response = route.face.reshape(answering.instrument(span.clone()).await, &id.0);
    drop(in_flight);
    span.record("status", response.status().as_u16());
    span.in_scope(|| record(path, method, &response, started));
    response
}

/// Works on a request that is meant for this server, for whoever may ask for it.
async fn admitted(server: &Server, entry: Entry, route: &'static Route, request: Request, next: Next) -> Response {
    let page = match site::check(server, entry, route, &request) {
        Ok(page) => page,
        Err(refused) => return refused.into_response(),
    };
    let mut response = match page.preflight(route, &request) {
        Some(response) => response,
        None => {
            access::check((server, entry), route, request, async |request| time(server, route, request, next).await)
                .await
                .unwrap_or_else(IntoResponse::into_response)
        }
    };
    page.put(&mut response);
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
async fn survived(answering: impl Future<Output = Response>) -> Response {
    // A handler leaves nothing half done that others share, or the lock that guards it says so.
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    answered.unwrap_or_else(|panic| panicked(panic.as_ref()).into_response())
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
async fn time(server: &Server, route: &Route, request: Request, next: Next) -> Result<Response, Failure> {
    let deadline = match route.patience {
        Patience::Long => server.config().long_request_timeout,
        Patience::Usual => server.config().request_timeout,
    };
    tokio::time::timeout(deadline, next.run(request))
        .await
        .map_err(|_| Failure::new(Code::DeadlineExceeded, format!("not finished within {} s", deadline.as_secs_f32())))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failed_request_and_no_more() {
        let response = survived(async { panic!("the secret reason") }).await;
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
