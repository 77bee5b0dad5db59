//! What is said: messages, their parts, and the tools a model may call.

use std::fmt;

use serde_json::Value;

/// What stands before the signature of thoughts whose words the provider keeps to itself (Anthropic's
/// `redacted_thinking`), so that they go back as what they were.
pub const REDACTED: &str = "redacted:";

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Whoever set the conversation up. OpenAI's `developer` counts as this.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// A tool, answering a call. Anthropic has such parts in messages of the user; here they are messages of their own.
    Tool,
}

impl Role {
    /// The word that OpenAI has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }

    /// Its texts, one after the other.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image(Image),
    /// The model wants a tool to be called.
    ToolCall {
        /// What the result refers to.
        id: String,
        /// The tool.
        name: String,
        /// JSON text, as the model wrote it: it need not be valid.
        arguments: String,
    },
    /// What a tool answered; in messages of [`Role::Tool`], one in each.
    ToolResult {
        /// The call it answers.
        id: String,
        /// Texts and images.
        content: Vec<Part>,
        /// Whether the tool failed.
        is_error: bool,
    },
    /// What the model thought before it answered.
    Reasoning {
        /// Its words; empty where the provider keeps them to itself.
        text: String,
        /// What the provider wants to have back with it, unchanged; after [`REDACTED`] where there is nothing but that.
        signature: Option<String>,
    },
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// Where it is; fetched by the provider, never by us.
    Url(String),
    /// Itself.
    Inline {
        /// Such as `image/png`.
        media_type: String,
        /// Base64 (RFC 4648, section 4).
        data: String,
    },
}

/// A function that a model may ask to have called.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of its arguments, an object.
    pub parameters: Value,
    /// Whether the arguments must keep to the schema.
    pub strict: Option<bool>,
}

/// Which tools have to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}
