//! What a request and an event cost this crate, in processor time, beside a bare client of `hyper`.
//!
//! `cargo run --release -p holdfast-llm --example cost -- [REQUESTS]`. A server on another thread answers; all that is
//! measured runs on the main thread, whose time the kernel counts in `/proc/thread-self/schedstat`.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program for whoever measures")]

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use holdfast_llm::{
    Ask, Call, Deadlines, Endpoint, Message, Model, OpenAi, Original, Provider, Request, Role, Shape,
    model::{Ability, Location, Settings, Spec},
};
use holdfast_testkit::upstream::fast::{self, Fast};
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::json;
use tokio::net::TcpListener;

/// Requests at once.
const CONCURRENT: usize = 16;
/// Pieces of a streamed answer.
const PIECES: usize = 64;
/// How far apart its events are: far enough for each to be a piece of its own.
const GAP: Duration = Duration::from_millis(2);
const PATIENT: Deadlines = Deadlines {
    connect: Duration::from_secs(10),
    first_byte: Duration::from_secs(60),
    gap: Duration::from_secs(60),
    total: Duration::from_secs(600),
};

/// Time that this thread has had the processor, in nanoseconds.
fn spent_ns() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Serves on a thread of its own; where.
fn serve(fast: Fast) -> anyhow::Result<String> {
    let (told, heard) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            told.send(format!("http://{}/v1", listener.local_addr()?))?;
            fast::serve(listener, fast).await;
            Ok(())
        })
    });
    Ok(heard.recv()?)
}

fn request() -> Request {
    let text = "kelp ".repeat(200);
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": text}], "temperature": 0.5});
    Request {
        messages: vec![Message::text(Role::User, text)],
        original: body.as_object().cloned().map(|body| Original { shape: Shape::OpenAi, body }),
        ..Request::default()
    }
}

fn model(provider: Arc<dyn Provider>) -> Model {
    let spec = Spec {
        name: "mock".into(),
        provider: "mock".into(),
        upstream: "mock-1".into(),
        location: Location::Remote,
        context_tokens: None,
        max_output_tokens: None,
        tools: Ability::Able,
        images: Ability::Able,
        formats: Ability::Able,
        continues: Ability::Unable,
        price: None,
    };
    Model::new(spec, provider, Settings { concurrent_max: 1_024, ..Settings::default() })
}

/// Does something so often, some at once; processor time and time on the clock of one.
async fn measure(name: &str, requests: usize, what: impl AsyncFn()) -> anyhow::Result<()> {
    // Connections are opened and code is warm before it counts.
    join_all((0..CONCURRENT).map(|_| what())).await;
    let (began, spent) = (Instant::now(), spent_ns()?);
    let each = requests / CONCURRENT;
    join_all((0..CONCURRENT).map(async |_| {
        for _ in 0..each {
            what().await;
        }
    }))
    .await;
    let done = (each * CONCURRENT) as f64;
    let cpu = (spent_ns()? - spent) as f64 / done / 1e3;
    println!("{name:42} {cpu:8.1} µs processor, {:9.0} a second", done / began.elapsed().as_secs_f64());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let requests = std::env::args().nth(1).map_or(Ok(40_000), |text| text.parse())?;
    let url = serve(Fast::default())?;
    let bare = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http::<Full<Bytes>>();
    let body = Bytes::from(serde_json::to_vec(&request().original.map(|original| original.body))?);
    let address: hyper::Uri = format!("{url}/chat/completions").parse()?;
    measure("hyper alone, whole answer", requests, async || {
        let mut request = hyper::Request::post(address.clone()).body(Full::new(body.clone())).expect("it is one");
        request.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        let response = bare.request(request).await.expect("it is there");
        drop(response.into_body().collect().await);
    })
    .await?;
    let provider: Arc<dyn Provider> = Arc::new(OpenAi::new(&Endpoint::new("mock", &url))?);
    let call = Call {
        request: Arc::new(request()),
        model: "mock-1".into(),
        max_output_tokens: None,
        deadlines: PATIENT,
        trace: Vec::new(),
        continued: None,
    };
    measure("provider, whole answer", requests, async || drop(provider.complete(&call).await)).await?;
    let ask = Ask::new(Arc::new(request()), PATIENT);
    let whole = model(Arc::clone(&provider));
    measure("model, whole answer", requests, async || drop(whole.complete(&ask).await)).await?;

    let url = serve(Fast { pieces: PIECES, gap: GAP, ..Fast::default() })?;
    let streams = (requests / PIECES).max(CONCURRENT * 4);
    println!("streams of {} events, {GAP:?} apart:", PIECES + 4);
    let address: hyper::Uri = format!("{url}/chat/completions").parse()?;
    let streamed = Bytes::from(String::from_utf8_lossy(&body).replacen('{', "{\"stream\":true,", 1));
    measure("hyper alone, streamed", streams, async || {
        let request = hyper::Request::post(address.clone()).body(Full::new(streamed.clone())).expect("it is one");
        let mut body = bare.request(request).await.expect("it is there").into_body();
        while body.frame().await.is_some() {}
    })
    .await?;
    let streaming = model(Arc::new(OpenAi::new(&Endpoint::new("mock", &url))?));
    measure("model, streamed", streams, async || {
        let mut stream = streaming.stream(&ask).await.outcome.expect("it answers");
        while stream.next().await.is_some() {}
    })
    .await?;
    Ok(())
}
