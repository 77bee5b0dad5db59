//! What answers and chunks of them have in common, as they come.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{Delta, Finish, Usage};

/// A word of a provider's that is kept has at most so many characters.
const WORD_CHARS_MAX: usize = 64;

/// What is said: a whole message, or the next piece of one.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Said {
    /// A text; with some servers a list of parts.
    #[serde(default)]
    pub(super) content: Value,
    /// DeepSeek, vLLM, llama.cpp.
    #[serde(default)]
    reasoning_content: Value,
    /// OpenRouter, Ollama, newer vLLM. Some send both.
    #[serde(default)]
    reasoning: Value,
    #[serde(default)]
    refusal: Value,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) tool_calls: Vec<ToolCall>,
}

/// A call of a tool, or the next piece of one.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ToolCall {
    #[serde(default)]
    pub(super) index: Option<u64>,
    #[serde(default, deserialize_with = "text")]
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) function: Function,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Function {
    #[serde(default, deserialize_with = "text")]
    pub(super) name: String,
    /// A text; with some servers the object itself.
    #[serde(default)]
    pub(super) arguments: Value,
}

/// `null` is as good as absent.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Ids and names are texts; some servers have numbers for them.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

impl Said {
    /// What it says, but for calls.
    pub(super) fn deltas(&mut self, deltas: &mut Vec<Delta>) {
        let thoughts = match self.reasoning_content.take() {
            Value::String(text) if !text.is_empty() => Value::String(text),
            _ => self.reasoning.take(),
        };
        push(thoughts, Delta::Reasoning, deltas);
        match self.content.take() {
            Value::Array(parts) => parts.into_iter().for_each(|part| push_part(part, deltas)),
            text => push(text, Delta::Text, deltas),
        }
        push(self.refusal.take(), Delta::Text, deltas);
    }
}

impl Function {
    /// The text of the arguments, which is JSON.
    pub(super) fn take_arguments(&mut self) -> String {
        match self.arguments.take() {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }
}

fn push(value: Value, delta: fn(String) -> Delta, deltas: &mut Vec<Delta>) {
    if let Value::String(text) = value
        && !text.is_empty()
    {
        deltas.push(delta(text));
    }
}

/// As Mistral's models that think have it: texts, and thoughts that are a list of texts.
fn push_part(mut part: Value, deltas: &mut Vec<Delta>) {
    push(field(&mut part, "text"), Delta::Text, deltas);
    match field(&mut part, "thinking") {
        Value::Array(texts) => {
            texts.into_iter().for_each(|mut text| push(field(&mut text, "text"), Delta::Reasoning, deltas));
        }
        text => push(text, Delta::Reasoning, deltas),
    }
}

/// What a part has there; nothing where it is none. (A list or a text cannot be asked for a field.)
fn field(part: &mut Value, name: &str) -> Value {
    part.get_mut(name).map(Value::take).unwrap_or_default()
}

/// Why it ended. Some say that they stopped where they have called tools.
pub(super) fn finish(reason: &str, has_calls: bool) -> Finish {
    match reason {
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" if has_calls => Finish::ToolCalls,
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" => Finish::Stop,
        "length" | "max_tokens" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolCalls,
        "content_filter" => Finish::ContentFilter,
        other => Finish::Other(other.chars().take(WORD_CHARS_MAX).collect()),
    }
}

/// Tokens, in the names of OpenAI, DeepSeek and OpenRouter.
pub(super) fn usage(value: &Value) -> Option<Usage> {
    if !value.is_object() {
        return None;
    }
    let number = |name: &str| value.get(name)?.as_u64();
    let detail = |of: &str, name: &str| value.get(of)?.get(name)?.as_u64();
    Some(Usage {
        input_tokens: number("prompt_tokens"),
        output_tokens: number("completion_tokens"),
        cached_input_tokens: detail("prompt_tokens_details", "cached_tokens")
            .or_else(|| number("prompt_cache_hit_tokens")),
        cache_write_tokens: detail("prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens: detail("completion_tokens_details", "reasoning_tokens"),
    })
}

/// An id for a call that the server gave none. Ids of a conversation must differ, also from those of earlier turns.
pub(super) fn made_up_id() -> String {
    format!("call_{:016x}", fastrand::u64(..))
}
