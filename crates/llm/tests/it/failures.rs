//! Each kind of failure, as a server brings it about.

use std::time::Duration;

use holdfast_llm::{CallError, Deadlines, Endpoint, ErrorKind, Shape};
use holdfast_testkit::upstream::{Framing, Script, Step, refusing_url};

use super::rig::{
    MANNERS, Manner, PATIENT, SHAPES, answer, call, drained, provider, provider_at, question, said, upstream,
};

/// Short enough for a test, long enough for a busy machine to send what it sends at once.
const SHORT: Duration = Duration::from_millis(300);

/// Asks a server that does this, and tells how that failed.
async fn failure(shape: Shape, manner: Manner, script: Script, deadlines: Deadlines) -> CallError {
    let upstream = upstream().await;
    upstream.push(script);
    failure_at(&upstream.url(), shape, manner, deadlines).await
}

async fn failure_at(url: &str, shape: Shape, manner: Manner, deadlines: Deadlines) -> CallError {
    let provider = provider_at(shape, url);
    let mut call = call(question("hi"));
    call.deadlines = deadlines;
    match said(&*provider, &call, manner).await {
        Ok(said) => panic!("{shape:?} {manner:?}: it said {said:?}"),
        Err(error) => error,
    }
}

/// What a server does, for both shapes and manners.
async fn check(name: &str, script: impl Fn(Shape, Manner) -> Script, deadlines: Deadlines, expected: ErrorKind) {
    for shape in SHAPES {
        for manner in MANNERS {
            let error = failure(shape, manner, script(shape, manner), deadlines).await;
            assert_eq!(error.kind, expected, "{name}, {shape:?}, {manner:?}: {error:?}");
            assert!(!error.reason.contains("127.0.0.1"), "{error:?}");
        }
    }
}

/// The same for streams alone.
async fn check_stream(name: &str, script: impl Fn(Shape) -> Script, deadlines: Deadlines, expected: ErrorKind) {
    for shape in SHAPES {
        let error = failure(shape, Manner::Streamed, script(shape), deadlines).await;
        assert_eq!(error.kind, expected, "{name}, {shape:?}: {error:?}");
    }
}

fn pieces(shape: Shape) -> Script {
    answer(shape, Manner::Streamed, &["a", "b", "c", "d"])
}

#[tokio::test]
async fn there_is_no_connection() {
    for shape in SHAPES {
        for manner in MANNERS {
            let dns = failure_at("http://holdfast-tests.invalid/v1", shape, manner, PATIENT).await;
            assert_eq!(dns.kind, ErrorKind::Dns, "{dns:?}");
            let refused = failure_at(&refusing_url().await.unwrap(), shape, manner, PATIENT).await;
            assert_eq!(refused.kind, ErrorKind::Refused, "{refused:?}");
            assert_eq!(refused.reason, "it takes no connection");
        }
    }
}

#[tokio::test]
async fn there_is_no_tls_session() {
    let upstream = upstream().await;
    upstream.greet(Script::of([Step::Raw("this is no TLS\r\n\r\n".into()), Step::Hang]));
    let url = upstream.url().replace("http:", "https:");
    let garbage = failure_at(&url, Shape::OpenAi, Manner::Whole, PATIENT).await;
    assert_eq!(garbage.kind, ErrorKind::Tls, "{garbage:?}");
    upstream.greet(Script::hang());
    let deadlines = Deadlines { connect: SHORT, ..PATIENT };
    let silence = failure_at(&url, Shape::OpenAi, Manner::Whole, deadlines).await;
    assert_eq!(silence.kind, ErrorKind::Tls, "{silence:?}");
}

#[tokio::test]
async fn the_connection_ends_too_early() {
    check("torn before the headers", |_, _| Script::reset(), PATIENT, ErrorKind::Reset).await;
    let closed = |_, _| Script::of([Step::Close]);
    check("closed before the headers", closed, PATIENT, ErrorKind::Reset).await;
    let torn = |shape, manner| answer(shape, manner, &["a", "b", "c"]).dripping(20).then_after(3, [Step::Reset]);
    check("torn in the middle", torn, PATIENT, ErrorKind::Reset).await;
    let cut = |shape, manner| answer(shape, manner, &["a", "b", "c"]).dripping(20).then_after(3, [Step::Close]);
    check("closed in the middle", cut, PATIENT, ErrorKind::Reset).await;
    for after in 0..8 {
        let script = |shape| pieces(shape).then_after(after, [Step::Reset]);
        check_stream(&format!("torn after {after} events"), script, PATIENT, ErrorKind::Reset).await;
    }
}

