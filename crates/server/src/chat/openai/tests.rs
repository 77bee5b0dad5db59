//! What is read of bodies and what is written of answers: tables, snapshots, and that nothing is lost on the way.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_llm::{Answer, Delta, Finish, Format, Image, Message, Part, Role, Shape, ToolChoice, Usage};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{answer, request};
use crate::chat::{
    asked::{Asked, Counting, Delivery},
    encode::Named,
    own::Headers,
    samples,
};

fn read(body: Value) -> Result<Asked, String> {
    request::read(body, &Headers::default()).map_err(|failure| failure.report().detail)
}

/// A body with a question, and with these fields besides or instead.
fn with(fields: Value) -> Value {
    let mut body = json!({ "model": "auto", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn refused(fields: Value, told: &str) {
    let found = read(with(fields.clone())).unwrap_err();
    assert!(found.contains(told), "{fields}: {found}");
}

fn messages(messages: Value) -> Vec<Message> {
    read(with(json!({ "messages": messages }))).unwrap().request.messages
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

#[test]
fn every_kind_of_message_is_read() {
    let call = json!({ "id": "c1", "type": "function", "function": { "name": "look", "arguments": "{\"at\":1}" } });
    let read = messages(json!([
        { "role": "system", "content": "be short" },
        { "role": "developer", "content": [{ "type": "text", "text": "be kind" }] },
        { "role": "user", "name": "ann", "content": [
            { "type": "text", "text": "what is this?" },
            { "type": "image_url", "image_url": { "url": "https://a/b.png", "detail": "low" } },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=" } },
        ] },
        { "role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c1", "content": "a cat" },
        { "role": "assistant", "content": [{ "type": "refusal", "refusal": "no" }] },
    ]));
    let message = |role, parts| Message { role, parts };
    assert_eq!(
        read,
        [
            message(Role::System, vec![text("be short")]),
            message(Role::System, vec![text("be kind")]),
            message(
                Role::User,
                vec![
                    text("what is this?"),
                    Part::Image(Image::Url("https://a/b.png".into())),
                    Part::Image(Image::Inline { media_type: "image/png".into(), data: "aGk=".into() }),
                ]
            ),
            message(
                Role::Assistant,
                vec![
                    Part::Reasoning { text: "hm".into(), signature: None },
                    Part::ToolCall { id: "c1".into(), name: "look".into(), arguments: "{\"at\":1}".into() },
                ]
            ),
            message(
                Role::Tool,
                vec![Part::ToolResult { id: "c1".into(), content: vec![text("a cat")], is_error: false }]
            ),
            message(Role::Assistant, vec![text("no")]),
        ]
    );
}

#[test]
fn messages_that_make_no_sense_are_refused_with_their_place() {
    for (messages, told) in [
        (json!([]), "messages must have at least one message"),
        (json!("hi"), "messages must be a list"),
        (json!([7]), "messages[0] must be an object"),
        (json!([{ "content": "hi" }]), "messages[0].role is missing"),
        (json!([{ "role": "robot", "content": "hi" }]), "messages[0].role must be one of system, developer"),
        (json!([{ "role": "function", "name": "f", "content": "1" }]), "messages[0].role must not be function"),
        (json!([{ "role": "user" }]), "messages[0].content is missing"),
        (json!([{ "role": "user", "content": null }]), "messages[0].content is missing"),
        (json!([{ "role": "user", "content": 7 }]), "messages[0].content must be text or a list of parts"),
        (json!([{ "role": "user", "content": [{ "text": "x" }] }]), "messages[0].content[0].type is missing"),
        (json!([{ "role": "user", "content": [{ "type": "text" }] }]), "messages[0].content[0].text is missing"),
        (
            json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": "x" }] }]),
            "messages[0].content[0].image_url must be an object",
        ),
        (
            json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "file:///x" } }] }]),
            "messages[0].content[0].image_url.url must begin with https://",
        ),
        (json!([{ "role": "tool", "content": "x" }]), "messages[0].tool_call_id is missing"),
        (
            json!([{ "role": "tool", "tool_call_id": "c9", "content": "x" }]),
            "messages[0].tool_call_id answers a call that no message before it has",
        ),
        (
            json!([{ "role": "assistant", "function_call": { "name": "f", "arguments": "" } }]),
            "messages[0].function_call is not taken any more: use tool_calls",
        ),
        (
            json!([{ "role": "assistant", "tool_calls": [{ "type": "function", "function": { "name": "f" } }] }]),
            "messages[0].tool_calls[0].id is missing",
        ),
        (
            json!([{ "role": "assistant", "tool_calls": [{ "id": "c", "function": { "name": "", "arguments": "" } }] }]),
            "messages[0].tool_calls[0].function.name must be 1 to",
        ),
        (
            json!([{ "role": "assistant", "tool_calls": [{ "id": "c", "function": { "name": "f", "arguments": {} } }] }]),
            "messages[0].tool_calls[0].function.arguments must be text",
        ),
    ] {
        refused(json!({ "messages": messages }), told);
    }
}

