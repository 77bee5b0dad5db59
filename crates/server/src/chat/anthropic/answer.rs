//! What a client of the messages API gets that another shape of provider answered: the message, and the events of a stream.
//!
//! Shapes: <https://docs.claude.com/en/api/messages> and `…/streaming`. There an answer is a row of blocks that begin and
//! end one after the other, while other providers may tell of several calls at once: such a call waits until the one
//! before it is whole. Thoughts from elsewhere have no signature.

use bytes::Bytes;
use holdfast_llm::{Answer, Delta, Finish, Part, Usage, message::REDACTED};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chat::encode::{Named, Unsayable, event};

/// What is said while nothing else is.
pub(in crate::chat) const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";

#[derive(Debug, Serialize)]
struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: Option<&'a str>,
    stop_sequence: Option<()>,
    usage: UsageAnswer,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
    Thinking { thinking: &'a str, signature: &'a str },
    RedactedThinking { data: &'a str },
    ToolUse { id: &'a str, name: &'a str, input: Map<String, Value> },
}

#[derive(Debug, Serialize)]
struct UsageAnswer {
    input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_read_input_tokens: Option<u64>,
    output_tokens: u64,
}

impl From<&Usage> for UsageAnswer {
    /// There, what was kept and what is kept from now on is counted beside the rest of what was asked.
    fn from(usage: &Usage) -> Self {
        let kept = usage.cached_input_tokens.unwrap_or(0).saturating_add(usage.cache_write_tokens.unwrap_or(0));
        Self {
            input_tokens: usage.input_tokens.unwrap_or(0).saturating_sub(kept),
            cache_creation_input_tokens: usage.cache_write_tokens,
            cache_read_input_tokens: usage.cached_input_tokens,
            output_tokens: usage.output_tokens.unwrap_or(0),
        }
    }
}

/// Reasons that only this API has words for.
const OWN_REASONS: [&str; 3] = ["stop_sequence", "pause_turn", "model_context_window_exceeded"];

/// The word for why an answer ended. Clients know these and no others.
fn stop_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter => "refusal",
        Finish::Other(word) => OWN_REASONS.into_iter().find(|known| known == word).unwrap_or("end_turn"),
    }
}

/// A whole answer.
pub(in crate::chat) fn whole(answer: &Answer, named: &Named) -> Result<Vec<u8>, Unsayable> {
    let mut content = Vec::new();
    for part in &answer.parts {
        match part {
            // There is no block of nothing: it would be refused when it comes back.
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => content.push(Block::Text { text }),
            Part::Reasoning { text, signature: None } if text.is_empty() => {}
            Part::Reasoning { text, signature } => {
                let signature = signature.as_deref().unwrap_or("");
                content.push(match signature.strip_prefix(REDACTED) {
                    Some(data) => Block::RedactedThinking { data },
                    None => Block::Thinking { thinking: text, signature },
                });
            }
            Part::ToolCall { id, name, arguments } => {
                content.push(Block::ToolUse { id, name, input: input(arguments).ok_or(Unsayable::Arguments)? });
            }
            // Models say nothing of these kinds.
            Part::Image(_) | Part::ToolResult { .. } => {}
        }
    }
    let message = Message {
        id: &named.id,
        kind: "message",
        role: "assistant",
        model: &answer.model,
        content,
        stop_reason: Some(stop_reason(&answer.finish)),
        stop_sequence: None,
        usage: (&answer.usage).into(),
    };
    Ok(serde_json::to_vec(&message).unwrap_or_default())
}

/// Arguments as an object; who calls a tool that takes nothing may say nothing.
fn input(arguments: &str) -> Option<Map<String, Value>> {
    if arguments.trim().is_empty() { Some(Map::new()) } else { serde_json::from_str(arguments).ok() }
}

/// The events of a stream.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told<'a> {
    MessageStart { message: Message<'a> },
    ContentBlockStart { index: usize, content_block: Block<'a> },
    ContentBlockDelta { index: usize, delta: BlockDelta<'a> },
    ContentBlockStop { index: usize },
    MessageDelta { delta: MessageDelta<'a>, usage: UsageAnswer },
    MessageStop,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type")]
enum BlockDelta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: &'a str },
}

#[derive(Debug, Serialize)]
struct MessageDelta<'a> {
    stop_reason: &'a str,
    stop_sequence: Option<()>,
}

impl Told<'_> {
    fn put(&self, into: &mut Vec<Bytes>) {
        let name = match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        };
        into.push(event(Some(name), self));
    }
}

