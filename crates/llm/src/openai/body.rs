//! What is sent to a server that speaks OpenAI's chat completions.
//!
//! A body that came in that shape is sent as it is, but for its model, what the session and the search add to its
//! messages, and what a stream needs. Others are made of the vocabulary.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    Call, CallError, Format, Image, Message, Part, Request, Role, Sampling, Shape, Tool, ToolChoice,
    express::{check, inexpressible},
    passed::Passed,
};

/// Fewer tokens to think with than that are `low` effort; the two numbers are ours, as OpenAI names none.
const LOW_BELOW_TOKENS: u32 = 4_096;
/// Fewer than that are `medium`, more are `high`.
const MEDIUM_BELOW_TOKENS: u32 = 16_384;

/// How the answer is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Whole,
    Streamed,
}

/// What a server calls the bound on the answer's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// What OpenAI itself wants; its reasoning models refuse the other.
    MaxCompletionTokens,
    /// What every imitation knows.
    MaxTokens,
}

impl Bound {
    const ALL: [Self; 2] = [Self::MaxCompletionTokens, Self::MaxTokens];

    const fn name(self) -> &'static str {
        match self {
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxTokens => "max_tokens",
        }
    }
}

/// The body of a call.
pub(super) fn body(call: &Call, manner: Manner, bound: Bound) -> Result<Bytes, CallError> {
    let request = &*call.request;
    let (made, passed);
    let body = match &request.original {
        Some(original) if original.shape == Shape::OpenAi => {
            passed = &original.body;
            passed
        }
        _ => {
            check(Shape::OpenAi, request)?;
            made = from_vocabulary(request, bound)?;
            &made
        }
    };
    let has_number = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
    let mut replaced = Map::new();
    replaced.insert("model".to_owned(), Value::from(call.model.as_str()));
    replaced.insert("stream".to_owned(), Value::from(manner == Manner::Streamed));
    if manner == Manner::Streamed && !wants_usage(request) {
        let mut options = body.get("stream_options").and_then(Value::as_object).cloned().unwrap_or_default();
        options.insert("include_usage".to_owned(), Value::from(true));
        replaced.insert("stream_options".to_owned(), Value::Object(options));
    }
    if let Some(most) = call.max_output_tokens
        && !Bound::ALL.iter().any(|bound| has_number(bound.name()))
    {
        replaced.insert(bound.name().to_owned(), Value::from(most));
    }
    if call.continued.is_some() {
        // As vLLM and llama.cpp have it; servers that go on from the last message by themselves pass them over.
        replaced.insert("add_generation_prompt".to_owned(), Value::from(false));
        replaced.insert("continue_final_message".to_owned(), Value::from(true));
    }
    let without: &[&str] = if manner == Manner::Streamed { &[] } else { &["stream_options"] };
    let messages = with_additions(body, request, call.continued.as_deref())?;
    Passed { body, replaced, messages, without }.to_bytes()
}

/// Whether the client of an original asked for usage at the end of a stream.
pub(super) fn wants_usage(request: &Request) -> bool {
    let original = request.original.as_ref().filter(|original| original.shape == Shape::OpenAi);
    let asked = original.and_then(|original| original.body.get("stream_options")?.get("include_usage")?.as_bool());
    asked.unwrap_or(false)
}

/// The messages with what is added to them; nothing where nothing is.
fn with_additions<'a>(
    body: &'a Map<String, Value>,
    request: &Request,
    continued: Option<&str>,
) -> Result<Option<Vec<Cow<'a, Value>>>, CallError> {
    let words = request.added_system_words();
    if words.is_none() && request.history.is_empty() && continued.is_none() {
        return Ok(None);
    }
    let Some(own) = body.get("messages").and_then(Value::as_array) else { return Ok(None) };
    let is_system = |message: &&Value| matches!(message["role"].as_str(), Some("system" | "developer"));
    let (first, others) = own.split_at(own.iter().take_while(is_system).count());
    let mut messages: Vec<Cow<'_, Value>> = first.iter().map(Cow::Borrowed).collect();
    if let Some(words) = &words {
        // Templates of many models take one system message, so they become part of that, where there is one.
        match messages.last_mut() {
            Some(last) => append(last.to_mut(), words),
            None => messages.push(Cow::Owned(json!({"role": "system", "content": words}))),
        }
    }
    for message in request.history.iter().filter(|message| message.role != Role::System) {
        messages.extend(message_values(message)?.into_iter().map(Cow::Owned));
    }
    messages.extend(others.iter().map(Cow::Borrowed));
    messages.extend(continued.map(|text| Cow::Owned(json!({"role": "assistant", "content": text}))));
    Ok(Some(messages))
}

fn append(message: &mut Value, context: &str) {
    match &mut message["content"] {
        Value::String(text) => {
            text.push_str("\n\n");
            text.push_str(context);
        }
        Value::Array(parts) => parts.push(json!({"type": "text", "text": context})),
        other => *other = Value::from(context),
    }
}

fn from_vocabulary(request: &Request, bound: Bound) -> Result<Map<String, Value>, CallError> {
    let mut body = Map::new();
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        messages.append(&mut message_values(message)?);
    }
    body.insert("messages".to_owned(), Value::Array(messages));
    add_tools(&mut body, request);
    add_format(&mut body, &request.format);
    add_sampling(&mut body, &request.sampling, bound);
    Ok(body)
}

