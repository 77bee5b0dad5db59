//! Whether a request can be said in a provider's shape, before anybody is called.
//!
//! What bears meaning and has no word there is refused. Hints, which change how an answer is made and not what was asked
//! for, are left out and named. A field that is not known could be either, so it is refused. A provider of the shape that
//! the client speaks gets the body as it came, and nothing is left out.

use serde_json::{Map, Value};

use crate::{
    CallError, ErrorKind, Format, Message, Original, Part, Request, Role, Shape,
    anthropic::body::{effort, input},
};

/// Fields of OpenAI's that the vocabulary has words for.
const OPENAI_KNOWN: [&str; 19] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "n",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "reasoning_effort",
];
/// Fields of OpenAI's, and of servers that imitate it, that only are about how, whose, or how dear the answer is.
const OPENAI_HINTS: [&str; 15] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "prediction",
    "verbosity",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "repeat_penalty",
    "cache_prompt",
    "keep_alive",
];
/// Fields of Anthropic's that the vocabulary has words for.
const ANTHROPIC_KNOWN: [&str; 14] = [
    "model",
    "messages",
    "system",
    "max_tokens",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
];
/// Fields of Anthropic's that only are about how, whose, or how dear the answer is.
const ANTHROPIC_HINTS: [&str; 5] = ["metadata", "service_tier", "cache_control", "context_management", "speed"];
/// Fields that say nothing where they are `false`. Of others that is not known: there are switches that are on by default.
const OFF_ANYHOW: [&str; 6] = ["logprobs", "store", "echo", "stream", "ignore_eos", "use_beam_search"];
/// What a field's name may have when it is told.
const NAME_CHARS_MAX: usize = 48;

/// Whether a provider of that shape can be asked that; what is left out, in the client's words.
///
/// # Errors
///
/// [`ErrorKind::Inexpressible`], which names what cannot be said.
pub fn check(shape: Shape, request: &Request) -> Result<Vec<&'static str>, CallError> {
    let mut check = Check { shape, hints: Vec::new() };
    check.conversation(&request.history)?;
    if request.original.as_ref().is_some_and(|original| original.shape == shape) {
        return Ok(check.hints);
    }
    check.conversation(&request.messages)?;
    check.vocabulary(request)?;
    if let Some(original) = &request.original {
        check.original(original)?;
    }
    if !request.betas.is_empty() {
        check.hint("anthropic-beta");
    }
    Ok(check.hints)
}

/// The failure that something has no word in a shape.
pub(crate) fn inexpressible(what: &str, shape: Shape) -> CallError {
    CallError::new(
        ErrorKind::Inexpressible,
        format!("{what} cannot be said to a provider that speaks {}", shape.as_str()),
    )
}

struct Check {
    shape: Shape,
    hints: Vec<&'static str>,
}

impl Check {
    fn hint(&mut self, name: &'static str) {
        if !self.hints.contains(&name) {
            self.hints.push(name);
        }
    }

    fn hint_if(&mut self, condition: bool, name: &'static str) {
        if condition {
            self.hint(name);
        }
    }

    fn refuse<T>(&self, what: &str) -> Result<T, CallError> {
        Err(inexpressible(what, self.shape))
    }

    fn conversation(&mut self, messages: &[Message]) -> Result<(), CallError> {
        let mut is_begun = false;
        for message in messages {
            is_begun |= message.role != Role::System;
            for part in &message.parts {
                match self.shape {
                    Shape::OpenAi => self.part_for_openai(part)?,
                    Shape::Anthropic => self.part_for_anthropic(message.role, part)?,
                }
            }
            // Words of the system go before the conversation there.
            let is_moved = self.shape == Shape::Anthropic && message.role == Role::System && is_begun;
            self.hint_if(is_moved, "messages.system.position");
        }
        Ok(())
    }

    fn part_for_openai(&mut self, part: &Part) -> Result<(), CallError> {
        match part {
            Part::ToolResult { content, is_error, .. } => {
                self.hint_if(*is_error, "messages.tool_result.is_error");
                match content.iter().all(|part| matches!(part, Part::Text(_))) {
                    true => Ok(()),
                    false => self.refuse("an image in a tool's result"),
                }
            }
            Part::Reasoning { .. } => {
                self.hint("messages.thinking");
                Ok(())
            }
            Part::Text(_) | Part::Image(_) | Part::ToolCall { .. } => Ok(()),
        }
    }