#[test]
fn fields_that_make_no_sense_are_refused() {
    let tool =
        |parameters: Value| json!([{ "type": "function", "function": { "name": "f", "parameters": parameters } }]);
    let twice = json!([
        { "type": "function", "function": { "name": "f" } }, { "type": "function", "function": { "name": "f" } },
    ]);
    for (fields, told) in [
        (json!({ "model": null }), "model is missing"),
        (json!({ "model": "" }), "model must be 1 to"),
        (json!({ "model": "a\nb" }), "model must be 1 to"),
        (json!({ "max_tokens": -1 }), "max_tokens must be a whole number, 1 to"),
        (json!({ "max_tokens": 0 }), "max_tokens must be"),
        (json!({ "max_completion_tokens": "9" }), "max_completion_tokens must be"),
        (json!({ "max_tokens": 9, "max_completion_tokens": 8 }), "max_tokens is another number"),
        (json!({ "n": 1_000_000_000 }), "n must be a whole number, 1 to 8"),
        (json!({ "n": 0 }), "n must be"),
        (json!({ "temperature": 2.1 }), "temperature must be a number, 0 to 2"),
        (json!({ "temperature": -0.1 }), "temperature must be"),
        (json!({ "top_p": 1.5 }), "top_p must be"),
        (json!({ "frequency_penalty": 3 }), "frequency_penalty must be a number, -2 to 2"),
        (json!({ "seed": 0.5 }), "seed must be a whole number"),
        (json!({ "stop": 7 }), "stop must be text or a list of texts"),
        (json!({ "stop": ["a", ""] }), "stop[1] must have 1 to"),
        (json!({ "stop": vec!["a"; 65] }), "stop has 65 texts"),
        (json!({ "stream": "yes" }), "stream must be true or false"),
        (json!({ "stream_options": { "include_usage": true } }), "stream_options is for streams only"),
        (json!({ "stream": true, "stream_options": { "include_usage": 1 } }), "stream_options.include_usage must be"),
        (json!({ "functions": [] }), "functions is not taken any more: use tools"),
        (json!({ "function_call": "auto" }), "function_call is not taken any more: use tool_choice"),
        (json!({ "tools": {} }), "tools must be a list"),
        (json!({ "tools": [{ "type": "function" }] }), "tools[0].function is missing"),
        (json!({ "tools": tool(json!({ "type": "string" })) }), "tools[0].function.parameters.type must be object"),
        (json!({ "tools": tool(json!([])) }), "tools[0].function.parameters must be an object"),
        (json!({ "tools": twice }), "tools[1].function.name is the name of another tool too"),
        (json!({ "tool_choice": "always" }), "tool_choice must be one of auto, none, required"),
        (json!({ "tool_choice": "required" }), "tool_choice wants a tool to be called, and there is none"),
        (
            json!({ "tools": tool(json!({})), "tool_choice": { "type": "function", "function": { "name": "g" } } }),
            "tool_choice names a tool that is not in tools",
        ),
        (json!({ "parallel_tool_calls": 1 }), "parallel_tool_calls must be true or false"),
        (json!({ "response_format": { "type": "xml" } }), "response_format.type must be one of text, json_object"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format.json_schema is missing"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "a", "schema": { "type": 1 } } } }),
            "response_format.json_schema.schema.type must be object",
        ),
        (json!({ "reasoning_effort": "A lot" }), "reasoning_effort must be a word"),
        (json!({ "holdfast": { "augmnet": true } }), "holdfast.augmnet is unknown"),
    ] {
        refused(fields, told);
    }
    for body in [json!([]), json!("x"), json!(null)] {
        assert!(read(body.clone()).unwrap_err().contains("the body must be an object"), "{body}");
    }
}

