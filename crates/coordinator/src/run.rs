//! One turn while it is under way, and the record of it.
//!
//! A [`Record`] collects what happens. However a turn ends, also by being dropped, exactly one `turn_finished` comes of
//! it, and what was reserved for it is settled in the same transaction.

use std::{sync::Arc, time::Instant};

use holdfast_llm::{Answer, AttemptRecord, CallError, Collected, Event, Part, Price, Usage, tokens};
use holdfast_storage::{
    Caller,
    events::{EventLog, NewEvent},
    ledger::{Charge, Ledger, Reserved},
};
use uuid::Uuid;

use crate::record::{
    self, Finished, Outcome, RecordedAttempt, RecordedUsage, Started, TURN_FINISHED, TURN_STARTED, TextPolicy,
};

/// The record of one turn.
pub(crate) struct Record {
    pub(crate) interaction: Uuid,
    log: EventLog,
    ledger: Ledger,
    policy: TextPolicy,
    caller: Arc<str>,
    session: Option<Arc<str>>,
    began: Instant,
    model: Option<String>,
    price: Option<Price>,
    /// What the call under way may cost, and the names it is charged under.
    reserved: Option<(Reserved, Vec<String>)>,
    attempts: Vec<RecordedAttempt>,
    said: Collected,
    first_visible_ms: Option<f64>,
    continued: Vec<(usize, String)>,
    /// Tokens of the question, counted here.
    input_tokens: u64,
    is_over: bool,
}

/// What a record begins with.
pub(crate) struct Beginning<'a> {
    pub(crate) interaction: Uuid,
    pub(crate) log: &'a EventLog,
    pub(crate) ledger: &'a Ledger,
    pub(crate) policy: TextPolicy,
    pub(crate) caller: &'a Caller,
    pub(crate) session: Option<String>,
    pub(crate) began: Instant,
    pub(crate) started: Started,
}

impl Record {
    /// Writes down that the turn begins.
    pub(crate) fn begin(beginning: Beginning<'_>) -> Self {
        let Beginning { interaction, log, ledger, policy, caller, session, began, started } = beginning;
        let record = Self {
            interaction,
            log: log.clone(),
            ledger: ledger.clone(),
            policy,
            caller: caller.id().into(),
            session: session.map(Into::into),
            began,
            model: None,
            price: None,
            reserved: None,
            attempts: Vec::new(),
            said: Collected::default(),
            first_visible_ms: None,
            continued: Vec::new(),
            input_tokens: started.input_tokens,
            is_over: false,
        };
        record.write(record.event(TURN_STARTED, record::body(&started)));
        record
    }

    fn event(&self, kind: &'static str, body: Vec<u8>) -> NewEvent {
        NewEvent {
            id: Uuid::now_v7(),
            kind: kind.into(),
            version: record::VERSION,
            tenant: Arc::clone(&self.caller),
            interaction: Some(self.interaction),
            session: self.session.clone(),
            caller: Arc::clone(&self.caller),
            at_ms: record::now_ms(),
            body,
        }
    }

    fn write(&self, event: NewEvent) {
        // The log counts what it has no room for, and says so.
        drop(self.log.record(event));
    }

    /// Milliseconds since the turn began.
    pub(crate) fn elapsed_ms(&self) -> f64 {
        milliseconds(self.began, Instant::now())
    }

    /// The turn goes to a model now, with that reserved for it.
    pub(crate) fn goes_to(&mut self, model: &str, price: Option<Price>, reserved: Reserved, names: Vec<String>) {
        // What an earlier model that failed had reserved, it did not use.
        self.release();
        self.model = Some(model.to_owned());
        self.price = price;
        self.reserved = Some((reserved, names));
    }

    /// Gives back what was reserved for a model that gave nothing.
    pub(crate) fn release(&mut self) {
        if let Some((reserved, _)) = self.reserved.take() {
            self.ledger.settle_later(reserved, Vec::new(), Vec::new());
        }
    }

    /// Notes calls that were made.
    pub(crate) fn tried(&mut self, model: &str, attempts: &[AttemptRecord], last: Option<&CallError>) {
        for attempt in attempts {
            let kind = attempt.error;
            self.attempts.push(RecordedAttempt {
                model: model.to_owned(),
                started_ms: milliseconds(self.began, attempt.started),
                waited_ms: attempt.waited.as_secs_f64() * 1e3,
                duration_ms: attempt.duration.as_secs_f64() * 1e3,
                outcome: kind.map_or("ok", holdfast_llm::ErrorKind::as_str).to_owned(),
                status: attempt.status,
                reason: last.filter(|last| Some(last.kind) == kind).map(|last| last.reason.clone()),
            });
        }
        if attempts.is_empty()
            && let Some(error) = last
        {
            // The breaker or the queue said no: nobody was called, and that is why.
            self.attempts.push(RecordedAttempt::failed(model, self.elapsed_ms(), 0.0, error));
        }
    }

