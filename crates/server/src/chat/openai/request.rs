//! What a client of chat completions asks, as in <https://platform.openai.com/docs/api-reference/chat/create>.
//!
//! Fields that have a meaning here are refused where they have the wrong one; all others go on, to a provider that
//! speaks the same, as they came. `functions`, which tools have replaced, are refused: half of the servers that speak this
//! do not know them, and which half an alias leads to changes.

use std::collections::HashSet;

use holdfast_llm::{Format, Message, Part, Request, Role, Sampling, Shape, Tool, ToolChoice};
use serde_json::Value;

use crate::{
    chat::{
        asked::{
            Asked, Counting, Delivery, Reading, check_choice, image_at, model_name, object_schema, original, stop,
            stops, tool, unique_name,
        },
        own::{Headers, Own},
        read::Node,
    },
    error::Failure,
};

/// Answers at once.
pub(crate) const ANSWERS_MAX: i64 = 8;
/// OpenAI's bounds.
pub(crate) const TEMPERATURE_MAX: f64 = 2.0;
pub(crate) const PENALTY_MAX: f64 = 2.0;
/// The longest name of a schema, in characters.
const SCHEMA_NAME_CHARS_MAX: usize = 64;
/// The longest word for an effort.
const EFFORT_CHARS_MAX: usize = 16;

/// What tools have replaced, and what does so.
const LEGACY: [(&str, &str); 2] = [("functions", "tools"), ("function_call", "tool_choice")];

/// Reads a body.
pub(in crate::chat) fn read(body: Value, headers: &Headers) -> Result<Asked, Failure> {
    let node = Node::body(&body);
    let own = Own::read(&node, headers)?;
    let model = model_name(node.required("model")?)?;
    for (legacy, instead) in LEGACY {
        if let Some(node) = node.field(legacy) {
            return Err(node.wrong(format_args!("is not taken any more: use {instead}")));
        }
    }
    let mut reading = Reading::new(&own);
    let messages = node.required("messages")?;
    let items = messages.items()?;
    if items.len() == 0 {
        return Err(messages.wrong("must have at least one message"));
    }
    for message in items {
        self::message(&message, &mut reading)?;
    }
    let (tools, names) = tools(&node)?;
    let tool_choice = match node.field("tool_choice") {
        Some(choice) => self::choice(&choice, &names)?,
        None => ToolChoice::Auto,
    };
    let mut request = Request {
        messages: reading.finish()?,
        tools,
        tool_choice,
        parallel_tool_calls: node.optional("parallel_tool_calls", Node::flag)?,
        format: node.optional("response_format", |node| format(&node))?.unwrap_or_default(),
        sampling: sampling(&node)?,
        ..Request::default()
    };
    let delivery = delivery(&node)?;
    request.original = Some(original(Shape::OpenAi, body));
    Ok(Asked { model, request, delivery, own })
}

/// One message; that of a tool has one result.
fn message(node: &Node<'_>, reading: &mut Reading) -> Result<(), Failure> {
    let role = node.required("role")?;
    if role.value() == "function" {
        return Err(role.wrong("must not be function any more: answer calls of tools with the role tool"));
    }
    let roles = [
        ("system", Role::System),
        ("developer", Role::System),
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("tool", Role::Tool),
    ];
    let role = role.one_of(&roles)?;
    let parts = match role {
        Role::System | Role::User => content(&node.required("content")?, reading)?,
        Role::Assistant => said(node, reading)?,
        Role::Tool => {
            let id = reading.answered(&node.required("tool_call_id")?)?;
            let content = content(&node.required("content")?, reading)?;
            vec![Part::ToolResult { id, content, is_error: false }]
        }
    };
    reading.message(Message { role, parts });
    Ok(())
}

/// What the model said before.
fn said(node: &Node<'_>, reading: &mut Reading) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    // The first is DeepSeek's and llama.cpp's word, the second that of vLLM and OpenRouter.
    let thought = node.field("reasoning_content").or_else(|| node.field("reasoning"));
    if let Some(thought) = thought.map(Node::owned).transpose()?.filter(|text| !text.is_empty()) {
        parts.push(Part::Reasoning { text: thought, signature: None });
    }
    if let Some(said) = node.field("content") {
        parts.extend(content(&said, reading)?);
    }
    parts.extend(node.optional("refusal", Node::owned)?.map(Part::Text));
    if let Some(call) = node.field("function_call") {
        return Err(call.wrong("is not taken any more: use tool_calls"));
    }
    if let Some(audio) = node.field("audio") {
        reading.wordless(&audio);
    }
    if let Some(calls) = node.field("tool_calls") {
        for call in calls.items()? {
            match call.field("type").map(|kind| kind.text()).transpose()? {
                None | Some("function") => {
                    let (id, function) = (call.required("id")?, call.required("function")?);
                    let arguments = function.optional("arguments", Node::owned)?.unwrap_or_default();
                    parts.push(reading.call(&id, &function.required("name")?, arguments)?);
                }
                Some(_) => {
                    // Its result says what it answers.
                    call.optional("id", |id| reading.called(&id))?;
                    reading.wordless(&call);
                }
            }
        }
    }
    Ok(parts)
}

/// Text, or parts of several kinds.
fn content(node: &Node<'_>, reading: &mut Reading) -> Result<Vec<Part>, Failure> {
    if let Some(text) = node.value().as_str() {
        return Ok(vec![Part::Text(text.to_owned())]);
    }
    if !node.value().is_array() {
        return Err(node.wrong("must be text or a list of parts"));
    }
    let mut parts = Vec::new();
    for part in node.items()? {
        match part.required("type")?.text()? {
            "text" => parts.push(Part::Text(part.required("text")?.owned()?)),
            "refusal" => parts.push(Part::Text(part.required("refusal")?.owned()?)),
            "image_url" => {
                let image = part.required("image_url")?;
                parts.push(Part::Image(image_at(&image.required("url")?)?));
            }
            _ => reading.wordless(&part),
        }
    }
    Ok(parts)
}