#[test]
fn what_is_said_well_is_understood() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let asked = read(with(json!({
        "tools": [
            { "type": "function", "function": { "name": "f", "description": "d", "parameters": schema, "strict": true } },
            { "type": "function", "function": { "name": "g" } },
        ],
        "tool_choice": { "type": "function", "function": { "name": "g" } },
        "parallel_tool_calls": false,
        "response_format": { "type": "json_schema", "json_schema": { "name": "out", "schema": schema } },
        "max_completion_tokens": 7, "temperature": 0, "top_p": 1, "top_k": 40, "stop": "END", "seed": -3,
        "frequency_penalty": -2.0, "presence_penalty": null, "n": 2, "reasoning_effort": "minimal",
        "stream": true, "stream_options": { "include_usage": true },
    })));
    let Asked { model, request, delivery, .. } = asked.unwrap();
    assert_eq!((model.as_str(), delivery), ("auto", Delivery::Stream(Counting::Told)));
    let names: Vec<_> = request.tools.iter().map(|tool| (tool.name.as_str(), tool.strict)).collect();
    assert_eq!(names, [("f", Some(true)), ("g", None)]);
    assert_eq!(request.tools[1].parameters, json!({ "type": "object", "properties": {} }));
    assert_eq!(request.tool_choice, ToolChoice::Named("g".into()));
    assert_eq!(request.parallel_tool_calls, Some(false));
    assert_eq!(request.format, Format::JsonSchema { name: "out".into(), schema, strict: None });
    let sampling = request.sampling;
    assert_eq!((sampling.max_tokens, sampling.temperature, sampling.top_p), (Some(7), Some(0.0), Some(1.0)));
    assert_eq!((sampling.top_k, sampling.seed, sampling.answers), (Some(40), Some(-3), Some(2)));
    assert_eq!((sampling.frequency_penalty, sampling.presence_penalty), (Some(-2.0), None));
    assert_eq!((sampling.stop, sampling.reasoning_effort), (vec!["END".to_owned()], Some("minimal".to_owned())));
    for none in [-1, 0] {
        assert_eq!(read(with(json!({ "top_k": none }))).unwrap().request.sampling.top_k, None);
    }
}

#[test]
fn a_body_is_kept_as_it_came_but_for_what_was_for_this_server() {
    let mut body = with(json!({ "min_p": 0.1, "unheard_of": { "b": [1, null], "a": 2 }, "user": "me" }));
    let original = body.clone();
    body["holdfast"] = json!({ "session": "s1" });
    let asked = read(body).unwrap();
    let kept = asked.request.original.unwrap();
    assert_eq!((kept.shape, Value::Object(kept.body)), (Shape::OpenAi, original));
    assert_eq!(asked.own.session.as_deref(), Some("s1"));
}

