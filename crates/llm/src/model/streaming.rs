//! An answer that is streamed, with all that has to be kept until it ends.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    vec,
};

use futures::Stream;
use holdfast_resilience::breaker::OwnedAttempt;
use tracing::Span;

use super::{
    Shared,
    attempt::{PlaceOfCall, answered, failed},
    meters::Metered,
};
use crate::{CallError, Delta, Event, EventStream, Finish};

/// Tells breaker, metrics and span how the answer ended. Dropped before its end, it tells the breaker nothing.
pub(super) struct Streaming {
    /// What was read before it was handed on.
    seen: vec::IntoIter<Event>,
    rest: EventStream,
    under_way: Option<UnderWay>,
}

/// What is kept until the end.
struct UnderWay {
    shared: Arc<Shared>,
    passed: OwnedAttempt,
    metered: Metered,
    span: Span,
    finish: Option<Finish>,
    _place: PlaceOfCall,
}

impl Streaming {
    pub(super) fn new(
        seen: Vec<Event>,
        rest: EventStream,
        shared: Arc<Shared>,
        passed: OwnedAttempt,
        metered: Metered,
        span: Span,
        place: PlaceOfCall,
    ) -> Self {
        let under_way = UnderWay { shared, passed, metered, span, finish: None, _place: place };
        Self { seen: seen.into_iter(), rest, under_way: Some(under_way) }
    }

    /// Takes note of a piece; whether it is the last.
    fn note(&mut self, event: &Event) -> bool {
        let Some(under_way) = &mut self.under_way else { return true };
        for delta in &event.deltas {
            match delta {
                Delta::Usage(usage) => under_way.metered.usage.update(usage),
                Delta::Finish(finish) => under_way.finish = Some(finish.clone()),
                Delta::End => return true,
                _ => (),
            }
        }
        false
    }

    fn ended(&mut self, error: Option<&CallError>) {
        let Some(mut under_way) = self.under_way.take() else { return };
        under_way.metered.ended(error.map(|error| error.kind));
        match &under_way.finish {
            Some(finish) if error.is_none() => answered(&under_way.span, finish, &under_way.metered.usage),
            _ => failed(&under_way.shared, &under_way.span, error),
        }
        under_way.shared.judge(under_way.passed, error);
    }
}

impl Stream for Streaming {
    type Item = Result<Event, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.under_way.is_none() {
            return Poll::Ready(None);
        }
        let next = match this.seen.next() {
            Some(event) => Some(Ok(event)),
            None => ready!(this.rest.as_mut().poll_next(cx)),
        };
        match &next {
            Some(Ok(event)) => {
                if this.note(event) {
                    this.ended(None);
                }
            }
            Some(Err(error)) => this.ended(Some(error)),
            None => this.ended(None),
        }
        Poll::Ready(next)
    }
}
