//! What is read of bodies and what is written of answers: tables, snapshots, and that nothing is lost on the way.

use bytes::Bytes;
use holdfast_llm::{
    Answer, Delta, Finish, Format, Image, Message, Part, Role, Shape, ToolChoice, Usage, message::REDACTED,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    answer,
    request::{self, For},
};
use crate::chat::{
    asked::{Asked, Counting, Delivery},
    encode::{Named, Unsayable},
    own::Headers,
    samples,
};

fn read(body: Value) -> Result<Asked, String> {
    request::read(body, &Headers::default(), For::Message).map_err(|failure| failure.report().detail)
}

/// A body with a question, and with these fields besides or instead.
fn with(fields: Value) -> Value {
    let mut body = json!({ "model": "auto", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn refused(fields: Value, told: &str) {
    let found = read(with(fields.clone())).unwrap_err();
    assert!(found.contains(told), "{fields}: {found}");
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

#[test]
fn every_kind_of_message_is_read() {
    let cached = json!({ "type": "ephemeral" });
    let asked = read(with(json!({
        "system": [{ "type": "text", "text": "be short", "cache_control": cached }],
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "what is this?" },
                { "type": "image", "source": { "type": "url", "url": "https://a/b.png" } },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aGk=" } },
            ] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "sig" },
                { "type": "redacted_thinking", "data": "secret" },
                { "type": "tool_use", "id": "t1", "name": "look", "input": { "at": 1 } },
                { "type": "tool_use", "id": "t2", "name": "now", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "t1", "content": "a cat" },
                { "type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": [
                    { "type": "text", "text": "no clock" },
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aGk=" } },
                ] },
                { "type": "text", "text": "well?" },
            ] },
        ],
    })));
    let message = |role, parts| Message { role, parts };
    let inline = || Part::Image(Image::Inline { media_type: "image/png".into(), data: "aGk=".into() });
    let call = |id: &str, name: &str, arguments: &str| Part::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    let result = |id: &str, content, is_error| vec![Part::ToolResult { id: id.into(), content, is_error }];
    assert_eq!(
        asked.unwrap().request.messages,
        [
            message(Role::System, vec![text("be short")]),
            message(
                Role::User,
                vec![text("what is this?"), Part::Image(Image::Url("https://a/b.png".into())), inline()]
            ),
            message(
                Role::Assistant,
                vec![
                    Part::Reasoning { text: "hm".into(), signature: Some("sig".into()) },
                    Part::Reasoning { text: String::new(), signature: Some(format!("{REDACTED}secret")) },
                    call("t1", "look", "{\"at\":1}"),
                    call("t2", "now", "{}"),
                ]
            ),
            message(Role::Tool, result("t1", vec![text("a cat")], false)),
            message(Role::Tool, result("t2", vec![text("no clock"), inline()], true)),
            message(Role::User, vec![text("well?")]),
        ]
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let said = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    let tool = |schema: Value| json!({ "tools": [{ "name": "f", "input_schema": schema }] });
    for (fields, told) in [
        (json!({ "messages": [] }), "messages must have at least one message"),
        (
            json!({ "messages": [{ "role": "system", "content": "x" }] }),
            "messages[0].role must be one of user, assistant",
        ),
        (json!({ "messages": [{ "role": "user" }] }), "messages[0].content is missing"),
        (said(json!(7)), "messages[0].content must be text or a list of blocks"),
        (said(json!([{ "type": "text" }])), "messages[0].content[0].text is missing"),
        (
            said(json!([{ "type": "image", "source": { "type": "url", "url": "ftp://x" } }])),
            "source.url must begin with",
        ),
        (
            said(json!([{ "type": "image", "source": { "type": "url", "url": "data:image/png;base64,aGk=" } }])),
            "source has to be of the type base64",
        ),
        (
            said(
                json!([{ "type": "image", "source": { "type": "base64", "media_type": "text/css", "data": "aGk=" } }]),
            ),
            "source has a media type that is not of a picture",
        ),
        (
            said(json!([{ "type": "tool_result", "tool_use_id": "t9" }])),
            "messages[0].content[0].tool_use_id answers a call that no message before it has",
        ),
        (
            said(json!([{ "type": "tool_result", "tool_use_id": "t9", "content": [{ "type": "tool_use" }] }])),
            "content[0].content[0] cannot stand in the result of a tool",
        ),
        (said(json!([{ "type": "tool_use", "id": "t", "name": "f", "input": "x" }])), "input must be an object"),
        (said(json!([{ "type": "thinking" }])), "messages[0].content[0].thinking is missing"),
        (json!({ "max_tokens": null }), "max_tokens is missing"),
        (json!({ "max_tokens": -5 }), "max_tokens must be a whole number, 1 to"),
        (json!({ "temperature": 1.5 }), "temperature must be a number, 0 to 1"),
        (json!({ "top_k": -1 }), "top_k must be a whole number, 0 to"),
        (json!({ "stop_sequences": "END" }), "stop_sequences must be a list"),
        (json!({ "thinking": { "type": "enabled" } }), "thinking.budget_tokens is missing"),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": 5 } }), "thinking.budget_tokens must be"),
        (tool(json!({ "type": "array" })), "tools[0].input_schema.type must be object"),
        (json!({ "tools": [{ "name": "f" }] }), "tools[0].input_schema is missing"),
        (
            json!({ "tools": [{ "type": "bash_20250124", "name": "bash" }, { "name": "bash", "input_schema": {} }] }),
            "tools[1].name is the name of another tool too",
        ),
        (json!({ "tool_choice": { "type": "any" } }), "tool_choice wants a tool to be called, and there is none"),
        (json!({ "tool_choice": { "type": "tool", "name": "g" } }), "tool_choice names a tool that is not in tools"),
        (json!({ "tool_choice": { "type": "some" } }), "tool_choice.type must be one of auto, any, tool, none"),
        (json!({ "output_config": { "format": { "type": "xml" } } }), "output_config.format.type must be json_schema"),
        (json!({ "stream": 1 }), "stream must be true or false"),
    ] {
        refused(fields, told);
    }
}

