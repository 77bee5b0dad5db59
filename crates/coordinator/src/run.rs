//! One turn while it is under way, and the record of it.
//!
//! A [`Record`] collects what happens. However a turn ends, also by being dropped, exactly one `turn_finished` comes of
//! it, and what was reserved for it is settled in the same transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use holdfast_llm::{Answer, AttemptRecord, CallError, Collected, Event, Part, Price, Usage, tokens};
use holdfast_storage::{
    Caller,
    events::{EventLog, NewEvent},
    ledger::{Charge, Ledger, Reserved},
};
use uuid::Uuid;

use crate::record::{
    self, Finished, Outcome, RecordedAttempt, RecordedUsage, Started, TURN_FINISHED, TURN_STARTED, TextPolicy, Turns,
};

/// The record of one turn.
pub(crate) struct Record {
    pub(crate) interaction: Uuid,
    log: EventLog,
    ledger: Ledger,
    turns: Turns,
    policy: TextPolicy,
    caller: Arc<str>,
    session: Option<Arc<str>>,
    began: Instant,
    /// The model that answers, or was the last to be asked.
    model: Option<String>,
    /// The call under way.
    call: Option<Call>,
    /// Calls that took something and are over.
    taken: Vec<Taken>,
    attempts: Vec<RecordedAttempt>,
    said: Collected,
    first_visible_ms: Option<f64>,
    continued: Vec<(usize, String)>,
    /// Whose stream broke.
    spoke: Option<String>,
    /// Tokens of the question, counted here.
    input_tokens: u64,
    /// Tokens of what models had said before the one that goes on.
    told_before: u64,
    is_over: bool,
}

/// A call of a model, and what it is charged under.
pub(crate) struct Call {
    pub(crate) model: String,
    pub(crate) price: Option<Price>,
    pub(crate) reserved: Reserved,
    /// The words that budgets know it by.
    pub(crate) names: Vec<String>,
    /// The most that it may cost, and tokens that it may take.
    pub(crate) most: (Option<u64>, u64),
    /// Whether anything was sent to the provider.
    pub(crate) is_sent: Arc<AtomicBool>,
}

/// What a call took.
struct Taken {
    reserved: Reserved,
    charge: Charge,
    usage: Usage,
    is_estimated: bool,
    cost: Option<u64>,
}

/// What a record begins with.
pub(crate) struct Beginning<'a> {
    pub(crate) interaction: Uuid,
    pub(crate) log: &'a EventLog,
    pub(crate) ledger: &'a Ledger,
    pub(crate) turns: &'a Turns,
    pub(crate) policy: TextPolicy,
    pub(crate) caller: &'a Caller,
    pub(crate) session: Option<String>,
    pub(crate) began: Instant,
    pub(crate) started: Started,
}

