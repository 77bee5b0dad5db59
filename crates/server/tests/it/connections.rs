//! Over real sockets: shutdown, slow clients, the control socket and MCP on it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_server::Config;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::house::{House, PATIENCE};

pub async fn within<T>(work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.context("it took too long")
}

struct Open {
    house: House,
    address: std::net::SocketAddr,
    serving: JoinHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "the test awaits the task itself")]
async fn open(config: Config) -> Result<Open> {
    let house = House::with(config).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = house.server.clone();
    let serving = tokio::spawn(async move { server.serve(listener).await });
    Ok(Open { house, address, serving })
}

impl Open {
    fn head(&self, method: &str, target: &str, more: &str) -> String {
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n{more}\r\n", self.house.key)
    }
}

/// Everything a connection still says, to its end.
pub async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> Result<String> {
    let mut text = Vec::new();
    // A reset after the answer is as good as an end.
    let _ended = within(stream.read_to_end(&mut text)).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_what_was_accepted_and_takes_nothing_new() -> Result<()> {
    let open = open(Config::default()).await?;
    let body = json!({ "documents": [{ "id": "late", "content": "moon" }] }).to_string();
    let (begin, end) = body.split_at(10);
    let mut slow = TcpStream::connect(open.address).await?;
    let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    slow.write_all(open.head("POST", "/api/v1/documents", &more).as_bytes()).await?;
    slow.write_all(begin.as_bytes()).await?;
    let mut idle = TcpStream::connect(open.address).await?;
    idle.write_all(open.head("GET", "/health/live", "").as_bytes()).await?;
    let mut answer = [0; 12];
    within(idle.read_exact(&mut answer)).await??;
    ensure!(answer == *b"HTTP/1.1 200");
    within(async {
        while open.house.server.active_connections() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await?;

    open.house.shutdown.cancel();
    rest(&mut idle).await?;
    within(async {
        while TcpStream::connect(open.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    slow.write_all(end.as_bytes()).await?;
    let told = rest(&mut slow).await?;
    ensure!(told.starts_with("HTTP/1.1 200") && told.contains("\"indexed\""), "{told}");
    within(open.serving).await??;
    ensure!(open.house.server.active_connections() == 0);
    open.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_does_not_wait_for_ever() -> Result<()> {
    let open = open(Config { shutdown_grace: Duration::from_millis(100), ..Config::default() }).await?;
    let mut stuck = TcpStream::connect(open.address).await?;
    let more = "Content-Type: application/json\r\nContent-Length: 100\r\n";
    stuck.write_all(open.head("POST", "/api/v1/search", more).as_bytes()).await?;
    within(async {
        while open.house.server.active_connections() < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    open.house.shutdown.cancel();
    within(open.serving).await??;
    rest(&mut stuck).await?;
    open.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_for_metrics_has_them_without_a_key_and_nothing_else() -> Result<()> {
    let house = House::new().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = house.server.clone();
    #[expect(clippy::disallowed_methods, reason = "the test awaits the task itself")]
    let serving = tokio::spawn(async move { server.serve_metrics(listener).await });
    let ask = async |method: &str, target: &str, host: &str| {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-API-Key: {}\r\n\r\n",
            house.key
        );
        stream.write_all(head.as_bytes()).await?;
        let told = rest(&mut stream).await?;
        anyhow::Ok((told.get(9..12).unwrap_or_default().to_owned(), told))
    };
    let (status, told) = ask("GET", "/metrics", "localhost").await?;
    ensure!(status == "200" && told.contains("holdfast_uptime_seconds"), "{told}");
    for (method, target, host, expected) in [
        ("GET", "/metrics", "evil.example", "403"),
        ("POST", "/metrics", "localhost", "405"),
        ("GET", "/api/v1/status", "localhost", "404"),
        ("GET", "/health", "localhost", "404"),
        ("GET", "/mcp/stdio", "localhost", "404"),
    ] {
        let (status, told) = ask(method, target, host).await?;
        ensure!(status == expected, "{method} {target} of {host}: {told}");
    }
    house.shutdown.cancel();
    within(serving).await??;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dribbles_its_headers_is_cut_off() -> Result<()> {
    let open = open(Config { header_timeout: Duration::from_millis(200), ..Config::default() }).await?;
    let mut slow = TcpStream::connect(open.address).await?;
    slow.write_all(b"GET /health/live HTTP/1.1\r\nX-Slow: ").await?;
    let began = Instant::now();
    rest(&mut slow).await?;
    ensure!(began.elapsed() >= Duration::from_millis(100) && began.elapsed() < PATIENCE);
    let mut huge = TcpStream::connect(open.address).await?;
    let head = open.head("GET", "/health/live", &format!("X-Large: {}\r\n", "x".repeat(1_000_000)));
    // The server says so long before it has read everything, and is heard by one who first says everything.
    within(huge.write_all(head.as_bytes())).await??;
    let told = rest(&mut huge).await?;
    ensure!(told.starts_with("HTTP/1.1 431"), "{told}");
    open.house.shutdown.cancel();
    within(open.serving).await??;
    open.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_takes_long_and_does_not_stand_still_is_waited_for() -> Result<()> {
    let open = open(Config { stall_timeout: Duration::from_millis(400), ..Config::default() }).await?;
    let body = json!({ "documents": [{ "id": "long", "content": "moon ".repeat(60_000) }] }).to_string();
    let mut slow = TcpStream::connect(open.address).await?;
    let more = format!("Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    slow.write_all(open.head("POST", "/api/v1/documents", &more).as_bytes()).await?;
    let began = Instant::now();
    for piece in body.as_bytes().chunks(10_000) {
        slow.write_all(piece).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(began.elapsed() > Duration::from_millis(1_400));
    let told = rest(&mut slow).await?;
    ensure!(told.starts_with("HTTP/1.1 200"), "{told}");
    open.house.shutdown.cancel();
    within(open.serving).await??;
    open.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_take_only_so_much_memory_in_all() -> Result<()> {
    let config = Config { max_body_bytes: 100_000, max_bodies_bytes: 0, ..Config::default() };
    let open = open(config).await?;
    let head = open.head("POST", "/api/v1/search", "Content-Type: application/json\r\nContent-Length: 95000\r\n");
    let hold = async || {
        let mut stream = TcpStream::connect(open.address).await?;
        stream.write_all(format!("{head}{}", " ".repeat(94_000)).as_bytes()).await?;
        anyhow::Ok(stream)
    };
    let mut held = vec![hold().await?, hold().await?];
    let search = r#"{"query":"moon"}"#;
    let ask = async |body: &str| {
        let mut stream = TcpStream::connect(open.address).await?;
        let more = format!("Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        stream.write_all(format!("{}{body}", open.head("POST", "/api/v1/search", &more)).as_bytes()).await?;
        rest(&mut stream).await
    };
    let large = format!("{search}{}", " ".repeat(50_000));
    let mut told = String::new();
    let began = Instant::now();
    while began.elapsed() < PATIENCE && !told.starts_with("HTTP/1.1 503") {
        told = ask(&large).await?;
        // One that was still being read may be the one that found no room.
        for stream in &mut held {
            if stream.try_read(&mut [0]).is_ok() {
                *stream = hold().await?;
            }
        }
    }
    ensure!(told.contains("\"code\":\"overloaded\"") && told.to_lowercase().contains("retry-after"), "{told}");
    ensure!(ask(search).await?.starts_with("HTTP/1.1 200"), "a small one has room");
    // What was read of any shape counts for what it takes there, which is much more.
    let shapes = format!(r#"{{"query":"moon","filter":[{}0]}}"#, "{},".repeat(1_000));
    let told = ask(&shapes).await?;
    ensure!(told.starts_with("HTTP/1.1 503"), "{told}");
    drop(held);
    // What is over takes nothing.
    within(async { while ask(&large).await.is_ok_and(|told| !told.starts_with("HTTP/1.1 200")) {} }).await?;
    ensure!(ask(&large).await?.starts_with("HTTP/1.1 200"));
    open.house.shutdown.cancel();
    within(open.serving).await??;
    open.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_idle_connection_gives_way_to_a_new_one() -> Result<()> {
    let open = open(Config { max_connections: 1, ..Config::default() }).await?;
    let mut first = TcpStream::connect(open.address).await?;
    first.write_all(open.head("GET", "/health/live", "").as_bytes()).await?;
    let mut answer = [0; 12];
    within(first.read_exact(&mut answer)).await??;
    let mut second = TcpStream::connect(open.address).await?;
    second.write_all(open.head("GET", "/health/live", "Connection: close\r\n").as_bytes()).await?;
    let told = rest(&mut second).await?;
    ensure!(told.starts_with("HTTP/1.1 200"), "{told}");
    // What had been answered is there to be read; then the connection is over.
    rest(&mut first).await?;
    open.house.shutdown.cancel();
    within(open.serving).await??;
    open.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_socket_serves_the_owner_and_mcp_streams() -> Result<()> {
    let house = House::new().await?;
    let path = house.path().join("control.sock");
    let listener = UnixListener::bind(&path)?;
    let server = house.server.clone();
    #[expect(clippy::disallowed_methods, reason = "the test awaits the task itself")]
    let serving = tokio::spawn(async move { server.serve_control(listener).await });

    let mut plain = UnixStream::connect(&path).await?;
    plain.write_all(b"GET /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let told = rest(&mut plain).await?;
    ensure!(told.starts_with("HTTP/1.1 200"), "{told}");

    let mut session = UnixStream::connect(&path).await?;
    let upgrade = "GET /mcp/stdio HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: holdfast-mcp\r\n\r\n";
    session.write_all(upgrade.as_bytes()).await?;
    let mut session = BufReader::new(session);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(within(session.read_line(&mut head)).await?? > 0, "{head}");
    }
    ensure!(head.starts_with("HTTP/1.1 101") && head.to_lowercase().contains("upgrade: holdfast-mcp"), "{head}");

    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    let answer = exchange(&mut session, &initialize).await?;
    ensure!(answer["result"]["serverInfo"] == json!({ "name": "holdfast", "version": "1.2.3" }), "{answer}");
    ensure!(answer["result"]["instructions"].is_string(), "{answer}");
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    session.write_all(format!("{initialized}\n").as_bytes()).await?;
    let add = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "add_document", "arguments": { "content": "moon" } } });
    let answer = exchange(&mut session, &add).await?;
    ensure!(answer["result"]["structuredContent"]["status"] == "indexed", "{answer}");
    drop(plain);
    within(async {
        while house.server.active_connections() != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await?;

    house.shutdown.cancel();
    within(serving).await??;
    let mut end = String::new();
    ensure!(within(session.read_line(&mut end)).await?? == 0, "{end}");
    house.close().await
}

async fn exchange(session: &mut BufReader<UnixStream>, message: &Value) -> Result<Value> {
    session.write_all(format!("{message}\n").as_bytes()).await?;
    let mut line = String::new();
    ensure!(within(session.read_line(&mut line)).await?? > 0, "the session ended");
    Ok(serde_json::from_str(&line)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_refuses_in_the_shape_of_each_route() -> Result<()> {
    let open = open(Config { max_concurrent_requests: 1, ..Config::default() }).await?;
    // A request whose body never comes takes the only place, and has it once the server asks for that body.
    let mut slow = TcpStream::connect(open.address).await?;
    let more = "Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n";
    slow.write_all(open.head("POST", "/api/v1/search", more).as_bytes()).await?;
    let mut told = [0; 12];
    within(slow.read_exact(&mut told)).await??;
    ensure!(&told == b"HTTP/1.1 100", "{}", String::from_utf8_lossy(&told));
    let ask = async |method: &str, target: &str| -> Result<String> {
        let mut stream = TcpStream::connect(open.address).await?;
        let more = "Content-Length: 0\r\nX-Request-Id: mine\r\nConnection: close\r\n";
        stream.write_all(open.head(method, target, more).as_bytes()).await?;
        rest(&mut stream).await
    };
    for (method, target, status, shape) in [
        ("GET", "/api/v1/jobs", 503, "\"urn:holdfast:error:overloaded\""),
        ("GET", "/api/v1/jobs/1", 503, "\"urn:holdfast:error:overloaded\""),
        ("POST", "/v1/embeddings", 503, "\"server_error\""),
        ("POST", "/embed", 429, "\"Overloaded\""),
        ("GET", "/health/live", 200, "alive"),
    ] {
        let told = ask(method, target).await?;
        ensure!(told.starts_with(&format!("HTTP/1.1 {status}")) && told.contains(shape), "{target}: {told}");
        ensure!(told.contains("x-request-id: mine\r\n"), "{target}: {told}");
        ensure!(status == 200 || told.contains("retry-after: 1\r\n") && told.contains("error_id\":\""), "{told}");
    }
    drop(slow);
    within(async {
        while !ask("GET", "/api/v1/jobs").await?.starts_with("HTTP/1.1 200") {}
        anyhow::Ok(())
    })
    .await??;
    open.house.shutdown.cancel();
    within(open.serving).await??;
    open.house.close().await
}

/// Sends what it is given, a piece at a time, until the server has had enough; then what that said.
async fn trickle(stream: &mut TcpStream, every: Duration) -> Result<String> {
    let (mut read, mut write) = stream.split();
    let trickling = async {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(every).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        told = rest(&mut read) => told,
        () = trickling => anyhow::bail!("it ended"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_or_never_ends_is_refused() -> Result<()> {
    let limits = Config { body_timeout: Duration::from_millis(300), max_body_bytes: 1 << 20, ..Config::default() };
    let open = open(limits).await?;
    for body in ["Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut slow = TcpStream::connect(open.address).await?;
        let more = format!("Content-Type: application/json\r\n{body}");
        slow.write_all(open.head("POST", "/api/v1/search", &more).as_bytes()).await?;
        // A chunk that is announced and does not come is no progress either.
        slow.write_all(b"fff\r\n").await?;
        let began = Instant::now();
        let told = trickle(&mut slow, Duration::from_millis(20)).await?;
        ensure!(told.starts_with("HTTP/1.1 408") && told.contains("\"body_too_slow\""), "{told}");
        ensure!(began.elapsed() >= Duration::from_millis(250) && began.elapsed() < PATIENCE / 2);
    }
    // One that comes fast and has no end meets the other limit.
    let mut endless = TcpStream::connect(open.address).await?;
    let more = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    endless.write_all(open.head("POST", "/api/v1/search", more).as_bytes()).await?;
    let (mut read, mut write) = endless.split();
    let sending = async {
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        while write.write_all(chunk.as_bytes()).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let mut begin = [0; 12];
    tokio::select! {
        read = within(read.read_exact(&mut begin)) => { read??; }
        () = sending => {}
    }
    ensure!(begin == *b"HTTP/1.1 413", "{}", String::from_utf8_lossy(&begin));
    open.house.shutdown.cancel();
    within(open.serving).await??;
    open.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off() -> Result<()> {
    let limits = Config { stall_timeout: Duration::from_millis(400), ..Config::default() };
    let open = open(limits).await?;
    let mut deaf = TcpStream::connect(open.address).await?;
    // More answers than the system buffers for somebody who reads none.
    let ask = open.head("GET", "/metrics", "");
    let (_read, mut write) = deaf.split();
    within(async { while write.write_all(ask.as_bytes()).await.is_ok() {} }).await?;
    within(async {
        while open.house.server.active_connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    open.house.shutdown.cancel();
    within(open.serving).await??;
    open.house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_full_of_idlers_keeps_out_neither_a_probe_nor_a_client_at_work() -> Result<()> {
    let open = open(Config { max_connections: 40, ..Config::default() }).await?;
    let mut honest = TcpStream::connect(open.address).await?;
    let ask = open.head("GET", "/api/v1/collections", "");
    let mut idlers = Vec::new();
    for round in 0..120 {
        let mut idler = TcpStream::connect(open.address).await?;
        if round % 2 == 0 {
            idler.write_all(b"GET / HTTP/1.1\r\nX-Slow:").await?;
        }
        idlers.push(idler);
        // Somebody who uses a connection is never the one who has been idle longest.
        honest.write_all(ask.as_bytes()).await?;
        let mut answer = vec![0; 16 << 10];
        let read = within(honest.read(&mut answer)).await??;
        ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
        let began = Instant::now();
        let mut probe = TcpStream::connect(open.address).await?;
        probe.write_all(open.head("GET", "/health/live", "Connection: close\r\n").as_bytes()).await?;
        let told = rest(&mut probe).await?;
        ensure!(told.starts_with("HTTP/1.1 200") && began.elapsed() < Duration::from_secs(1), "{told}");
    }
    ensure!(open.house.server.active_connections() <= 41);
    open.house.shutdown.cancel();
    within(open.serving).await??;
    open.house.close().await
}
