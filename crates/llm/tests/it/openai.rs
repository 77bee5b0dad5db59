//! Answers of servers that speak OpenAI's shape, as they really come.

use holdfast_llm::{Delta, ErrorKind, Event, Finish, Listed, Part, Shape, Usage};
use holdfast_testkit::upstream::{Framing, Script, Step, words};
use serde_json::{Value, json};

use super::rig::{PATIENT, call, collected, drained, frames, original, provider_at, question, upstream};

/// What comes of a stream of these frames.
async fn streamed(frames: Vec<String>) -> Vec<Event> {
    let upstream = upstream().await;
    upstream.push(Script::stream(frames));
    let stream = provider_at(Shape::OpenAi, upstream.url()).stream(&call(question("hi"))).await.unwrap();
    let (events, error) = drained(stream).await;
    assert_eq!(error, None);
    events
}

/// The frames of deltas, with this reason at the end.
fn chunks(deltas: &[Value], reason: &str) -> Vec<String> {
    let mut frames: Vec<String> = deltas.iter().map(|delta| words::openai_chunk(delta, None)).collect();
    frames.push(words::openai_chunk(&json!({}), Some(reason)));
    frames.push(words::OPENAI_DONE.to_owned());
    frames
}

/// What comes of a whole answer.
async fn answered(message: Value, reason: &str) -> holdfast_llm::Answer {
    let upstream = upstream().await;
    let choice = json!({"index": 0, "message": message, "finish_reason": reason});
    let body =
        json!({"id": "x", "model": "up-1", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    upstream.push(Script::json(200, body.to_string()));
    provider_at(Shape::OpenAi, upstream.url()).complete(&call(question("hi"))).await.unwrap()
}

fn called(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

#[tokio::test]
async fn a_stream_is_handed_on_frame_by_frame() {
    let sent = words::openai_frames(&["Hel", "lo"]);
    let events = streamed(sent.clone()).await;
    let text = |text: &str| Delta::Text(text.to_owned());
    let deltas: Vec<Vec<Delta>> = events.iter().map(|event| event.deltas.clone()).collect();
    let usage = Usage { input_tokens: Some(11), output_tokens: Some(7), ..Usage::default() };
    assert_eq!(
        deltas,
        [
            vec![Delta::Start { id: "chatcmpl-mock".into(), model: words::MODEL.into() }],
            vec![text("Hel")],
            vec![text("lo")],
            vec![Delta::Finish(Finish::Stop)],
            vec![Delta::Usage(usage)],
            vec![Delta::End],
        ]
    );
    // Nobody asked for the chunk with usage, so nobody gets it; all others come byte for byte.
    let expected: Vec<&str> = sent.iter().filter(|frame| !frame.contains("\"usage\"")).map(String::as_str).collect();
    assert_eq!(frames(&events), expected.concat());
}

#[tokio::test]
async fn who_asks_for_usage_gets_it() {
    let upstream = upstream().await;
    let sent = words::openai_frames(&["a"]);
    upstream.push(Script::stream(sent.clone()));
    let body = json!({"model": "x", "messages": [], "stream": true, "stream_options": {"include_usage": true}});
    let call = call(original(Shape::OpenAi, &body));
    let stream = provider_at(Shape::OpenAi, upstream.url()).stream(&call).await.unwrap();
    assert_eq!(frames(&drained(stream).await.0), sent.concat());
    assert_eq!(upstream.wait_for(0, |_| true).await.json()["stream_options"], json!({"include_usage": true}));
}

#[tokio::test]
async fn how_bytes_are_cut_makes_no_difference() {
    let sent = words::openai_frames(&["größer", "海藻"]);
    let expected = streamed(sent.clone()).await;
    for bytes in [1, 2, 3, 7, 64, 1_000] {
        let upstream = upstream().await;
        upstream.push(Script::stream(sent.clone()).dripping(bytes));
        let stream = provider_at(Shape::OpenAi, upstream.url()).stream(&call(question("hi"))).await.unwrap();
        assert_eq!(drained(stream).await, (expected.clone(), None), "{bytes} at a time");
    }
    let lines: Vec<String> = sent.iter().map(|frame| frame.replace('\n', "\r\n")).collect();
    assert_eq!(streamed(lines).await, expected);
}

#[tokio::test]
async fn calls_of_tools_are_told_apart_however_servers_number_them() {
    let piece = |call: Value| json!({"tool_calls": [call]});
    let function = |name: &str, arguments: &str| json!({"name": name, "arguments": arguments});
    let more = |arguments: &str| json!({"arguments": arguments});
    let two = vec![called("a", "look", "{\"x\":1}"), called("b", "listen", "{}")];
    let check = async |name: &str, deltas: &[Value], expected: &[Part]| {
        let events = streamed(chunks(deltas, "tool_calls")).await;
        assert_eq!(collected(&events).parts, expected, "{name}");
    };
    check(
        "OpenAI, llama.cpp: an index always, an id at first",
        &[
            piece(json!({"index": 0, "id": "a", "type": "function", "function": function("look", "")})),
            piece(json!({"index": 0, "function": more("{\"x\"")})),
            piece(json!({"index": 1, "id": "b", "type": "function", "function": function("listen", "")})),
            piece(json!({"index": 0, "function": more(":1}")})),
            piece(json!({"index": 1, "function": more("{}")})),
        ],
        &two,
    )
    .await;
    check(
        "Ollama: index 0 for all",
        &[
            piece(json!({"index": 0, "id": "a", "type": "function", "function": function("look", "{\"x\":1}")})),
            piece(json!({"index": 0, "id": "b", "type": "function", "function": function("listen", "{}")})),
        ],
        &two,
    )
    .await;
    check(
        "Gemini, older Ollama: no index",
        &[json!({"tool_calls": [
            {"id": "a", "type": "function", "function": function("look", "{\"x\":1}")},
            {"id": "b", "type": "function", "function": function("listen", "{}")},
        ]})],
        &two,
    )
    .await;
    check(
        "vLLM, some versions: the id with every piece, empty or null names after the first",
        &[
            piece(json!({"index": 0, "id": "a", "function": function("look", "{")})),
            piece(json!({"index": 0, "id": "a", "function": {"name": null, "arguments": "\"x\":1}"}})),
            piece(json!({"index": 1, "id": "b", "function": function("listen", "{")})),
            piece(json!({"index": 1, "id": "b", "function": function("", "}")})),
        ],
        &two,
    )
    .await;
    check(
        "SGLang: arguments before the name",
        &[
            piece(json!({"index": 0, "id": "a", "function": more("{\"x\"")})),
            piece(json!({"index": 0, "function": function("look", ":1}")})),
            piece(json!({"id": "b", "function": {"name": "listen", "arguments": {}}})),
        ],
        &two,
    )
    .await;
    check(
        "no index after the first piece",
        &[
            piece(json!({"id": "a", "function": function("look", "{\"x\"")})),
            piece(json!({"function": more(":1}")})),
            piece(json!({"id": "b", "function": function("listen", "{}")})),
        ],
        &two,
    )
    .await;
}

#[tokio::test]
async fn calls_without_ids_get_some() {
    let tool = |name: &str| json!({"tool_calls": [{"function": {"name": name, "arguments": "{}"}}]});
    let events = streamed(chunks(&[tool("look"), tool("listen")], "stop")).await;
    let collected = collected(&events);
    assert_eq!(collected.finish, Some(Finish::ToolCalls), "it called tools, whatever it says");
    let ids: Vec<&String> = collected
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::ToolCall { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.starts_with("call_")), "{ids:?}");
    let whole =
        answered(json!({"content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"x": 1}}}]}), "stop")
            .await;
    assert!(
        matches!(&*whole.parts, [Part::ToolCall { id, arguments, .. }] if id.starts_with("call_") && arguments == "{\"x\":1}")
    );
    assert_eq!(whole.finish, Finish::ToolCalls);
}

#[tokio::test]
async fn thoughts_and_refusals_are_told_apart_from_text() {
    let thought = |text: &str| Part::Reasoning { text: text.into(), signature: None };
    let text = |text: &str| Part::Text(text.into());
    let check = async |deltas: &[Value], expected: &[Part]| {
        let collected = collected(&streamed(chunks(deltas, "stop")).await);
        assert_eq!(collected.parts, expected, "{deltas:?}");
        let mut whole = serde_json::Map::new();
        deltas.iter().filter_map(Value::as_object).for_each(|delta| whole.extend(delta.clone()));
        assert_eq!(answered(Value::Object(whole), "stop").await.parts, expected, "{deltas:?}");
    };
    check(&[json!({"reasoning_content": "hm"}), json!({"content": "yes"})], &[thought("hm"), text("yes")]).await;
    check(&[json!({"reasoning": "hm"}), json!({"content": "yes"})], &[thought("hm"), text("yes")]).await;
    check(&[json!({"reasoning": "hm", "reasoning_content": "hm", "content": null})], &[thought("hm")]).await;
    check(&[json!({"refusal": "I cannot", "content": null})], &[text("I cannot")]).await;
    let parts =
        json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "yes"}]);
    check(&[json!({"content": parts})], &[thought("hm"), text("yes")]).await;
}

#[tokio::test]
async fn every_reason_has_a_word() {
    for (reason, expected) in [
        ("stop", Finish::Stop),
        ("length", Finish::Length),
        ("tool_calls", Finish::ToolCalls),
        ("content_filter", Finish::ContentFilter),
        ("eos_token", Finish::Stop),
        ("insufficient_system_resource", Finish::Other("insufficient_system_resource".into())),
    ] {
        assert_eq!(answered(json!({"content": "a"}), reason).await.finish, expected);
        let collected = collected(&streamed(chunks(&[json!({"content": "a"})], reason)).await);
        assert_eq!(collected.finish, Some(expected));
    }
}

#[tokio::test]
async fn usage_is_read_with_its_details() {
    let usage = json!({
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 12},
    });
    let expected = Usage {
        input_tokens: Some(100),
        output_tokens: Some(20),
        cached_input_tokens: Some(64),
        cache_write_tokens: None,
        reasoning_tokens: Some(12),
    };
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage});
    let frames = vec![
        words::openai_chunk(&json!({"content": "a"}), None),
        format!("data: {last}\n\n"),
        words::OPENAI_DONE.to_owned(),
    ];
    let events = streamed(frames.clone()).await;
    assert_eq!(collected(&events).usage, expected);
    assert_eq!(super::rig::frames(&events), frames.concat(), "it is not alone in its chunk");
    // Groq and others have numbers that are none.
    let odd = json!({"choices": [], "usage": {"prompt_tokens": null, "completion_tokens": -1}});
    let events =
        streamed(vec![words::openai_chunk(&json!({"content": "a"}), Some("stop")), format!("data: {odd}\n\n")]).await;
    assert_eq!(collected(&events).usage, Usage::default());
}

