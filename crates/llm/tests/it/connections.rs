//! Connections: used again, closed when nobody wants the answer, encrypted, and as many as needed.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use holdfast_llm::{Deadlines, Endpoint, EndpointError, ErrorKind, OpenAi, Shape};
use holdfast_testkit::{
    tls::Authority,
    upstream::{Script, Step, Upstream, words},
};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet};

use super::rig::{
    MANNERS, Manner, PATIENT, SHAPES, answer, call, drained, provider, provider_at, question, said, upstream,
};

#[tokio::test]
async fn a_connection_is_used_again() {
    for shape in SHAPES {
        let upstream = upstream().await;
        let provider = provider_at(shape, upstream.url());
        for number in 0..6 {
            let manner = MANNERS[number % 2];
            upstream.push(answer(shape, manner, &["a", "b"]));
            assert_eq!(said(&*provider, &call(question("hi")), manner).await.unwrap(), "ab");
        }
        upstream.push(Script::failure(500, "api_error", "oops"));
        upstream.push(answer(shape, Manner::Whole, &["c"]));
        said(&*provider, &call(question("hi")), Manner::Whole).await.unwrap_err();
        said(&*provider, &call(question("hi")), Manner::Whole).await.unwrap();
        assert_eq!(upstream.connections(), 1, "{shape:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_body_may_come_after_the_last_event() {
    let upstream = upstream().await;
    let provider = provider_at(Shape::OpenAi, upstream.url());
    let frames: Vec<String> = words::openai_frames(&["a"]);
    let late =
        || Script::stream(frames.clone()).then_after(frames.len(), [Step::Wait(Duration::from_millis(3)), Step::End]);
    for _ in 0..10 {
        upstream.push(late());
        assert_eq!(said(&*provider, &call(question("hi")), Manner::Streamed).await.unwrap(), "a");
    }
    // A machine that is busy elsewhere may be later now and then.
    assert!(upstream.connections() < 5, "{}", upstream.connections());
    // One that never ends it is not waited for.
    upstream.push(Script::stream(frames.clone()).then_after(frames.len(), [Step::Hang]));
    assert_eq!(said(&*provider, &call(question("hi")), Manner::Streamed).await.unwrap(), "a");
    upstream.left(10).await;
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_used_again() {
    let mut upstream = upstream().await;
    let provider = provider_at(Shape::OpenAi, upstream.url());
    for _ in 0..3 {
        upstream.always(Script::openai("a"));
        said(&*provider, &call(question("hi")), Manner::Whole).await.unwrap();
        upstream.stop().await;
        upstream.resume().await.unwrap();
        // The end of the old connection has to arrive.
        tokio::task::yield_now().await;
        let error = said(&*provider, &call(question("hi")), Manner::Whole).await.err();
        assert!(error.is_none_or(|error| error.kind == ErrorKind::Reset), "what was written already fails at worst");
    }
}

#[tokio::test]
async fn who_leaves_is_gone_at_the_server_too() {
    for shape in SHAPES {
        let upstream = upstream().await;
        let provider = provider_at(shape, upstream.url());
        // Before the headers.
        upstream.push(Script::hang());
        {
            let call = call(question("hi"));
            let asking = provider.complete(&call);
            tokio::select! {
                answer = asking => panic!("{answer:?}"),
                _ = upstream.wait_for(0, |_| true) => (),
            }
        }
        upstream.left(0).await;
        // In the middle of a stream.
        upstream.push(answer(shape, Manner::Streamed, &["a", "b", "c"]).then_after(4, [Step::Hang]));
        let mut stream = provider.stream(&call(question("hi"))).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        drop(stream);
        upstream.left(1).await;
        // In the middle of an answer that is whole.
        upstream.push(answer(shape, Manner::Whole, &["a"]).dripping(10).then_after(3, [Step::Hang]));
        {
            let call = call(question("hi"));
            let asking = provider.complete(&call);
            tokio::select! {
                answer = asking => panic!("{answer:?}"),
                _ = upstream.wait_for(2, |_| true) => (),
            }
        }
        upstream.left(2).await;
    }
}

#[tokio::test]
async fn events_are_handed_on_one_by_one() {
    for shape in SHAPES {
        let upstream = upstream().await;
        // Each piece only comes once the one before it has been seen.
        let before = if shape == Shape::OpenAi { 1 } else { 3 };
        upstream.push(answer(shape, Manner::Streamed, &["a", "b"]).then_after(before + 1, [Step::Hang]));
        let mut stream = provider_at(shape, upstream.url()).stream(&call(question("hi"))).await.unwrap();
        let mut events = Vec::new();
        while super::rig::collected(&events).text() != "a" {
            events.push(stream.next().await.unwrap().unwrap());
        }
    }
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_where_it_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let authority = Authority::new().unwrap();
    authority.write(&ca_file).unwrap();
    let upstream = Upstream::start_tls(authority.acceptor(&["http/1.1"]).unwrap()).await.unwrap();
    for shape in SHAPES {
        let stranger =
            said(&*provider_at(shape, upstream.url()), &call(question("hi")), Manner::Whole).await.unwrap_err();
        assert_eq!(stranger.kind, ErrorKind::Tls, "{stranger:?}");
        let endpoint = Endpoint { ca_file: Some(ca_file.clone()), ..Endpoint::new("test", upstream.url()) };
        let provider = provider(shape, &endpoint);
        for manner in MANNERS {
            upstream.push(answer(shape, manner, &["a", "b"]));
            assert_eq!(said(&*provider, &call(question("hi")), manner).await.unwrap(), "ab");
        }
    }
    // Three strangers and friends of each shape; the friends' second request found a connection.
    assert_eq!(upstream.connections(), 4);
}

#[tokio::test]
async fn two_requests_share_a_connection_where_the_server_can() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let authority = Authority::new().unwrap();
    authority.write(&ca_file).unwrap();
    let acceptor = authority.acceptor(&["h2", "http/1.1"]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    let mut server = JoinSet::new();
    let (counted, count) = tokio::sync::watch::channel(0);
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.send_modify(|count| *count += 1);
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = service_fn(|request: Request<Incoming>| async move {
                    assert_eq!(request.version(), hyper::Version::HTTP_2);
                    let body = Full::new(Bytes::from(words::openai_answer("two")));
                    let response = Response::builder().header("content-type", "application/json").body(body);
                    Ok::<_, Infallible>(response.unwrap())
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    let endpoint = Endpoint { ca_file: Some(ca_file), ..Endpoint::new("test", url) };
    let provider = provider(Shape::OpenAi, &endpoint);
    let call = call(question("hi"));
    assert_eq!(said(&*provider, &call, Manner::Whole).await.unwrap(), "two");
    let (one, other) = tokio::join!(said(&*provider, &call, Manner::Whole), said(&*provider, &call, Manner::Whole));
    assert_eq!((one.unwrap(), other.unwrap()), ("two".to_owned(), "two".to_owned()));
    assert_eq!(*count.borrow(), 1);
}

#[tokio::test]
async fn many_ask_at_once() {
    let upstream = upstream().await;
    let provider = provider_at(Shape::OpenAi, upstream.url());
    upstream.always(Script::openai_stream(&["a", "b", "c"]));
    let asking = (0..64).map(|_| async {
        let call = call(question("hi"));
        let (events, error) = drained(provider.stream(&call).await.unwrap()).await;
        assert_eq!(error, None);
        super::rig::collected(&events).text()
    });
    let said = futures::future::join_all(asking).await;
    assert!(said.iter().all(|said| said == "abc"), "{said:?}");
    assert!(upstream.connections() <= 64);
}

#[tokio::test]
async fn the_trace_and_the_agent_are_sent() {
    let upstream = upstream().await;
    upstream.always(Script::openai("a"));
    let mut call = call(question("hi"));
    call.trace = vec![("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned())];
    said(&*provider_at(Shape::OpenAi, upstream.url()), &call, Manner::Whole).await.unwrap();
    let received = upstream.wait_for(0, |_| true).await;
    assert_eq!(received.header("traceparent"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert!(received.header("user-agent").starts_with("holdfast/"));
    assert_eq!((received.header("content-type"), received.header("accept")), ("application/json", "application/json"));
    assert_eq!(received.header("accept-encoding"), "");
    assert_eq!(received.header("host"), upstream.address().to_string());
}

#[test]
fn an_address_that_cannot_work_is_refused() {
    let refused = |endpoint: Endpoint| OpenAi::new(&endpoint).unwrap_err();
    let url = |url: &str| refused(Endpoint::new("test", url)).to_string();
    assert_eq!(url("ftp://example.org/v1"), "the address ftp://example.org/v1 does not begin with http:// or https://");
    assert_eq!(url("example.org"), "the address example.org does not begin with http:// or https://");
    assert_eq!(url("/v1"), "the address /v1 has no host");
    assert_eq!(url("http://example.org/v1?key=1"), "the address http://example.org/v1 has something after its path");
    assert_eq!(url("http://exa mple/"), "the address given is none");
    let told = url("https://user:secret@example.org/v1");
    assert!(told.contains("user name") && !told.contains("secret"), "{told}");
    let key = Endpoint { key: Some("two\nlines".into()), ..Endpoint::new("test", "http://127.0.0.1:1/v1") };
    assert!(matches!(refused(key), EndpointError::Key));
    let folder = tempfile::tempdir().unwrap();
    let ca_file = |name: &str, content: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    for path in [ca_file("none.pem", "nothing"), ca_file("empty.pem", ""), folder.path().join("absent.pem")] {
        let endpoint = Endpoint { ca_file: Some(path), ..Endpoint::new("test", "https://127.0.0.1:1/v1") };
        assert!(matches!(refused(endpoint), EndpointError::CaFile { .. }));
    }
}

#[tokio::test]
async fn a_server_that_takes_no_connection_in_time_is_given_up() {
    // A listener whose backlog is full takes no more: nobody accepts, and two have filled it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        filling.push(stream);
        assert!(filling.len() < 64, "the backlog never fills");
    }
    let mut call = call(question("hi"));
    call.deadlines = Deadlines { connect: Duration::from_millis(200), ..PATIENT };
    let provider = provider_at(Shape::OpenAi, format!("http://{address}/v1"));
    let error = provider.complete(&call).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error:?}");
}

#[tokio::test]
async fn who_reads_slowly_is_no_reason_to_give_the_provider_up() {
    let upstream = upstream().await;
    // Much more than buffers hold, so that the server waits for the reader.
    let pieces = vec!["x".repeat(100_000); 200];
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    upstream.push(Script::openai_stream(&pieces));
    let mut call = call(question("hi"));
    call.deadlines = Deadlines { gap: Duration::from_millis(400), ..PATIENT };
    let mut stream = provider_at(Shape::OpenAi, upstream.url()).stream(&call).await.unwrap();
    let mut bytes = 0;
    for number in 0.. {
        let Some(event) = stream.next().await else { break };
        bytes += event.unwrap().frame.map_or(0, |frame| frame.len());
        if number % 100 == 50 {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    }
    assert!(bytes > 20_000_000, "{bytes}");
}
