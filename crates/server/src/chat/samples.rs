//! Conversations, answers and pieces of answers for tests: made up at random, and written as clients of either face write
//! them. Exists in tests only.

use holdfast_llm::{Delta, Format, Image, Message, Part, Request, Role, Sampling, Tool, ToolChoice, message::REDACTED};
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_oneof},
};
use serde_json::{Map, Value, json};

/// Text as models and people write it, with what JSON and event streams have to escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z \\n\\r\"\\\\é漢\u{1f600}:{}\\[\\]]{1,12}", "data: [a-z]{1,4}\n\n"]
}

fn some_text() -> impl Strategy<Value = String> {
    text().prop_filter("it is empty", |text| !text.is_empty())
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,8}"
}

/// The JSON text of an object.
fn arguments() -> impl Strategy<Value = String> {
    vec((word(), json()), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect()).to_string())
}

/// Any JSON value, a few levels deep.
pub(super) fn json() -> impl Strategy<Value = Value> {
    let words = ["role", "content", "type", "text", "user", "tool", "id", "name", "model", "messages", "tools"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        text().prop_map(Value::from),
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
    ];
    let name = prop_oneof![word(), proptest::sample::select(words.to_vec()).prop_map(str::to_owned)];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name.clone(), inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn calls(most: usize) -> impl Strategy<Value = Vec<Part>> {
    let call = (word(), arguments());
    vec(call, 0..=most).prop_map(|calls| {
        let numbered = calls.into_iter().enumerate();
        // Ids of one conversation differ.
        numbered.map(|(n, (name, arguments))| Part::ToolCall { id: format!("call_{n}"), name, arguments }).collect()
    })
}

/// What a model says: thoughts and texts in any order, then calls.
pub(super) fn answer() -> impl Strategy<Value = Vec<Part>> {
    let said = prop_oneof![
        text().prop_map(Part::Text),
        (some_text(), option::of(word())).prop_map(|(text, signature)| Part::Reasoning { text, signature }),
    ];
    (vec(said, 0..4), calls(3)).prop_map(|(said, calls)| [said, calls].concat())
}

/// An answer, and the pieces in which it comes.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pub(super) parts: Vec<Part>,
    pub(super) deltas: Vec<Delta>,
}

/// What is said comes in order; calls may come side by side.
pub(super) fn pieces() -> impl Strategy<Value = Pieces> {
    (answer(), vec(any::<proptest::sample::Index>(), 64)).prop_map(|(parts, cuts)| {
        let mut cuts = cuts.into_iter().cycle();
        let mut deltas = vec![Delta::Start { id: "some".into(), model: "tiny".into() }];
        let mut of_calls: Vec<std::collections::VecDeque<Delta>> = Vec::new();
        for part in &parts {
            let (first, second) = halves(spoken(part), &mut cuts);
            match part {
                Part::Text(_) => deltas.extend([first, second].map(Delta::Text)),
                Part::Reasoning { signature, .. } => {
                    deltas.extend([first, second].map(Delta::Reasoning));
                    deltas.extend(signature.clone().map(Delta::Signature));
                }
                Part::ToolCall { id, name, .. } => {
                    let index = of_calls.len();
                    let begin = Delta::ToolCall { index, id: id.clone(), name: name.clone() };
                    let fragments = [first, second].map(|fragment| Delta::Arguments { index, fragment });
                    of_calls.push([begin].into_iter().chain(fragments).collect());
                }
                Part::Image(_) | Part::ToolResult { .. } => {}
            }
        }
        let mut begun = 0;
        while of_calls.iter().any(|pieces| !pieces.is_empty()) {
            // A call begins after those before it have.
            let open: Vec<usize> =
                (0..of_calls.len()).filter(|index| *index <= begun && !of_calls[*index].is_empty()).collect();
            let chosen = cuts.next().map_or(0, |cut| cut.index(open.len()));
            if open[chosen] == begun {
                begun += 1;
            }
            deltas.extend(of_calls[open[chosen]].pop_front());
        }
        Pieces { parts, deltas }
    })
}

