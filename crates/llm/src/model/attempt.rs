//! One attempt: let through by the breaker, told to it, counted and traced.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use holdfast_resilience::{breaker::OwnedAttempt, queue::Place};
use tracing::{Instrument, Span, field::Empty};

use super::{AttemptRecord, Shared, meters::Metered, now, streaming::Streaming};
use crate::{Answer, Call, CallError, Delta, Event, EventStream, Finish, Usage};

/// Events that are read before one of them is visible take at most so many bytes; then what there is is handed on.
const UNSEEN_BYTES_MAX: usize = 1 << 20;

/// What an attempt has.
pub(super) struct Attempted {
    pub(super) shared: Arc<Shared>,
    pub(super) call: Call,
    pub(super) passed: OwnedAttempt,
    pub(super) place: PlaceOfCall,
    pub(super) waited: Duration,
}

/// An attempt that failed. What the breaker makes of it depends on whether there is another.
pub(super) struct Failed {
    pub(super) error: CallError,
    pub(super) passed: OwnedAttempt,
}

/// The place of a call among those of its model.
pub(super) type PlaceOfCall = Arc<Place>;

impl Attempted {
    pub(super) async fn complete(self) -> (Result<Answer, Failed>, AttemptRecord) {
        let Self { shared, call, passed, place: _place, waited } = self;
        let span = span(&shared);
        let started = now();
        let mut metered = Metered::start(Arc::clone(&shared), started);
        let outcome = shared.provider.complete(&call).instrument(span.clone()).await;
        if let Ok(answer) = &outcome {
            metered.usage = answer.usage;
            answered(&span, &answer.finish, &answer.usage);
        }
        let error = outcome.as_ref().err();
        metered.ended(error.map(|error| error.kind));
        failed(&shared, &span, error);
        let duration = now().saturating_duration_since(started);
        let record = record(error, started, duration, waited);
        match outcome {
            Ok(answer) => {
                shared.judge(passed, None);
                (Ok(answer), record)
            }
            Err(error) => (Err(Failed { error, passed }), record),
        }
    }

    pub(super) async fn stream(self) -> (Result<EventStream, Failed>, AttemptRecord) {
        let Self { shared, call, mut passed, place, waited } = self;
        let span = span(&shared);
        let started = now();
        let mut metered = Metered::start(Arc::clone(&shared), started);
        let begun = begin(&shared, &call).instrument(span.clone()).await;
        let duration = now().saturating_duration_since(started);
        match begun {
            Ok((seen, rest)) => {
                shared.meters.first_event(duration);
                // It answers, so nobody else need wait for this answer's end.
                passed.answered();
                shared.show();
                let streaming = Streaming::new(seen, rest, shared, passed, metered, span, place);
                let record = record(None, started, duration, waited);
                (Ok(Box::pin(streaming) as EventStream), record)
            }
            Err(error) => {
                metered.ended(Some(error.kind));
                failed(&shared, &span, Some(&error));
                let record = record(Some(&error), started, duration, waited);
                (Err(Failed { error, passed }), record)
            }
        }
    }
}

/// Asks for a stream, and reads it up to its first visible piece, or its end where it has none.
async fn begin(shared: &Shared, call: &Call) -> Result<(Vec<Event>, EventStream), CallError> {
    let mut stream = shared.provider.stream(call).await?;
    let mut seen = Vec::new();
    let mut bytes = 0;
    while let Some(event) = stream.next().await {
        let event = event?;
        let is_seen = |delta: &Delta| delta.is_visible() || matches!(delta, Delta::Finish(_) | Delta::End);
        let is_enough = event.deltas.iter().any(is_seen);
        bytes += event.frame.as_ref().map_or(0, |frame| frame.len()) + size_of::<Event>();
        seen.push(event);
        if is_enough || bytes > UNSEEN_BYTES_MAX {
            break;
        }
    }
    Ok((seen, stream))
}

fn record(
    error: Option<&CallError>,
    started: std::time::Instant,
    duration: Duration,
    waited: Duration,
) -> AttemptRecord {
    AttemptRecord {
        started,
        duration,
        error: error.map(|error| error.kind),
        status: error.map_or(Some(200), |error| error.status),
        waited,
    }
}

fn span(shared: &Shared) -> Span {
    tracing::info_span!(
        "chat",
        model = shared.spec.name,
        provider = shared.spec.provider,
        upstream = shared.spec.upstream,
        peer = shared.provider.peer(),
        status = Empty,
        error = Empty,
        finish = Empty,
        input_tokens = Empty,
        output_tokens = Empty,
    )
}

/// Notes in a span how the answer ended.
pub(super) fn answered(span: &Span, finish: &Finish, usage: &Usage) {
    span.record("status", 200_u16);
    span.record("finish", finish.as_str());
    if let Some(tokens) = usage.input_tokens {
        span.record("input_tokens", tokens);
    }
    if let Some(tokens) = usage.output_tokens {
        span.record("output_tokens", tokens);
    }
}

/// Notes a failure in the span, and in the log where it is the provider's: what is wrong with a request is told by whoever
/// answers it.
pub(super) fn failed(shared: &Shared, span: &Span, error: Option<&CallError>) {
    let Some(error) = error else { return };
    if let Some(status) = error.status {
        span.record("status", status);
    }
    span.record("error", error.kind.as_str());
    if error.kind.is_failure() {
        let (name, kind, words) = (&shared.spec.name, error.kind.as_str(), error.words.as_deref());
        tracing::warn!(model = name, error = kind, words, "a call of the model {name} failed: {}", error.reason);
    }
}
