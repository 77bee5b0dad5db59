//! Chunks of an answer that is streamed, as they are read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::wire::{Said, ToolCall, finish, made_up_id, or_default, text, usage};
use crate::{CallError, Delta, ErrorKind, Event, failure, redact::Redactor, sse, stream::Decode};

/// What stands in the place of a chunk when there are no more.
const DONE: &[u8] = b"[DONE]";

#[derive(Deserialize)]
struct Chunk {
    #[serde(default, deserialize_with = "text")]
    id: String,
    #[serde(default, deserialize_with = "text")]
    model: String,
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default, deserialize_with = "or_default")]
    delta: Said,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// Reads the chunks of one answer.
pub(super) struct Chunks {
    /// The client asked for usage, so it gets the chunk that has nothing else.
    wants_usage: bool,
    redactor: Redactor,
    is_started: bool,
    /// Whether each answer that has begun said why it ended: there are several where the client asked for that.
    finished: BTreeMap<u64, bool>,
    calls: Calls,
}

impl Chunks {
    pub(super) fn new(wants_usage: bool, redactor: Redactor) -> Self {
        Self { wants_usage, redactor, is_started: false, finished: BTreeMap::new(), calls: Calls::default() }
    }

    fn chunk(&mut self, message: &sse::Message) -> Result<Event, CallError> {
        let malformed =
            || CallError::new(ErrorKind::Malformed, "a piece of its answer is not what such a server sends");
        let chunk: Chunk = serde_json::from_slice(&message.data).map_err(|_| malformed())?;
        if !chunk.error.is_null() {
            return Err(failure::in_stream(&chunk.error, &self.redactor));
        }
        let Some(choices) = chunk.choices else {
            // A failure without anything around it, or nothing of the kind.
            let told: Option<Value> = serde_json::from_slice(&message.data).ok();
            let told = told.filter(|told| message.event == "error" || told["object"] == "error");
            return Err(told.map_or_else(malformed, |told| failure::in_stream(&told, &self.redactor)));
        };
        let mut deltas = Vec::new();
        if !std::mem::replace(&mut self.is_started, true) {
            deltas.push(Delta::Start { id: chunk.id, model: chunk.model });
        }
        let usage = usage(&chunk.usage);
        let is_for_us = choices.is_empty() && usage.is_some() && !self.wants_usage;
        for choice in choices {
            // Of several answers the first is read; who asked for more gets them as they are.
            if choice.index == 0 {
                self.choice(choice, &mut deltas)?;
            } else {
                *self.finished.entry(choice.index).or_default() |= ended_by(choice.finish_reason.as_deref()).is_some();
            }
        }
        deltas.extend(usage.map(Delta::Usage));
        Ok(Event { deltas, frame: (!is_for_us).then(|| message.frame()) })
    }

    fn choice(&mut self, mut choice: Choice, deltas: &mut Vec<Delta>) -> Result<(), CallError> {
        choice.delta.deltas(deltas);
        for call in choice.delta.tool_calls {
            self.calls.take(call, deltas);
        }
        let is_finished = self.finished.entry(0).or_default();
        match ended_by(choice.finish_reason.as_deref()) {
            None => (),
            // vLLM and SGLang, when they give an answer up.
            Some("abort") => return Err(CallError::new(ErrorKind::Cut, "it gave the answer up")),
            Some(_) if self.calls.known.iter().any(|known| !known.is_told) => {
                return Err(CallError::new(ErrorKind::Malformed, "it called a tool without a name"));
            }
            Some(reason) if !*is_finished => {
                *is_finished = true;
                deltas.push(Delta::Finish(finish(reason, !self.calls.known.is_empty())));
            }
            Some(_) => (),
        }
        Ok(())
    }

    /// Nothing more comes. All that is known to be in use say why they stopped; one that does not was stopped.
    fn done(&mut self, frame: &sse::Message) -> Result<Event, CallError> {
        if !self.is_started {
            return Err(CallError::new(ErrorKind::Empty, "there was nothing in its answer"));
        }
        let is_whole = self.finished.contains_key(&0) && self.finished.values().all(|is_finished| *is_finished);
        if !is_whole {
            return Err(CallError::new(ErrorKind::Cut, "its answer stopped without an end"));
        }
        Ok(Event { deltas: vec![Delta::End], frame: Some(frame.frame()) })
    }
}

impl Decode for Chunks {
    fn message(&mut self, message: &sse::Message) -> Result<Option<Event>, CallError> {
        let data = message.data.trim_ascii();
        if data == DONE {
            return self.done(message).map(Some);
        }
        // Some keep the connection alive with them.
        if data.is_empty() {
            return Ok(None);
        }
        self.chunk(message).map(Some)
    }

    fn ended(&mut self) -> Result<Event, CallError> {
        // It said why it ended, and that is all that was missing.
        self.done(&sse::Message { data: DONE.into(), ..sse::Message::default() })
    }
}

/// Why an answer ended, where it did.
fn ended_by(reason: Option<&str>) -> Option<&str> {
    reason.filter(|reason| !reason.is_empty())
}

/// The calls of an answer so far. Servers differ in what they tell of which call a piece belongs to: OpenAI gives an index
/// always and an id at first, llama.cpp likewise, Ollama an id and index 0 for all or none, Gemini no index, others an id
/// with every piece, or none at all.
#[derive(Default)]
struct Calls {
    known: Vec<Known>,
}

struct Known {
    index: Option<u64>,
    id: String,
    /// A call is told of once its name has come,
    is_told: bool,
    /// with the arguments that came before that.
    held: String,
}

impl Calls {
    fn take(&mut self, mut call: ToolCall, deltas: &mut Vec<Delta>) {
        let place = self.place(&call);
        let known = &mut self.known[place];
        let fragment = call.function.take_arguments();
        if !known.is_told && !call.function.name.is_empty() {
            known.is_told = true;
            deltas.push(Delta::ToolCall { index: place, id: known.id.clone(), name: call.function.name });
        }
        known.held.push_str(&fragment);
        if known.is_told && !known.held.is_empty() {
            deltas.push(Delta::Arguments { index: place, fragment: std::mem::take(&mut known.held) });
        }
    }

    /// Which call a piece belongs to; a new one, where it is none that is known.
    fn place(&mut self, call: &ToolCall) -> usize {
        let is_it = |known: &Known| match (call.id.is_empty(), call.index) {
            (false, index) => known.id == call.id && (index.is_none() || known.index == index),
            (true, Some(index)) => known.index == Some(index),
            // A piece without either begins a call where it names a tool.
            (true, None) => call.function.name.is_empty(),
        };
        if let Some(place) = self.known.iter().rposition(is_it) {
            return place;
        }
        let id = if call.id.is_empty() { made_up_id() } else { call.id.clone() };
        self.known.push(Known { index: call.index, id, is_told: false, held: String::new() });
        self.known.len() - 1
    }
}
