//! What a model answers: whole, or as it comes.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;

use crate::{CallError, message::Part, request::Shape};

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The provider's id of it.
    pub id: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// What it says, in order; of several answers the first.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub usage: Usage,
    /// What the provider speaks,
    pub shape: Shape,
    /// and the body as it came, which is JSON.
    pub body: Bytes,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model had said everything, or came to a text to stop at.
    Stop,
    /// As many tokens as there may be.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// The provider withheld it.
    ContentFilter,
    /// Another reason, in the provider's word.
    Other(String),
}

impl Finish {
    /// The word that OpenAI has for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other(word) => word,
        }
    }
}

/// Tokens, as the provider counted them; nothing where it did not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of what was asked, those below included.
    pub input_tokens: Option<u64>,
    /// Of the answer, thinking included.
    pub output_tokens: Option<u64>,
    /// Of those asked, the ones that the provider had kept from before.
    pub cached_input_tokens: Option<u64>,
    /// Of those asked, the ones that it now keeps.
    pub cache_write_tokens: Option<u64>,
    /// Of the answer, the ones it thought with.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// What is told later replaces what was told before.
    pub fn update(&mut self, later: &Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cached_input_tokens = later.cached_input_tokens.or(self.cached_input_tokens);
        self.cache_write_tokens = later.cache_write_tokens.or(self.cache_write_tokens);
        self.reasoning_tokens = later.reasoning_tokens.or(self.reasoning_tokens);
    }
}

/// A piece of an answer that is coming.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What it says. Empty for what only keeps the connection alive.
    pub deltas: Vec<Delta>,
    /// The frame (WHATWG HTML, server-sent events: `event:` and `data:` lines and the empty one) to hand to a client that
    /// speaks the provider's shape. Nothing where that client did not ask for what it says.
    pub frame: Option<Bytes>,
}

/// What a piece of an answer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// It begins.
    Start {
        /// The provider's id of it.
        id: String,
        /// The model, as the provider calls it.
        model: String,
    },
    /// More text.
    Text(String),
    /// More of what it thinks.
    Reasoning(String),
    /// What the provider wants to have back with its thoughts.
    Signature(String),
    /// A tool is to be called.
    ToolCall {
        /// Its place among the calls of this answer, from 0.
        index: usize,
        /// What the result refers to.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the JSON text of a call's arguments.
    Arguments {
        /// Which call.
        index: usize,
        /// What comes next.
        fragment: String,
    },
    /// It ended, for this reason. Usage may still come.
    Finish(Finish),
    /// What it took so far.
    Usage(Usage),
    /// Nothing more comes.
    End,
}

impl Delta {
    /// Bytes of what it says.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Start { id, model } => id.len() + model.len(),
            Self::Text(text) | Self::Reasoning(text) | Self::Signature(text) => text.len(),
            Self::ToolCall { id, name, .. } => id.len() + name.len(),
            Self::Arguments { fragment, .. } => fragment.len(),
            Self::Finish(_) | Self::Usage(_) | Self::End => 0,
        }
    }

    /// Whether a client sees something of it: after the first such piece no other model can answer unnoticed.
    pub const fn is_visible(&self) -> bool {
        matches!(
            self,
            Self::Text(_) | Self::Reasoning(_) | Self::Signature(_) | Self::ToolCall { .. } | Self::Arguments { .. }
        )
    }
}

/// An answer as it comes. It ends with [`Delta::End`], or with an error and nothing after it; it never simply stops.
/// Dropping it ends the provider's work.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, CallError>> + Send>>;