fn spoken(part: &Part) -> &str {
    match part {
        Part::Text(text) | Part::Reasoning { text, .. } => text,
        Part::ToolCall { arguments, .. } => arguments,
        Part::Image(_) | Part::ToolResult { .. } => "",
    }
}

fn halves(text: &str, cuts: &mut impl Iterator<Item = proptest::sample::Index>) -> (String, String) {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let at = cuts.next().map_or(0, |cut| places[cut.index(places.len())]);
    (text[..at].to_owned(), text[at..].to_owned())
}

/// An answer as OpenAI has it: thoughts without signatures, then all text, then calls.
pub(super) fn as_openai(parts: Vec<Part>) -> Vec<Part> {
    let (mut thought, mut said, mut calls) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match part {
            Part::Text(text) => said.push_str(&text),
            Part::Reasoning { text, .. } => thought.push_str(&text),
            call => calls.push(call),
        }
    }
    let mut parts = vec![Part::Reasoning { text: thought, signature: None }, Part::Text(said)];
    parts.append(&mut calls);
    parts
}

/// An answer as a stream of Anthropic's has it: what follows on its like is one block with it.
pub(super) fn as_anthropic(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in without_empty(parts) {
        match (joined.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
            (Some(Part::Reasoning { text: before, signature: known @ None }), Part::Reasoning { text, signature }) => {
                before.push_str(&text);
                *known = signature;
            }
            (_, part) => joined.push(part),
        }
    }
    joined
}

/// Without parts that say nothing.
pub(super) fn without_empty(parts: Vec<Part>) -> Vec<Part> {
    let says = |part: &Part| match part {
        Part::Text(text) => !text.is_empty(),
        Part::Reasoning { text, signature } => !text.is_empty() || signature.is_some(),
        _ => true,
    };
    parts.into_iter().filter(says).collect()
}

fn image() -> impl Strategy<Value = Part> {
    prop_oneof![
        word().prop_map(|name| Image::Url(format!("https://example.org/{name}.png"))),
        Just(Image::Inline { media_type: "image/png".into(), data: "aGVsbG8=".into() }),
    ]
    .prop_map(Part::Image)
}

fn of_user() -> impl Strategy<Value = Message> {
    vec(prop_oneof![text().prop_map(Part::Text), image()], 1..3).prop_map(|parts| Message { role: Role::User, parts })
}

/// Something the model said, and the results of the calls in it.
fn of_model(number: usize) -> impl Strategy<Value = Vec<Message>> {
    let thought = option::of(some_text());
    (thought, vec(text(), 0..3), calls(2), text(), any::<bool>()).prop_map(
        move |(thought, said, mut calls, result, is_error)| {
            for (index, call) in calls.iter_mut().enumerate() {
                if let Part::ToolCall { id, .. } = call {
                    *id = format!("call_{number}_{index}");
                }
            }
            let ids = calls.iter().filter_map(|call| match call {
                Part::ToolCall { id, .. } => Some(id.clone()),
                _ => None,
            });
            let result = |id| Part::ToolResult { id, content: vec![Part::Text(result.clone())], is_error };
            let results: Vec<Message> = ids.map(|id| Message { role: Role::Tool, parts: vec![result(id)] }).collect();
            let mut parts: Vec<Part> =
                thought.into_iter().map(|text| Part::Reasoning { text, signature: None }).collect();
            parts.extend(said.into_iter().map(Part::Text));
            parts.append(&mut calls);
            if parts.is_empty() {
                parts.push(Part::Text("so".into()));
            }
            let mut messages = vec![Message { role: Role::Assistant, parts }];
            messages.extend(results);
            messages
        },
    )
}

fn conversation() -> impl Strategy<Value = Vec<Message>> {
    let system = option::of(text().prop_map(|text| Message::text(Role::System, text)));
    (system, of_user(), of_model(0), of_user(), of_model(1), of_user()).prop_map(
        |(system, first, said, second, said_again, third)| {
            let mut messages: Vec<Message> = system.into_iter().collect();
            messages.push(first);
            messages.extend(said);
            messages.push(second);
            messages.extend(said_again);
            messages.push(third);
            messages
        },
    )
}

