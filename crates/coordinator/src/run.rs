//! One turn while it is under way, and the record of it.
//!
//! A [`Record`] collects what happens. However a turn ends, also by being dropped, exactly one `turn_finished` comes of
//! it, and what was reserved for it is settled in the same transaction.

use std::time::Instant;

use holdfast_llm::{Answer, CallError, Delta, Finish, Part, Price, Usage, model::Attempt, tokens};
use holdfast_storage::{
    Caller,
    events::{EventLog, NewEvent},
    ledger::{Ledger, Reserved},
};
use uuid::Uuid;

use crate::record::{self, Finished, Outcome, RecordedAttempt, RecordedUsage, Started, TURN_FINISHED, TURN_STARTED, TextPolicy};

/// The record of one turn.
pub(crate) struct Record {
    pub(crate) interaction: Uuid,
    log: EventLog,
    ledger: Ledger,
    policy: TextPolicy,
    caller: String,
    session: Option<String>,
    began: Instant,
    model: Option<String>,
    price: Option<Price>,
    reserved: Option<Reserved>,
    attempts: Vec<RecordedAttempt>,
    said: Said,
    first_visible_ms: Option<f64>,
    continued: Vec<(usize, String)>,
    /// Tokens of the question, counted here.
    input_tokens: u64,
    is_over: bool,
}

/// What a model has said so far.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) parts: Vec<Part>,
    pub(crate) finish: Option<Finish>,
    pub(crate) usage: Usage,
    /// Tool calls by the index that the provider has for them.
    calls: Vec<(usize, usize)>,
}

impl Said {
    /// Takes in a piece of a stream.
    pub(crate) fn add(&mut self, delta: &Delta) {
        match delta {
            Delta::Start { id, model } => (self.id, self.model) = (id.clone(), model.clone()),
            Delta::Text(more) => match self.parts.last_mut() {
                Some(Part::Text(text)) => text.push_str(more),
                _ => self.parts.push(Part::Text(more.clone())),
            },
            Delta::Reasoning(more) => match self.parts.last_mut() {
                Some(Part::Reasoning { text, .. }) => text.push_str(more),
                _ => self.parts.push(Part::Reasoning { text: more.clone(), signature: None }),
            },
            Delta::Signature(more) => match self.parts.last_mut() {
                Some(Part::Reasoning { signature, .. }) => signature.get_or_insert_default().push_str(more),
                _ => self.parts.push(Part::Reasoning { text: String::new(), signature: Some(more.clone()) }),
            },
            Delta::ToolCall { index, id, name } => {
                self.calls.push((*index, self.parts.len()));
                let (id, name) = (id.clone(), name.clone());
                self.parts.push(Part::ToolCall { id, name, arguments: String::new() });
            }
            Delta::Arguments { index, fragment } => {
                let at = self.calls.iter().rev().find(|(of, _)| of == index).map(|(_, at)| *at);
                if let Some(Part::ToolCall { arguments, .. }) = at.and_then(|at| self.parts.get_mut(at)) {
                    arguments.push_str(fragment);
                }
            }
            Delta::Finish(finish) => self.finish = Some(finish.clone()),
            Delta::Usage(usage) => self.usage.update(usage),
            Delta::End => {}
        }
    }

    /// Takes a whole answer.
    fn set(&mut self, answer: &Answer) {
        self.id.clone_from(&answer.id);
        self.model.clone_from(&answer.model);
        self.parts.clone_from(&answer.parts);
        self.finish = Some(answer.finish.clone());
        self.usage = answer.usage;
    }

    /// Its text, if it is nothing but text: what another model could go on from.
    pub(crate) fn only_text(&self) -> Option<String> {
        let mut whole = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => whole.push_str(text),
                Part::Reasoning { .. } => {}
                _ => return None,
            }
        }
        (!whole.is_empty()).then_some(whole)
    }
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
            caller: caller.id().to_owned(),
            session,
            began,
            model: None,
            price: None,
            reserved: None,
            attempts: Vec::new(),
            said: Said::default(),
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
            tenant: self.caller.clone(),
            interaction: Some(self.interaction),
            session: self.session.clone(),
            caller: self.caller.clone(),
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
    pub(crate) fn goes_to(&mut self, model: &str, price: Option<Price>, reserved: Option<Reserved>) {
        // What an earlier model that failed had reserved, it did not use.
        self.release();
        self.model = Some(model.to_owned());
        self.price = price;
        self.reserved = reserved;
    }

    /// Gives back what was reserved for a model that gave nothing.
    pub(crate) fn release(&mut self) {
        if let Some(reserved) = self.reserved.take() {
            self.ledger.settle_soon(reserved, 0, 0, Vec::new());
        }
    }

    /// Notes calls that were made.
    pub(crate) fn tried(&mut self, model: &str, attempts: &[Attempt]) {
        for attempt in attempts {
            let started_ms = milliseconds(self.began, attempt.started);
            let duration_ms = attempt.duration.as_secs_f64() * 1e3;
            self.attempts.push(match &attempt.error {
                Some(error) => RecordedAttempt::failed(model, started_ms, duration_ms, error),
                None => RecordedAttempt {
                    model: model.to_owned(),
                    started_ms,
                    duration_ms,
                    outcome: "ok".to_owned(),
                    status: None,
                    reason: None,
                },
            });
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
    pub(crate) fn heard(&mut self, deltas: &[Delta]) {
        for delta in deltas {
            if self.first_visible_ms.is_none() && delta.is_visible() {
                self.first_visible_ms = Some(self.elapsed_ms());
            }
            self.said.add(delta);
        }
    }

    /// Notes that another model goes on.
    pub(crate) fn continued(&mut self, model: &str) {
        let bytes = self.said.only_text().map_or(0, |text| text.len());
        self.continued.push((bytes, model.to_owned()));
    }

    /// What was said so far.
    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    /// The turn is over, with a whole answer.
    pub(crate) fn answered(mut self, answer: &Answer) {
        self.said.set(answer);
        self.first_visible_ms = self.first_visible_ms.or_else(|| Some(self.elapsed_ms()));
        self.end(Outcome::Answered);
    }

    /// The turn is over: a kept answer did.
    pub(crate) fn answered_before(mut self, model: &str, answer: &Answer) {
        self.model = Some(model.to_owned());
        self.said.set(answer);
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
            Some(reserved) => self.ledger.settle_soon(reserved, cost.unwrap_or(0), tokens, vec![event]),
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
            let counted = tokens::count_text(&words) as u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_parts() {
        let mut said = Said::default();
        let call = |index, id: &str| Delta::ToolCall { index, id: id.into(), name: "look".into() };
        let arguments = |index, fragment: &str| Delta::Arguments { index, fragment: fragment.into() };
        for delta in [
            Delta::Reasoning("hm".into()),
            Delta::Signature("sig".into()),
            Delta::Text("Let ".into()),
            Delta::Text("me look".into()),
            call(0, "a"),
            call(1, "b"),
            arguments(0, "{\"x\":"),
            arguments(1, "{}"),
            arguments(0, "1}"),
            arguments(7, "lost"),
        ] {
            said.add(&delta);
        }
        let tool = |id: &str, arguments: &str| Part::ToolCall { id: id.into(), name: "look".into(), arguments: arguments.into() };
        assert_eq!(
            said.parts,
            [
                Part::Reasoning { text: "hm".into(), signature: Some("sig".into()) },
                Part::Text("Let me look".into()),
                tool("a", "{\"x\":1}"),
                tool("b", "{}"),
            ]
        );
        assert_eq!(said.only_text(), None, "it called tools");
    }
}