#[tokio::test]
async fn what_ends_without_its_last_frame_gets_one() {
    let upstream = upstream().await;
    let frames = [words::openai_chunk(&json!({"content": "a"}), None), words::openai_chunk(&json!({}), Some("stop"))];
    upstream.push(Script::stream(frames).framed(Framing::UntilClose).then_after(2, [Step::Close]));
    let stream = provider_at(Shape::OpenAi, upstream.url()).stream(&call(question("hi"))).await.unwrap();
    let (events, error) = drained(stream).await;
    assert_eq!(error, None);
    assert_eq!(events.last(), Some(&Event { deltas: vec![Delta::End], frame: Some("data: [DONE]\n\n".into()) }));
}

#[tokio::test]
async fn a_last_frame_without_a_reason_is_a_cut() {
    let check = async |frames: Vec<String>| {
        let upstream = upstream().await;
        upstream.push(Script::stream(frames));
        let stream = provider_at(Shape::OpenAi, upstream.url()).stream(&call(question("hi"))).await.unwrap();
        assert_eq!(drained(stream).await.1.map(|error| error.kind), Some(ErrorKind::Cut));
    };
    let done = || words::OPENAI_DONE.to_owned();
    check(vec![words::openai_chunk(&json!({"content": "a"}), None), done()]).await;
    let called = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"a"}}]});
    check(vec![words::openai_chunk(&called, None), done()]).await;
    // The second of two answers did not end.
    let chunk = |index: u64, reason: Value| {
        let choice = json!({"index": index, "delta": {"content": "a"}, "finish_reason": reason});
        format!("data: {}\n\n", json!({"id": "x", "model": "m", "choices": [choice]}))
    };
    let two = || vec![chunk(1, Value::Null), chunk(0, json!("stop"))];
    check(two()).await;
    check([two(), vec![done()]].concat()).await;
}

