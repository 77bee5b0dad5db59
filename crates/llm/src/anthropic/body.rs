//! What is sent to a server that speaks Anthropic's messages.
//!
//! A body that came in that shape is sent as it is, but for its model and what the session and the search add. Others are
//! made of the vocabulary: words of the system go before the conversation, wherever they stood (as Anthropic's own layer
//! for OpenAI's clients has it), results of tools into messages of the user, and messages of one side that follow each
//! other become one.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    Call, CallError, Format, Image, Message, Part, Request, Role, Shape, Tool, ToolChoice,
    express::{check, inexpressible},
    message::REDACTED,
    passed::Passed,
};

/// Tokens of an answer at most, where neither the client nor the model's description says.
pub const MAX_TOKENS_DEFAULT: u32 = 4_096;
/// What counting tokens does not take of a request.
const NOT_COUNTED: [&str; 10] = [
    "max_tokens",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "metadata",
    "service_tier",
    "container",
    "inference_geo",
];

/// What the body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Whole,
    Streamed,
    Count,
}

/// The body of a call.
pub(super) fn body(call: &Call, purpose: Purpose) -> Result<Bytes, CallError> {
    let request = &*call.request;
    let (made, passed);
    let body = match &request.original {
        Some(original) if original.shape == Shape::Anthropic => {
            passed = &original.body;
            passed
        }
        _ => {
            check(Shape::Anthropic, request)?;
            made = from_vocabulary(request, call.max_output_tokens)?;
            &made
        }
    };
    let mut replaced = Map::new();
    replaced.insert("model".to_owned(), Value::from(call.model.as_str()));
    if purpose != Purpose::Count {
        replaced.insert("stream".to_owned(), Value::from(purpose == Purpose::Streamed));
    }
    if let Some(words) = request.added_system_words() {
        replaced.insert("system".to_owned(), with_words(body.get("system"), &words));
    }
    let messages = with_additions(body, request, call.continued.as_deref())?;
    let without: &[&str] = match (purpose, &call.continued) {
        (Purpose::Count, _) => &NOT_COUNTED,
        // A model that thinks begins with its thoughts and cannot go on from words.
        (_, Some(_)) => &["thinking"],
        _ => &[],
    };
    Passed { body, replaced, messages, without }.to_bytes()
}

fn with_words(system: Option<&Value>, words: &str) -> Value {
    match system {
        Some(Value::String(text)) if !text.is_empty() => Value::from(format!("{text}\n\n{words}")),
        Some(Value::Array(blocks)) => blocks.iter().cloned().chain([json!({"type": "text", "text": words})]).collect(),
        _ => Value::from(words),
    }
}

/// The messages with what is added to them; nothing where nothing is.
fn with_additions<'a>(
    body: &'a Map<String, Value>,
    request: &Request,
    continued: Option<&str>,
) -> Result<Option<Vec<Cow<'a, Value>>>, CallError> {
    let Some(own) = body.get("messages").and_then(Value::as_array) else { return Ok(None) };
    let has_unsigned = own.iter().any(|message| blocks(message).iter().any(is_unsigned));
    if request.history.is_empty() && continued.is_none() && !has_unsigned {
        return Ok(None);
    }
    let mut messages: Vec<Cow<'_, Value>> = conversation(&request.history)?.into_iter().map(Cow::Owned).collect();
    messages.extend(own.iter().filter_map(without_unsigned));
    // What ends in white space is refused.
    let text = continued.map(str::trim_end).filter(|text| !text.is_empty());
    messages.extend(text.map(|text| Cow::Owned(json!({"role": "assistant", "content": text}))));
    Ok(Some(messages))
}

fn blocks(message: &Value) -> &[Value] {
    message.get("content").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether it is a thought that nobody signed, as a client has them from a model that another provider runs.
fn is_unsigned(block: &Value) -> bool {
    block["type"] == "thinking" && block["signature"].as_str().is_none_or(str::is_empty)
}

/// A message without thoughts that would be refused; nothing where it has nothing else.
fn without_unsigned(message: &Value) -> Option<Cow<'_, Value>> {
    if !blocks(message).iter().any(is_unsigned) {
        return Some(Cow::Borrowed(message));
    }
    let left: Vec<&Value> = blocks(message).iter().filter(|block| !is_unsigned(block)).collect();
    let mut shorter = message.clone();
    shorter["content"] = json!(left);
    (!left.is_empty()).then_some(Cow::Owned(shorter))
}

fn from_vocabulary(request: &Request, max_output_tokens: Option<u32>) -> Result<Map<String, Value>, CallError> {
    let sampling = &request.sampling;
    let mut body = Map::new();
    let words: Vec<&str> =
        request.messages.iter().filter(|it| it.role == Role::System).flat_map(Message::texts).collect();
    let system = (!words.is_empty()).then(|| Value::from(words.join("\n")));
    let max_tokens = sampling.max_tokens.or(max_output_tokens).unwrap_or(MAX_TOKENS_DEFAULT);
    let stop = (!sampling.stop.is_empty()).then(|| Value::from(sampling.stop.clone()));
    let thinking = sampling.thinking_tokens.map(|tokens| json!({"type": "enabled", "budget_tokens": tokens}));
    let fields = [
        ("messages", Some(Value::Array(conversation(&request.messages)?))),
        ("system", system),
        ("max_tokens", Some(Value::from(max_tokens))),
        ("temperature", sampling.temperature.map(Value::from)),
        ("top_p", sampling.top_p.map(Value::from)),
        ("top_k", sampling.top_k.map(Value::from)),
        ("stop_sequences", stop),
        ("thinking", thinking),
        ("output_config", output_config(request)),
    ];
    body.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    add_tools(&mut body, request);
    Ok(body)
}