#[tokio::test]
async fn nothing_comes_in_time() {
    let first_byte = Deadlines { first_byte: SHORT, ..PATIENT };
    check("hangs before the headers", |_, _| Script::hang(), first_byte, ErrorKind::FirstByteTimeout).await;
    let headers = |shape, manner| answer(shape, manner, &["a"]).then_after(0, [Step::Hang]);
    check("hangs after the headers", headers, first_byte, ErrorKind::FirstByteTimeout).await;
    let gap = Deadlines { gap: SHORT, ..PATIENT };
    let middle = |shape, manner| answer(shape, manner, &["a", "b"]).dripping(40).then_after(2, [Step::Hang]);
    check("hangs in the middle", middle, gap, ErrorKind::GapTimeout).await;
    let total = Deadlines { total: SHORT, ..PATIENT };
    check("hangs, and there is no time", |_, _| Script::hang(), total, ErrorKind::TotalTimeout).await;
    let drip = |shape, manner| answer(shape, manner, &["a", "b"]).dripping(8).slowed(SHORT / 6);
    check("drips", drip, Deadlines { gap: SHORT, ..total }, ErrorKind::TotalTimeout).await;
}

#[tokio::test]
async fn a_connection_that_is_kept_alive_is_no_answer() {
    let kept_alive = |script: Script, after: usize, frame: &'static str| {
        let pings = (0..200).flat_map(|_| [Step::Body(frame.into()), Step::Wait(SHORT / 6)]);
        script.then_after(after, pings)
    };
    for frame in [": ping\n\n", "event: ping\ndata: {\"type\": \"ping\"}\n\n"] {
        let shapes: &[Shape] = if frame.starts_with(':') { &SHAPES } else { &[Shape::Anthropic] };
        for &shape in shapes {
            let first = Deadlines { first_byte: SHORT, ..PATIENT };
            let error = failure(shape, Manner::Streamed, kept_alive(pieces(shape), 0, frame), first).await;
            assert_eq!(error.kind, ErrorKind::FirstByteTimeout, "{shape:?} {frame}");
            let gap = Deadlines { gap: SHORT, ..PATIENT };
            let error = failure(shape, Manner::Streamed, kept_alive(pieces(shape), 4, frame), gap).await;
            assert_eq!(error.kind, ErrorKind::GapTimeout, "{shape:?} {frame}");
        }
    }
}