    /// Notes that a stream that had begun failed.
    pub(crate) fn broke(&mut self, model: &str, error: &CallError) {
        let failed = RecordedAttempt::failed(model, self.elapsed_ms(), 0.0, error);
        self.attempts.push(failed);
    }

    /// How many calls were made.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Notes a piece of the answer.
    pub(crate) fn heard(&mut self, event: &Event) {
        if self.first_visible_ms.is_none() && event.deltas.iter().any(holdfast_llm::Delta::is_visible) {
            self.first_visible_ms = Some(self.elapsed_ms());
        }
        self.said.add(event);
    }

    /// Notes that another model goes on.
    pub(crate) fn continued(&mut self, model: &str) {
        let bytes = self.only_text().map_or(0, |text| text.len());
        self.continued.push((bytes, model.to_owned()));
    }

    /// What was said so far.
    pub(crate) fn said(&self) -> &Collected {
        &self.said
    }

    /// What was said so far, if it is nothing but text: what another model could go on from.
    pub(crate) fn only_text(&self) -> Option<String> {
        let is_text = |part: &Part| matches!(part, Part::Text(_) | Part::Reasoning { .. });
        Some(self.said.text()).filter(|text| !text.is_empty() && self.said.parts.iter().all(is_text))
    }

    fn set(&mut self, answer: &Answer) {
        self.said.parts.clone_from(&answer.parts);
        self.said.finish = Some(answer.finish.clone());
        self.said.usage = answer.usage;
    }

    /// The turn is over, with a whole answer.
    pub(crate) fn answered(mut self, answer: &Answer) {
        self.set(answer);
        self.first_visible_ms = self.first_visible_ms.or_else(|| Some(self.elapsed_ms()));
        self.end(Outcome::Answered);
    }

    /// The turn is over: a kept answer did.
    pub(crate) fn answered_before(mut self, model: &str, answer: &Answer) {
        self.model = Some(model.to_owned());
        self.set(answer);
        self.end(Outcome::Cached);
    }

    /// The turn is over.
    pub(crate) fn over(&mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (usage, is_estimated) = self.usage(outcome);
        let cost = match outcome {
            Outcome::Cached => Some(0),
            _ => self.price.map(|price| price.of(&usage, &Usage::default())),
        };
        let tokens = usage.input_tokens.unwrap_or(0).saturating_add(usage.output_tokens.unwrap_or(0));
        let finished = Finished {
            outcome,
            model: self.model.clone(),
            attempts: std::mem::take(&mut self.attempts),
            finish: self.said.finish.as_ref().map(|finish| finish.as_str().to_owned()),
            usage: RecordedUsage { is_estimated, ..RecordedUsage::from(&usage) },
            cost,
            first_visible_ms: self.first_visible_ms,
            duration_ms: self.elapsed_ms(),
            answer: self.policy.text(&record::words(&self.said.parts)).filter(|_| !self.said.parts.is_empty()),
            continued: std::mem::take(&mut self.continued),
        };
        let event = self.event(TURN_FINISHED, record::body(&finished));
        match self.reserved.take() {
            Some((reserved, models)) => {
                let charge = Charge { cost: cost.unwrap_or(0), tokens, models };
                self.ledger.settle_later(reserved, vec![charge], vec![event]);
            }
            None => self.write(event),
        }
    }

    /// Tokens the turn took. What a provider that began to answer did not tell, is counted here: a stream that was cut has
    /// been paid for as far as it came.
    fn usage(&self, outcome: Outcome) -> (Usage, bool) {
        let mut usage = self.said.usage;
        let began = !self.said.parts.is_empty() || self.said.finish.is_some();
        if outcome == Outcome::Cached || !began {
            return (if outcome == Outcome::Cached { Usage::default() } else { usage }, false);
        }
        let is_estimated = usage.input_tokens.is_none() || usage.output_tokens.is_none();
        if is_estimated {
            usage.input_tokens = usage.input_tokens.or(Some(self.input_tokens));
            let words = record::words(&self.said.parts);
            // Anthropic tells the output so far as it begins, and the rest at the end that did not come.
            let counted = tokens::count_text(&words);
            usage.output_tokens = Some(usage.output_tokens.map_or(counted, |told| told.max(counted)));
        }
        (usage, is_estimated)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Nobody said how it ended: whoever asked is gone.
        self.end(Outcome::Abandoned);
    }
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    // Whole microseconds: more digits are noise.
    (to.saturating_duration_since(from).as_secs_f64() * 1e6).round() / 1e3
}
