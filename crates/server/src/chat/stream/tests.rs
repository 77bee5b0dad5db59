//! Scripted answers, and what a client gets of them: piece by piece, broken at every point, and over a real connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use axum::{Router, routing::get};
use futures::{Stream, future};
use holdfast_coordinator::{About, TurnError};
use holdfast_llm::{CallError, ErrorKind, Finish, Usage};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::*;

const GRACE: Duration = Duration::from_secs(20);

fn setting(shape: Shape) -> Setting {
    Setting {
        shape,
        counting: Counting::Untold,
        request_id: "some-request".into(),
        meter: Meter::free(),
        shutdown: CancellationToken::new(),
        grace: GRACE,
    }
}

fn streaming(spoken: Option<Shape>, events: impl Stream<Item = TurnEvent> + Send + 'static) -> Streaming {
    let about = About {
        interaction: Uuid::nil(),
        model: "tiny".into(),
        is_cached: false,
        citations: Vec::new(),
        session: None,
    };
    Streaming { about, shape: spoken, events: Box::pin(events) }
}

/// Every frame of a body, as text.
async fn frames(mut body: Body) -> Vec<String> {
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        frames.push(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
    }
    frames
}

async fn told(client: Shape, spoken: Option<Shape>, script: Vec<TurnEvent>) -> Vec<String> {
    frames(body(streaming(spoken, stream::iter(script)), setting(client))).await
}

/// What a model says, with frames that stand for its own words.
fn script() -> Vec<TurnEvent> {
    let deltas = [
        Delta::Start { id: "theirs".into(), model: "tiny-1".into() },
        Delta::Reasoning("hm".into()),
        Delta::Text("one".into()),
        Delta::ToolCall { index: 0, id: "c0".into(), name: "f".into() },
        Delta::Arguments { index: 0, fragment: "{}".into() },
        Delta::Finish(Finish::ToolCalls),
        Delta::Usage(Usage { output_tokens: Some(2), ..Usage::default() }),
        Delta::End,
    ];
    deltas.into_iter().enumerate().map(|(at, delta)| piece(delta, &format!("their words {at}"))).collect()
}

fn piece(delta: Delta, words: &str) -> TurnEvent {
    TurnEvent::Piece(Event { deltas: vec![delta], frame: Some(format!("data: {words}\n\n").into()) })
}

fn failed() -> TurnEvent {
    let last =
        CallError { words: Some("key sk-secret".into()), ..CallError::new(ErrorKind::Cut, "the stream stopped") };
    TurnEvent::Failed(Arc::new(TurnError::Failed { last, attempts: 2 }))
}

/// The error that a stream ends with.
fn error(client: Shape, frame: &str) -> Value {
    let data = match client {
        Shape::OpenAi => frame.strip_prefix("data: ").unwrap(),
        Shape::Anthropic => frame.strip_prefix("event: error\ndata: ").unwrap(),
    };
    let error: Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
    if client == Shape::Anthropic {
        assert_eq!((&error["type"], &error["request_id"]), (&"error".into(), &"some-request".into()));
    }
    error["error"].clone()
}

