//! What a model is asked.

use serde_json::{Map, Value};

use crate::message::{Message, Tool, ToolChoice};

/// The interface that a client or a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
}

impl Shape {
    /// The word users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// What a message takes beside its text.
const MESSAGE_BYTES: usize = 16;
/// What a picture counts as: some 1 500 tokens, as providers charge for a large one.
const IMAGE_BYTES: usize = 6_000;

/// What a model is asked. A provider of the shape in [`Request::original`] gets that body, with what it has no word for
/// left in it; others get one made of the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The conversation as the client sent it.
    pub messages: Vec<Message>,
    /// Earlier messages of the session, which come between the client's system messages and its others. Its own system
    /// messages, such as a summary, become part of the system's words, after the client's.
    pub history: Vec<Message>,
    /// Text that was found for this turn, fenced as data already. It becomes part of the system's words, after the
    /// client's and the session's.
    pub context: Option<String>,
    /// The tools there are.
    pub tools: Vec<Tool>,
    /// Which of them have to be called.
    pub tool_choice: ToolChoice,
    /// Whether several may be called at once; as the provider has it where absent.
    pub parallel_tool_calls: Option<bool>,
    /// What the answer has to look like.
    pub format: Format,
    /// How the answer is chosen.
    pub sampling: Sampling,
    /// Names of unfinished features that the client asks for beside its body (`anthropic-beta`). They reach providers of
    /// the original's shape.
    pub betas: Vec<String>,
    /// The body as it came. Its `model` and `stream` are replaced.
    pub original: Option<Original>,
}

/// A body as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Original {
    /// What it is written in.
    pub shape: Shape,
    /// All of it.
    pub body: Map<String, Value>,
}

/// What an answer has to look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Text.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that keeps to a schema.
    JsonSchema {
        /// What the schema is called.
        name: String,
        /// JSON Schema.
        schema: Value,
        /// Whether the provider has to enforce it.
        strict: Option<bool>,
    },
}

/// How an answer is chosen. Absent is as the provider has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Tokens of the answer at most.
    pub max_tokens: Option<u32>,
    /// 0 to 2 with OpenAI, 0 to 1 with Anthropic.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// At least 1.
    pub top_k: Option<u32>,
    /// Texts before which the answer ends.
    pub stop: Vec<String>,
    /// For answers that can be had again.
    pub seed: Option<i64>,
    /// −2 to 2.
    pub frequency_penalty: Option<f64>,
    /// −2 to 2.
    pub presence_penalty: Option<f64>,
    /// How many answers; 1 where absent. More than one only ever reaches a provider of the original's shape.
    pub answers: Option<u32>,
    /// Tokens to think with (Anthropic), where thinking is asked for.
    pub thinking_tokens: Option<u32>,
    /// `minimal`, `low`, `medium` or `high` (OpenAI).
    pub reasoning_effort: Option<String>,
}

impl Request {
    /// What is added to the client's words of the system: those of the session, then what was found for this turn.
    pub(crate) fn added_system_words(&self) -> Option<String> {
        use crate::message::Role;
        let of_session = self.history.iter().filter(|message| message.role == Role::System);
        let words: Vec<&str> = of_session
            .flat_map(Message::texts)
            .chain(self.context.as_deref())
            .filter(|text| !text.is_empty())
            .collect();
        (!words.is_empty()).then(|| words.join("\n\n"))
    }

    /// Whether a model has to be able to look at pictures.
    pub fn has_images(&self) -> bool {
        use crate::message::Part;
        let is_image = |part: &Part| match part {
            Part::Image(_) => true,
            Part::ToolResult { content, .. } => content.iter().any(|part| matches!(part, Part::Image(_))),
            _ => false,
        };
        self.messages.iter().chain(&self.history).flat_map(|message| &message.parts).any(is_image)
    }

    /// Bytes of all text, tools and what was looked up included: no more tokens than these can come of it.
    pub fn text_bytes(&self) -> u64 {
        fn of(part: &crate::message::Part) -> usize {
            use crate::message::Part;
            match part {
                Part::Text(text) => text.len(),
                Part::Image(_) => IMAGE_BYTES,
                Part::ToolCall { id, name, arguments } => id.len() + name.len() + arguments.len(),
                Part::ToolResult { id, content, .. } => id.len() + content.iter().map(of).sum::<usize>(),
                Part::Reasoning { text, .. } => text.len(),
            }
        }
        let messages = self.messages.iter().chain(&self.history);
        let said: usize = messages.map(|message| MESSAGE_BYTES + message.parts.iter().map(of).sum::<usize>()).sum();
        let tools = self.tools.iter().map(|tool| {
            tool.name.len() + tool.description.as_ref().map_or(0, String::len) + tool.parameters.to_string().len()
        });
        (said + tools.sum::<usize>() + self.context.as_ref().map_or(0, String::len)) as u64
    }

    /// Whether a model has to be able to call tools.
    pub fn has_tools(&self) -> bool {
        !self.tools.is_empty()
    }
}