/// What the answer has to look like and how much effort goes into it.
fn output_config(request: &Request) -> Option<Value> {
    let mut config = Map::new();
    if let Format::JsonSchema { schema, .. } = &request.format {
        config.insert("format".to_owned(), json!({"type": "json_schema", "schema": schema}));
    }
    if let Some(effort) = request.sampling.reasoning_effort.as_deref().and_then(effort) {
        config.insert("effort".to_owned(), Value::from(effort));
    }
    (!config.is_empty()).then_some(Value::Object(config))
}

/// Anthropic's word for an effort: the same but for the least, of which it has one. Nothing for no effort at all, and for
/// words that are not known.
pub(crate) fn effort(effort: &str) -> Option<&'static str> {
    match effort {
        "minimal" | "low" => Some("low"),
        "medium" => Some("medium"),
        "high" => Some("high"),
        "xhigh" => Some("xhigh"),
        _ => None,
    }
}

fn add_tools(body: &mut Map<String, Value>, request: &Request) {
    if request.tools.is_empty() {
        return;
    }
    body.insert("tools".to_owned(), request.tools.iter().map(tool_value).collect());
    let is_single = request.parallel_tool_calls == Some(false);
    let mut choice = match &request.tool_choice {
        ToolChoice::Auto if !is_single => return,
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => json!({"type": "none"}),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
    };
    if is_single && request.tool_choice != ToolChoice::None {
        choice["disable_parallel_tool_use"] = Value::from(true);
    }
    body.insert("tool_choice".to_owned(), choice);
}

fn tool_value(tool: &Tool) -> Value {
    let mut value = json!({"name": tool.name, "input_schema": tool.parameters});
    if let Some(description) = &tool.description {
        value["description"] = Value::from(description.as_str());
    }
    if tool.strict == Some(true) {
        value["strict"] = Value::from(true);
    }
    value
}

/// The messages of the two sides, in turns.
fn conversation(messages: &[Message]) -> Result<Vec<Value>, CallError> {
    let mut turns: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for message in messages {
        let side = match message.role {
            // Its words stand before the conversation.
            Role::System => continue,
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let blocks: Vec<Option<Value>> = message.parts.iter().map(block).collect::<Result<_, _>>()?;
        let mut blocks: Vec<Value> = blocks.into_iter().flatten().collect();
        match turns.last_mut() {
            _ if blocks.is_empty() => (),
            Some((last, turn)) if *last == side => turn.append(&mut blocks),
            _ => turns.push((side, blocks)),
        }
    }
    if let Some(("assistant", turn)) = turns.last_mut() {
        trim_end(turn);
    }
    let turns = turns.into_iter().filter(|(_, blocks)| !blocks.is_empty());
    Ok(turns.map(|(side, blocks)| json!({"role": side, "content": blocks})).collect())
}

/// The last words of a model that is to go on from them must not end in white space.
fn trim_end(blocks: &mut Vec<Value>) {
    let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text")) else { return };
    text.truncate(text.trim_end().len());
    if text.is_empty() {
        blocks.pop();
    }
}

/// A part as a block; nothing for what says nothing.
fn block(part: &Part) -> Result<Option<Value>, CallError> {
    Ok(Some(match part {
        // Empty ones are refused.
        Part::Text(text) if text.is_empty() => return Ok(None),
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image(image) => json!({"type": "image", "source": image_source(image)}),
        Part::ToolCall { id, name, arguments } => {
            json!({"type": "tool_use", "id": tool_id(id), "name": name, "input": input(arguments)?})
        }
        Part::ToolResult { id, content, is_error } => {
            let content: Vec<Option<Value>> = content.iter().map(block).collect::<Result<_, _>>()?;
            let content: Vec<Value> = content.into_iter().flatten().collect();
            let mut value = json!({"type": "tool_result", "tool_use_id": tool_id(id), "content": content});
            if *is_error {
                value["is_error"] = Value::from(true);
            }
            value
        }
        // Thoughts that nobody signed would be refused.
        Part::Reasoning { signature: None, .. } => return Ok(None),
        Part::Reasoning { text, signature: Some(signature) } => match signature.strip_prefix(REDACTED) {
            Some(data) => json!({"type": "redacted_thinking", "data": data}),
            None => json!({"type": "thinking", "thinking": text, "signature": signature}),
        },
    }))
}

fn image_source(image: &Image) -> Value {
    match image {
        Image::Inline { media_type, data } => json!({"type": "base64", "media_type": media_type, "data": data}),
        Image::Url(url) => match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
            Some((media_type, data)) => json!({"type": "base64", "media_type": media_type, "data": data}),
            None => json!({"type": "url", "url": url}),
        },
    }
}

/// Ids have letters, digits, `_` and `-` here; those of other providers may have more. One that is cleaned gets a hash of
/// what it was, so that two that differ only there stay two, and a call's is that of its result.
fn tool_id(id: &str) -> Cow<'_, str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.chars().all(is_allowed) {
        return Cow::Borrowed(id);
    }
    let clean: String = id.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    Cow::Owned(format!("{clean}_{:08x}", fnv1a(id)))
}

/// FNV-1a in 32 bits (Fowler, Noll, Vo): short, and the same in every build, since ids are kept in sessions.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The arguments of a call as the object they have to be. Some models write nothing where there are none.
pub(crate) fn input(arguments: &str) -> Result<Value, CallError> {
    if arguments.trim().is_empty() {
        return Ok(json!({}));
    }
    let parsed = serde_json::from_str(arguments).ok().filter(Value::is_object);
    parsed.ok_or_else(|| inexpressible("arguments of a tool call that are no JSON object", Shape::Anthropic))
}