/// What a provider says that a block begins with.
#[derive(Deserialize)]
struct Begun<'a> {
    index: usize,
    #[serde(borrow)]
    content_block: BegunBlock<'a>,
}

#[derive(Deserialize)]
struct BegunBlock<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

/// A call of a tool, as far as it has come.
#[derive(Debug)]
struct Call {
    index: usize,
    id: String,
    name: String,
    arguments: String,
}

impl Call {
    /// Whether nothing can come any more.
    fn is_whole(&self) -> bool {
        self.arguments.trim_ascii_end().ends_with('}')
            && serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

/// The block that the client is being told.
#[derive(Debug)]
enum Open {
    Text,
    Thinking,
    /// Thoughts whose signature has come: others are another block.
    Signed,
    Call(Call),
    /// One of another kind, in the provider's own words.
    Other,
}

/// Writes the events of a stream.
#[derive(Debug)]
pub(in crate::chat) struct Events {
    named: Named,
    has_begun: bool,
    /// Blocks that the client knows of; the open one is the last.
    blocks: usize,
    open: Option<Open>,
    /// Calls that came while the open one was not whole.
    waiting: Vec<Call>,
    finish: Option<Finish>,
    usage: Usage,
    /// Calls so far,
    calls: usize,
    /// and those of a model that another one goes on from.
    first_call: usize,
}

impl Events {
    pub(in crate::chat) fn new(named: Named) -> Self {
        Self {
            named,
            has_begun: false,
            blocks: 0,
            open: None,
            waiting: Vec::new(),
            finish: None,
            usage: Usage::default(),
            calls: 0,
            first_call: 0,
        }
    }

    /// Notes what the client was told in the provider's own words.
    pub(in crate::chat) fn observe(&mut self, delta: &Delta) {
        match delta {
            Delta::Start { .. } => self.has_begun = true,
            Delta::ToolCall { index, .. } => self.calls = self.calls.max(self.first_call + index + 1),
            Delta::Finish(finish) => self.finish = Some(finish.clone()),
            Delta::Usage(usage) => self.usage.update(usage),
            Delta::Text(_) | Delta::Reasoning(_) | Delta::Signature(_) | Delta::Arguments { .. } | Delta::End => {}
        }
    }

    /// Notes which blocks those words began and ended.
    pub(in crate::chat) fn observe_frame(&mut self, frame: &[u8]) {
        let Some(rest) = frame.strip_prefix(b"event:") else { return };
        let rest = rest.trim_ascii_start();
        if rest.starts_with(b"content_block_stop") {
            self.open = None;
        } else if let Some(rest) = rest.strip_prefix(b"content_block_start") {
            let data = rest.trim_ascii_start().strip_prefix(b"data:").unwrap_or_default();
            let Ok(begun) = serde_json::from_slice::<Begun<'_>>(data) else { return };
            self.blocks = begun.index.saturating_add(1);
            self.open = Some(match &*begun.content_block.kind {
                "text" => Open::Text,
                "thinking" => Open::Thinking,
                _ => Open::Other,
            });
        }
    }

    /// Another model goes on, which numbers its calls anew.
    pub(in crate::chat) fn continued(&mut self) {
        self.first_call = self.calls;
        self.finish = None;
    }

    /// Writes what a piece says.
    pub(in crate::chat) fn write(&mut self, delta: &Delta, into: &mut Vec<Bytes>) -> Result<(), Unsayable> {
        match delta {
            Delta::Start { model, .. } => {
                if !self.has_begun {
                    self.named.model.clone_from(model);
                }
            }
            // There is no block of nothing: it would be refused when it comes back.
            Delta::Text(text) | Delta::Reasoning(text) if text.is_empty() => {}
            Delta::Text(text) => {
                if !matches!(self.open, Some(Open::Text)) {
                    self.settle(into);
                    self.start(Open::Text, Block::Text { text: "" }, into);
                }
                self.delta(BlockDelta::Text { text }, into);
            }
            Delta::Reasoning(thinking) => {
                if !matches!(self.open, Some(Open::Thinking)) {
                    self.settle(into);
                    self.start(Open::Thinking, Block::Thinking { thinking: "", signature: "" }, into);
                }
                self.delta(BlockDelta::Thinking { thinking }, into);
            }
            Delta::Signature(signature) => self.signature(signature, into),
            Delta::ToolCall { index, id, name } => {
                let index = self.first_call + index;
                self.calls = self.calls.max(index + 1);
                self.call(Call { index, id: id.clone(), name: name.clone(), arguments: String::new() }, into);
            }
            Delta::Arguments { index, fragment } => self.arguments(self.first_call + index, fragment, into)?,
            Delta::Finish(finish) => self.finish = Some(finish.clone()),
            Delta::Usage(usage) => self.usage.update(usage),
            Delta::End => self.end(into),
        }
        Ok(())
    }

    /// What a provider wants to have back: with the thoughts before it, or, where it keeps them to itself, instead.
    fn signature(&mut self, signature: &str, into: &mut Vec<Bytes>) {
        if let Some(data) = signature.strip_prefix(REDACTED) {
            self.settle(into);
            self.start(Open::Other, Block::RedactedThinking { data }, into);
            return self.stop(into);
        }
        if !matches!(self.open, Some(Open::Thinking | Open::Signed)) {
            self.settle(into);
            self.start(Open::Thinking, Block::Thinking { thinking: "", signature: "" }, into);
        }
        self.delta(BlockDelta::Signature { signature }, into);
        self.open = Some(Open::Signed);
    }

    /// A call begins, unless the one before it is not whole.
    fn call(&mut self, call: Call, into: &mut Vec<Bytes>) {
        if matches!(&self.open, Some(Open::Call(open)) if !open.is_whole()) {
            self.waiting.push(call);
        } else {
            self.tell(call, into);
        }
    }

    fn arguments(&mut self, index: usize, fragment: &str, into: &mut Vec<Bytes>) -> Result<(), Unsayable> {
        match &mut self.open {
            Some(Open::Call(open)) if open.index == index => {
                open.arguments.push_str(fragment);
                self.delta(BlockDelta::Input { partial_json: fragment }, into);
                self.release(into);
                Ok(())
            }
            _ => match self.waiting.iter_mut().find(|call| call.index == index) {
                Some(call) => {
                    call.arguments.push_str(fragment);
                    Ok(())
                }
                None if fragment.trim().is_empty() => Ok(()),
                None => Err(Unsayable::Order),
            },
        }
    }

    /// Tells of calls that waited for the open one, as soon as that is whole.
    fn release(&mut self, into: &mut Vec<Bytes>) {
        while !self.waiting.is_empty() && matches!(&self.open, Some(Open::Call(open)) if open.is_whole()) {
            let next = self.waiting.remove(0);
            self.tell(next, into);
        }
    }

    /// Ends the open block, and tells of all calls that wait.
    fn settle(&mut self, into: &mut Vec<Bytes>) {
        for call in std::mem::take(&mut self.waiting) {
            self.tell(call, into);
        }
        self.stop(into);
    }

    /// Begins the block of a call, and says what is known of it.
    fn tell(&mut self, call: Call, into: &mut Vec<Bytes>) {
        let block = Block::ToolUse { id: &call.id, name: &call.name, input: Map::new() };
        self.begin_block(block, into);
        if !call.arguments.is_empty() {
            self.delta(BlockDelta::Input { partial_json: &call.arguments }, into);
        }
        self.open = Some(Open::Call(call));
    }

    fn start(&mut self, open: Open, block: Block<'_>, into: &mut Vec<Bytes>) {
        self.begin_block(block, into);
        self.open = Some(open);
    }

    fn begin_block(&mut self, content_block: Block<'_>, into: &mut Vec<Bytes>) {
        self.begin(into);
        self.stop(into);
        Told::ContentBlockStart { index: self.blocks, content_block }.put(into);
        self.blocks += 1;
    }

    fn delta(&self, delta: BlockDelta<'_>, into: &mut Vec<Bytes>) {
        Told::ContentBlockDelta { index: self.blocks.saturating_sub(1), delta }.put(into);
    }

    fn stop(&mut self, into: &mut Vec<Bytes>) {
        if self.open.take().is_some() {
            Told::ContentBlockStop { index: self.blocks.saturating_sub(1) }.put(into);
        }
    }

    /// The client is told who speaks, before anything else and once.
    fn begin(&mut self, into: &mut Vec<Bytes>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let message = Message {
            id: &self.named.id,
            kind: "message",
            role: "assistant",
            model: &self.named.model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: (&self.usage).into(),
        };
        Told::MessageStart { message }.put(into);
    }

    fn end(&mut self, into: &mut Vec<Bytes>) {
        self.begin(into);
        self.settle(into);
        let stop_reason = self.finish.as_ref().map_or("end_turn", stop_reason);
        let delta = MessageDelta { stop_reason, stop_sequence: None };
        Told::MessageDelta { delta, usage: (&self.usage).into() }.put(into);
        Told::MessageStop.put(into);
    }
}