#[test]
fn fields_stay_in_their_order() {
    let fields = r#""z":1,"messages":[{"role":"user","content":"hi"}],"b":{"y":1,"x":{"q":1,"p":2}},"a":2"#;
    let body = format!(r#"{{"model":"m","holdfast":{{}},{fields}}}"#);
    let crate::distinct::Distinct(body) = serde_json::from_str(&body).unwrap();
    let kept = read(body).unwrap().request.original.unwrap();
    assert_eq!(Value::Object(kept.body).to_string(), format!(r#"{{"model":"m",{fields}}}"#));
}

#[test]
fn what_there_is_no_word_for_goes_on_but_into_no_session() {
    let audio = json!([{ "role": "user", "content": [
        { "type": "input_audio", "input_audio": { "data": "aGk=", "format": "wav" } }, { "type": "text", "text": "?" },
    ] }]);
    assert_eq!(messages(audio.clone())[0].parts, [text("?")]);
    let own = json!({ "session": "s1" });
    refused(
        json!({ "messages": audio, "holdfast": own }),
        "messages[0].content[0] is of a kind that a session cannot keep",
    );
    // What the session had before may have the call.
    let result = json!([{ "role": "tool", "tool_call_id": "c9", "content": "x" }]);
    assert!(read(with(json!({ "messages": result, "holdfast": own }))).is_ok());
}

#[test]
fn a_call_of_another_kind_can_be_answered() {
    let said = json!([
        { "role": "assistant", "tool_calls": [{ "id": "c1", "type": "custom", "custom": { "name": "f", "input": "x" } }] },
        { "role": "tool", "tool_call_id": "c1", "content": "done" },
    ]);
    let result = Part::ToolResult { id: "c1".into(), content: vec![text("done")], is_error: false };
    assert_eq!(messages(said)[0].parts, [result]);
}

fn named() -> Named {
    let mut named = Named::new("chatcmpl-", Uuid::nil(), "tiny");
    named.created_s = 1;
    named
}

fn answer(parts: Vec<Part>, finish: Finish, usage: Usage) -> Answer {
    Answer {
        id: "msg_1".into(),
        model: "tiny".into(),
        parts,
        finish,
        usage,
        shape: Shape::Anthropic,
        body: Bytes::new(),
    }
}

fn whole(answer: &Answer) -> Value {
    serde_json::from_slice(&answer::whole(answer, &named())).unwrap()
}

#[test]
fn a_whole_answer_is_a_completion() {
    let parts = vec![
        Part::Reasoning { text: "hm".into(), signature: Some("sig".into()) },
        text("Let me "),
        text("look."),
        Part::ToolCall { id: "toolu_1".into(), name: "look".into(), arguments: "{\"at\":1}".into() },
    ];
    let usage = Usage {
        input_tokens: Some(10),
        output_tokens: Some(5),
        cached_input_tokens: Some(4),
        cache_write_tokens: Some(3),
        reasoning_tokens: Some(2),
    };
    insta::assert_json_snapshot!(whole(&answer(parts, Finish::ToolCalls, usage)), @r#"
    {
      "id": "chatcmpl-00000000000000000000000000000000",
      "object": "chat.completion",
      "created": 1,
      "model": "tiny",
      "choices": [
        {
          "index": 0,
          "message": {
            "role": "assistant",
            "content": "Let me look.",
            "refusal": null,
            "reasoning_content": "hm",
            "tool_calls": [
              {
                "id": "toolu_1",
                "type": "function",
                "function": {
                  "name": "look",
                  "arguments": "{\"at\":1}"
                }
              }
            ]
          },
          "logprobs": null,
          "finish_reason": "tool_calls"
        }
      ],
      "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {
          "cached_tokens": 4
        },
        "completion_tokens_details": {
          "reasoning_tokens": 2
        }
      }
    }
    "#);
}

#[test]
fn content_is_there_unless_there_are_calls_alone() {
    let call = Part::ToolCall { id: "c".into(), name: "f".into(), arguments: String::new() };
    let message = |parts| whole(&answer(parts, Finish::Stop, Usage::default()))["choices"][0]["message"].clone();
    assert_eq!(message(vec![call])["content"], Value::Null);
    assert_eq!(message(Vec::new())["content"], "");
    assert_eq!(message(vec![Part::Reasoning { text: String::new(), signature: Some("s".into()) }])["content"], "");
    assert!(whole(&answer(Vec::new(), Finish::Stop, Usage::default())).get("usage").is_none());
}

#[test]
fn reasons_are_those_that_clients_know() {
    for (finish, expected) in [
        (Finish::Stop, "stop"),
        (Finish::Length, "length"),
        (Finish::ToolCalls, "tool_calls"),
        (Finish::ContentFilter, "content_filter"),
        (Finish::Other("pause_turn".into()), "stop"),
    ] {
        assert_eq!(whole(&answer(Vec::new(), finish, Usage::default()))["choices"][0]["finish_reason"], expected);
    }
}

/// The events that come of these pieces.
fn stream(deltas: &[Delta], counting: Counting) -> Vec<String> {
    let mut events = answer::Events::new(named(), counting);
    let mut frames = Vec::new();
    for delta in deltas {
        events.write(delta, &mut frames).unwrap();
    }
    frames.iter().map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect()
}

/// What a client makes of them: the parts, the reason and the usage.
fn gathered(frames: &[String]) -> (Vec<Part>, Option<String>, Value) {
    let (mut thought, mut said, mut reason, mut usage) = (String::new(), String::new(), None, Value::Null);
    let mut calls: BTreeMap<u64, (String, String, String)> = BTreeMap::new();
    let (last, frames) = frames.split_last().unwrap();
    assert_eq!(last, "data: [DONE]\n\n");
    for frame in frames {
        let data = frame.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        let chunk: Value = serde_json::from_str(data).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk");
        if chunk["usage"].is_object() {
            usage = chunk["usage"].clone();
        }
        let Some(choice) = chunk["choices"].get(0) else { continue };
        let delta = &choice["delta"];
        said.push_str(delta["content"].as_str().unwrap_or_default());
        thought.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let known = calls.entry(call["index"].as_u64().unwrap()).or_default();
            known.0.push_str(call["id"].as_str().unwrap_or_default());
            known.1.push_str(call["function"]["name"].as_str().unwrap_or_default());
            known.2.push_str(call["function"]["arguments"].as_str().unwrap());
        }
        if let Some(word) = choice["finish_reason"].as_str() {
            assert!(reason.replace(word.to_owned()).is_none(), "it ends twice");
        }
    }
    let mut parts = Vec::new();
    if !thought.is_empty() {
        parts.push(Part::Reasoning { text: thought, signature: None });
    }
    if !said.is_empty() {
        parts.push(Part::Text(said));
    }
    parts.extend(calls.into_values().map(|(id, name, arguments)| Part::ToolCall { id, name, arguments }));
    (parts, reason, usage)
}

#[test]
fn a_stream_tells_who_speaks_then_what_and_then_why_it_ends() {
    let deltas = [
        Delta::Start { id: "msg_1".into(), model: "small".into() },
        Delta::Text("a".into()),
        Delta::ToolCall { index: 0, id: "c0".into(), name: "f".into() },
        Delta::Arguments { index: 0, fragment: "{}".into() },
        Delta::Finish(Finish::ToolCalls),
        Delta::Usage(Usage { input_tokens: Some(3), output_tokens: Some(2), ..Usage::default() }),
        Delta::End,
    ];
    insta::assert_snapshot!(stream(&deltas, Counting::Told).concat(), @r#"
    data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1,"model":"small","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1,"model":"small","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1,"model":"small","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c0","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1,"model":"small","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"finish_reason":null}],"usage":null}

    data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1,"model":"small","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}

    data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1,"model":"small","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}

    data: [DONE]
    "#);
    let untold = stream(&deltas, Counting::Untold);
    assert!(untold.iter().all(|frame| !frame.contains("usage")), "{untold:?}");
    assert_eq!(stream(&[Delta::End], Counting::Untold).len(), 3, "who speaks, why it ends, and the end");
}

