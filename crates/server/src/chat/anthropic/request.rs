//! What a client of the messages API asks, as in <https://docs.claude.com/en/api/messages>, and what it wants counted.
//!
//! Fields that have a meaning here are refused where they have the wrong one; all others go on, to a provider that
//! speaks the same, as they came. Results of tools stand in messages of the user there; in the vocabulary each is a message
//! of its own, between those of what the user says around them.

use std::collections::HashSet;

use holdfast_llm::{Format, Image, Message, Part, Request, Role, Sampling, Shape, Tool, ToolChoice, message::REDACTED};
use serde_json::Value;

use crate::{
    chat::{
        asked::{
            Asked, Counting, Delivery, Reading, as_text, check_choice, image_at, model_name, object_schema, original,
            picture, stops, tool, unique_name,
        },
        own::{Headers, Own},
        read::Node,
    },
    error::Failure,
};

/// Anthropic's bound.
pub(crate) const TEMPERATURE_MAX: f64 = 1.0;
/// The fewest tokens to think with.
pub(crate) const THINKING_TOKENS_MIN: i64 = 1_024;
/// What a schema is called that has no name there.
const SCHEMA_NAME: &str = "answer";

/// What a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::chat) enum For {
    /// A message, which has a length.
    Message,
    /// Counting its tokens.
    Count,
}

/// Reads a body.
pub(in crate::chat) fn read(body: Value, headers: &Headers, purpose: For) -> Result<Asked, Failure> {
    let node = Node::body(&body);
    let own = Own::read(&node, headers)?;
    let model = model_name(node.required("model")?)?;
    let mut reading = Reading::new(&own);
    if let Some(system) = node.field("system") {
        let parts = content(&system, &mut reading)?;
        reading.message(Message { role: Role::System, parts });
    }
    let messages = node.required("messages")?;
    let items = messages.items()?;
    if items.len() == 0 {
        return Err(messages.wrong("must have at least one message"));
    }
    for message in items {
        self::message(&message, &mut reading)?;
    }
    let (tools, names) = tools(&node)?;
    let (tool_choice, parallel_tool_calls) = match node.field("tool_choice") {
        Some(choice) => self::choice(&choice, &names)?,
        None => (ToolChoice::Auto, None),
    };
    let mut request = Request {
        messages: reading.finish()?,
        tools,
        tool_choice,
        parallel_tool_calls,
        format: format(&node)?,
        sampling: sampling(&node, purpose)?,
        betas: headers.betas.clone(),
        ..Request::default()
    };
    let is_stream = node.optional("stream", Node::flag)?.unwrap_or(false);
    request.original = Some(original(Shape::Anthropic, body));
    let delivery = if is_stream { Delivery::Stream(Counting::Told) } else { Delivery::Whole };
    Ok(Asked { model, request, delivery, own })
}

/// One message.
fn message(node: &Node<'_>, reading: &mut Reading) -> Result<(), Failure> {
    let role = node.required("role")?.one_of(&[("user", Role::User), ("assistant", Role::Assistant)])?;
    let mut said = Vec::new();
    for part in content(&node.required("content")?, reading)? {
        if let Part::ToolResult { .. } = part {
            reading.message(Message { role, parts: std::mem::take(&mut said) });
            reading.message(Message { role: Role::Tool, parts: vec![part] });
        } else {
            said.push(part);
        }
    }
    reading.message(Message { role, parts: said });
    Ok(())
}

/// Text, or blocks of several kinds.
fn content(node: &Node<'_>, reading: &mut Reading) -> Result<Vec<Part>, Failure> {
    if let Some(text) = node.value().as_str() {
        return Ok(vec![Part::Text(text.to_owned())]);
    }
    if !node.value().is_array() {
        return Err(node.wrong("must be text or a list of blocks"));
    }
    let mut parts = Vec::new();
    for block in node.items()? {
        parts.extend(self::block(&block, reading)?);
    }
    Ok(parts)
}

/// One block; nothing where there is no word for it.
fn block(block: &Node<'_>, reading: &mut Reading) -> Result<Option<Part>, Failure> {
    Ok(Some(match block.required("type")?.text()? {
        "text" => Part::Text(block.required("text")?.owned()?),
        "image" => match image(&block.required("source")?, reading)? {
            Some(image) => Part::Image(image),
            None => return Ok(None),
        },
        "tool_use" => {
            let input = match block.field("input") {
                Some(input) => as_text(input.fields()?),
                None => "{}".to_owned(),
            };
            reading.call(&block.required("id")?, &block.required("name")?, input)?
        }
        "tool_result" => {
            let content = block.optional("content", |node| result(&node, reading))?.unwrap_or_default();
            Part::ToolResult {
                id: reading.answered(&block.required("tool_use_id")?)?,
                content,
                is_error: block.optional("is_error", Node::flag)?.unwrap_or(false),
            }
        }
        "thinking" => Part::Reasoning {
            text: block.required("thinking")?.owned()?,
            signature: block.optional("signature", Node::owned)?.filter(|signature| !signature.is_empty()),
        },
        "redacted_thinking" => Part::Reasoning {
            text: String::new(),
            signature: Some(format!("{REDACTED}{}", block.required("data")?.text()?)),
        },
        _ => {
            reading.wordless(block);
            return Ok(None);
        }
    }))
}

