//! Answers as the two shapes have them.

use serde_json::{Value, json};

/// The model that answers, in every canned answer.
pub const MODEL: &str = "mock-1";

/// A whole answer of OpenAI's shape; its usage is 11 and 7 tokens.
pub fn openai_answer(text: &str) -> String {
    let message = json!({"role": "assistant", "content": text, "refusal": null});
    json!({
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    })
    .to_string()
}

/// A frame of OpenAI's shape whose first choice has this delta and reason.
pub fn openai_chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    let chunk = json!({
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
    });
    format!("data: {chunk}\n\n")
}

/// The frame with usage that OpenAI sends to those who ask for it.
pub fn openai_usage() -> String {
    let usage = json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18});
    let chunk = json!({"id": "chatcmpl-mock", "object": "chat.completion.chunk", "model": MODEL, "choices": [], "usage": usage});
    format!("data: {chunk}\n\n")
}

/// The last frame.
pub const OPENAI_DONE: &str = "data: [DONE]\n\n";

/// The frames of an answer of OpenAI's shape: the first has a role, then one for each piece, one with the reason, one with
/// usage, and the last.
pub fn openai_frames(pieces: &[&str]) -> Vec<String> {
    let mut frames = vec![openai_chunk(&json!({"role": "assistant", "content": ""}), None)];
    frames.extend(pieces.iter().map(|piece| openai_chunk(&json!({"content": piece}), None)));
    frames.push(openai_chunk(&json!({}), Some("stop")));
    frames.push(openai_usage());
    frames.push(OPENAI_DONE.to_owned());
    frames
}

/// A whole answer of Anthropic's shape; its usage is 11 and 7 tokens.
pub fn anthropic_answer(text: &str) -> String {
    json!({
        "id": "msg_mock",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "usage": {"input_tokens": 11, "output_tokens": 7},
    })
    .to_string()
}

/// A frame of Anthropic's shape; what kind it is stands in the data.
pub fn anthropic_frame(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// The frames of an answer of Anthropic's shape: beginning, block, a ping, one for each piece, and three for the end.
pub fn anthropic_frames(pieces: &[&str]) -> Vec<String> {
    let message = json!({
        "id": "msg_mock", "type": "message", "role": "assistant", "model": MODEL, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 11, "output_tokens": 1},
    });
    let mut events = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    let piece = |piece: &&str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}});
    events.extend(pieces.iter().map(piece));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ]);
    events.iter().map(anthropic_frame).collect()
}