/// The tools, and the names of all of them.
fn tools(body: &Node<'_>) -> Result<(Vec<Tool>, HashSet<String>), Failure> {
    let (mut tools, mut names) = (Vec::new(), HashSet::new());
    let Some(list) = body.field("tools") else { return Ok((tools, names)) };
    for node in list.items()? {
        match node.required("type")?.text()? {
            "function" => {
                let function = node.required("function")?;
                function.fields()?;
                tools.push(tool(&function, "parameters", &mut names)?);
            }
            other => {
                if let Some(custom) = node.field(other).filter(|custom| custom.field("name").is_some()) {
                    unique_name(&custom, &mut names)?;
                }
            }
        }
    }
    Ok((tools, names))
}

fn choice(node: &Node<'_>, names: &HashSet<String>) -> Result<ToolChoice, Failure> {
    let choice = if node.value().is_string() {
        let words = [("auto", Choice::Auto), ("none", Choice::None), ("required", Choice::Required)];
        match node.one_of(&words)? {
            Choice::Auto => ToolChoice::Auto,
            Choice::None => ToolChoice::None,
            Choice::Required => ToolChoice::Required,
        }
    } else {
        match node.required("type")?.text()? {
            "function" => ToolChoice::Named(node.required("function")?.required("name")?.owned()?),
            // Which other kinds there are changes; what llm has no word for goes to providers of this shape alone.
            _ => ToolChoice::Auto,
        }
    };
    check_choice(node, &choice, names)?;
    Ok(choice)
}

/// The words for choices of tools.
#[derive(Clone, Copy)]
enum Choice {
    Auto,
    None,
    Required,
}

fn format(node: &Node<'_>) -> Result<Format, Failure> {
    match node.required("type")?.text()? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::JsonObject),
        "json_schema" => {
            let wanted = node.required("json_schema")?;
            let name = wanted.required("name")?;
            if name.text()?.is_empty() || name.text()?.chars().count() > SCHEMA_NAME_CHARS_MAX {
                return Err(name.wrong(format_args!("must have 1 to {SCHEMA_NAME_CHARS_MAX} characters")));
            }
            Ok(Format::JsonSchema {
                name: name.owned()?,
                schema: object_schema(&wanted.required("schema")?)?,
                strict: wanted.optional("strict", Node::flag)?,
            })
        }
        _ => Err(node.required("type")?.wrong("must be one of text, json_object, json_schema")),
    }
}

fn sampling(body: &Node<'_>) -> Result<Sampling, Failure> {
    let max_tokens = body.optional("max_tokens", Node::count)?;
    let max_completion_tokens = body.optional("max_completion_tokens", Node::count)?;
    if let (Some(one), Some(other)) = (max_tokens, max_completion_tokens)
        && one != other
    {
        return Err(Failure::field("max_tokens", "is another number than max_completion_tokens, which replaces it"));
    }
    let penalty = |name| body.optional(name, |node| node.number(-PENALTY_MAX..=PENALTY_MAX));
    Ok(Sampling {
        max_tokens: max_completion_tokens.or(max_tokens),
        temperature: body.optional("temperature", |node| node.number(0.0..=TEMPERATURE_MAX))?,
        top_p: body.optional("top_p", |node| node.number(0.0..=1.0))?,
        // An addition of local servers, of which some have 0 and some -1 for none.
        top_k: body.optional("top_k", |node| node.integer(-1..=i64::from(u32::MAX)))?.and_then(positive),
        stop: body.optional("stop", stopping)?.unwrap_or_default(),
        seed: body.optional("seed", |node| node.integer(i64::MIN..=i64::MAX))?,
        frequency_penalty: penalty("frequency_penalty")?,
        presence_penalty: penalty("presence_penalty")?,
        answers: body.optional("n", |node| node.integer(1..=ANSWERS_MAX))?.and_then(positive),
        thinking_tokens: None,
        reasoning_effort: body.optional("reasoning_effort", |node| effort(&node))?,
    })
}

fn positive(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn effort(node: &Node<'_>) -> Result<String, Failure> {
    let word = node.text()?;
    let is_word = (1..=EFFORT_CHARS_MAX).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase());
    // Which there are differs from model to model.
    if is_word { Ok(word.to_owned()) } else { Err(node.wrong("must be a word, such as low, medium or high")) }
}

fn stopping(node: Node<'_>) -> Result<Vec<String>, Failure> {
    match node.value() {
        Value::String(_) => Ok(vec![stop(&node)?]),
        Value::Array(_) => stops(node),
        _ => Err(node.wrong("must be text or a list of texts")),
    }
}

fn delivery(body: &Node<'_>) -> Result<Delivery, Failure> {
    let is_stream = body.optional("stream", Node::flag)?.unwrap_or(false);
    let Some(options) = body.field("stream_options") else {
        return Ok(if is_stream { Delivery::Stream(Counting::Untold) } else { Delivery::Whole });
    };
    options.fields()?;
    if !is_stream {
        return Err(options.wrong("is for streams only, which stream asks for"));
    }
    let is_told = options.optional("include_usage", Node::flag)?.unwrap_or(false);
    Ok(Delivery::Stream(if is_told { Counting::Told } else { Counting::Untold }))
}