fn add_tools(body: &mut Map<String, Value>, request: &Request) {
    if request.tools.is_empty() {
        return;
    }
    body.insert("tools".to_owned(), request.tools.iter().map(tool_value).collect());
    let choice = match &request.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(Value::from("none")),
        ToolChoice::Required => Some(Value::from("required")),
        ToolChoice::Named(name) => Some(json!({"type": "function", "function": {"name": name}})),
    };
    body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    let parallel = request.parallel_tool_calls.map(Value::from);
    body.extend(parallel.map(|parallel| ("parallel_tool_calls".to_owned(), parallel)));
}

fn tool_value(tool: &Tool) -> Value {
    let mut function = json!({"name": tool.name, "parameters": tool.parameters});
    if let Some(description) = &tool.description {
        function["description"] = Value::from(description.as_str());
    }
    if let Some(strict) = tool.strict {
        function["strict"] = Value::from(strict);
    }
    json!({"type": "function", "function": function})
}

fn add_format(body: &mut Map<String, Value>, format: &Format) {
    let value = match format {
        Format::Text => return,
        Format::JsonObject => json!({"type": "json_object"}),
        Format::JsonSchema { name, schema, strict } => {
            let mut described = json!({"name": name, "schema": schema});
            if let Some(strict) = strict {
                described["strict"] = Value::from(*strict);
            }
            json!({"type": "json_schema", "json_schema": described})
        }
    };
    body.insert("response_format".to_owned(), value);
}

fn add_sampling(body: &mut Map<String, Value>, sampling: &Sampling, bound: Bound) {
    let effort = sampling.reasoning_effort.as_deref().or_else(|| sampling.thinking_tokens.map(effort));
    let stop = (!sampling.stop.is_empty()).then(|| Value::from(sampling.stop.clone()));
    let fields = [
        (bound.name(), sampling.max_tokens.map(Value::from)),
        ("temperature", sampling.temperature.map(Value::from)),
        ("top_p", sampling.top_p.map(Value::from)),
        ("stop", stop),
        ("seed", sampling.seed.map(Value::from)),
        ("frequency_penalty", sampling.frequency_penalty.map(Value::from)),
        ("presence_penalty", sampling.presence_penalty.map(Value::from)),
        ("n", sampling.answers.map(Value::from)),
        ("reasoning_effort", effort.map(Value::from)),
    ];
    body.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
}

/// The effort that comes nearest to a number of tokens to think with.
const fn effort(thinking_tokens: u32) -> &'static str {
    match thinking_tokens {
        ..LOW_BELOW_TOKENS => "low",
        LOW_BELOW_TOKENS..MEDIUM_BELOW_TOKENS => "medium",
        _ => "high",
    }
}

/// A message as OpenAI has it; results of tools are a message each.
fn message_values(message: &Message) -> Result<Vec<Value>, CallError> {
    let results = message.parts.iter().filter_map(|part| match part {
        Part::ToolResult { id, content, .. } => Some(result_value(id, content)),
        _ => None,
    });
    let mut values = results.collect::<Result<Vec<_>, _>>()?;
    let calls: Vec<Value> = message.parts.iter().filter_map(call_value).collect();
    let content = content_value(message);
    if calls.is_empty() && content.is_null() && (!values.is_empty() || message.role == Role::Tool) {
        return Ok(values);
    }
    let mut value = json!({"role": message.role.as_str(), "content": content});
    if !calls.is_empty() {
        value["tool_calls"] = Value::Array(calls);
    } else if value["content"].is_null() {
        value["content"] = Value::from("");
    }
    values.push(value);
    Ok(values)
}

/// Text alone is a string, which every server takes; a list only where there are pictures.
fn content_value(message: &Message) -> Value {
    if message.parts.iter().any(|part| matches!(part, Part::Image(_))) {
        return message.parts.iter().filter_map(content_part).collect();
    }
    let texts: Vec<&str> = message.texts().collect();
    if texts.is_empty() { Value::Null } else { Value::from(texts.join("\n")) }
}

fn content_part(part: &Part) -> Option<Value> {
    match part {
        Part::Text(text) => Some(json!({"type": "text", "text": text})),
        Part::Image(image) => Some(json!({"type": "image_url", "image_url": {"url": image_url(image)}})),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Reasoning { .. } => None,
    }
}

fn image_url(image: &Image) -> Cow<'_, str> {
    match image {
        Image::Url(url) => Cow::Borrowed(url),
        Image::Inline { media_type, data } => Cow::Owned(format!("data:{media_type};base64,{data}")),
    }
}

fn call_value(part: &Part) -> Option<Value> {
    let Part::ToolCall { id, name, arguments } = part else { return None };
    Some(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}))
}

fn result_value(id: &str, content: &[Part]) -> Result<Value, CallError> {
    let texts = content.iter().map(|part| match part {
        Part::Text(text) => Ok(text.as_str()),
        _ => Err(inexpressible("an image in a tool's result", Shape::OpenAi)),
    });
    let texts: Vec<&str> = texts.collect::<Result<_, _>>()?;
    Ok(json!({"role": "tool", "tool_call_id": id, "content": texts.join("\n")}))
}
