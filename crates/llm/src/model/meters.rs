//! What is counted of a model's calls.
//!
//! Names of models come from settings and outcomes are a closed list, so there are only so many series.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_resilience::breaker::State;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{Shared, now};
use crate::{ErrorKind, Usage};

/// An attempt that ended as it should.
const OK: &str = "ok";

/// The metrics of one model.
pub(super) struct Meters {
    model: String,
    /// The outcome of nearly all.
    ok: Counter,
    duration: Histogram,
    first_event: Histogram,
    retries: Counter,
    breaker: Gauge,
    tokens: [Counter; 5],
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Meters {
    pub(super) fn new(model: &str) -> Self {
        let name = || model.to_owned();
        let tokens = |kind: &'static str| counter!("holdfast_llm_tokens_total", "model" => name(), "kind" => kind);
        Self {
            ok: counter!("holdfast_llm_calls_total", "model" => name(), "outcome" => OK),
            duration: histogram!("holdfast_llm_call_duration_seconds", "model" => name()),
            first_event: histogram!("holdfast_llm_first_event_seconds", "model" => name()),
            retries: counter!("holdfast_llm_retries_total", "model" => name()),
            breaker: gauge!("holdfast_llm_breaker_state", "model" => name()),
            tokens: ["input", "output", "cached_input", "cache_write", "reasoning"].map(tokens),
            model: name(),
        }
    }

    /// A call that came to no attempt.
    pub(super) fn refused(&self, kind: ErrorKind) {
        self.outcome(kind.as_str()).increment(1);
    }

    pub(super) fn retried(&self) {
        self.retries.increment(1);
    }

    pub(super) fn first_event(&self, after: Duration) {
        self.first_event.record(after.as_secs_f64());
    }

    pub(super) fn breaker(&self, state: State) {
        self.breaker.set(f64::from(state.number()));
    }

    fn outcome(&self, outcome: &'static str) -> Counter {
        counter!("holdfast_llm_calls_total", "model" => self.model.clone(), "outcome" => outcome)
    }

    fn spent(&self, usage: &Usage) {
        let kinds = [
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_input_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        ];
        for (counter, tokens) in self.tokens.iter().zip(kinds) {
            counter.increment(tokens.unwrap_or(0));
        }
    }

    /// An attempt is over.
    fn ended(&self, outcome: Option<ErrorKind>, took: Duration, usage: &Usage) {
        match outcome {
            None => self.ok.increment(1),
            Some(kind) => self.outcome(kind.as_str()).increment(1),
        }
        self.duration.record(took.as_secs_f64());
        self.spent(usage);
    }
}

/// Counts one attempt, also where it is dropped before its end.
pub(super) struct Metered {
    shared: Arc<Shared>,
    started: Instant,
    /// What was told of tokens so far.
    pub(super) usage: Usage,
    is_over: bool,
}

impl Metered {
    pub(super) fn start(shared: Arc<Shared>, started: Instant) -> Self {
        Self { shared, started, usage: Usage::default(), is_over: false }
    }

    pub(super) fn ended(&mut self, error: Option<ErrorKind>) {
        if !std::mem::replace(&mut self.is_over, true) {
            let took = now().saturating_duration_since(self.started);
            self.shared.meters.ended(error, took, &self.usage);
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.ended(Some(ErrorKind::Cancelled));
    }
}
