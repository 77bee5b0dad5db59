//! A whole answer, as it is read.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::wire::{Said, finish, made_up_id, or_default, text, usage};
use crate::{Answer, CallError, Delta, ErrorKind, Part, Shape, failure, redact::Redactor};

#[derive(Deserialize)]
struct Whole {
    #[serde(default, deserialize_with = "text")]
    id: String,
    #[serde(default, deserialize_with = "text")]
    model: String,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(deserialize_with = "or_default")]
    message: Said,
    #[serde(default, deserialize_with = "text")]
    finish_reason: String,
}

/// The answer that a body has.
pub(super) fn parse(body: Bytes, redactor: &Redactor) -> Result<Answer, CallError> {
    let malformed = || {
        let malformed = CallError::new(ErrorKind::Malformed, "its answer is not what such a server answers");
        // Some tell of failures with status 200.
        failure::told_in(&body, redactor).unwrap_or(malformed)
    };
    let mut whole: Whole = serde_json::from_slice(&body).map_err(|_| malformed())?;
    let place = whole.choices.iter().position(|choice| choice.index == 0).unwrap_or(0);
    if whole.choices.is_empty() {
        return Err(malformed());
    }
    let mut choice = whole.choices.swap_remove(place);
    let mut deltas = Vec::new();
    choice.message.deltas(&mut deltas);
    let mut parts: Vec<Part> = deltas.into_iter().filter_map(part).collect();
    let has_calls = !choice.message.tool_calls.is_empty();
    for mut call in choice.message.tool_calls {
        let id = if call.id.is_empty() { made_up_id() } else { call.id };
        let arguments = call.function.take_arguments();
        parts.push(Part::ToolCall { id, name: call.function.name, arguments });
    }
    Ok(Answer {
        id: whole.id,
        model: whole.model,
        parts,
        finish: finish(&choice.finish_reason, has_calls),
        usage: usage(&whole.usage).unwrap_or_default(),
        shape: Shape::OpenAi,
        body,
    })
}

fn part(delta: Delta) -> Option<Part> {
    match delta {
        Delta::Text(text) => Some(Part::Text(text)),
        Delta::Reasoning(text) => Some(Part::Reasoning { text, signature: None }),
        _ => None,
    }
}