#[test]
fn what_is_said_well_is_understood() {
    let schema = json!({ "type": "object", "properties": {} });
    let body = with(json!({
        "tools": [
            { "type": "custom", "name": "f", "input_schema": schema }, { "type": "web_search_20250305", "name": "web" },
        ],
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
        "output_format": { "type": "json_schema", "schema": schema },
        "thinking": { "type": "enabled", "budget_tokens": 2_048 },
        "stop_sequences": ["END"], "temperature": 1, "top_k": 0, "stream": true, "metadata": { "user_id": "u" },
    }));
    let Asked { request, delivery, .. } = read(body.clone()).unwrap();
    assert_eq!(delivery, Delivery::Stream(Counting::Told));
    let names: Vec<_> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!((names, request.tool_choice), (vec!["f"], ToolChoice::Required));
    assert_eq!(request.parallel_tool_calls, Some(false));
    assert_eq!(request.format, Format::JsonSchema { name: "answer".into(), schema, strict: Some(true) });
    let sampling = request.sampling;
    assert_eq!((sampling.max_tokens, sampling.thinking_tokens, sampling.top_k), (Some(9), Some(2_048), None));
    let original = request.original.unwrap();
    assert_eq!((original.shape, Value::Object(original.body)), (Shape::Anthropic, body));
}

#[test]
fn betas_go_with_the_request() {
    let headers = Headers { betas: vec!["some-beta-2025".into()], ..Headers::default() };
    let asked = request::read(with(json!({})), &headers, For::Message).unwrap();
    assert_eq!(asked.request.betas, ["some-beta-2025"]);
}

#[test]
fn counting_takes_no_length() {
    let body = json!({ "model": "auto", "messages": [{ "role": "user", "content": "hi" }] });
    assert!(request::read(body, &Headers::default(), For::Count).is_ok());
}