#[tokio::test]
async fn parts_that_are_texts_are_passed_over() {
    let odd = json!({"content": ["a", 1, {"type": "text", "text": "b"}, {"type": "thinking", "thinking": ["c"]}]});
    assert_eq!(collected(&streamed(chunks(&[odd], "stop")).await).text(), "b");
}

#[tokio::test]
async fn of_several_answers_the_first_is_read_and_all_are_handed_on() {
    let choice = |index: u64, text: &str, reason: Value| json!({"index": index, "delta": {"content": text}, "finish_reason": reason});
    let chunk = |choice: Value| format!("data: {}\n\n", json!({"id": "x", "model": "m", "choices": [choice]}));
    let sent = vec![
        chunk(choice(1, "B", Value::Null)),
        chunk(choice(0, "a", Value::Null)),
        chunk(choice(1, "", json!("length"))),
        chunk(choice(0, "", json!("stop"))),
        words::OPENAI_DONE.to_owned(),
    ];
    let events = streamed(sent.clone()).await;
    assert_eq!((collected(&events).text(), collected(&events).finish), ("a".to_owned(), Some(Finish::Stop)));
    assert_eq!(frames(&events), sent.concat());
    // Azure begins with a chunk that has none at all.
    let first = format!("data: {}\n\n", json!({"choices": [], "prompt_filter_results": []}));
    let events = streamed([vec![first], chunks(&[json!({"content": "a"})], "stop")].concat()).await;
    assert_eq!(collected(&events).text(), "a");
}

