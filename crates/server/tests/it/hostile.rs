//! What no honest client sends, over real sockets: framing, paths, hosts, pages, and JSON that means two things.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::{Method, header};
use holdfast_server::{Config, Server};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    house::{House, PATIENCE},
    wire::{Wire, request},
};

/// A route's path with something in its place.
/// Routes that read no body.
const NO_BODY: [&str; 4] = [
    "/api/v1/sources/{id}/sync",
    "/api/v1/models/{name}/verify",
    "/api/v1/events/archive",
    "/api/v1/events/archive/import",
];

fn path(template: &str) -> String {
    template.replace("{id}", "x").replace("{name}", "x").replace("{*name}", "x")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_where_everybody_thinks_it_ends() -> Result<()> {
    let wire = Wire::open(Config::default()).await?;
    let key = &wire.house.key;
    let head = format!(
        "POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
    );
    let smuggled = format!("GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n");
    // Chunks that say the whole truth, and a length that does not: what follows is never taken for a request.
    let chunks = "11\r\n{\"query\":\"moon\"}\n\r\n0\r\n\r\n";
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
    ] {
        let told = wire.say(format!("{head}{lengths}\r\n{chunks}{smuggled}")).await?;
        ensure!(told.answers() == 1 && [200, 400].contains(&told.status()), "{lengths}: {told:?}");
        ensure!(told.header("connection") == Some("close"), "{lengths}: {told:?}");
    }
    // What cannot be framed ends the connection at once.
    for lengths in [
        "Content-Length: 16\r\nContent-Length: 17\r\n",
        "Content-Length: 16, 17\r\n",
        "Content-Length: +16\r\n",
        "Content-Length: 0x10\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 1 6\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: \r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X-Folded: a\r\n b\r\n",
        "X-Nul: a\0b\r\n",
        "X-Return: a\rb\r\n",
        "X Space: a\r\n",
        "no colon\r\n",
        ": no name\r\n",
    ] {
        let told = wire.say(format!("{head}{lengths}\r\n{{\"query\":\"moon\"}}{smuggled}")).await?;
        ensure!(told.answers() <= 1 && [0, 400].contains(&told.status()), "{lengths:?}: {told:?}");
    }
    for chunks in
        ["zz\r\n{}\r\n0\r\n\r\n", "-1\r\n", "FFFFFFFFFFFFFFFFF\r\n", "2;\n\r\n{}\r\n0\r\n\r\n", "2\r\n{}0\r\n\r\n"]
    {
        let told = wire.say(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}{smuggled}")).await?;
        ensure!(told.answers() <= 1 && [0, 400, 422].contains(&told.status()), "{chunks:?}: {told:?}");
    }
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_and_odd_request_lines_get_nowhere() -> Result<()> {
    let wire = Wire::open(Config::default()).await?;
    let key = &wire.house.key;
    let more = format!("Host: localhost\r\nX-API-Key: {key}\r\nConnection: close");
    for (line, status) in [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
        ("GET /api/v1/jobs HTTP/9.9\r\n", 0),
        ("GET /api/v1/jobs\r\n", 0),
        ("GET  /api/v1/jobs HTTP/1.1\r\n", 0),
        ("GET /api/v1/jobs x HTTP/1.1\r\n", 0),
        ("GET /api/v1/jo\0bs HTTP/1.1\r\n", 0),
        ("G\u{e4}T /api/v1/jobs HTTP/1.1\r\n", 0),
        ("CONNECT evil.example:443 HTTP/1.1\r\n", 400),
        ("GET http://evil.example/api/v1/jobs HTTP/1.1\r\n", 400),
        ("GET http://localhost:1/api/v1/jobs HTTP/1.1\r\n", 400),
        ("GET http://localhost/api/v1/jobs HTTP/1.1\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\n", 404),
        ("get /api/v1/jobs HTTP/1.1\r\n", 405),
    ] {
        let told = wire.say(format!("{line}{more}\r\n\r\n")).await?;
        let refused = status == 0 && [0, 400].contains(&told.status());
        ensure!(refused || told.status() == status, "{line:?}: {told:?}");
    }
    // Nothing is switched to: what was asked for is answered.
    for upgrade in ["h2c", "websocket", "holdfast-mcp"] {
        let more = format!(
            "Host: localhost\r\nX-API-Key: {key}\r\nConnection: upgrade, close, http2-settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nSec-WebSocket-Key: x\r\n"
        );
        for (target, status) in [("/api/v1/jobs", 200), ("/mcp/stdio", 404)] {
            let told = wire.say(format!("GET {target} HTTP/1.1\r\n{more}\r\n")).await?;
            ensure!(told.status() == status, "{upgrade} {target}: {told:?}");
        }
    }
    wire.close().await
}

/// Waits until so many connections have ended for a reason: each is counted just after its client has heard the last.
async fn until_counted(house: &House, reason: &str, least: u64) -> Result<()> {
    let series = format!("holdfast_http_connections_ended_total{{reason=\"{reason}\"}} ");
    loop {
        let metrics = house.get("/metrics").await?.text();
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series)).context("no such series")?;
        if count.parse::<u64>()? >= least {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_never_ends_is_cut_off() -> Result<()> {
    let config = Config { max_body_bytes: 100_000, header_timeout: Duration::from_secs(2), ..Config::default() };
    let wire = Wire::open(config).await?;
    let told = wire.ask("GET", "/api/v1/jobs", &format!("X-Large: {}\r\n", "x".repeat(10_000_000)), "").await?;
    ensure!(told.status() == 431, "{}", told.status());
    let told = wire.ask("GET", "/api/v1/jobs", &"X-Many: x\r\n".repeat(10_000), "").await?;
    ensure!(told.status() == 431, "{}", told.status());
    let told = wire.ask("GET", &format!("/{}", "x".repeat(10_000_000)), "", "").await?;
    ensure!([414, 431].contains(&told.status()), "{}", told.status());
    let told = wire.say("GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nno field at all\r\n\r\n").await?;
    // Before there is a request there is nobody to answer it but the protocol library, which has no body for it.
    ensure!(told.status() == 400 && told.0.ends_with("\r\n\r\n"), "{told:?}");
    for (reason, least) in [("too_large", 3), ("malformed", 1)] {
        let counted = tokio::time::timeout(PATIENCE, until_counted(&wire.house, reason, least)).await;
        counted.with_context(|| format!("fewer than {least} {reason}"))??;
    }

    // A length that is too much is refused before it is sent, chunks as soon as they are too many.
    let more = "Content-Type: application/json\r\nContent-Length: 100001\r\n";
    wire.ask("POST", "/api/v1/documents", more, "").await?.expect(413, "body_too_large")?;
    let mut stream = TcpStream::connect(wire.address).await?;
    let head = format!(
        "POST /api/v1/documents HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        wire.house.key
    );
    stream.write_all(head.as_bytes()).await?;
    let chunk = format!("3e8\r\n{}\r\n", " ".repeat(1_000));
    let mut sent = 0;
    let mut told = Vec::new();
    let (mut reader, mut writer) = stream.split();
    tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            () = async {
                while writer.write_all(chunk.as_bytes()).await.is_ok() {
                    sent += 1_000;
                }
                std::future::pending::<()>().await;
            } => {}
            _ = reader.read_to_end(&mut told) => {}
        }
    })
    .await
    .context("a body without an end was read without an end")?;
    let told = String::from_utf8_lossy(&told);
    ensure!(told.is_empty() || told.starts_with("HTTP/1.1 413"), "{told}");
    // What lies in the buffers of the system was sent and not read.
    ensure!(sent < 50_000_000, "{sent} bytes were taken");
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_one_path() -> Result<()> {
    let wire = Wire::open(Config::default()).await?;
    let paths = [
        "//api/v1/jobs",
        "/./api/v1/jobs",
        "/x/../api/v1/jobs",
        "/api/v1/./jobs",
        "/api/v1/sources/../jobs",
        "/api/v1//jobs",
        "/api/v1/jobs/",
        "/api/v1/%6aobs",
        "/%61pi/v1/jobs",
        "/api/v1%2fjobs",
        "/api%2Fv1%2Fjobs",
        "/api/v1/jobs%00",
        "/api/v1/jobs%20",
        "/api/v1/jobs%3f",
        "/api/v1/jobs;x=1",
        "/api/v1\\jobs",
        "/API/v1/jobs",
        "/api/v1/JOBS",
        "/%2e%2e/api/v1/jobs",
        "/..%2fapi/v1/jobs",
        "/health/live/",
        "/health//live",
        "/health/../api/v1/jobs",
        "/health/live/../../api/v1/jobs",
        "/health/live%2f..%2f..%2fapi/v1/jobs",
        "/health/%2e%2e/api/v1/jobs",
        "/health/live;/api/v1/jobs",
        "/Health/live",
    ];
    for target in paths {
        let told = wire.ask("GET", target, "", "").await?;
        ensure!([400, 404].contains(&told.status()), "{target}: {told:?}");
        let told = wire.say(request("GET", target, "", "")).await?;
        ensure!([400, 401].contains(&told.status()), "{target} without a key: {told:?}");
    }
    // What a variable stands for is a name and nothing else.
    for name in
        ["%2e%2e", "..", ".", "a%2fb", "..%2f..%2fetc%2fpasswd", "a%00b", "a%0d%0ab", "%ff", "%", "%zz", "%c0%ae"]
    {
        for template in ["/api/v1/jobs/{}", "/api/v1/documents/{}", "/api/v1/collections/{}", "/api/v1/sources/{}"] {
            let target = template.replace("{}", name);
            let told = wire.ask("GET", &target, "", "").await?;
            ensure!([400, 404, 422].contains(&told.status()), "{target}: {told:?}");
            ensure!(told.answers() == 1 && !told.0.contains("root:"), "{target}: {told:?}");
        }
    }
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_probes_answer_under_another_name() -> Result<()> {
    let config = Config { allowed_hosts: vec!["kb.example".to_owned()], ..Config::default() };
    let wire = Wire::open(config).await?;
    for route in Server::routes().filter(|route| !route.owner_only) {
        for (method, _) in &route.methods {
            let (method, path) = (method.as_str(), path(route.path));
            for more in
                ["Host: evil\r\n", "Host: localhost.evil.example\r\n", "Origin: null\r\n", "Origin: https://evil\r\n"]
            {
                let told = wire.ask(method, &path, more, "").await?;
                if route.path.starts_with("/health") {
                    ensure!(told.status() == 200, "{path} {more}: {told:?}");
                    ensure!(told.header("access-control-allow-origin").is_none(), "{told:?}");
                } else {
                    told.expect(403, "forbidden_host").with_context(|| format!("{method} {path} {more}"))?;
                }
            }
        }
    }
    for more in
        ["Host: \r\n", "Host: local host\r\n", "Host: localhost, evil\r\n", "Host: a@localhost\r\n", "Host: /\r\n"]
    {
        wire.ask("GET", "/api/v1/jobs", more, "").await?.expect(400, "invalid_request").context(more)?;
    }
    let twice = "Host: localhost\r\nHost: localhost\r\n";
    wire.ask("GET", "/api/v1/jobs", twice, "").await?.expect(400, "invalid_request")?;
    let key = &wire.house.key;
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let told =
            wire.say(format!("GET /api/v1/jobs {version}\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n")).await?;
        ensure!(told.0.contains(" 400 ") && told.0.contains("no Host"), "{version}: {told:?}");
    }
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]", "10.0.0.7:8088", "kb.example", "KB.example.:443"]
    {
        let told = wire.ask("GET", "/api/v1/jobs", &format!("Host: {host}\r\n"), "").await?;
        ensure!(told.status() == 200, "{host}: {told:?}");
    }
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_not_allowed_learns_nothing() -> Result<()> {
    let config = Config { allowed_origins: vec!["https://app.example".to_owned()], ..Config::default() };
    let wire = Wire::open(config).await?;
    let preflight = |origin: &str, method: &str, headers: &str| {
        format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\nAccess-Control-Request-Headers: {headers}\r\n"
        )
    };
    // A browser asks without the key.
    let allowed = preflight("https://app.example", "POST", "Authorization, X-Evil,content-type");
    let told = wire.say(request("OPTIONS", "/api/v1/documents", &allowed, "")).await?;
    ensure!(told.status() == 204, "{told:?}");
    for (name, value) in [
        ("access-control-allow-origin", Some("https://app.example")),
        ("access-control-allow-methods", Some("GET, POST")),
        ("access-control-allow-headers", Some("authorization, content-type")),
        ("access-control-max-age", Some("600")),
        ("access-control-allow-credentials", None),
        ("vary", Some("origin")),
    ] {
        ensure!(told.header(name) == value, "{name}: {told:?}");
    }
    let evil = preflight("https://evil.example", "POST", "authorization");
    let told = wire.say(request("OPTIONS", "/api/v1/documents", &evil, "")).await?;
    told.expect(403, "forbidden_host")?;
    ensure!(!told.0.to_lowercase().contains("access-control"), "{told:?}");
    // Who asks no such question needs a key for any other.
    let told = wire.say(request("OPTIONS", "/api/v1/documents", "Origin: https://app.example\r\n", "")).await?;
    told.expect(401, "unauthorized")?;

    let origin = "Origin: https://app.example\r\n";
    let told = wire.ask("POST", "/api/v1/search", origin, r#"{"query":"moon"}"#).await?;
    ensure!(told.status() == 200, "{told:?}");
    ensure!(told.header("access-control-allow-origin") == Some("https://app.example"), "{told:?}");
    ensure!(
        told.header("access-control-expose-headers").is_some_and(|names| names.contains("retry-after")),
        "{told:?}"
    );
    // Why it failed may be read too.
    let told = wire.say(request("GET", "/api/v1/jobs", origin, "")).await?;
    told.expect(401, "unauthorized")?;
    ensure!(told.header("access-control-allow-origin").is_some(), "{told:?}");
    let own = format!("Host: localhost:{0}\r\nOrigin: http://localhost:{0}\r\n", wire.address.port());
    let told = wire.ask("GET", "/api/v1/jobs", &own, "").await?;
    ensure!(told.status() == 200 && told.header("access-control-allow-origin").is_none(), "{told:?}");
    let twice = "Origin: https://app.example\r\nOrigin: https://app.example\r\n";
    wire.ask("GET", "/api/v1/jobs", twice, "").await?.expect(403, "forbidden_host")?;
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_a_browser_to_be_careful() -> Result<()> {
    let wire = Wire::open(Config { max_concurrent_requests: 1, ..Config::default() }).await?;
    let check = |told: &crate::wire::Told, about: &str| {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            // The description and its page have nothing of anybody's in them.
            if name == "cache-control" && ["/api/docs", "/api/openapi.json"].iter().any(|page| about.starts_with(page))
            {
                continue;
            }
            ensure!(told.headers(name) == [value], "{about}: {name}: {told:?}");
        }
        let policy = told.header("content-security-policy").context("no policy")?;
        ensure!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{about}: {policy}");
        ensure!(told.header("strict-transport-security").is_none(), "{about}: {told:?}");
        ensure!(told.header("server").is_none(), "{about}: {told:?}");
        anyhow::Ok(())
    };
    for route in Server::routes() {
        for (method, _) in &route.methods {
            let (method, path) = (method.as_str(), path(route.path));
            check(&wire.ask(method, &path, "", "").await?, &path)?;
            check(&wire.say(request(method, &path, "", "")).await?, &path)?;
        }
    }
    check(&wire.ask("GET", "/nothing", "", "").await?, "no route")?;
    check(&wire.ask("PATCH", "/api/v1/jobs", "", "").await?, "no method")?;
    check(&wire.ask("GET", "/api/v1/jobs", "Host: evil\r\n", "").await?, "another host")?;
    // The answers that are written beforehand.
    let mut slow = TcpStream::connect(wire.address).await?;
    let key = &wire.house.key;
    let more =
        format!("X-API-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n");
    slow.write_all(format!("POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").as_bytes()).await?;
    let mut told = [0; 12];
    tokio::time::timeout(PATIENCE, slow.read_exact(&mut told)).await??;
    let told = wire.ask("GET", "/api/v1/jobs", "", "").await?;
    told.expect(503, "overloaded")?;
    check(&told, "a full house")?;
    // They end the connection where a body might be read differently by somebody else.
    let smuggled = format!("GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n");
    let lengths = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    let head = format!("POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n0\r\n\r\n");
    let told = wire.say(format!("{head}{smuggled}")).await?;
    told.expect(503, "overloaded")?;
    ensure!(told.answers() == 1 && told.header("connection") == Some("close"), "{told:?}");
    drop(slow);
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_keys_are_none_and_one_in_the_address_is_none() -> Result<()> {
    let wire = Wire::open(Config::default()).await?;
    let key = &wire.house.key;
    for more in [
        format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}\r\n"),
        format!("Authorization: Bearer hf_other\r\nAuthorization: Bearer {key}\r\n"),
        format!("Authorization: Basic eDp5\r\nAuthorization: Bearer {key}\r\n"),
        format!("X-API-Key: {key}\r\nX-API-Key: hf_other\r\n"),
        format!("X-API-Key: {key}\r\nAuthorization: Bearer hf_other\r\n"),
    ] {
        let told = wire.say(request("GET", "/api/v1/jobs", &more, "")).await?;
        told.expect(401, "unauthorized")?;
        ensure!(told.0.contains("more than one key"), "{told:?}");
    }
    for query in [format!("key={key}"), format!("api_key={key}"), format!("x={key}"), format!("a=b&access_token={key}")]
    {
        let told = wire.say(request("GET", &format!("/api/v1/jobs?{query}"), "", "")).await?;
        told.expect(401, "unauthorized")?;
        ensure!(told.0.contains("in the address") && !told.0.contains(key.as_str()), "{told:?}");
    }
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_means_two_things_means_nothing() -> Result<()> {
    let house = House::new().await?;
    for (target, body) in [
        ("/api/v1/search", r#"{"query":"a","query":"b"}"#),
        ("/api/v1/search", r#"{"query":"a","filter":{"field":"path","eq":"a","eq":"b"}}"#),
        ("/api/v1/search", r#"{"query":"a","filter":{"all":[{"field":"path","field":"title","eq":"b"}]}}"#),
        ("/api/v1/search", r#"{"query":"a","qu\u0065ry":"b"}"#),
        ("/api/v1/documents", r#"{"documents":[{"content":"a","content":"b"}]}"#),
        ("/api/v1/documents", r#"{"documents":[{"content":"a","metadata":{"lang":"x","lang":"y"}}]}"#),
        ("/api/v1/documents", r#"{"documents":[{"content":"a","metadata":{"x":[{"y":1,"y":2}]}}]}"#),
        ("/api/v1/keys", r#"{"name":"a","roles":["reader"],"roles":["admin"]}"#),
    ] {
        let problem = house.post_text(target, body).await?.problem(422, "invalid_field").context(body)?;
        let told = problem["detail"].as_str().unwrap_or_default();
        ensure!(told.contains("stands twice") || told.contains("duplicate field"), "{body}: {told}");
    }
    for (target, body) in
        [("/v1/embeddings", r#"{"input":"a","input":"b"}"#), ("/embed", r#"{"inputs":"a","inputs":"b"}"#)]
    {
        let reply = house.post_text(target, body).await?;
        ensure!(reply.status >= 400 && reply.text().contains("duplicate field"), "{}", reply.text());
    }
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"query":"a","query":"b"}}}"#;
    let request = house
        .request(Method::POST, "/mcp")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream");
    let told = house.send(request.body(call.into())?).await?.expect(400)?;
    ensure!(told["error"]["data"]["code"] == "invalid_request", "{told}");
    ensure!(told["error"]["message"].as_str().is_some_and(|text| text.contains("stands twice")), "{told}");
    // What stands once in each of several objects is everyday, and an absent filter is none.
    let body = json!({ "documents": [{ "content": "a", "metadata": { "x": { "y": 1 }, "y": { "y": 1 } } }] });
    house.post("/api/v1/documents", body).await?.expect(200)?;
    house.post("/api/v1/search", json!({ "query": "a", "filter": null })).await?.expect(200)?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn json_ten_thousand_deep_is_refused_everywhere() -> Result<()> {
    let house = House::new().await?;
    let mut bodies = 0;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        for route in Server::routes().filter(|route| !route.owner_only && !route.open) {
            if !route.methods.iter().any(|(method, _)| *method == Method::POST) || NO_BODY.contains(&route.path) {
                continue;
            }
            let path = path(route.path);
            let reply = house.post_text(&path, deep.clone()).await?;
            ensure!(reply.text().contains("json_too_deep"), "{path}: {} {}", reply.status, reply.text());
            bodies += 1;
        }
    }
    ensure!(bodies >= 30, "only {bodies} bodies were read");
    house.close().await
}
