//! Answers of servers that speak Anthropic's shape, as they really come.

use holdfast_llm::{Delta, Event, Finish, Listed, Part, Shape, Usage, message::REDACTED};
use holdfast_testkit::upstream::{Framing, Script, Step, words};
use serde_json::{Value, json};

use super::rig::{PATIENT, call, collected, drained, frames, provider_at, question, upstream};

async fn streamed(events: &[Value]) -> Vec<Event> {
    let upstream = upstream().await;
    upstream.push(Script::stream(events.iter().map(words::anthropic_frame)));
    let stream = provider_at(Shape::Anthropic, upstream.url()).stream(&call(question("hi"))).await.unwrap();
    let (events, error) = drained(stream).await;
    assert_eq!(error, None);
    events
}

fn begun() -> Value {
    let usage = json!({"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 1});
    json!({"type": "message_start", "message": {"id": "msg_1", "model": "up-1", "usage": usage}})
}

fn block(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn ended(reason: &str) -> [Value; 2] {
    let ended = json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 25}});
    [ended, json!({"type": "message_stop"})]
}

/// An answer with everything in it that the vocabulary has words for.
fn everything() -> Vec<Value> {
    let mut events = vec![
        begun(),
        json!({"type": "ping"}),
        block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
        stop(0),
        block(1, json!({"type": "redacted_thinking", "data": "b3BhcXVl"})),
        stop(1),
        block(2, json!({"type": "text", "text": ""})),
        delta(2, json!({"type": "text_delta", "text": "Let me "})),
        delta(2, json!({"type": "text_delta", "text": "look."})),
        delta(2, json!({"type": "citations_delta", "citation": {}})),
        stop(2),
        block(3, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
        delta(3, json!({"type": "input_json_delta", "partial_json": "{\"query\":1}"})),
        stop(3),
        block(4, json!({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}})),
        delta(4, json!({"type": "input_json_delta", "partial_json": ""})),
        delta(4, json!({"type": "input_json_delta", "partial_json": "{\"x\""})),
        delta(4, json!({"type": "input_json_delta", "partial_json": ":1}"})),
        stop(4),
        block(5, json!({"type": "tool_use", "id": "toolu_2", "name": "listen", "input": {"y": 2}})),
        stop(5),
        json!({"type": "a_kind_of_event_that_is_new", "index": 9}),
    ];
    events.extend(ended("tool_use"));
    events
}

#[tokio::test]
async fn every_kind_of_event_is_understood_and_handed_on() {
    let sent = everything();
    let events = streamed(&sent).await;
    let collected = collected(&events);
    assert_eq!((collected.id.as_str(), collected.model.as_str()), ("msg_1", "up-1"));
    let called = |id: &str, name: &str, arguments: &str| Part::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    let expected = [
        Part::Reasoning { text: "hm".into(), signature: Some("c2ln".into()) },
        Part::Reasoning { text: String::new(), signature: Some(format!("{REDACTED}b3BhcXVl")) },
        Part::Text("Let me look.".into()),
        called("toolu_1", "look", "{\"x\":1}"),
        called("toolu_2", "listen", "{\"y\":2}"),
    ];
    assert_eq!(collected.parts, expected);
    assert_eq!(collected.finish, Some(Finish::ToolCalls));
    // Those kept are not among those asked, in Anthropic's count; in ours they are.
    let usage = Usage {
        input_tokens: Some(115),
        output_tokens: Some(25),
        cached_input_tokens: Some(100),
        cache_write_tokens: Some(5),
        reasoning_tokens: None,
    };
    assert_eq!(collected.usage, usage);
    let expected: String = sent.iter().map(words::anthropic_frame).collect();
    assert_eq!(frames(&events), expected);
    assert_eq!(events.last().map(|event| event.deltas.clone()), Some(vec![Delta::End]));
}

#[tokio::test]
async fn a_whole_answer_says_the_same() {
    let upstream = upstream().await;
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "up-1",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "b3BhcXVl"},
            {"type": "text", "text": "Let me look."},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"x": 1}},
            {"type": "tool_use", "id": "toolu_2", "name": "listen", "input": {"y": 2}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 25},
    });
    upstream.push(Script::json(200, body.to_string()));
    let answer = provider_at(Shape::Anthropic, upstream.url()).complete(&call(question("hi"))).await.unwrap();
    let streamed = collected(&streamed(&everything()).await);
    assert_eq!((&answer.parts, &answer.usage), (&streamed.parts, &streamed.usage));
    assert_eq!(
        (Some(answer.finish), answer.shape, answer.body),
        (streamed.finish, Shape::Anthropic, body.to_string().into())
    );
}