#[test]
fn what_there_is_no_word_for_goes_on_but_into_no_session() {
    let document = json!([{ "role": "user", "content": [
        { "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "x" } },
        { "type": "text", "text": "?" },
    ] }]);
    assert_eq!(read(with(json!({ "messages": document }))).unwrap().request.messages[0].parts, [text("?")]);
    refused(
        json!({ "messages": document, "holdfast": { "session": "s1" } }),
        "messages[0].content[0] is of a kind that a session cannot keep",
    );
}

/// They are told so where another shape of provider thought them, and clients send back what they were told.
#[test]
fn thoughts_without_a_signature_come_back() {
    for block in [
        json!({ "type": "thinking", "thinking": "hm", "signature": "" }),
        json!({ "type": "thinking", "thinking": "hm" }),
    ] {
        let said = json!([
            { "role": "user", "content": "?" },
            { "role": "assistant", "content": [block, { "type": "tool_use", "id": "t1", "name": "f", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": "x" }] },
        ]);
        let request = read(with(json!({ "messages": said }))).unwrap().request;
        assert_eq!(request.messages[1].parts[0], Part::Reasoning { text: "hm".into(), signature: None });
        assert!(holdfast_llm::check(Shape::OpenAi, &request).is_ok());
        assert!(holdfast_llm::check(Shape::Anthropic, &request).is_ok());
    }
}

fn named() -> Named {
    Named::new("msg_", Uuid::nil(), "tiny")
}

fn answer(parts: Vec<Part>, finish: Finish, usage: Usage) -> Answer {
    let (id, model, body) = ("chatcmpl-1".into(), "tiny".into(), Bytes::new());
    Answer { id, model, parts, finish, usage, shape: Shape::OpenAi, body }
}

fn whole(answer: &Answer) -> Result<Value, Unsayable> {
    answer::whole(answer, &named()).map(|written| serde_json::from_slice(&written).unwrap())
}

#[test]
fn a_whole_answer_is_a_message() {
    let parts = vec![
        Part::Reasoning { text: "hm".into(), signature: None },
        text("Let me look."),
        Part::ToolCall { id: "call_1".into(), name: "look".into(), arguments: "{\"at\":1}".into() },
        Part::ToolCall { id: "call_2".into(), name: "now".into(), arguments: " ".into() },
    ];
    let usage = Usage {
        input_tokens: Some(10),
        output_tokens: Some(5),
        cached_input_tokens: Some(4),
        cache_write_tokens: Some(3),
        reasoning_tokens: Some(2),
    };
    insta::assert_json_snapshot!(whole(&answer(parts, Finish::ToolCalls, usage)).unwrap(), @r#"
    {
      "id": "msg_00000000000000000000000000000000",
      "type": "message",
      "role": "assistant",
      "model": "tiny",
      "content": [
        {
          "type": "thinking",
          "thinking": "hm",
          "signature": ""
        },
        {
          "type": "text",
          "text": "Let me look."
        },
        {
          "type": "tool_use",
          "id": "call_1",
          "name": "look",
          "input": {
            "at": 1
          }
        },
        {
          "type": "tool_use",
          "id": "call_2",
          "name": "now",
          "input": {}
        }
      ],
      "stop_reason": "tool_use",
      "stop_sequence": null,
      "usage": {
        "input_tokens": 3,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 4,
        "output_tokens": 5
      }
    }
    "#);
}

#[test]
fn arguments_that_are_no_object_are_told_and_not_made_up() {
    for arguments in ["{\"at\":", "[1]", "7", "look"] {
        let call = Part::ToolCall { id: "c".into(), name: "f".into(), arguments: arguments.into() };
        assert_eq!(whole(&answer(vec![call], Finish::ToolCalls, Usage::default())), Err(Unsayable::Arguments));
    }
}

#[test]
fn reasons_are_those_that_clients_know() {
    for (finish, expected) in [
        (Finish::Stop, "end_turn"),
        (Finish::Length, "max_tokens"),
        (Finish::ToolCalls, "tool_use"),
        (Finish::ContentFilter, "refusal"),
        (Finish::Other("pause_turn".into()), "pause_turn"),
        (Finish::Other("eos".into()), "end_turn"),
    ] {
        assert_eq!(whole(&answer(Vec::new(), finish, Usage::default())).unwrap()["stop_reason"], expected);
    }
}

fn written(deltas: &[Delta]) -> Result<Vec<String>, Unsayable> {
    let mut events = answer::Events::new(named());
    let mut frames = Vec::new();
    for delta in deltas {
        events.write(delta, &mut frames)?;
    }
    Ok(frames.iter().map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect())
}

fn data(frame: &str) -> Value {
    let (name, data) = frame.strip_suffix("\n\n").unwrap().split_once('\n').unwrap();
    let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{frame}");
    data
}

/// What a client makes of a stream, which it believes to keep to its rules.
fn gathered(frames: &[String]) -> (Vec<Part>, Value) {
    let mut frames = frames.iter().map(|frame| data(frame));
    assert_eq!(frames.next().unwrap()["type"], "message_start");
    let (mut parts, mut open, mut end) = (Vec::new(), None::<Part>, None);
    for event in frames {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(open.is_none() && index == Some(parts.len() as u64), "{event}");
                let block = &event["content_block"];
                let word = |name: &str| block[name].as_str().unwrap().to_owned();
                open = Some(match block["type"].as_str().unwrap() {
                    "text" => Part::Text(word("text")),
                    "thinking" => Part::Reasoning { text: word("thinking"), signature: None },
                    "redacted_thinking" => {
                        Part::Reasoning { text: String::new(), signature: Some(format!("{REDACTED}{}", word("data"))) }
                    }
                    "tool_use" => {
                        assert_eq!(block["input"], json!({}));
                        Part::ToolCall { id: word("id"), name: word("name"), arguments: String::new() }
                    }
                    other => panic!("{other}"),
                });
            }
            "content_block_delta" => {
                assert_eq!(index, Some(parts.len() as u64), "{event}");
                let delta = &event["delta"];
                let kind = delta["type"].as_str().unwrap();
                let more = |name: &str| delta[name].as_str().unwrap().to_owned();
                match (kind, open.as_mut().unwrap()) {
                    ("text_delta", Part::Text(text)) => text.push_str(&more("text")),
                    ("thinking_delta", Part::Reasoning { text, .. }) => text.push_str(&more("thinking")),
                    ("signature_delta", Part::Reasoning { signature, .. }) => *signature = Some(more("signature")),
                    ("input_json_delta", Part::ToolCall { arguments, .. }) => arguments.push_str(&more("partial_json")),
                    other => panic!("{other:?}"),
                }
            }
            "content_block_stop" => {
                assert_eq!(index, Some(parts.len() as u64), "{event}");
                parts.push(open.take().unwrap());
            }
            "message_delta" => {
                assert!(open.is_none() && end.replace(event).is_none());
            }
            "message_stop" => return (parts, end.unwrap()),
            other => panic!("{other}"),
        }
    }
    panic!("it has no end")
}

#[test]
fn a_stream_is_blocks_one_after_the_other() {
    let deltas = [
        Delta::Start { id: "chatcmpl-1".into(), model: "small".into() },
        Delta::Reasoning("hm".into()),
        Delta::Text("a".into()),
        Delta::Text(String::new()),
        Delta::ToolCall { index: 0, id: "c0".into(), name: "f".into() },
        Delta::Arguments { index: 0, fragment: "{}".into() },
        Delta::Finish(Finish::ToolCalls),
        Delta::Usage(Usage { input_tokens: Some(3), output_tokens: Some(2), ..Usage::default() }),
        Delta::End,
    ];
    insta::assert_snapshot!(written(&deltas).unwrap().concat(), @r#"
    event: message_start
    data: {"type":"message_start","message":{"id":"msg_00000000000000000000000000000000","type":"message","role":"assistant","model":"small","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}

    event: content_block_start
    data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}

    event: content_block_stop
    data: {"type":"content_block_stop","index":0}

    event: content_block_start
    data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}

    event: content_block_stop
    data: {"type":"content_block_stop","index":1}

    event: content_block_start
    data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"c0","name":"f","input":{}}}

    event: content_block_delta
    data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}

    event: content_block_stop
    data: {"type":"content_block_stop","index":2}

    event: message_delta
    data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":3,"output_tokens":2}}

    event: message_stop
    data: {"type":"message_stop"}
    "#);
}

#[test]
fn calls_that_come_side_by_side_are_told_one_after_the_other() {
    let begin = |index: usize| Delta::ToolCall { index, id: format!("c{index}"), name: "f".into() };
    let more = |index, fragment: &str| Delta::Arguments { index, fragment: fragment.into() };
    let deltas = [
        begin(0),
        more(0, "{\"a\":"),
        begin(1),
        more(1, "{\"b\":2}"),
        begin(2),
        more(0, "1}"),
        more(2, "{"),
        more(0, "\n"),
        more(2, "}"),
        Delta::Finish(Finish::ToolCalls),
        Delta::End,
    ];
    let (parts, _) = gathered(&written(&deltas).unwrap());
    let call = |index: usize, arguments: &str| Part::ToolCall {
        id: format!("c{index}"),
        name: "f".into(),
        arguments: arguments.into(),
    };
    assert_eq!(parts, [call(0, "{\"a\":1}"), call(1, "{\"b\":2}"), call(2, "{}")]);
    // The first is told as it comes; the second, once the first is whole.
    let frames = written(&deltas[..6]).unwrap();
    assert!(frames.iter().any(|frame| frame.contains("\"id\":\"c1\"")), "{frames:?}");
    assert!(frames.iter().any(|frame| frame.contains("\"id\":\"c2\"")), "{frames:?}");
    let frames = written(&deltas[..5]).unwrap();
    assert!(frames.iter().all(|frame| !frame.contains("\"id\":\"c1\"")), "{frames:?}");
}

#[test]
fn a_call_that_is_gone_back_to_ends_the_stream() {
    let begin = |index: usize| Delta::ToolCall { index, id: format!("c{index}"), name: "f".into() };
    let more = |index, fragment: &str| Delta::Arguments { index, fragment: fragment.into() };
    let told = written(&[begin(0), more(0, "{}"), begin(1), more(0, "{}")]);
    assert_eq!(told, Err(Unsayable::Order));
    assert_eq!(written(&[begin(0), more(0, "{"), Delta::Text("x".into()), more(0, "}")]), Err(Unsayable::Order));
}

#[test]
fn another_model_goes_on_in_the_open_block() {
    let mut events = answer::Events::new(named());
    let frames = [
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
    ];
    events.observe(&Delta::Start { id: "msg_first".into(), model: "first".into() });
    for frame in frames {
        let kind = serde_json::from_str::<Value>(frame).unwrap()["type"].as_str().unwrap().to_owned();
        events.observe_frame(format!("event: {kind}\ndata: {frame}\n\n").as_bytes());
    }
    events.observe(&Delta::Text("one ".into()));
    events.continued();
    let mut frames = Vec::new();
    for delta in [
        Delta::Start { id: "msg_second".into(), model: "second".into() },
        Delta::Text("two".into()),
        Delta::ToolCall { index: 0, id: "c0".into(), name: "f".into() },
        Delta::End,
    ] {
        events.write(&delta, &mut frames).unwrap();
    }
    let told: Vec<Value> = frames.iter().map(|frame| data(std::str::from_utf8(frame).unwrap())).collect();
    let told: Vec<_> = told.iter().map(|event| (event["type"].as_str().unwrap(), event["index"].as_u64())).collect();
    assert_eq!(
        told,
        [
            ("content_block_delta", Some(1)),
            ("content_block_stop", Some(1)),
            ("content_block_start", Some(2)),
            ("content_block_stop", Some(2)),
            ("message_delta", None),
            ("message_stop", None),
        ]
    );
}

proptest::proptest! {
    #[test]
    fn a_whole_answer_says_what_the_model_said(parts in samples::answer()) {
        let told = whole(&answer(parts.clone(), Finish::Stop, Usage::default())).unwrap();
        let messages = json!([{ "role": "assistant", "content": told["content"] }]);
        let read = read(with(json!({ "messages": messages }))).unwrap().request.messages;
        let read = read.first().map(|message| message.parts.clone()).unwrap_or_default();
        proptest::prop_assert_eq!(read, samples::without_empty(parts));
    }

    #[test]
    fn a_stream_says_what_the_model_said(pieces in samples::pieces()) {
        let mut deltas = pieces.deltas.clone();
        deltas.extend([Delta::Finish(Finish::Stop), Delta::End]);
        let (parts, end) = gathered(&written(&deltas).unwrap());
        proptest::prop_assert_eq!(end["delta"]["stop_reason"].as_str(), Some("end_turn"));
        proptest::prop_assert_eq!(parts, samples::as_anthropic(pieces.parts));
    }

    #[test]
    fn a_request_means_what_it_was_written_from(request in samples::request()) {
        let mut read = read(samples::to_anthropic(&request)).unwrap().request;
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