fn tools() -> impl Strategy<Value = Vec<Tool>> {
    let tool = (word(), option::of(text()), option::of(any::<bool>()));
    vec(tool, 0..3).prop_map(|tools| {
        let numbered = tools.into_iter().enumerate();
        numbered
            .map(|(n, (name, description, strict))| Tool {
                name: format!("{name}_{n}"),
                description,
                parameters: json!({ "type": "object", "properties": { "at": { "type": "integer" } } }),
                strict,
            })
            .collect()
    })
}

/// A request that either face can write.
pub(super) fn request() -> impl Strategy<Value = Request> {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] });
    let format = prop_oneof![
        Just(Format::Text),
        Just(Format::JsonSchema { name: "answer".into(), schema, strict: Some(true) }),
    ];
    let sampling = (
        1_u32..100_000,
        option::of(0_u32..=10),
        option::of(1_u32..100),
        vec(some_text(), 0..3),
        option::of(proptest::sample::select(vec!["low", "high"])),
    );
    (conversation(), tools(), 0_usize..5, option::of(any::<bool>()), format, sampling).prop_map(
        |(messages, tools, choice, parallel_tool_calls, format, (max_tokens, tenths, top_k, stop, effort))| {
            let tool_choice = match (choice, tools.first()) {
                (1, _) => ToolChoice::None,
                (2, Some(_)) => ToolChoice::Required,
                (3, Some(tool)) => ToolChoice::Named(tool.name.clone()),
                _ => ToolChoice::Auto,
            };
            let sampling = Sampling {
                max_tokens: Some(max_tokens),
                temperature: tenths.map(|tenths| f64::from(tenths) / 10.0),
                top_k,
                stop,
                reasoning_effort: effort.map(str::to_owned),
                ..Sampling::default()
            };
            Request { messages, tools, tool_choice, parallel_tool_calls, format, sampling, ..Request::default() }
        },
    )
}

fn set<T: Into<Value>>(body: &mut Value, name: &str, value: Option<T>) {
    if let Some(value) = value {
        body[name] = value.into();
    }
}

/// As a client of chat completions writes it.
pub(super) fn to_openai(request: &Request) -> Value {
    let tools: Vec<Value> = request
        .tools
        .iter()
        .map(|tool| {
            let mut function = json!({ "name": tool.name, "parameters": tool.parameters });
            set(&mut function, "description", tool.description.clone());
            set(&mut function, "strict", tool.strict);
            json!({ "type": "function", "function": function })
        })
        .collect();
    let choice = match &request.tool_choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({ "type": "function", "function": { "name": name } }),
    };
    let messages: Vec<Value> = request.messages.iter().map(openai_message).collect();
    let mut body = json!({ "model": "auto", "messages": messages, "tools": tools, "tool_choice": choice });
    if let Format::JsonSchema { name, schema, strict } = &request.format {
        body["response_format"] =
            json!({ "type": "json_schema", "json_schema": { "name": name, "schema": schema, "strict": strict } });
    }
    set(&mut body, "parallel_tool_calls", request.parallel_tool_calls);
    set(&mut body, "max_tokens", request.sampling.max_tokens);
    set(&mut body, "temperature", request.sampling.temperature);
    set(&mut body, "top_k", request.sampling.top_k);
    set(&mut body, "stop", Some(request.sampling.stop.clone()));
    set(&mut body, "reasoning_effort", request.sampling.reasoning_effort.clone());
    body
}

