//! What is written down of a turn: two events, when it begins and when it is over.
//!
//! The first has what was asked, what was looked up and who could have answered; the second has what happened. `why` is
//! made from these two and nothing else. Recording never makes a turn wait: [`EventLog::record`] takes an event into a
//! bounded queue, and what is in that queue when the power goes is lost.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use holdfast_llm::{CallError, Part, Request, Usage};
use holdfast_storage::events::EVENT_BYTES_MAX;
use metrics::{Counter, counter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kinds of events of a turn. Both are of version 1.
pub const TURN_STARTED: &str = "turn_started";
/// See [`TURN_STARTED`].
pub const TURN_FINISHED: &str = "turn_finished";
/// The version of their bodies.
pub const VERSION: u16 = 1;

/// Bytes of most bodies: there is room for them from the beginning.
const BODY_BYTES_USUAL: usize = 2 << 10;

/// What becomes of texts in the record. The default is full: it is the user's own disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextPolicy {
    /// They are left out.
    None,
    /// Their BLAKE3 hash and their length stand for them.
    Hashes,
    /// They are kept.
    #[default]
    Full,
}

/// A text in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// Itself.
    Full(String),
    /// What stands for it.
    Hash {
        /// BLAKE3, in hexadecimal digits.
        blake3: String,
        /// Its length in bytes.
        bytes: usize,
    },
}

impl TextPolicy {
    /// A text as it is recorded; nothing where texts are left out.
    pub fn text(self, text: &str) -> Option<Text> {
        match self {
            Self::None => None,
            Self::Hashes => Some(Text::Full(text.to_owned()).hashed()),
            Self::Full => Some(Text::Full(text.to_owned())),
        }
    }
}

/// The body of [`TURN_STARTED`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The request's id.
    pub request_id: String,
    /// The model or alias that was asked for.
    pub asked: String,
    /// The policy that put the candidates in order.
    pub policy: String,
    /// What was asked, as a conversation.
    pub messages: Vec<Said>,
    /// Tokens of it, as [`RecordedFeatures::is_counted`] says.
    pub input_tokens: u64,
    /// What it was asked with.
    pub features: RecordedFeatures,
    /// Who could have answered.
    pub candidates: Vec<RecordedCandidate>,
    /// What was looked up, if anything.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub context: Option<RecordedContext>,
    /// What was decided about kept answers.
    pub cache: String,
}

/// A message in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Who.
    pub role: String,
    /// What, as text; tool calls and results are JSON text. Nothing where texts are left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<Text>,
}

/// What routing went by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFeatures {
    /// Tokens that the answer may have.
    pub output_tokens: Option<u64>,
    /// It came with tools.
    pub has_tools: bool,
    /// It came with pictures.
    pub has_images: bool,
    /// The answer had to keep to a form.
    pub has_format: bool,
    /// Messages of the conversation.
    pub messages: usize,
    /// Whether the tokens of the question were counted; else they were guessed from its length.
    pub is_counted: bool,
}

/// A model that could have answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedCandidate {
    /// Its name.
    pub model: String,
    /// `local` or `remote`.
    pub location: String,
    /// What ruled it out, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub obstacles: Vec<String>,
    /// Its place in the order, from 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rank: Option<usize>,
    /// The policy's score.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub score: Option<f64>,
    /// With what probability the policy puts it first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub propensity: Option<f64>,
    /// Its breaker.
    pub breaker: String,
    /// Millionths for a million tokens, asked and answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub price: Option<(u64, u64)>,
}

/// What was looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedContext {
    /// Tokens there were for it.
    pub budget_tokens: u64,
    /// Tokens it took.
    pub tokens: u64,
    /// What was taken, in the order of the citations.
    pub taken: Vec<RecordedPassage>,
    /// What was left out, and why.
    pub refused: Vec<RecordedPassage>,
    /// Why search gave less than it could.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub degraded: Option<String>,
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedPassage {
    /// The chunk.
    pub chunk_id: String,
    /// Its document, where it was taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub document_id: Option<String>,
    /// Its collection, where it was taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub collection: Option<String>,
    /// Its score in the search.
    pub score: f32,
    /// Why it was left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// The body of [`TURN_FINISHED`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// The model that answered, or was the last to be asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Every call that was made, in order.
    pub attempts: Vec<RecordedAttempt>,
    /// Why the answer ended, in OpenAI's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finish: Option<String>,
    /// Tokens, as the provider counted them.
    pub usage: RecordedUsage,
    /// What it cost, in millionths; nothing where the model has no price.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost: Option<u64>,
    /// From the beginning to the first visible piece.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_visible_ms: Option<f64>,
    /// From the beginning to the end.
    pub duration_ms: f64,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer: Option<Text>,
    /// Where one model stopped and another went on: bytes of the answer before, and the model after.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub continued: Vec<(usize, String)>,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a whole answer.
    Answered,
    /// With one that was kept.
    Cached,
    /// Without one.
    Failed,
    /// In the middle: a part of the answer had been sent.
    Cut,
    /// Nobody waited for it any more.
    Abandoned,
}

impl Outcome {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Answered, Self::Cached, Self::Failed, Self::Cut, Self::Abandoned];

    /// The word for it in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Cut => "cut",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Counts turns by how they ended.
#[derive(Clone)]
pub(crate) struct Turns(Arc<[Counter; Outcome::ALL.len()]>);

impl Turns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Outcome::ALL.map(|outcome| counter!("holdfast_turns_total", "outcome" => outcome.as_str()))))
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        self.0[outcome as usize].increment(1);
    }
}

