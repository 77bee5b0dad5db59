//! How much may be done: by a key, from an address, at once, and without a key.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::{
    body::Body,
    http::{Method, Request, header},
};
use futures::stream;
use holdfast_server::{Config, LimitsConfig, ProxyHeader, Rate};
use holdfast_storage::{Role, keys::KeyTerms};
use serde_json::json;

use crate::{
    house::{House, PATIENCE, Reply, logged},
    wire::{Told, Wire, request},
};

/// As good as never.
const SLOWLY: u32 = 1;

fn limits(change: impl FnOnce(&mut LimitsConfig)) -> Config {
    let mut limits = LimitsConfig::default();
    change(&mut limits);
    Config { limits, ..Config::default() }
}

fn rate(per_second: u32, burst: u64) -> Rate {
    Rate { per_second, burst }
}

async fn with_key(house: &House, key: &str, method: Method, target: &str, body: &'static str) -> Result<Reply> {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {key}"));
    house.send(request.body(Body::from(body))?).await
}

/// How long an answer asks to be left alone, in seconds.
fn wait(reply: &Reply) -> Result<u64> {
    reply.header("retry-after").context("no Retry-After")?.parse().context("not a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_often_waits_and_no_other_does() -> Result<()> {
    let house = House::with(limits(|limits| limits.key_requests = rate(SLOWLY, 100))).await?;
    let other = house.key_with(KeyTerms::of("other", Role::Admin)).await?;
    let (mut answers, mut was_told) = (0, false);
    let refused = loop {
        let reply = house.get("/api/v1/jobs").await?;
        if reply.status != 200 {
            break reply;
        }
        answers += 1;
        // From the half on it is told; a slow machine comes there later.
        let told = reply.header("ratelimit");
        ensure!(answers > 50 || told.is_none(), "answer {answers}: {told:?}");
        was_told |= told.is_some();
        ensure!(reply.header("x-ratelimit-limit-requests").is_none());
    };
    ensure!((100..160).contains(&answers) && was_told, "{answers} answers");
    let problem = refused.problem(429, "rate_limited")?;
    ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains("key_requests")), "{problem}");
    ensure!(problem["hint"].as_str().is_some_and(|hint| hint.contains("wait 1 s")), "{problem}");
    ensure!(wait(&refused)? == 1);
    ensure!(refused.header("ratelimit-policy") == Some("\"key_requests\";q=100;w=100"), "{refused:?}");
    let told = refused.header("ratelimit").context("no RateLimit")?;
    ensure!(told.starts_with("\"key_requests\";r=0;t="), "{told}");

    // Each in the shape that its clients read.
    for (method, target) in [
        (Method::POST, "/v1/embeddings"),
        (Method::POST, "/embed"),
        (Method::GET, "/info"),
        (Method::POST, "/mcp"),
        (Method::GET, "/api/v1/nothing"),
    ] {
        let reply = with_key(&house, &house.key, method, target, "{}").await?;
        reply.failure(target, 429, "rate_limited").context(target)?;
        ensure!(wait(&reply)? == 1, "{reply:?}");
        let told = reply.header("x-ratelimit-remaining-requests");
        ensure!(told == (target == "/v1/embeddings").then_some("0"), "{target}: {told:?}");
        match target {
            "/v1/embeddings" => ensure!(reply.json()?["error"]["type"] == "rate_limit_error", "{}", reply.text()),
            "/embed" => ensure!(reply.json()?["error_type"] == "Overloaded", "{}", reply.text()),
            _ => {}
        }
    }
    with_key(&house, &other, Method::GET, "/api/v1/jobs", "").await?.expect(200)?;
    house.get("/health").await?;
    for _ in 0..200 {
        ensure!(house.get("/health/live").await?.status == 200);
        let owner = Request::builder().uri("/api/v1/jobs").body(Body::empty())?;
        crate::house::ask(house.server.owner(), owner).await?.expect(200)?;
    }
    // Time heals it.
    tokio::time::timeout(PATIENCE, async {
        while house.get("/api/v1/jobs").await?.status != 200 {}
        anyhow::Ok(())
    })
    .await??;
    let metrics = with_key(&house, &other, Method::GET, "/metrics", "").await?.text();
    let limited =
        metrics.lines().find_map(|line| line.strip_prefix("holdfast_rate_limited_total{limit=\"key_requests\"} "));
    ensure!(limited.context("no such series")?.parse::<u64>()? >= 6, "{metrics}");
    ensure!(metrics.contains("holdfast_rate_limit_buckets{limit=\"key_requests\"} 2"), "{metrics}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_charged_for_what_they_are() -> Result<()> {
    let house = House::with(limits(|limits| limits.key_texts = rate(SLOWLY, 100))).await?;
    let texts = |count: usize| json!({ "input": vec!["a"; count] });
    for count in [40, 40] {
        let reply = house.post("/v1/embeddings", texts(count)).await?;
        reply.expect(200)?;
        ensure!(reply.header("x-ratelimit-remaining-requests").is_some(), "{reply:?}");
    }
    let refused = house.post("/v1/embeddings", texts(40)).await?;
    refused.failure("/v1/embeddings", 429, "rate_limited")?;
    ensure!(refused.text().contains("key_texts") && (1..=20).contains(&wait(&refused)?), "{refused:?}");
    let policy = refused.header("ratelimit-policy").context("no policy")?;
    ensure!(policy.contains("\"key_texts\";q=100;w=100") && policy.contains("\"key_requests\""), "{policy}");
    // Refused, it cost nothing: there is enough for less.
    house.post("/v1/embeddings", texts(10)).await?.expect(200)?;
    let long = "word ".repeat(16_384);
    let documents = |content: &str| json!({ "documents": [{ "content": content }] });
    house.post("/api/v1/documents", documents(&long)).await?.problem(429, "rate_limited")?;
    house.post("/api/v1/documents", documents("short")).await?.expect(200)?;
    house.search(json!({ "query": "short" })).await?;

    let call = |name: &str, arguments: serde_json::Value| json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name, "arguments": arguments } });
    let mcp = async |message: serde_json::Value| {
        let request = house
            .request(Method::POST, "/mcp")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        house.send(request.body(message.to_string().into())?).await
    };
    let reply = mcp(call("add_document", json!({ "content": long }))).await?;
    let told = reply.expect(200)?;
    ensure!(told["result"]["structuredContent"]["code"] == "rate_limited", "{told}");
    ensure!(told["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains("wait ")), "{told}");
    ensure!(reply.header("ratelimit").is_some_and(|told| told.contains("key_texts")), "{reply:?}");
    let told = mcp(call("list_collections", json!({}))).await?.expect(200)?;
    ensure!(told["result"]["isError"] != true, "{told}");
    // Nothing but texts is used up.
    house.get("/api/v1/jobs").await?.expect(200)?;
    house.close().await
}

/// How many requests the metrics know that had no valid key.
async fn failures(wire: &Wire) -> Result<u64> {
    let told = wire.ask("GET", "/metrics", "", "").await?;
    let series = told.0.lines().filter(|line| line.starts_with("holdfast_authentication_failures_total{"));
    series.map(|line| Ok(line.rsplit(' ').next().context("no value")?.trim().parse::<u64>()?)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_keys_harms_nobody_who_has_one() -> Result<()> {
    let wire = Wire::open(limits(|limits| limits.failed_keys_per_minute = 5)).await?;
    let before = failures(&wire).await?;
    let (mut told_why, mut told_to_wait) = (0, 0);
    for _ in 0..40 {
        let told = wire.say(request("GET", "/api/v1/jobs", "Authorization: Bearer hf_wrong\r\n", "")).await?;
        match told.status() {
            401 => told_why += 1,
            429 => {
                told.expect(429, "rate_limited")?;
                ensure!(told.0.contains("failed_keys") && told.header("retry-after").is_some(), "{told:?}");
                ensure!(told.header("ratelimit-policy") == Some("\"failed_keys\";q=5;w=60"), "{told:?}");
                ensure!(told.header("ratelimit").is_some_and(|told| told.starts_with("\"failed_keys\";r=0;t=")));
                told_to_wait += 1;
            }
            _ => anyhow::bail!("{told:?}"),
        }
        // From the very same address.
        ensure!(wire.ask("GET", "/api/v1/jobs", "", "").await?.status() == 200, "a valid key was refused");
    }
    ensure!((5..20).contains(&told_why) && told_to_wait > 20, "{told_why} and {told_to_wait}");
    // What the alert goes by counts all of them, those too that were only told to wait.
    let counted = failures(&wire).await? - before;
    ensure!(counted >= 40, "{counted} of 40");
    let lines = logged("requests without a valid key");
    ensure!((1..5).contains(&lines.len()), "{lines:?}");
    ensure!(lines.iter().all(|line| line.contains("\"code\":\"unauthorized\"")), "{lines:?}");
    ensure!(logged("/api/v1/jobs answered 401").iter().all(|line| !line.contains("\"INFO\"")), "a line each");
    wire.close().await
}

/// Asks as a client behind the proxy on this machine.
async fn behind(wire: &Wire, client: &str, key: &str) -> Result<Told> {
    let more = format!("X-Forwarded-For: {client}\r\nX-API-Key: {key}\r\n");
    wire.say(request("GET", "/api/v1/jobs", &more, "")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_that_of_the_client_behind_a_trusted_proxy() -> Result<()> {
    let config = Config {
        trusted_proxies: vec!["127.0.0.1".parse::<std::net::IpAddr>()?.into(), "10.0.0.0/8".parse()?],
        ..limits(|limits| limits.address_requests = rate(SLOWLY, 3))
    };
    let wire = Wire::open(config).await?;
    let key = &wire.house.key;
    let until_refused = async |client: &str| {
        for answers in 0..20 {
            let told = behind(&wire, client, key).await?;
            if told.status() != 200 {
                told.expect(429, "rate_limited")?;
                ensure!(told.0.contains("address_requests"), "{told:?}");
                return Ok(answers);
            }
        }
        anyhow::bail!("{client} was never refused")
    };
    ensure!((3..9).contains(&until_refused("198.51.100.1").await?));
    // What it writes before its address changes nothing, nor does another proxy of ours in between.
    ensure!(until_refused("203.0.113.1, 198.51.100.1").await? < 3);
    ensure!(until_refused("198.51.100.1, 10.1.1.1").await? < 3);
    ensure!(behind(&wire, "198.51.100.2", key).await?.status() == 200);
    // A whole network is one client.
    ensure!((3..9).contains(&until_refused("2001:db8:1:2::1").await?));
    ensure!(until_refused("2001:db8:1:2:ffff::9").await? < 3);
    ensure!(behind(&wire, "2001:db8:1:3::1", key).await?.status() == 200);

    // A key bound to addresses is bound to the client's.
    let terms = KeyTerms { addresses: vec!["192.0.2.0/24".parse()?], ..KeyTerms::of("bound", Role::Admin) };
    let bound = wire.house.key_with(terms).await?;
    ensure!(behind(&wire, "192.0.2.7", &bound).await?.status() == 200);
    behind(&wire, "192.0.3.7", &bound).await?.expect(401, "unauthorized")?;
    behind(&wire, "192.0.2.7, 192.0.3.7", &bound).await?.expect(401, "unauthorized")?;
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_believed_where_they_come_from() -> Result<()> {
    let config = Config {
        trusted_proxies: vec!["10.0.0.0/8".parse()?],
        proxy_header: ProxyHeader::XForwardedFor,
        ..Config::default()
    };
    let wire = Wire::open(config).await?;
    let terms = KeyTerms { addresses: vec!["192.0.2.0/24".parse()?], ..KeyTerms::of("bound", Role::Admin) };
    let bound = wire.house.key_with(terms).await?;
    behind(&wire, "192.0.2.7", &bound).await?.expect(401, "unauthorized")?;
    let more = format!("Forwarded: for=192.0.2.7\r\nX-Real-IP: 192.0.2.7\r\nX-API-Key: {bound}\r\n");
    wire.say(request("GET", "/api/v1/jobs", &more, "")).await?.expect(401, "unauthorized")?;
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_cannot_take_every_place() -> Result<()> {
    let house = House::with(limits(|limits| limits.key_concurrent_requests = 2)).await?;
    let other = house.key_with(KeyTerms::of("other", Role::Admin)).await?;
    // A request whose body does not come yet; the server asks for it once the request is let in.
    let begin = async || -> Result<_> {
        let (hold, body) = tokio::sync::oneshot::channel::<()>();
        let (asks, asked) = tokio::sync::oneshot::channel::<()>();
        let pieces = stream::once(async move {
            let _ = asks.send(());
            let _ = body.await;
            Ok::<_, std::io::Error>("{\"query\":\"moon\"}")
        });
        let request = house.request(Method::POST, "/api/v1/search").header(header::CONTENT_TYPE, "application/json");
        let mut asking = Box::pin(house.send(request.body(Body::from_stream(pieces))?));
        tokio::select! {
            reply = &mut asking => anyhow::bail!("answered before it was asked: {reply:?}"),
            asked = asked => asked?,
        }
        Ok((hold, asking))
    };
    let (hold_first, first) = begin().await?;
    let (hold_second, second) = begin().await?;
    let refused = house.get("/api/v1/jobs").await?;
    let problem = refused.problem(429, "rate_limited")?;
    ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains("key_concurrency")), "{problem}");
    ensure!(wait(&refused)? == 1);
    ensure!(refused.header("ratelimit-policy") == Some("\"key_concurrency\";q=2;qu=\"concurrent-requests\""));
    ensure!(refused.header("ratelimit") == Some("\"key_concurrency\";r=0"));
    with_key(&house, &other, Method::GET, "/api/v1/jobs", "").await?.expect(200)?;
    drop((hold_first, hold_second));
    first.await?.expect(200)?;
    second.await?.expect(200)?;
    house.get("/api/v1/jobs").await?.expect(200)?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_switched_off() -> Result<()> {
    let config = limits(|limits| {
        *limits = LimitsConfig {
            enabled: false,
            key_requests: rate(1, 1),
            key_texts: rate(1, 1),
            key_concurrent_requests: 1,
            failed_keys_per_minute: 1,
            ..limits.clone()
        };
    });
    let house = House::with(config).await?;
    for _ in 0..20 {
        let reply = house.post("/v1/embeddings", json!({ "input": ["a", "b"] })).await?;
        reply.expect(200)?;
        ensure!(reply.header("x-ratelimit-limit-requests").is_none(), "{reply:?}");
        with_key(&house, "hf_wrong", Method::GET, "/api/v1/jobs", "").await?.problem(401, "unauthorized")?;
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_defaults_hinder_nobody_who_is_alone() -> Result<()> {
    let wire = Wire::open(Config::default()).await?;
    let began = std::time::Instant::now();
    let mut asked = 0;
    // As fast as one client of this machine can.
    while began.elapsed() < Duration::from_secs(2) {
        let replies = (0..64).map(|_| wire.house.post("/v1/embeddings", json!({ "input": vec!["moon"; 32] })));
        for reply in futures::future::join_all(replies).await {
            reply?.expect(200)?;
            asked += 1;
        }
    }
    println!("{asked} requests of 32 texts in {:?}", began.elapsed());
    ensure!(asked > 100, "only {asked} requests: this shows nothing");
    wire.close().await
}