#[tokio::test]
async fn a_whole_answer_keeps_its_body() {
    let upstream = upstream().await;
    upstream.push(Script::openai("Hello"));
    let answer = provider_at(Shape::OpenAi, upstream.url()).complete(&call(question("hi"))).await.unwrap();
    assert_eq!(
        (answer.id.as_str(), answer.model.as_str(), answer.shape),
        ("chatcmpl-mock", words::MODEL, Shape::OpenAi)
    );
    assert_eq!(answer.parts, [Part::Text("Hello".into())]);
    assert_eq!(answer.body, words::openai_answer("Hello"));
    assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (Some(11), Some(7)));
}

#[tokio::test]
async fn the_models_are_listed_with_what_is_told_of_them() {
    let upstream = upstream().await;
    let body = json!({"object": "list", "data": [
        {"id": "a", "object": "model", "max_model_len": 4096},
        {"id": "b", "context_length": 8192, "pricing": {}},
        {"id": "c", "meta": {"n_ctx": 512, "n_ctx_train": 2048}},
        {"id": "d", "meta": null},
    ]});
    upstream.push(Script::json(200, body.to_string()));
    let provider = provider_at(Shape::OpenAi, upstream.url());
    let listed = |name: &str, context_tokens| Listed { name: name.into(), context_tokens };
    assert_eq!(
        provider.models(&PATIENT).await.unwrap(),
        [listed("a", Some(4096)), listed("b", Some(8192)), listed("c", Some(512)), listed("d", None)]
    );
    let received = upstream.wait_for(0, |_| true).await;
    assert_eq!((received.method.as_str(), received.path.as_str()), ("GET", "/v1/models"));
    assert_eq!(provider.count_tokens(&call(question("hi"))).await, Ok(None));
}