/// A call to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedAttempt {
    /// The model.
    pub model: String,
    /// Since the beginning of the turn.
    pub started_ms: f64,
    /// How long was waited before it, after the one before.
    #[serde(default)]
    pub waited_ms: f64,
    /// How long it took, to the answer or to its first visible piece.
    pub duration_ms: f64,
    /// What became of it: `ok`, or the word of [`holdfast_llm::ErrorKind`].
    pub outcome: String,
    /// The HTTP status of a failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// What went wrong, in our words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

impl RecordedAttempt {
    /// A failure that no call was made for, or the last of a call's.
    pub fn failed(model: &str, started_ms: f64, duration_ms: f64, error: &CallError) -> Self {
        Self {
            model: model.to_owned(),
            started_ms,
            waited_ms: 0.0,
            duration_ms,
            outcome: error.kind.as_str().to_owned(),
            status: error.status,
            reason: Some(error.reason.clone()),
        }
    }
}

/// Tokens in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedUsage {
    /// Of what was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub input_tokens: Option<u64>,
    /// Of the answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output_tokens: Option<u64>,
    /// Asked, and kept by the provider from before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cached_input_tokens: Option<u64>,
    /// Whether these were counted here, since the provider did not.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_estimated: bool,
}

impl From<&Usage> for RecordedUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            is_estimated: false,
        }
    }
}

/// The conversation as it is recorded.
pub(crate) fn said(request: &Request, policy: TextPolicy) -> Vec<Said> {
    let messages = request.messages.iter();
    messages
        .map(|message| Said { role: message.role.as_str().to_owned(), text: policy.text(&words(&message.parts)) })
        .collect()
}

/// What parts say, as text.
pub(crate) fn words(parts: &[Part]) -> String {
    let mut words = String::new();
    for part in parts {
        if !words.is_empty() {
            words.push('\n');
        }
        match part {
            Part::Text(text) => words.push_str(text),
            Part::Image(_) => words.push_str("[image]"),
            Part::ToolCall { id, name, arguments } => {
                words.push_str(&serde_json::json!({ "call": name, "id": id, "arguments": arguments }).to_string());
            }
            Part::ToolResult { id, content, is_error } => {
                let inner = self::words(content);
                words.push_str(
                    &serde_json::json!({ "result_of": id, "is_error": is_error, "content": inner }).to_string(),
                );
            }
            Part::Reasoning { .. } => {}
        }
    }
    words
}

/// The same, with the thoughts: what a provider counts.
pub(crate) fn all_words(parts: &[Part]) -> String {
    let mut all = words(parts);
    for part in parts {
        if let Part::Reasoning { text, .. } = part {
            all.push('\n');
            all.push_str(text);
        }
    }
    all
}

impl Started {
    /// It as JSON, with as much of the texts as fits into an event.
    pub(crate) fn body(mut self) -> Vec<u8> {
        let whole = body(&self);
        if whole.len() <= EVENT_BYTES_MAX {
            return whole;
        }
        for said in &mut self.messages {
            said.text = said.text.take().map(Text::hashed);
        }
        let hashed = body(&self);
        if hashed.len() <= EVENT_BYTES_MAX {
            return hashed;
        }
        self.messages.clear();
        body(&self)
    }
}

impl Finished {
    /// It as JSON, with the answer if that fits into an event.
    pub(crate) fn body(mut self) -> Vec<u8> {
        let whole = body(&self);
        if whole.len() <= EVENT_BYTES_MAX {
            return whole;
        }
        self.answer = self.answer.take().map(Text::hashed);
        body(&self)
    }
}

impl Text {
    /// What stands for it.
    fn hashed(self) -> Self {
        match self {
            Self::Full(text) => {
                Self::Hash { blake3: blake3::hash(text.as_bytes()).to_hex().to_string(), bytes: text.len() }
            }
            hash @ Self::Hash { .. } => hash,
        }
    }
}

/// A body as JSON. Our own types always have one.
fn body(of: &impl Serialize) -> Vec<u8> {
    let mut body = Vec::with_capacity(BODY_BYTES_USUAL);
    match serde_json::to_writer(&mut body, of) {
        Ok(()) => body,
        Err(_) => Value::Null.to_string().into_bytes(),
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_decides_what_is_left_of_a_text() {
        assert_eq!(TextPolicy::None.text("secret"), None);
        assert_eq!(TextPolicy::Full.text("open"), Some(Text::Full("open".into())));
        let Some(Text::Hash { blake3, bytes }) = TextPolicy::Hashes.text("secret") else { panic!() };
        assert_eq!((blake3.len(), bytes), (64, 6));
        assert_eq!(blake3, ::blake3::hash(b"secret").to_hex().to_string());
    }

    #[test]
    fn outcomes_are_called_the_same_everywhere() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!((serde_json::json!(outcome), outcome as usize), (outcome.as_str().into(), number));
        }
    }

    #[test]
    fn what_is_absent_takes_no_room_and_is_read_back() {
        let finished = Finished {
            outcome: Outcome::Cut,
            model: None,
            attempts: Vec::new(),
            finish: None,
            usage: RecordedUsage::default(),
            cost: None,
            first_visible_ms: None,
            duration_ms: 1.5,
            answer: None,
            continued: Vec::new(),
        };
        let json = String::from_utf8(body(&finished)).unwrap();
        assert_eq!(json, r#"{"outcome":"cut","attempts":[],"usage":{},"duration_ms":1.5}"#);
        assert_eq!(serde_json::from_str::<Finished>(&json).unwrap(), finished);
    }
}
