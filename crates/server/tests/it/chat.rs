//! The doors to language models, where no model is behind them: what is refused, and how clients of each API hear of it.

use anyhow::{Context, Result, ensure};
use axum::{
    body::Body,
    http::{Method, header},
};
use holdfast_server::{Config, LimitsConfig, Rate};
use holdfast_storage::{Role, keys::KeyTerms};
use serde_json::{Value, json};

use crate::house::{House, Reply};

const COMPLETIONS: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

fn question() -> Value {
    json!({ "model": "auto", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] })
}

fn with(name: &str, value: Value) -> Value {
    let mut body = question();
    body[name] = value;
    body
}

/// The error of an answer, in the shape of its API.
fn error(path: &str, reply: &Reply, status: u16, code: &str) -> Result<Value> {
    reply.failure(path, status, code)?;
    let told = reply.json()?;
    if path != COMPLETIONS {
        ensure!(told["type"] == "error", "{told}");
        let id = reply.header("x-request-id").context("no request id")?;
        ensure!(told["request_id"] == id && reply.header("request-id") == Some(id), "{told}");
    }
    Ok(told["error"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_it_is_said_how_to_add_one() -> Result<()> {
    let house = House::new().await?;
    for path in [COMPLETIONS, MESSAGES, COUNT] {
        for body in [question(), with("stream", json!(true))] {
            let reply = house.post(path, body).await?;
            let error = error(path, &reply, 503, "no_provider")?;
            let message = error["message"].as_str().context("no message")?;
            ensure!(message.contains("holdfast providers add"), "{message}");
            // Asking again without a person would not help, and clients would.
            ensure!(reply.header("x-should-retry") == Some("false"), "{:?}", reply.headers);
        }
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_a_bad_request_with_its_place() -> Result<()> {
    let house = House::new().await?;
    for (path, name, value) in [
        (COMPLETIONS, "max_tokens", json!(-1)),
        (COMPLETIONS, "n", json!(1_000_000_000)),
        (COMPLETIONS, "messages", json!([])),
        (COMPLETIONS, "temperature", json!("hot")),
        (COMPLETIONS, "tools", json!([{ "type": "function", "function": { "name": "f", "parameters": [] } }])),
        (COMPLETIONS, "holdfast", json!({ "augment": { "passages": 0 } })),
        (MESSAGES, "max_tokens", json!(0)),
        (MESSAGES, "messages", json!([{ "role": "system", "content": "x" }])),
        (MESSAGES, "tools", json!([{ "name": "f", "input_schema": { "type": "string" } }])),
        (COUNT, "messages", json!(7)),
    ] {
        let reply = house.post(path, with(name, value)).await?;
        let error = error(path, &reply, 400, "invalid_field")?;
        ensure!(error["type"] == "invalid_request_error", "{error}");
        ensure!(error["param"].as_str().is_some_and(|param| param.starts_with(name)), "{path} {name}: {error}");
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_are_refused_before_anybody_is_asked() -> Result<()> {
    let house = House::with(Config { max_body_bytes: 1 << 20, ..Config::default() }).await?;
    let many = format!("[{}]", vec!["{}"; 70_000].join(","));
    for path in [COMPLETIONS, MESSAGES, COUNT] {
        for (body, status, code) in [
            (String::new(), 400, "invalid_json"),
            ("{".to_owned(), 400, "invalid_json"),
            ("[]".to_owned(), 400, "invalid_field"),
            ("null".to_owned(), 400, "invalid_field"),
            (format!("{{\"model\":\"a\",\"messages\":{}", "[".repeat(100_000)), 400, "json_too_deep"),
            ("{\"model\":\"a\",\"model\":\"b\",\"messages\":[]}".to_owned(), 400, "invalid_field"),
            (format!("{{\"model\":\"a\",\"messages\":{many}}}"), 400, "invalid_field"),
            (format!("{{\"model\":\"{}\"}}", "a".repeat(2 << 20)), 413, "body_too_large"),
            ("{\"model\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":1e999}]}".to_owned(), 400, "invalid_json"),
        ] {
            let reply = house.post_text(path, body.clone()).await?;
            let told = error(path, &reply, status, code).with_context(|| body.chars().take(60).collect::<String>())?;
            if code == "body_too_large" && path != COMPLETIONS {
                ensure!(told["type"] == "request_too_large", "{told}");
            }
        }
        let plain = house.request(Method::POST, path).header(header::CONTENT_TYPE, "text/plain");
        let reply = house.send(plain.body(Body::from(question().to_string()))?).await?;
        error(path, &reply, 415, "unsupported_media_type")?;
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_hears_of_it_in_the_words_of_the_api() -> Result<()> {
    let house = House::new().await?;
    let metrics = house.key_with(KeyTerms::of("metrics", Role::Metrics)).await?;
    for path in [COMPLETIONS, MESSAGES, COUNT] {
        for (key, status, code, kind) in
            [("hf_0000", 401, "unauthorized", "authentication_error"), (&metrics, 403, "forbidden", "permission_error")]
        {
            let request = axum::http::Request::post(path)
                .header("x-api-key", key)
                .header("anthropic-version", "2023-06-01")
                .header(header::CONTENT_TYPE, "application/json");
            let reply = house.send(request.body(Body::from(question().to_string()))?).await?;
            ensure!(error(path, &reply, status, code)?["type"] == kind, "{}", reply.text());
        }
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_ask_for_nothing_sensible_are_refused() -> Result<()> {
    let house = House::new().await?;
    for (name, value) in [("x-holdfast-session", "a b"), ("x-holdfast-augment", "../up")] {
        let request = house.request(Method::POST, COMPLETIONS).header(name, value);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let reply = house.send(request.body(Body::from(question().to_string()))?).await?;
        error(COMPLETIONS, &reply, 400, "invalid_field")?;
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn long_conversations_count_for_what_they_are() -> Result<()> {
    let rate = Rate { per_second: 1, burst: 50 };
    let limits = LimitsConfig { key_texts: rate, ..LimitsConfig::default() };
    let house = House::with(Config { limits, ..Config::default() }).await?;
    let long = with("messages", json!([{ "role": "user", "content": "x".repeat(40 << 10) }]));
    error(MESSAGES, &house.post(MESSAGES, long.clone()).await?, 503, "no_provider")?;
    let reply = house.post(MESSAGES, long).await?;
    ensure!(error(MESSAGES, &reply, 429, "rate_limited")?["type"] == "rate_limit_error", "{}", reply.text());
    ensure!(reply.header("retry-after").is_some());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_models_has_those_that_are_here() -> Result<()> {
    let house = House::new().await?;
    let list = house.get("/v1/models").await?.expect(200)?;
    let tiny = json!({ "id": "tiny", "object": "model", "created": 0, "owned_by": "holdfast", "kind": "embedding" });
    ensure!(list["object"] == "list" && list["data"].as_array().is_some_and(|all| all.contains(&tiny)), "{list}");
    house.close().await
}
