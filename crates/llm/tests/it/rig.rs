//! What the tests have in common.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use holdfast_llm::{
    Answer, Anthropic, Call, CallError, Collected, Deadlines, Endpoint, Event, EventStream, Message, OpenAi, Original,
    Provider, Request, Role, Shape,
};
use holdfast_testkit::upstream::{Script, Upstream};
use serde_json::Value;

/// Long enough for a busy machine; no test waits for it.
pub const PATIENT: Deadlines = Deadlines {
    connect: Duration::from_secs(20),
    first_byte: Duration::from_secs(20),
    gap: Duration::from_secs(20),
    total: Duration::from_secs(60),
};

/// How an answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Whole,
    Streamed,
}

pub const MANNERS: [Manner; 2] = [Manner::Whole, Manner::Streamed];
pub const SHAPES: [Shape; 2] = [Shape::OpenAi, Shape::Anthropic];

pub async fn upstream() -> Upstream {
    Upstream::start().await.unwrap()
}

pub fn provider(shape: Shape, endpoint: &Endpoint) -> Arc<dyn Provider> {
    match shape {
        Shape::OpenAi => Arc::new(OpenAi::new(endpoint).unwrap()),
        Shape::Anthropic => Arc::new(Anthropic::new(endpoint).unwrap()),
    }
}

pub fn provider_at(shape: Shape, url: impl Into<String>) -> Arc<dyn Provider> {
    provider(shape, &Endpoint::new("test", url))
}

/// A question of one text.
pub fn question(text: &str) -> Request {
    Request { messages: vec![Message::text(Role::User, text)], ..Request::default() }
}

/// A request that came as this body; its messages are not read from it.
pub fn original(shape: Shape, body: &Value) -> Request {
    let original = Original { shape, body: body.as_object().unwrap().clone() };
    Request { original: Some(original), ..question("hi") }
}

pub fn call(request: Request) -> Call {
    Call {
        request: Arc::new(request),
        model: "up-1".to_owned(),
        max_output_tokens: None,
        deadlines: PATIENT,
        trace: Vec::new(),
        continued: None,
    }
}

/// What an answer said, whichever way it came.
pub async fn said(provider: &dyn Provider, call: &Call, manner: Manner) -> Result<String, CallError> {
    match manner {
        Manner::Whole => provider.complete(call).await.map(|answer| text(&answer)),
        Manner::Streamed => {
            let (events, error) = drained(provider.stream(call).await?).await;
            error.map_or_else(|| Ok(collected(&events).text()), Err)
        }
    }
}

pub fn text(answer: &Answer) -> String {
    Message { role: Role::Assistant, parts: answer.parts.clone() }.texts().collect()
}

/// All of a stream, and how it failed, if it did.
pub async fn drained(mut stream: EventStream) -> (Vec<Event>, Option<CallError>) {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => {
                assert!(stream.next().await.is_none(), "something came after the failure {error:?}");
                return (events, Some(error));
            }
        }
    }
    (events, None)
}

pub fn collected(events: &[Event]) -> Collected {
    let mut collected = Collected::default();
    events.iter().for_each(|event| collected.add(event));
    collected
}

/// All frames that a client of the same shape gets.
pub fn frames(events: &[Event]) -> String {
    let frames = events.iter().filter_map(|event| event.frame.as_ref());
    frames.map(|frame| String::from_utf8_lossy(frame)).collect()
}

/// The body that a provider of a shape is sent for a request.
pub async fn sent(shape: Shape, manner: Manner, call: &Call) -> Result<Value, CallError> {
    let upstream = upstream().await;
    upstream.push(answer(shape, manner, &["ok"]));
    let provider = provider_at(shape, upstream.url());
    said(&*provider, call, manner).await?;
    Ok(upstream.wait_for(0, |_| true).await.json())
}

/// The script of an answer.
pub fn answer(shape: Shape, manner: Manner, pieces: &[&str]) -> Script {
    match (shape, manner) {
        (Shape::OpenAi, Manner::Whole) => Script::openai(&pieces.concat()),
        (Shape::OpenAi, Manner::Streamed) => Script::openai_stream(pieces),
        (Shape::Anthropic, Manner::Whole) => Script::anthropic(&pieces.concat()),
        (Shape::Anthropic, Manner::Streamed) => Script::anthropic_stream(pieces),
    }
}