/// What a tool answered: text, or texts and images.
fn result(node: &Node<'_>, reading: &mut Reading) -> Result<Vec<Part>, Failure> {
    if node.value().is_array() {
        for block in node.items()? {
            if let Some("tool_use" | "tool_result" | "thinking") = block.required("type")?.value().as_str() {
                return Err(block.wrong("cannot stand in the result of a tool"));
            }
        }
    }
    content(node, reading)
}

fn image(source: &Node<'_>, reading: &mut Reading) -> Result<Option<Image>, Failure> {
    match source.required("type")?.text()? {
        "base64" => {
            let media_type = source.required("media_type")?;
            let data = source.required("data")?;
            Ok(Some(picture(source, media_type.text()?, data.text()?)?))
        }
        "url" => match image_at(&source.required("url")?)? {
            image @ Image::Url(_) => Ok(Some(image)),
            Image::Inline { .. } => Err(source.wrong("has to be of the type base64 for a picture itself")),
        },
        _ => {
            reading.wordless(source);
            Ok(None)
        }
    }
}

/// The tools, and the names of all of them. Those that the provider itself runs have a type of their own.
fn tools(body: &Node<'_>) -> Result<(Vec<Tool>, HashSet<String>), Failure> {
    let (mut tools, mut names) = (Vec::new(), HashSet::new());
    let Some(list) = body.field("tools") else { return Ok((tools, names)) };
    for node in list.items()? {
        node.fields()?;
        match node.field("type").map(|kind| kind.text()).transpose()? {
            None | Some("custom") => {
                node.required("input_schema")?;
                tools.push(tool(&node, "input_schema", &mut names)?);
            }
            Some(_) => {
                if node.field("name").is_some() {
                    unique_name(&node, &mut names)?;
                }
            }
        }
    }
    Ok((tools, names))
}

/// Which tools have to be called, and whether several may be at once.
fn choice(node: &Node<'_>, names: &HashSet<String>) -> Result<(ToolChoice, Option<bool>), Failure> {
    let kind = node.required("type")?;
    let choice = match kind.text()? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(node.required("name")?.owned()?),
        _ => return Err(kind.wrong("must be one of auto, any, tool, none")),
    };
    check_choice(node, &choice, names)?;
    let is_single = node.optional("disable_parallel_tool_use", Node::flag)?;
    Ok((choice, is_single.map(|is_single| !is_single)))
}

/// What the answer has to look like: in `output_config`, or where its beta had it.
fn format(body: &Node<'_>) -> Result<Format, Failure> {
    let config = body.field("output_config");
    let in_config = config.as_ref().and_then(|config| config.field("format"));
    let Some(format) = in_config.or_else(|| body.field("output_format")) else { return Ok(Format::Text) };
    match format.required("type")?.text()? {
        "json_schema" => Ok(Format::JsonSchema {
            name: SCHEMA_NAME.to_owned(),
            schema: object_schema(&format.required("schema")?)?,
            strict: Some(true),
        }),
        _ => Err(format.required("type")?.wrong("must be json_schema")),
    }
}

fn sampling(body: &Node<'_>, purpose: For) -> Result<Sampling, Failure> {
    let max_tokens = match purpose {
        For::Message => Some(body.required("max_tokens")?.count()?),
        For::Count => body.optional("max_tokens", Node::count)?,
    };
    let config = body.field("output_config");
    let effort = config.as_ref().and_then(|config| config.field("effort"));
    Ok(Sampling {
        max_tokens,
        temperature: body.optional("temperature", |node| node.number(0.0..=TEMPERATURE_MAX))?,
        top_p: body.optional("top_p", |node| node.number(0.0..=1.0))?,
        top_k: body
            .optional("top_k", |node| node.integer(0..=i64::from(u32::MAX)))?
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number > 0),
        stop: body.optional("stop_sequences", stops)?.unwrap_or_default(),
        thinking_tokens: thinking(body)?,
        reasoning_effort: effort.map(Node::owned).transpose()?,
        ..Sampling::default()
    })
}

/// Tokens to think with, where a number is said.
fn thinking(body: &Node<'_>) -> Result<Option<u32>, Failure> {
    let Some(thinking) = body.field("thinking") else { return Ok(None) };
    match thinking.required("type")?.text()? {
        "enabled" => {
            // It may be more than `max_tokens` where the model thinks between calls of tools.
            let tokens = thinking.required("budget_tokens")?.integer(THINKING_TOKENS_MIN..=i64::from(u32::MAX))?;
            Ok(u32::try_from(tokens).ok())
        }
        // Not at all, or however much the model likes.
        _ => Ok(None),
    }
}