#[tokio::test]
async fn every_reason_has_a_word() {
    for (reason, expected) in [
        ("end_turn", Finish::Stop),
        ("stop_sequence", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("tool_use", Finish::ToolCalls),
        ("refusal", Finish::ContentFilter),
        ("pause_turn", Finish::Other("pause_turn".into())),
    ] {
        let events = [vec![begun()], ended(reason).to_vec()].concat();
        assert_eq!(collected(&streamed(&events).await).finish, Some(expected), "{reason}");
    }
}

#[tokio::test]
async fn what_ends_without_its_last_event_gets_one() {
    let upstream = upstream().await;
    let frames = words::anthropic_frames(&["a"]);
    let pieces = frames.len() - 1;
    upstream.push(Script::stream(frames).framed(Framing::UntilClose).then_after(pieces, [Step::Close]));
    let stream = provider_at(Shape::Anthropic, upstream.url()).stream(&call(question("hi"))).await.unwrap();
    let (events, error) = drained(stream).await;
    assert_eq!(error, None);
    let last = words::anthropic_frame(&json!({"type": "message_stop"}));
    assert_eq!(events.last(), Some(&Event { deltas: vec![Delta::End], frame: Some(last.into()) }));
}

#[tokio::test]
async fn what_it_goes_on_from_is_not_said_twice() {
    let check = async |continued: &str, pieces: &[&str], expected: &str| {
        let upstream = upstream().await;
        upstream.push(Script::anthropic_stream(pieces));
        let mut call = call(question("hi"));
        call.continued = Some(continued.to_owned());
        let stream = provider_at(Shape::Anthropic, upstream.url()).stream(&call).await.unwrap();
        assert_eq!(collected(&drained(stream).await.0).text(), expected, "{continued:?} {pieces:?}");
        let messages = upstream.wait_for(0, |_| true).await.json()["messages"].clone();
        assert_eq!(messages[1], json!({"role": "assistant", "content": continued.trim_end()}));
    };
    check("Once upon", &[" a time"], " a time").await;
    // It may not end in white space, so the answer begins with what was left out.
    check("Once upon ", &[" a time"], "a time").await;
    check("Once upon ", &["a time"], "a time").await;
    check("One:\n\n", &["\n", "\n  Two"], "  Two").await;
    check("One:\n\n", &["\n", "Two\n"], "Two\n").await;
}

#[tokio::test]
async fn the_address_may_end_in_the_version_or_not() {
    let upstream = upstream().await;
    upstream.always(Script::anthropic("a"));
    for (number, url) in [upstream.url(), upstream.url().replace("/v1", ""), upstream.url() + "/"].iter().enumerate() {
        provider_at(Shape::Anthropic, url).complete(&call(question("hi"))).await.unwrap();
        let received = upstream.wait_for(number, |_| true).await;
        assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/v1/messages"));
        assert_eq!(received.header("anthropic-version"), "2023-06-01");
    }
}

#[tokio::test]
async fn tokens_are_counted_by_the_provider() {
    let upstream = upstream().await;
    upstream.push(Script::json(200, r#"{"input_tokens": 2095}"#));
    let provider = provider_at(Shape::Anthropic, upstream.url());
    let body = json!({
        "model": "x", "max_tokens": 5, "stream": true, "temperature": 1, "metadata": {},
        "messages": [{"role": "user", "content": "hi"}], "system": "Be brief.", "thinking": {"type": "adaptive"},
    });
    let call = call(super::rig::original(Shape::Anthropic, &body));
    assert_eq!(provider.count_tokens(&call).await, Ok(Some(2095)));
    let received = upstream.wait_for(0, |_| true).await;
    assert_eq!(received.path, "/v1/messages/count_tokens");
    let expected = json!({
        "model": "up-1", "messages": [{"role": "user", "content": "hi"}], "system": "Be brief.", "thinking": {"type": "adaptive"},
    });
    assert_eq!(received.json(), expected);
}

#[tokio::test]
async fn the_models_are_listed() {
    let upstream = upstream().await;
    let body = json!({"data": [
        {"type": "model", "id": "claude-a", "display_name": "A", "max_input_tokens": 200_000},
        {"type": "model", "id": "claude-b", "display_name": "B"},
    ], "has_more": false});
    upstream.push(Script::json(200, body.to_string()));
    let listed = |name: &str, context_tokens| Listed { name: name.into(), context_tokens };
    assert_eq!(
        provider_at(Shape::Anthropic, upstream.url()).models(&PATIENT).await.unwrap(),
        [listed("claude-a", Some(200_000)), listed("claude-b", None)]
    );
    assert_eq!(upstream.wait_for(0, |_| true).await.path, "/v1/models?limit=1000");
}
