//! A whole answer, as it is read.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::{Answer, CallError, ErrorKind, Finish, Part, Shape, Usage, failure, message::REDACTED, redact::Redactor};

/// A word of the provider's that is kept has at most so many characters.
const WORD_CHARS_MAX: usize = 64;

#[derive(Deserialize)]
struct Whole {
    id: String,
    #[serde(default)]
    model: String,
    content: Vec<Value>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Value,
}

/// The answer that a body has.
pub(super) fn parse(body: Bytes, redactor: &Redactor) -> Result<Answer, CallError> {
    let malformed = || {
        let malformed = CallError::new(ErrorKind::Malformed, "its answer is not what such a server answers");
        failure::told_in(&body, redactor).unwrap_or(malformed)
    };
    let whole: Whole = serde_json::from_slice(&body).map_err(|_| malformed())?;
    let mut usage = Tokens::default();
    usage.update(&whole.usage);
    Ok(Answer {
        id: whole.id,
        model: whole.model,
        parts: whole.content.into_iter().filter_map(part).collect(),
        finish: finish(whole.stop_reason.as_deref().unwrap_or("end_turn")),
        usage: usage.told(),
        shape: Shape::Anthropic,
        body,
    })
}

/// A block as a part; nothing for those of the provider's own tools, which stay in the body.
fn part(mut block: Value) -> Option<Part> {
    let text = |value: &mut Value| match value.take() {
        Value::String(text) => text,
        _ => String::new(),
    };
    Some(match block["type"].as_str()? {
        "text" => Part::Text(text(&mut block["text"])),
        "thinking" => {
            let signature = text(&mut block["signature"]);
            let signature = (!signature.is_empty()).then_some(signature);
            Part::Reasoning { text: text(&mut block["thinking"]), signature }
        }
        "redacted_thinking" => {
            let signature = format!("{REDACTED}{}", text(&mut block["data"]));
            Part::Reasoning { text: String::new(), signature: Some(signature) }
        }
        "tool_use" => Part::ToolCall {
            id: text(&mut block["id"]),
            name: text(&mut block["name"]),
            arguments: block["input"].take().to_string(),
        },
        _ => return None,
    })
}

/// Why it ended.
pub(super) fn finish(reason: &str) -> Finish {
    match reason {
        "end_turn" | "stop_sequence" => Finish::Stop,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::ContentFilter,
        other => Finish::Other(other.chars().take(WORD_CHARS_MAX).collect()),
    }
}

/// Tokens as Anthropic counts them: those that it has kept, or keeps now, are not among those asked. In a stream the later
/// numbers include the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    input: Option<u64>,
    output: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
    thought: Option<u64>,
}

impl Tokens {
    pub(super) fn update(&mut self, usage: &Value) {
        let later = |pointer: &str, earlier: Option<u64>| usage.pointer(pointer).and_then(Value::as_u64).or(earlier);
        *self = Self {
            input: later("/input_tokens", self.input),
            output: later("/output_tokens", self.output),
            read: later("/cache_read_input_tokens", self.read),
            written: later("/cache_creation_input_tokens", self.written),
            thought: later("/output_tokens_details/thinking_tokens", self.thought),
        };
    }

    /// The same in our words.
    pub(super) fn told(&self) -> Usage {
        let kept = self.read.unwrap_or(0).saturating_add(self.written.unwrap_or(0));
        Usage {
            input_tokens: self.input.map(|input| input.saturating_add(kept)),
            output_tokens: self.output,
            cached_input_tokens: self.read,
            cache_write_tokens: self.written,
            reasoning_tokens: self.thought,
        }
    }
}