    fn part_for_anthropic(&mut self, role: Role, part: &Part) -> Result<(), CallError> {
        match part {
            Part::ToolCall { arguments, .. } => input(arguments).map(drop),
            Part::Image(_) if role == Role::System => self.refuse("an image in a system message"),
            Part::Reasoning { signature: None, .. } => {
                self.hint("messages.reasoning");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn vocabulary(&mut self, request: &Request) -> Result<(), CallError> {
        let sampling = &request.sampling;
        if self.shape == Shape::OpenAi {
            self.hint_if(sampling.top_k.is_some(), "top_k");
            // It becomes an effort, which has three steps.
            self.hint_if(sampling.thinking_tokens.is_some(), "thinking.budget_tokens");
            return Ok(());
        }
        if sampling.answers.is_some_and(|answers| answers > 1) {
            return self.refuse("n above 1");
        }
        if sampling.temperature.is_some_and(|temperature| temperature > 1.0) {
            return self.refuse("temperature above 1");
        }
        if request.format == Format::JsonObject {
            return self.refuse("response_format json_object");
        }
        if sampling.stop.iter().any(|text| text.trim().is_empty()) {
            return self.refuse("stop at white space");
        }
        self.hint_if(sampling.seed.is_some(), "seed");
        self.hint_if(sampling.frequency_penalty.is_some_and(|penalty| penalty != 0.0), "frequency_penalty");
        self.hint_if(sampling.presence_penalty.is_some_and(|penalty| penalty != 0.0), "presence_penalty");
        let without_word = sampling.reasoning_effort.as_deref().is_some_and(|word| effort(word).is_none());
        self.hint_if(without_word, "reasoning_effort");
        Ok(())
    }

    /// What the vocabulary has no words for, and so was not carried over.
    fn original(&mut self, original: &Original) -> Result<(), CallError> {
        let (known, hints): (&[&str], &'static [&'static str]) = match original.shape {
            Shape::OpenAi => (&OPENAI_KNOWN, &OPENAI_HINTS),
            Shape::Anthropic => (&ANTHROPIC_KNOWN, &ANTHROPIC_HINTS),
        };
        for (name, value) in &original.body {
            if known.contains(&name.as_str()) || says_nothing(name, value) {
                continue;
            }
            match hints.iter().find(|hint| *hint == name) {
                Some(hint) => self.hint(hint),
                None => return self.refuse(&field(name)),
            }
        }
        match original.shape {
            Shape::OpenAi => self.openai_details(&original.body),
            Shape::Anthropic => self.anthropic_details(&original.body),
        }
    }

    fn openai_details(&mut self, body: &Map<String, Value>) -> Result<(), CallError> {
        let is_function = |value: &Value| value["type"] == "function";
        for message in list(body.get("messages")) {
            // Some leave the type of a call out, which then is the only one there long was.
            if list(message.get("tool_calls")).iter().any(|call| is_there(&call["type"]) && !is_function(call)) {
                return self.refuse("messages.tool_calls that are no functions");
            }
            if message["role"] == "function" || is_there(&message["function_call"]) {
                return self.refuse("messages.function_call");
            }
            if is_there(&message["audio"]) {
                return self.refuse("messages.audio");
            }
            self.hint_if(is_there(&message["name"]), "messages.name");
            for part in list(message.get("content")) {
                match part["type"].as_str() {
                    Some("text" | "refusal") => (),
                    Some("image_url") => {
                        self.hint_if(is_there(&part["image_url"]["detail"]), "messages.image_url.detail");
                    }
                    other => return self.refuse(&field(&format!("messages.content.{}", other.unwrap_or_default()))),
                }
            }
        }
        if !list(body.get("tools")).iter().all(is_function) {
            return self.refuse("tools that are no functions");
        }
        match body.get("tool_choice") {
            Some(choice @ Value::Object(_)) if !is_function(choice) => self.refuse("tool_choice.allowed_tools"),
            _ => Ok(()),
        }
    }

    fn anthropic_details(&mut self, body: &Map<String, Value>) -> Result<(), CallError> {
        let system = list(body.get("system"));
        let messages = list(body.get("messages")).iter().flat_map(|message| list(message.get("content")));
        for block in system.iter().chain(messages) {
            self.anthropic_block(block)?;
            for inner in list(block.get("content")) {
                self.anthropic_block(inner)?;
            }
        }
        for tool in list(body.get("tools")) {
            self.cache_control(tool);
            self.hint_if(is_there(&tool["input_examples"]), "tools.input_examples");
            if !matches!(tool["type"].as_str(), None | Some("custom")) {
                return self.refuse("tools that the provider has itself");
            }
        }
        Ok(())
    }

    fn anthropic_block(&mut self, block: &Value) -> Result<(), CallError> {
        self.cache_control(block);
        self.hint_if(is_there(&block["citations"]), "messages.citations");
        match block["type"].as_str() {
            Some("text" | "tool_use" | "tool_result" | "thinking" | "redacted_thinking") => Ok(()),
            Some("image") if matches!(block["source"]["type"].as_str(), Some("base64" | "url")) => Ok(()),
            other => self.refuse(&field(&format!("messages.content.{}", other.unwrap_or_default()))),
        }
    }

    fn cache_control(&mut self, value: &Value) {
        self.hint_if(is_there(&value["cache_control"]), "cache_control");
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_there(value: &Value) -> bool {
    !value.is_null()
}

/// Whether a field asks for nothing, or for what is so anyhow.
fn says_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(false) => OFF_ANYHOW.contains(&name),
        Value::Number(number) => name == "top_logprobs" && number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty() || (name == "modalities" && *values == ["text"]),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

/// A field's name, fit to be told.
fn field(name: &str) -> String {
    let name = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    name.take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{Call, Deadlines, Image, Sampling, Tool, ToolChoice, anthropic, message::REDACTED, openai};

    fn parts() -> impl Strategy<Value = Part> {
        let text = "[a-z ]{0,12}";
        let image = prop_oneof![
            Just(Image::Url("https://example.org/a.png".into())),
            Just(Image::Inline { media_type: "image/png".into(), data: "AAAA".into() }),
        ];
        let inner = prop_oneof![text.prop_map(Part::Text), image.prop_map(Part::Image)];
        let arguments = prop::sample::select(vec!["", "{}", "{\"a\":[1]}", "[]", "{", "nonsense"]);
        let signature = prop::option::of(prop::sample::select(vec!["c2ln", REDACTED]));
        prop_oneof![
            inner.clone(),
            ("[a-z:.]{0,6}", arguments).prop_map(|(id, arguments)| Part::ToolCall {
                id,
                name: "look".into(),
                arguments: arguments.into()
            }),
            (prop::collection::vec(inner, 0..3), any::<bool>()).prop_map(|(content, is_error)| Part::ToolResult {
                id: "a".into(),
                content,
                is_error
            }),
            (text, signature)
                .prop_map(|(text, signature)| Part::Reasoning { text, signature: signature.map(Into::into) }),
        ]
    }

    fn messages() -> impl Strategy<Value = Vec<Message>> {
        let role = prop::sample::select(vec![Role::System, Role::User, Role::Assistant, Role::Tool]);
        let message = (role, prop::collection::vec(parts(), 0..4)).prop_map(|(role, parts)| Message { role, parts });
        prop::collection::vec(message, 0..6)
    }

    fn requests() -> impl Strategy<Value = Request> {
        let format = prop_oneof![
            Just(Format::Text),
            Just(Format::JsonObject),
            Just(Format::JsonSchema { name: "n".into(), schema: serde_json::json!({}), strict: None }),
        ];
        let numbers = (prop::option::of(0.0..2.0_f64), prop::option::of(1_u32..3), prop::option::of(0_u32..40_000));
        let has = (any::<bool>(), any::<bool>(), any::<bool>());
        (messages(), messages(), format, numbers, has).prop_map(|(messages, history, format, numbers, has)| {
            let (temperature, answers, thinking_tokens) = numbers;
            let (has_tools, has_context, is_stopped) = has;
            let tool = Tool { name: "look".into(), description: None, parameters: serde_json::json!({}), strict: None };
            Request {
                messages,
                history,
                format,
                context: has_context.then(|| "found".to_owned()),
                tools: if has_tools { vec![tool] } else { Vec::new() },
                tool_choice: if has_tools { ToolChoice::Required } else { ToolChoice::Auto },
                sampling: Sampling {
                    temperature,
                    answers,
                    thinking_tokens,
                    stop: if is_stopped { vec![" ".into()] } else { Vec::new() },
                    ..Sampling::default()
                },
                ..Request::default()
            }
        })
    }

    fn body(shape: Shape, request: Request) -> Result<Value, CallError> {
        let second = std::time::Duration::from_secs(1);
        let call = Call {
            request: Arc::new(request),
            model: "m".into(),
            max_output_tokens: None,
            deadlines: Deadlines { connect: second, first_byte: second, gap: second, total: second },
            trace: Vec::new(),
            continued: None,
        };
        let body = match shape {
            Shape::OpenAi => openai::body_of(&call),
            Shape::Anthropic => anthropic::body_of(&call),
        };
        body.map(|body| serde_json::from_slice(&body).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_let_through_can_be_said_and_nothing_else(request in requests()) {
            for shape in [Shape::OpenAi, Shape::Anthropic] {
                let checked = check(shape, &request).map(drop);
                let said = body(shape, request.clone());
                prop_assert_eq!(checked.as_ref().err(), said.as_ref().err());
                // The same words in the shape that is sent: with a body as it came, only the session can be in the way.
                let original = said.ok().and_then(|said| said.as_object().cloned());
                let Some(original) = original else { continue };
                let own = Request { original: Some(Original { shape, body: original }), ..request.clone() };
                prop_assert!(check(shape, &own).is_ok());
                prop_assert!(body(shape, own).is_ok());
            }
        }

        #[test]
        fn sides_take_turns_and_say_something(request in requests()) {
            let request = Request { history: Vec::new(), ..request };
            let Ok(said) = body(Shape::Anthropic, request) else { return Ok(()) };
            let messages = said["messages"].as_array().unwrap();
            prop_assert!(messages.iter().all(|message| !message["content"].as_array().unwrap().is_empty()));
            prop_assert!(messages.windows(2).all(|pair| pair[0]["role"] != pair[1]["role"]));
        }
    }
}