#[test]
fn another_model_goes_on_under_the_first_ones_name() {
    let mut events = answer::Events::new(named(), Counting::Untold);
    let told = [
        Delta::Start { id: "chatcmpl-first".into(), model: "first".into() },
        Delta::Text("one ".into()),
        Delta::ToolCall { index: 0, id: "c0".into(), name: "f".into() },
        Delta::Finish(Finish::Length),
    ];
    told.iter().for_each(|delta| events.observe(delta));
    events.continued();
    let mut frames = Vec::new();
    for delta in [
        Delta::Start { id: "chatcmpl-second".into(), model: "second".into() },
        Delta::Text("two".into()),
        Delta::ToolCall { index: 0, id: "c1".into(), name: "f".into() },
        Delta::End,
    ] {
        events.write(&delta, &mut frames).unwrap();
    }
    let chunks: Vec<String> = frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
    assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.contains("chatcmpl-first")), "{chunks:?}");
    assert!(chunks.iter().all(|chunk| !chunk.contains("second") && !chunk.contains("\"role\"")), "{chunks:?}");
    assert!(chunks[1].contains("\"index\":1,\"id\":\"c1\""), "the call is another one: {}", chunks[1]);
    assert!(chunks[2].contains("\"finish_reason\":\"stop\""), "{}", chunks[2]);
}

proptest::proptest! {
    #[test]
    fn a_whole_answer_says_what_the_model_said(parts in samples::answer()) {
        let told = whole(&answer(parts.clone(), Finish::Stop, Usage::default()));
        let mut body = with(json!({}));
        body["messages"] = json!([told["choices"][0]["message"]]);
        let read = read(body).unwrap().request.messages;
        let read = read.first().map(|message| message.parts.clone()).unwrap_or_default();
        proptest::prop_assert_eq!(samples::without_empty(read), samples::without_empty(samples::as_openai(parts)));
    }

    #[test]
    fn a_stream_says_what_the_model_said(pieces in samples::pieces()) {
        let mut deltas = pieces.deltas.clone();
        deltas.extend([Delta::Finish(Finish::Stop), Delta::End]);
        let (parts, reason, _) = gathered(&stream(&deltas, Counting::Untold));
        proptest::prop_assert_eq!(reason.as_deref(), Some("stop"));
        proptest::prop_assert_eq!(parts, samples::without_empty(samples::as_openai(pieces.parts)));
    }

    #[test]
    fn a_request_means_what_it_was_written_from(mut request in samples::request()) {
        let body = samples::to_openai(&request);
        for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
            if let Part::ToolResult { is_error, .. } = part {
                // Nobody can say so there.
                *is_error = false;
            }
        }
        let mut read = read(body).unwrap().request;
        read.original = None;
        proptest::prop_assert_eq!(read, request);
    }

    #[test]
    fn whatever_comes_is_read_or_refused(body in samples::json()) {
        // A panic would be a defect; whether it is taken is not the matter.
        let _read = read(body.clone());
        let _read = read(with(json!({ "messages": [body] })));
    }
}
