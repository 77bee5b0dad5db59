//! What both faces have in common where they put into their own shape what a provider of another one said: names, usage,
//! and how an event of a stream is written (WHATWG HTML, section 9.2.6).

use std::time::SystemTime;

use bytes::Bytes;
use holdfast_llm::Usage;
use serde::Serialize;
use uuid::Uuid;

/// How an answer of ours is called.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Its id.
    pub(super) id: String,
    /// The model, as the provider calls it.
    pub(super) model: String,
    /// When it began; Unix seconds.
    pub(super) created_s: u64,
}

impl Named {
    /// An answer whose id says which turn it is of.
    pub(super) fn new(prefix: &str, interaction: Uuid, model: &str) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            id: format!("{prefix}{}", interaction.simple()),
            model: model.to_owned(),
            created_s: since.map_or(0, |since| since.as_secs()),
        }
    }
}

/// Something that a model said and that cannot be told to this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsayable {
    /// It calls a tool with something that is no JSON object.
    Arguments,
    /// It goes back to a call that it was done with.
    Order,
}

impl Unsayable {
    /// For whoever asked.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Arguments => "the model called a tool with arguments that are not a JSON object",
            Self::Order => "the model went on with a call of a tool that it was done with",
        }
    }
}

/// Tokens asked, answered, and both; 0 for what was not counted.
pub(super) fn usage_total(usage: &Usage) -> (u64, u64, u64) {
    let (input, output) = (usage.input_tokens.unwrap_or(0), usage.output_tokens.unwrap_or(0));
    (input, output, input.saturating_add(output))
}

/// An event of a stream, with its name where it has one. JSON has no line breaks of its own, so the data is one line.
pub(super) fn event(name: Option<&str>, data: &impl Serialize) -> Bytes {
    let mut written = Vec::with_capacity(256);
    if let Some(name) = name {
        written.extend_from_slice(b"event: ");
        written.extend_from_slice(name.as_bytes());
        written.push(b'\n');
    }
    written.extend_from_slice(b"data: ");
    // Our own types can be written as JSON, and a vector takes whatever is written to it.
    let _ = serde_json::to_writer(&mut written, data);
    written.extend_from_slice(b"\n\n");
    written.into()
}

/// A JSON object with one more field, which it does not have yet. The rest stays as it came, byte for byte.
pub(super) fn with_field(object: &Bytes, name: &str, value: &impl Serialize) -> Bytes {
    let body = object.trim_ascii_end();
    let Some(head) = body.strip_suffix(b"}") else { return object.clone() };
    let Ok(value) = serde_json::to_vec(value) else { return object.clone() };
    let is_empty = head.trim_ascii() == b"{";
    let separator: &[u8] = if is_empty { b"\"" } else { b",\"" };
    [head, separator, name.as_bytes(), b"\":", &value, b"}"].concat().into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_field_is_added_to_what_came() {
        let with = |object: &'static str| {
            let added = with_field(&Bytes::from_static(object.as_bytes()), "holdfast", &json!({ "a": 1 }));
            serde_json::from_slice::<Value>(&added).unwrap_or(Value::Null)
        };
        assert_eq!(with("{}"), json!({ "holdfast": { "a": 1 } }));
        assert_eq!(with(" { } \n"), json!({ "holdfast": { "a": 1 } }));
        assert_eq!(with("{\"x\": {}\n}\n"), json!({ "x": {}, "holdfast": { "a": 1 } }));
        assert_eq!(with_field(&Bytes::from_static(b"[]"), "holdfast", &1), Bytes::from_static(b"[]"));
    }

    #[test]
    fn an_event_is_lines_and_an_empty_one() {
        assert_eq!(event(None, &json!("a\nb")), Bytes::from_static(b"data: \"a\\nb\"\n\n"));
        assert_eq!(event(Some("ping"), &json!({})), Bytes::from_static(b"event: ping\ndata: {}\n\n"));
    }
}
