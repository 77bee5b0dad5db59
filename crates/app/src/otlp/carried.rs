//! The trace that a request came with, kept with its span and passed on as it came.
//!
//! For a process that keeps no traces itself: W3C Trace Context, section 3.2, lets such a one forward what it received.

use tracing::Span;
use tracing_subscriber::{Registry, registry::LookupSpan};

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    traceparent: String,
    tracestate: Option<String>,
}

impl Carried {
    /// Keeps what a request came with.
    pub(super) fn put(span: &Span, traceparent: &str, tracestate: Option<&str>) {
        let carried = Self { traceparent: traceparent.to_owned(), tracestate: tracestate.map(str::to_owned) };
        span.with_subscriber(|(id, dispatch)| {
            if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id)) {
                span.extensions_mut().replace(carried);
            }
        });
    }

    /// What the request came with that a span is within.
    pub(super) fn of(span: &Span) -> Option<Self> {
        let found = span.with_subscriber(|(id, dispatch)| {
            let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
            span.scope().find_map(|span| span.extensions().get::<Self>().cloned())
        });
        found.flatten()
    }

    pub(super) fn into_headers(self) -> Vec<(&'static str, String)> {
        let state = self.tracestate.map(|state| ("tracestate", state));
        [("traceparent", self.traceparent)].into_iter().chain(state).collect()
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn what_a_request_came_with_is_found_from_within() {
        let subscriber =
            tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_writer(std::io::sink));
        tracing::subscriber::with_default(subscriber, || {
            let request = tracing::info_span!("request");
            let call = tracing::info_span!(parent: &request, "call");
            assert_eq!(Carried::of(&call), None);
            Carried::put(&request, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("a=b"));
            let headers = Carried::of(&call).unwrap().into_headers();
            assert_eq!(headers[0].0, "traceparent");
            assert_eq!(headers[1], ("tracestate", "a=b".to_owned()));
            assert_eq!(Carried::of(&tracing::info_span!("other")), None);
        });
    }
}