impl Record {
    /// Writes down that the turn begins.
    pub(crate) fn begin(beginning: Beginning<'_>) -> Self {
        let Beginning { interaction, log, ledger, turns, policy, caller, session, began, started } = beginning;
        let record = Self {
            interaction,
            log: log.clone(),
            ledger: ledger.clone(),
            turns: turns.clone(),
            policy,
            caller: caller.id().into(),
            session: session.map(Into::into),
            began,
            model: None,
            call: None,
            taken: Vec::new(),
            attempts: Vec::new(),
            said: Collected::default(),
            first_visible_ms: None,
            continued: Vec::new(),
            spoke: None,
            input_tokens: started.input_tokens,
            told_before: 0,
            is_over: false,
        };
        record.write(record.event(TURN_STARTED, started.body()));
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

    /// The turn goes to a model now.
    pub(crate) fn goes_to(&mut self, call: Call) {
        self.model = Some(call.model.clone());
        self.call = Some(call);
    }

    /// Gives back what was reserved for a model that gave nothing.
    pub(crate) fn release(&mut self) {
        if let Some(call) = self.call.take() {
            self.ledger.settle_later(call.reserved, Vec::new(), Vec::new());
        }
        // Who has spoken is the one to name, if another could not go on.
        if let Some(spoke) = self.continued.last().map(|(_, model)| model).or(self.spoke.as_ref()) {
            self.model = Some(spoke.clone());
        }
    }

    /// The call is over and nobody saw its end: it may have cost all that was reserved for it.
    pub(crate) fn lost(&mut self) {
        let Some(call) = self.call.take() else { return };
        if !call.is_sent.load(Ordering::Relaxed) {
            self.call = Some(call);
            return self.release();
        }
        let (cost, tokens) = call.most;
        let output = tokens.saturating_sub(self.input_tokens);
        let usage = Usage { input_tokens: Some(self.input_tokens), output_tokens: Some(output), ..Usage::default() };
        self.takes(call, usage, true, cost);
    }

    /// The call is over, with what was said.
    fn spent(&mut self) {
        let Some(call) = self.call.take() else { return };
        let (usage, is_estimated) = self.usage();
        let cost = call.price.map(|price| price.of(&usage, &Usage::default()));
        self.takes(call, usage, is_estimated, cost);
    }

    fn takes(&mut self, call: Call, usage: Usage, is_estimated: bool, cost: Option<u64>) {
        let tokens = usage.input_tokens.unwrap_or(0).saturating_add(usage.output_tokens.unwrap_or(0));
        let charge = Charge { cost: cost.unwrap_or(0), tokens, models: call.names };
        self.taken.push(Taken { reserved: call.reserved, charge, usage, is_estimated, cost });
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
        self.spoke = Some(model.to_owned());
        self.spent();
        // Whoever goes on counts from here.
        self.said.usage = Usage::default();
        self.told_before = tokens::count_text(&record::all_words(&self.said.parts));
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
        self.turns.ended(outcome);
        let has_begun = !self.said.parts.is_empty() || self.said.finish.is_some();
        match outcome {
            // Who leaves before anything came has the provider work all the same.
            Outcome::Abandoned if !has_begun => self.lost(),
            Outcome::Cached => {}
            _ if has_begun => self.spent(),
            _ => self.release(),
        }
        let mut usage = Usage::default();
        let mut cost = (outcome == Outcome::Cached).then_some(0_u64);
        for taken in &self.taken {
            add(&mut usage, &taken.usage);
            cost = cost.or(taken.cost.map(|_| 0)).map(|sum| sum.saturating_add(taken.cost.unwrap_or(0)));
        }
        let finished = Finished {
            outcome,
            model: self.model.clone(),
            attempts: std::mem::take(&mut self.attempts),
            finish: self.said.finish.as_ref().map(|finish| finish.as_str().to_owned()),
            usage: RecordedUsage {
                is_estimated: self.taken.iter().any(|taken| taken.is_estimated),
                ..RecordedUsage::from(&usage)
            },
            cost,
            first_visible_ms: self.first_visible_ms,
            duration_ms: self.elapsed_ms(),
            answer: self.policy.text(&record::words(&self.said.parts)).filter(|_| !self.said.parts.is_empty()),
            continued: std::mem::take(&mut self.continued),
        };
        let event = self.event(TURN_FINISHED, finished.body());
        // The event comes with the last charge, so that books and events agree.
        let mut taken = std::mem::take(&mut self.taken);
        let Some(last) = taken.pop() else { return self.write(event) };
        for earlier in taken {
            self.ledger.settle_later(earlier.reserved, vec![earlier.charge], Vec::new());
        }
        self.ledger.settle_later(last.reserved, vec![last.charge], vec![event]);
    }

    /// Tokens that the call under way took. What its provider did not tell to the end is counted here: a stream that was
    /// cut has been paid for as far as it came. Anthropic tells the output so far as it begins, and the rest at an end
    /// that may not come.
    fn usage(&self) -> (Usage, bool) {
        let mut usage = self.said.usage;
        let is_estimated = usage.input_tokens.is_none() || usage.output_tokens.is_none() || self.said.finish.is_none();
        if is_estimated {
            let told = tokens::count_text(&record::all_words(&self.said.parts)).saturating_sub(self.told_before);
            usage.input_tokens = usage.input_tokens.or(Some(self.input_tokens + self.told_before));
            usage.output_tokens = Some(usage.output_tokens.map_or(told, |output| output.max(told)));
        }
        (usage, is_estimated)
    }
}

fn add(sum: &mut Usage, other: &Usage) {
    let each = |sum: &mut Option<u64>, other: Option<u64>| {
        *sum = sum.map_or(other, |sum| Some(sum.saturating_add(other.unwrap_or(0))));
    };
    each(&mut sum.input_tokens, other.input_tokens);
    each(&mut sum.output_tokens, other.output_tokens);
    each(&mut sum.cached_input_tokens, other.cached_input_tokens);
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