#[tokio::test]
async fn the_models_own_words_are_handed_on_one_by_one() {
    let mut script = script();
    // What only the server asked for, and what keeps a connection alive.
    script.insert(3, TurnEvent::Piece(Event { deltas: vec![Delta::Usage(Usage::default())], frame: None }));
    script.insert(4, TurnEvent::Piece(Event { deltas: Vec::new(), frame: Some(": alive\n\n".into()) }));
    for shape in [Shape::OpenAi, Shape::Anthropic] {
        let told = told(shape, Some(shape), script.clone()).await;
        let mut expected: Vec<String> = (0..8).map(|at| format!("data: their words {at}\n\n")).collect();
        expected.insert(3, ": alive\n\n".into());
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn what_another_shape_says_is_written_anew() {
    let openai = told(Shape::OpenAi, Some(Shape::Anthropic), script()).await;
    assert!(openai.iter().all(|frame| frame.starts_with("data: ") && frame.matches("data: ").count() == 1));
    assert!(openai[0].contains("chatcmpl-") && openai[0].contains("tiny-1"), "{}", openai[0]);
    assert_eq!(openai.last().unwrap(), "data: [DONE]\n\n");
    let anthropic = told(Shape::Anthropic, Some(Shape::OpenAi), script()).await;
    assert!(anthropic.iter().all(|frame| frame.starts_with("event: ") && frame.matches("event: ").count() == 1));
    assert!(anthropic.last().unwrap().starts_with("event: message_stop\n"));
    for told in [&openai, &anthropic] {
        assert!(told.iter().all(|frame| !frame.contains("their words")));
    }
    // A kept answer has no words of anybody's.
    assert_eq!(told(Shape::OpenAi, None, script()).await.len(), openai.len());
}

#[tokio::test]
async fn a_failure_at_any_point_is_told_and_is_the_last_word() {
    for client in [Shape::OpenAi, Shape::Anthropic] {
        for spoken in [None, Some(Shape::OpenAi), Some(Shape::Anthropic)] {
            for at in 0..script().len() {
                let mut broken = script();
                broken.truncate(at);
                let whole = told(client, spoken, broken.clone()).await;
                broken.push(failed());
                broken.push(piece(Delta::Text("more".into()), "more"));
                let told = told(client, spoken, broken).await;
                assert_eq!(told[..told.len() - 1], whole[..whole.len() - 1], "{client:?} {spoken:?} {at}");
                let error = error(client, told.last().unwrap());
                assert_eq!(error["code"], "provider_failed", "{error}");
                assert!(!error.to_string().contains("secret") && error["error_id"].is_string(), "{error}");
                let kind = if client == Shape::OpenAi { "server_error" } else { "api_error" };
                assert_eq!(error["type"], kind);
            }
        }
    }
}

#[tokio::test]
async fn what_stops_without_a_word_or_panics_is_told_as_a_defect() {
    for client in [Shape::OpenAi, Shape::Anthropic] {
        let stopped = told(client, Some(client), script()[..2].to_vec()).await;
        assert_eq!((stopped.len(), &error(client, &stopped[2])["code"]), (3, &"internal".into()));
        let mut left = script().into_iter().take(2);
        let panics = stream::poll_fn(move |_| match left.next() {
            Some(event) => Poll::Ready(Some(event)),
            None => panic!("the secret reason"),
        });
        let told = frames(body(streaming(Some(client), panics), setting(client))).await;
        let error = error(client, told.last().unwrap());
        assert!(error["code"] == "internal" && !error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn where_another_model_goes_on_its_words_are_written_anew() {
    for client in [Shape::OpenAi, Shape::Anthropic] {
        let mut script = script();
        script.truncate(3);
        script.push(TurnEvent::Continued { model: "other".into() });
        script.push(piece(Delta::Start { id: "others".into(), model: "other".into() }, "other words"));
        script.push(piece(Delta::Text(" two".into()), "other words"));
        script.push(piece(Delta::End, "other words"));
        let told = told(client, Some(client), script).await;
        assert_eq!(told[..3], ["data: their words 0\n\n", "data: their words 1\n\n", "data: their words 2\n\n"]);
        let rest = told[3..].concat();
        assert!(rest.contains(" two") && !rest.contains("other"), "{rest}");
        if client == Shape::OpenAi {
            assert!(rest.contains("\"id\":\"theirs\"") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_gone_back_to_is_told_as_the_models_failure() {
    let more = |fragment: &str| piece(Delta::Arguments { index: 0, fragment: fragment.into() }, "");
    let script = vec![
        piece(Delta::ToolCall { index: 0, id: "c0".into(), name: "f".into() }, ""),
        more("{"),
        piece(Delta::Text("x".into()), ""),
        more("}"),
        piece(Delta::End, ""),
    ];
    let told = told(Shape::Anthropic, Some(Shape::OpenAi), script).await;
    assert_eq!(error(Shape::Anthropic, told.last().unwrap())["code"], "provider_failed");
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_and_only_silence() {
    for (client, alive) in [(Shape::OpenAi, COMMENT), (Shape::Anthropic, anthropic::answer::PING)] {
        let events = stream::unfold(script().into_iter().zip([1, 14, 14, 40, 0, 0, 0, 0]), |mut script| async {
            let (event, seconds) = script.next()?;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Some((event, script))
        });
        let told = frames(body(streaming(Some(client), events), setting(client))).await;
        let pings: Vec<usize> =
            told.iter().enumerate().filter(|(_, frame)| frame.as_bytes() == alive).map(|(at, _)| at).collect();
        assert_eq!(pings, [3, 4], "{told:?}");
        assert_eq!(told.len(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_lets_streams_end_and_tells_those_that_do_not() {
    let setting = setting(Shape::OpenAi);
    let shutdown = setting.shutdown.clone();
    let events = stream::iter(script()).take(2).chain(stream::pending());
    let mut body = body(streaming(Some(Shape::OpenAi), events), setting);
    for _ in 0..2 {
        body.frame().await.unwrap().unwrap();
    }
    shutdown.cancel();
    let began = Instant::now();
    let mut told = frames(body).await;
    let last = told.pop().unwrap();
    assert_eq!(error(Shape::OpenAi, &last)["code"], "shutting_down");
    assert!(began.elapsed() < GRACE && began.elapsed() > GRACE / 2, "{:?}", began.elapsed());
}

/// Knows whether it was dropped, and whether it was asked for everything.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn whoever_made_the_answer_comes_to_their_end() {
    let done = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&done);
    let after = stream::once(future::ready(())).filter_map(move |()| {
        noted.store(true, Ordering::SeqCst);
        future::ready(None)
    });
    let events = stream::iter(script()).chain(after);
    frames(body(streaming(Some(Shape::OpenAi), events), setting(Shape::OpenAi))).await;
    assert!(done.load(Ordering::SeqCst));
}

/// The call to the model is given up as soon as nobody listens any more.
#[tokio::test]
async fn a_client_that_leaves_takes_the_stream_with_it() {
    let dropped = Arc::new(AtomicBool::new(false));
    let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
    let guard = Guard(Arc::clone(&dropped));
    let mut held = Some((guard, gone));
    let answer = move || {
        let held = held.take();
        let events = stream::iter(script()).take(2).chain(stream::once(async move {
            let _held = held;
            future::pending::<TurnEvent>().await
        }));
        body(streaming(Some(Shape::OpenAi), events), setting(Shape::OpenAi))
    };
    let answer = Arc::new(std::sync::Mutex::new(answer));
    let router = Router::new().route("/", get(move || future::ready(answer.lock().unwrap()())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(router);
        let http = hyper::server::conn::http1::Builder::new();
        let _ended = http.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
    };
    let asking = async {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut told = Vec::new();
        while !String::from_utf8_lossy(&told).contains("their words 1") {
            assert!(client.read_buf(&mut told).await.unwrap() > 0);
        }
        assert!(!dropped.load(Ordering::SeqCst));
        drop(client);
    };
    let both = async { future::join(serving, asking).await };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(is_gone.await.is_err() && dropped.load(Ordering::SeqCst));
}