fn openai_message(message: &Message) -> Value {
    let mut written = json!({ "role": message.role.as_str() });
    let (mut content, mut calls) = (Vec::new(), Vec::new());
    for part in &message.parts {
        match part {
            Part::Text(text) => content.push(json!({ "type": "text", "text": text })),
            Part::Image(Image::Url(url)) => content.push(json!({ "type": "image_url", "image_url": { "url": url } })),
            Part::Image(Image::Inline { media_type, data }) => {
                let url = format!("data:{media_type};base64,{data}");
                content.push(json!({ "type": "image_url", "image_url": { "url": url } }));
            }
            Part::ToolCall { id, name, arguments } => {
                let function = json!({ "name": name, "arguments": arguments });
                calls.push(json!({ "id": id, "type": "function", "function": function }));
            }
            Part::ToolResult { id, content: result, .. } => {
                written["tool_call_id"] = json!(id);
                content.extend(result.iter().map(|part| json!({ "type": "text", "text": spoken(part) })));
            }
            Part::Reasoning { text, .. } => written["reasoning_content"] = json!(text),
        }
    }
    if !content.is_empty() {
        written["content"] = json!(content);
    }
    if !calls.is_empty() {
        written["tool_calls"] = json!(calls);
    }
    written
}

/// As a client of the messages API writes it.
pub(super) fn to_anthropic(request: &Request) -> Value {
    let tools: Vec<Value> = request
        .tools
        .iter()
        .map(|tool| {
            let mut written = json!({ "name": tool.name, "input_schema": tool.parameters });
            set(&mut written, "description", tool.description.clone());
            set(&mut written, "strict", tool.strict);
            written
        })
        .collect();
    let mut choice = match &request.tool_choice {
        ToolChoice::Auto => json!({ "type": "auto" }),
        ToolChoice::None => json!({ "type": "none" }),
        ToolChoice::Required => json!({ "type": "any" }),
        ToolChoice::Named(name) => json!({ "type": "tool", "name": name }),
    };
    set(&mut choice, "disable_parallel_tool_use", request.parallel_tool_calls.map(|parallel| !parallel));
    let (system, others): (Vec<_>, Vec<_>) = request.messages.iter().partition(|message| message.role == Role::System);
    let messages: Vec<Value> = others.into_iter().map(anthropic_message).collect();
    let mut body = json!({ "model": "auto", "messages": messages, "tools": tools, "tool_choice": choice });
    set(&mut body, "system", system.first().map(|message| message.texts().collect::<String>()));
    let mut config = Map::new();
    if let Format::JsonSchema { schema, .. } = &request.format {
        config.insert("format".into(), json!({ "type": "json_schema", "schema": schema }));
    }
    config.extend(request.sampling.reasoning_effort.clone().map(|effort| ("effort".to_owned(), json!(effort))));
    body["output_config"] = Value::Object(config);
    set(&mut body, "max_tokens", request.sampling.max_tokens);
    set(&mut body, "temperature", request.sampling.temperature);
    set(&mut body, "top_k", request.sampling.top_k);
    set(&mut body, "stop_sequences", Some(request.sampling.stop.clone()));
    body
}

fn anthropic_message(message: &Message) -> Value {
    let role = if message.role == Role::Assistant { "assistant" } else { "user" };
    json!({ "role": role, "content": message.parts.iter().map(anthropic_block).collect::<Vec<_>>() })
}

fn anthropic_block(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Image(Image::Url(url)) => json!({ "type": "image", "source": { "type": "url", "url": url } }),
        Part::Image(Image::Inline { media_type, data }) => {
            json!({ "type": "image", "source": { "type": "base64", "media_type": media_type, "data": data } })
        }
        Part::ToolCall { id, name, arguments } => {
            let input: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({ "type": "tool_use", "id": id, "name": name, "input": input })
        }
        Part::ToolResult { id, content, is_error } => {
            let content: Vec<Value> = content.iter().map(anthropic_block).collect();
            json!({ "type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error })
        }
        Part::Reasoning { text, signature } => match signature.as_deref().and_then(|it| it.strip_prefix(REDACTED)) {
            Some(data) => json!({ "type": "redacted_thinking", "data": data }),
            None => json!({ "type": "thinking", "thinking": text, "signature": signature }),
        },
    }
}