#[tokio::test]
async fn the_words_of_a_failure_are_not_waited_for_for_long() {
    let began = std::time::Instant::now();
    let hangs = |status, media_type| Script::typed(status, media_type, "words").then_after(0, [Step::Hang]);
    check("a failure", |_, _| hangs(500, "application/json"), PATIENT, ErrorKind::ServerError).await;
    check("another type", |_, _| hangs(200, "text/html"), PATIENT, ErrorKind::Malformed).await;
    // Eight answers, each of which would have been waited for for twenty seconds.
    assert!(began.elapsed() < 4 * PATIENT.first_byte, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stream_is_no_longer_than_an_answer_may_be() {
    let piece = "x".repeat(1_000_000);
    let script = |shape| answer(shape, Manner::Streamed, &[piece.as_str(); 34]);
    check_stream("endless", script, PATIENT, ErrorKind::Malformed).await;
}

#[tokio::test]
async fn a_body_that_is_called_what_it_is_is_read() {
    let upstream = upstream().await;
    upstream.push(Script::openai("a").with_header("content-encoding", "identity"));
    let provider = provider_at(Shape::OpenAi, upstream.url());
    assert_eq!(said(&*provider, &call(question("hi")), Manner::Whole).await.unwrap(), "a");
}

#[tokio::test]
async fn it_says_so_with_a_status() {
    let say = |status, kind: &'static str, message: &'static str, expected| {
        check(kind, move |_, _| Script::failure(status, kind, message), PATIENT, expected)
    };
    say(429, "rate_limit_error", "slower", ErrorKind::RateLimited).await;
    say(503, "overloaded", "later", ErrorKind::Overloaded).await;
    say(529, "overloaded_error", "later", ErrorKind::Overloaded).await;
    say(500, "api_error", "oops", ErrorKind::ServerError).await;
    say(401, "authentication_error", "who?", ErrorKind::Unauthorized).await;
    say(429, "insufficient_quota", "pay", ErrorKind::Unauthorized).await;
    say(404, "not_found_error", "model: up-1", ErrorKind::ModelNotFound).await;
    say(400, "context_length_exceeded", "too long", ErrorKind::ContextTooLong).await;
    say(400, "invalid_request_error", "messages: required", ErrorKind::Rejected).await;
    say(400, "content_filter", "no", ErrorKind::ContentFilter).await;
    let redirect = |_, _| Script::json(307, "{}").with_header("location", "http://127.0.0.1:1/");
    check("redirect", redirect, PATIENT, ErrorKind::Malformed).await;
    check("no content", |_, _| Script::json(202, "{}"), PATIENT, ErrorKind::Malformed).await;
}

#[tokio::test]
async fn when_to_ask_again_is_told() {
    for shape in SHAPES {
        let limited = Script::failure(429, "rate_limit_error", "slower").with_header("retry-after", "7");
        let error = failure(shape, Manner::Streamed, limited, PATIENT).await;
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        assert_eq!((error.status, error.words.as_deref()), (Some(429), Some("slower")));
        let without = failure(shape, Manner::Streamed, Script::failure(429, "rate_limit_error", ""), PATIENT).await;
        assert_eq!((without.retry_after, without.words), (None, None));
    }
}

#[tokio::test]
async fn what_comes_is_no_such_answer() {
    use ErrorKind::Malformed;
    let html = |_, _| Script::typed(200, "text/html", "<html>Welcome</html>");
    check("a web page", html, PATIENT, Malformed).await;
    let not_http = |_, _| Script::of([Step::Raw("SSH-2.0-OpenSSH_9.6\r\n\r\n".into()), Step::Hang]);
    check("another protocol", not_http, PATIENT, Malformed).await;
    let packed = |shape, manner| answer(shape, manner, &["a"]).with_header("content-encoding", "gzip");
    check("packed", packed, PATIENT, Malformed).await;
    for body in ["", "null", "[]", "{}", "{\"choices\":[]}", "{\"choices\":7,\"content\":7}", "{\"id\":", "\u{0}"] {
        check(body, |_, _| Script::json(200, body), PATIENT, Malformed).await;
    }
    for data in ["{", "nonsense", "[1]", "7", "{\"choices\":{}}", "{\"id\":\"a\"}", "{\"type\":7}"] {
        for after in [0, 3] {
            let piece = Step::Body(format!("data: {data}\n\n").into());
            let script = |shape| pieces(shape).then_after(after, [piece.clone(), Step::Hang]);
            check_stream(data, script, PATIENT, Malformed).await;
        }
    }
    let long = Step::Body(format!("data: \"{}", "x".repeat(2 << 20)).into());
    check_stream(
        "an endless event",
        |shape| pieces(shape).then_after(1, [long.clone(), Step::Hang]),
        PATIENT,
        Malformed,
    )
    .await;
    let much = || Script::json(200, format!("{{\"a\":\"{}\"}}", "x".repeat(33 << 20)));
    assert_eq!(failure(Shape::OpenAi, Manner::Whole, much(), PATIENT).await.kind, Malformed);
}

#[tokio::test]
async fn a_stream_ends_without_an_end() {
    let nothing = |_| Script::stream(Vec::<String>::new());
    check_stream("nothing at all", nothing, PATIENT, ErrorKind::Empty).await;
    let comments = |_| Script::stream([": hello\n\n", ": anybody\n\n"]);
    check_stream("nothing but comments", comments, PATIENT, ErrorKind::Empty).await;
    check_stream(
        "only its end",
        |shape| match shape {
            Shape::OpenAi => Script::stream(["data: [DONE]\n\n"]),
            Shape::Anthropic => Script::stream(["event: ping\ndata: {\"type\":\"ping\"}\n\n"]),
        },
        PATIENT,
        ErrorKind::Empty,
    )
    .await;
    // llama.cpp ends the body in order when another request takes its only slot.
    for after in 1..5 {
        let in_order = |shape| pieces(shape).then_after(after, [Step::End]);
        check_stream(&format!("{after} events, then the end of the body"), in_order, PATIENT, ErrorKind::Cut).await;
        let closed = |shape| pieces(shape).framed(Framing::UntilClose).then_after(after, [Step::Close]);
        check_stream(&format!("{after} events, then the end of the connection"), closed, PATIENT, ErrorKind::Cut).await;
    }
    let abort = Script::stream([
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"abort\"}]}\n\ndata: [DONE]\n\n",
    ]);
    assert_eq!(failure(Shape::OpenAi, Manner::Streamed, abort, PATIENT).await.kind, ErrorKind::Cut);
}

#[tokio::test]
async fn it_tells_of_an_error_within_its_answer() {
    let told = |kind: &'static str, expected| async move {
        for after in [0, 3] {
            let error = format!(
                "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"sk-abcdefgh\"}}}}\n\n"
            );
            let script = |shape| pieces(shape).then_after(after, [Step::Body(error.clone().into()), Step::Hang]);
            check_stream(kind, script, PATIENT, expected).await;
        }
    };
    told("overloaded_error", ErrorKind::InStream).await;
    told("rate_limit_error", ErrorKind::InStream).await;
    told("context_length_exceeded", ErrorKind::ContextTooLong).await;
    let bare = Step::Body("data: {\"object\":\"error\",\"message\":\"boom\",\"code\":500}\n\n".into());
    let script = pieces(Shape::OpenAi).then_after(1, [bare, Step::End]);
    let error = failure(Shape::OpenAi, Manner::Streamed, script, PATIENT).await;
    assert_eq!((error.kind, error.words.as_deref()), (ErrorKind::InStream, Some("boom")));
    // With status 200 where a stream was asked for, and where none was.
    let json = |_, _| Script::json(200, r#"{"error":{"message":"boom","type":"server_error"}}"#);
    check("an error instead of an answer", json, PATIENT, ErrorKind::ServerError).await;
}

#[tokio::test]
async fn what_cannot_be_said_is_not_sent() {
    let upstream = upstream().await;
    let provider = provider_at(Shape::Anthropic, upstream.url());
    let mut request = question("hi");
    request.sampling.temperature = Some(1.5);
    let error = said(&*provider, &call(request), Manner::Whole).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Inexpressible);
    assert_eq!(error.reason, "temperature above 1 cannot be said to a provider that speaks anthropic");
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn no_key_comes_back_in_words() {
    for shape in SHAPES {
        let upstream = upstream().await;
        let message = "key local-secret-for-tests of account 123e4567-e89b-12d3-a456-426614174000 is wrong\r\n";
        upstream.push(Script::failure(401, "invalid_api_key", message));
        let endpoint = Endpoint { key: Some("local-secret-for-tests".into()), ..Endpoint::new("test", upstream.url()) };
        let error = said(&*provider(shape, &endpoint), &call(question("hi")), Manner::Whole).await.unwrap_err();
        assert_eq!(error.words.as_deref(), Some("key [redacted] of account [redacted] is wrong"));
        assert!(!format!("{endpoint:?} {error:?}").contains("local-secret"));
        let received = upstream.wait_for(0, |_| true).await;
        match shape {
            Shape::OpenAi => assert_eq!(received.header("authorization"), "Bearer local-secret-for-tests"),
            Shape::Anthropic => assert_eq!(received.header("x-api-key"), "local-secret-for-tests"),
        }
    }
}

#[tokio::test]
async fn what_was_said_before_a_failure_is_there() {
    for shape in SHAPES {
        let upstream = upstream().await;
        let before = if shape == Shape::OpenAi { 1 } else { 3 };
        upstream.push(pieces(shape).then_after(before + 2, [Step::Close]));
        let stream = provider_at(shape, upstream.url()).stream(&call(question("hi"))).await.unwrap();
        let (events, error) = drained(stream).await;
        assert_eq!(super::rig::collected(&events).text(), "ab");
        assert_eq!(error.map(|error| error.kind), Some(ErrorKind::Reset));
    }
}
