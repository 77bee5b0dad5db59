//! What a client of chat completions gets that another shape of provider answered: the object, and the events of a stream.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/chat/object> and `…/chat-streaming`; `reasoning_content` is
//! what DeepSeek, vLLM and llama.cpp have for thoughts. What a provider wants to have back with its thoughts has no place
//! there and is left out.

use bytes::Bytes;
use holdfast_llm::{Answer, Delta, Finish, Part, Usage};
use serde::Serialize;

use crate::chat::{
    asked::Counting,
    encode::{Named, Unsayable, event, usage_total},
};

/// What follows the last event.
pub(in crate::chat) const DONE: &[u8] = b"data: [DONE]\n\n";

#[derive(Debug, Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageAnswer>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Debug, Serialize)]
struct UsageAnswer {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Debug, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl UsageAnswer {
    /// Nothing where the provider counted nothing.
    fn of(usage: &Usage) -> Option<Self> {
        if usage.input_tokens.is_none() && usage.output_tokens.is_none() {
            return None;
        }
        let (prompt_tokens, completion_tokens, total_tokens) = usage_total(usage);
        Some(Self {
            prompt_tokens,
            completion_tokens,
            total_tokens,
            prompt_tokens_details: usage.cached_input_tokens.map(|cached_tokens| PromptDetails { cached_tokens }),
            completion_tokens_details: usage
                .reasoning_tokens
                .map(|reasoning_tokens| CompletionDetails { reasoning_tokens }),
        })
    }
}

/// The word for why an answer ended. Clients know these and no others.
fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Other(_) => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
    }
}

/// A whole answer.
pub(in crate::chat) fn whole(answer: &Answer, named: &Named) -> Vec<u8> {
    let (mut text, mut thoughts, mut calls) = (None, None, Vec::new());
    for part in &answer.parts {
        match part {
            Part::Text(said) => text.get_or_insert_with(String::new).push_str(said),
            Part::Reasoning { text: thought, .. } if !thought.is_empty() => {
                thoughts.get_or_insert_with(String::new).push_str(thought);
            }
            Part::ToolCall { id, name, arguments } => {
                calls.push(Call { id, kind: "function", function: Function { name, arguments } });
            }
            // Models say nothing of these kinds.
            Part::Reasoning { .. } | Part::Image(_) | Part::ToolResult { .. } => {}
        }
    }
    if calls.is_empty() {
        text.get_or_insert_with(String::new);
    }
    let message =
        Message { role: "assistant", content: text, refusal: None, reasoning_content: thoughts, tool_calls: calls };
    let choice = Choice { index: 0, message, logprobs: None, finish_reason: finish_reason(&answer.finish) };
    let completion = Completion {
        id: &named.id,
        object: "chat.completion",
        created: named.created_s,
        model: &answer.model,
        choices: [choice],
        usage: UsageAnswer::of(&answer.usage),
    };
    serde_json::to_vec(&completion).unwrap_or_default()
}

#[derive(Debug, Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    /// Absent where nobody asked for it, `null` before the end where somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<&'a UsageAnswer>>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: ChunkDelta<'a>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct ChunkDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ChunkCall<'a>; 1]>,
}

#[derive(Debug, Serialize)]
struct ChunkCall<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: ChunkFunction<'a>,
}

#[derive(Debug, Serialize)]
struct ChunkFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

/// Writes the events of a stream.
#[derive(Debug)]
pub(in crate::chat) struct Events {
    named: Named,
    counting: Counting,
    has_begun: bool,
    finish: Option<Finish>,
    usage: Usage,
    /// Calls that the client knows of.
    calls: usize,
    /// What is added to the index of a call, after another model has gone on.
    first_call: usize,
}

impl Events {
    pub(in crate::chat) fn new(named: Named, counting: Counting) -> Self {
        Self { named, counting, has_begun: false, finish: None, usage: Usage::default(), calls: 0, first_call: 0 }
    }

    /// Notes what the client was told in the provider's own words.
    pub(in crate::chat) fn observe(&mut self, delta: &Delta) {
        match delta {
            Delta::Start { id, model } => {
                self.named.id.clone_from(id);
                self.named.model.clone_from(model);
                self.has_begun = true;
            }
            Delta::ToolCall { index, .. } => self.calls = self.calls.max(self.first_call + index + 1),
            Delta::Finish(finish) => self.finish = Some(finish.clone()),
            Delta::Usage(usage) => self.usage.update(usage),
            Delta::Text(_) | Delta::Reasoning(_) | Delta::Signature(_) | Delta::Arguments { .. } | Delta::End => {}
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
            Delta::Text(text) => {
                self.begin(into);
                self.chunk(ChunkDelta { content: Some(text), ..ChunkDelta::default() }, None, into);
            }
            Delta::Reasoning(text) => {
                self.begin(into);
                self.chunk(ChunkDelta { reasoning_content: Some(text), ..ChunkDelta::default() }, None, into);
            }
            Delta::Signature(_) => {}
            Delta::ToolCall { index, id, name } => {
                self.begin(into);
                let index = self.first_call + index;
                self.calls = self.calls.max(index + 1);
                let function = ChunkFunction { name: Some(name), arguments: "" };
                self.call(ChunkCall { index, id: Some(id), kind: Some("function"), function }, into);
            }
            Delta::Arguments { index, fragment } => {
                let function = ChunkFunction { name: None, arguments: fragment };
                self.call(ChunkCall { index: self.first_call + index, id: None, kind: None, function }, into);
            }
            Delta::Finish(finish) => self.finish = Some(finish.clone()),
            Delta::Usage(usage) => self.usage.update(usage),
            Delta::End => self.end(into),
        }
        Ok(())
    }

    /// The client is told who speaks, before anything else and once.
    fn begin(&mut self, into: &mut Vec<Bytes>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.chunk(ChunkDelta { role: Some("assistant"), content: Some(""), ..ChunkDelta::default() }, None, into);
        }
    }

    fn end(&mut self, into: &mut Vec<Bytes>) {
        self.begin(into);
        let reason = self.finish.as_ref().map_or("stop", finish_reason);
        self.chunk(ChunkDelta::default(), Some(reason), into);
        if self.counting == Counting::Told {
            let usage = UsageAnswer::of(&self.usage);
            into.push(self.event(&[], Some(usage.as_ref())));
        }
        into.push(Bytes::from_static(DONE));
    }

    fn call(&self, call: ChunkCall<'_>, into: &mut Vec<Bytes>) {
        self.chunk(ChunkDelta { tool_calls: Some([call]), ..ChunkDelta::default() }, None, into);
    }

    fn chunk(&self, delta: ChunkDelta<'_>, finish_reason: Option<&'static str>, into: &mut Vec<Bytes>) {
        let usage = (self.counting == Counting::Told).then_some(None);
        into.push(self.event(&[ChunkChoice { index: 0, delta, finish_reason }], usage));
    }

    fn event(&self, choices: &[ChunkChoice<'_>], usage: Option<Option<&UsageAnswer>>) -> Bytes {
        let Named { id, model, created_s } = &self.named;
        event(None, &Chunk { id, object: "chat.completion.chunk", created: *created_s, model, choices, usage })
    }
}
