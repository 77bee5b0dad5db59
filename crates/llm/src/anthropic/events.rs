//! Events of an answer that is streamed, as they are read.

use serde::Deserialize;
use serde_json::Value;

use super::answer::{Tokens, finish};
use crate::{CallError, Delta, ErrorKind, Event, failure, message::REDACTED, redact::Redactor, sse, stream::Decode};

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    index: u64,
    message: Option<Begun>,
    #[serde(default)]
    content_block: Value,
    delta: Option<Piece>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Begun {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    usage: Value,
}

#[derive(Default, Deserialize)]
struct Piece {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    partial_json: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
}

/// Reads the events of one answer.
pub(super) struct Events {
    redactor: Redactor,
    is_started: bool,
    is_finished: bool,
    /// The blocks that call tools, in order.
    calls: Vec<u64>,
    tokens: Tokens,
    /// White space that the answer goes on from and that could not be sent; the answer begins with it again.
    owed: String,
}

impl Events {
    pub(super) fn new(continued: Option<&str>, redactor: Redactor) -> Self {
        let owed = continued.map_or("", |text| &text[text.trim_end().len()..]).to_owned();
        Self { redactor, is_started: false, is_finished: false, calls: Vec::new(), tokens: Tokens::default(), owed }
    }

    fn deltas(&mut self, told: Told) -> Result<Vec<Delta>, CallError> {
        let mut deltas = Vec::new();
        match told.kind.as_str() {
            "message_start" => {
                let Some(begun) = told.message else { return Err(malformed()) };
                self.is_started = true;
                self.tokens.update(&begun.usage);
                deltas.push(Delta::Start { id: begun.id, model: begun.model });
                deltas.push(Delta::Usage(self.tokens.told()));
            }
            "content_block_start" => self.block(told.index, told.content_block, &mut deltas)?,
            "content_block_delta" => self.piece(told.index, told.delta.ok_or_else(malformed)?, &mut deltas)?,
            "message_delta" => {
                let reason = told.delta.and_then(|delta| delta.stop_reason);
                self.is_finished |= reason.is_some();
                deltas.extend(reason.map(|reason| Delta::Finish(finish(&reason))));
                self.tokens.update(&told.usage);
                deltas.push(Delta::Usage(self.tokens.told()));
            }
            "message_stop" => {
                if !self.is_finished {
                    return Err(cut());
                }
                deltas.push(Delta::End);
            }
            "error" => return Err(failure::in_stream(&told.error, &self.redactor)),
            // `ping` and `content_block_stop` say nothing, and there may be kinds of events that are not known yet.
            _ => (),
        }
        Ok(deltas)
    }

    fn block(&mut self, index: u64, mut block: Value, deltas: &mut Vec<Delta>) -> Result<(), CallError> {
        let text = |value: &mut Value| match value.take() {
            Value::String(text) => text,
            _ => String::new(),
        };
        match block["type"].as_str() {
            None => return Err(malformed()),
            Some("text") => self.text(text(&mut block["text"]), deltas),
            Some("thinking") => said(text(&mut block["thinking"]), Delta::Reasoning, deltas),
            Some("redacted_thinking") => {
                deltas.push(Delta::Signature(format!("{REDACTED}{}", text(&mut block["data"]))));
            }
            Some("tool_use") => {
                let (id, name) = (text(&mut block["id"]), text(&mut block["name"]));
                deltas.push(Delta::ToolCall { index: self.calls.len(), id, name });
                // Empty where the input comes in pieces, as it does from Anthropic.
                if let input @ Value::Object(_) = block["input"].take()
                    && input != Value::Object(serde_json::Map::new())
                {
                    deltas.push(Delta::Arguments { index: self.calls.len(), fragment: input.to_string() });
                }
                self.calls.push(index);
            }
            Some(_) => (),
        }
        Ok(())
    }

    fn piece(&mut self, index: u64, piece: Piece, deltas: &mut Vec<Delta>) -> Result<(), CallError> {
        self.text(piece.text.unwrap_or_default(), deltas);
        said(piece.thinking.unwrap_or_default(), Delta::Reasoning, deltas);
        said(piece.signature.unwrap_or_default(), Delta::Signature, deltas);
        let fragment = piece.partial_json.unwrap_or_default();
        // The provider's own tools have input, too, which is nobody else's.
        if let Some(index) = self.calls.iter().position(|block| *block == index) {
            said(fragment, |fragment| Delta::Arguments { index, fragment }, deltas);
        }
        Ok(())
    }

    fn text(&mut self, mut text: String, deltas: &mut Vec<Delta>) {
        if !self.owed.is_empty() && !text.is_empty() {
            let same = self.owed.chars().zip(text.chars()).take_while(|(owed, came)| owed == came);
            let bytes: usize = same.map(|(owed, _)| owed.len_utf8()).sum();
            text.drain(..bytes);
            // Once it says something else, it owes nothing.
            if text.is_empty() { drop(self.owed.drain(..bytes)) } else { self.owed.clear() }
        }
        said(text, Delta::Text, deltas);
    }
}

fn said(text: String, delta: impl FnOnce(String) -> Delta, deltas: &mut Vec<Delta>) {
    if !text.is_empty() {
        deltas.push(delta(text));
    }
}

fn malformed() -> CallError {
    CallError::new(ErrorKind::Malformed, "a piece of its answer is not what such a server sends")
}

fn cut() -> CallError {
    CallError::new(ErrorKind::Cut, "its answer stopped without an end")
}

impl Decode for Events {
    fn message(&mut self, message: &sse::Message) -> Result<Option<Event>, CallError> {
        let told: Told = serde_json::from_slice(&message.data).map_err(|_| malformed())?;
        let is_begin = matches!(told.kind.as_str(), "message_start" | "ping" | "error");
        if !self.is_started && !is_begin {
            return Err(malformed());
        }
        let deltas = self.deltas(told)?;
        Ok(Some(Event { deltas, frame: Some(message.frame()) }))
    }

    fn ended(&mut self) -> Result<Event, CallError> {
        if !self.is_started {
            return Err(CallError::new(ErrorKind::Empty, "there was nothing in its answer"));
        }
        if !self.is_finished {
            return Err(cut());
        }
        // It said why it ended, and that is all that was missing.
        let message = sse::Message { event: "message_stop".into(), data: r#"{"type":"message_stop"}"#.into() };
        Ok(Event { deltas: vec![Delta::End], frame: Some(message.frame()) })
    }
}
