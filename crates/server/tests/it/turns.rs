//! Turns through the doors of both APIs, with providers of both shapes behind them that play scripts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::{
    body::Body,
    http::{Method, Request, header},
};
use holdfast_server::{Config, LimitsConfig};
use holdfast_storage::{Role, keys::KeyTerms};
use holdfast_testkit::upstream::{Script, Step, Upstream, words};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    connections::within,
    house::{House, Reply, ask},
    wire::Wire,
};

const COMPLETIONS: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// Puts a provider on record that has one model, `m`.
pub async fn add(house: &House, name: &str, api: &str, upstream: &Upstream) -> Result<()> {
    let body = json!({ "name": name, "url": upstream.url(), "api": api, "models": [{ "name": "m" }] });
    let request = Request::post("/api/v1/providers").header(header::CONTENT_TYPE, "application/json");
    ask(house.server.owner(), request.body(Body::from(body.to_string()))?).await?.expect(201)?;
    Ok(())
}

pub fn question(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 9, "messages": [{ "role": "user", "content": "How is a package pinned?" }] })
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// The data of each event of a stream.
fn events(reply: &Reply) -> Vec<String> {
    let text = reply.text();
    let of = |frame: &str| frame.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
    text.split("\n\n").filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_the_clients_shape_is_the_providers_byte_for_byte() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    add(&house, "o", "openai", &upstream).await?;
    add(&house, "a", "anthropic", &upstream).await?;
    for (path, model, answer) in [
        (COMPLETIONS, "o/m", words::openai_answer("Yes.\u{2028}")),
        (MESSAGES, "a/m", words::anthropic_answer("Yes.\u{2028}")),
    ] {
        upstream.push(Script::json(200, answer.clone()));
        let asked = with(question(model), "unheard_of", json!({ "b": 1, "a": [null] }));
        let reply = house.post(path, asked.clone()).await?;
        reply.expect(200)?;
        ensure!(reply.text() == answer, "{}", reply.text());
        ensure!(reply.header("x-holdfast-model") == Some(model) && reply.header("x-holdfast-cache") == Some("miss"));
        ensure!(reply.header("x-holdfast-context") == Some("0") && reply.header("x-holdfast-dropped").is_none());
        ensure!(reply.header("x-holdfast-interaction").is_some_and(|id| id.len() == 36), "{:?}", reply.headers);
        let sent = upstream.received().pop().context("nobody asked")?.json();
        let expected = with(with(asked, "model", json!("m")), "stream", json!(false));
        ensure!(sent == expected, "{sent}");
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn between_shapes_what_was_said_is_said_and_hints_are_named() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    add(&house, "o", "openai", &upstream).await?;
    add(&house, "a", "anthropic", &upstream).await?;
    upstream.push(Script::anthropic("Yes."));
    let reply = house.post(COMPLETIONS, with(question("a/m"), "user", json!("me"))).await?;
    let told = reply.expect(200)?;
    ensure!(told["object"] == "chat.completion" && told["choices"][0]["message"]["content"] == "Yes.", "{told}");
    ensure!(told["usage"]["total_tokens"] == 18 && told["choices"][0]["finish_reason"] == "stop", "{told}");
    ensure!(reply.header("x-holdfast-dropped") == Some("user"), "{:?}", reply.headers);
    upstream.push(Script::openai("Yes."));
    let reply = house.post(MESSAGES, with(question("o/m"), "metadata", json!({ "user_id": "me" }))).await?;
    let told = reply.expect(200)?;
    ensure!(told["type"] == "message" && told["content"] == json!([{ "type": "text", "text": "Yes." }]), "{told}");
    ensure!(told["usage"] == json!({ "input_tokens": 11, "output_tokens": 7 }), "{told}");
    ensure!(reply.header("x-holdfast-dropped") == Some("metadata"), "{:?}", reply.headers);
    // What bears meaning and has no word there is refused, before anybody is asked.
    let asked = upstream.received().len();
    let reply = house.post(COMPLETIONS, with(question("a/m"), "logit_bias", json!({ "5": 1 }))).await?;
    reply.failure(COMPLETIONS, 400, "not_expressible")?;
    ensure!(reply.text().contains("logit_bias") && upstream.received().len() == asked, "{}", reply.text());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_come_in_the_clients_shape_whatever_the_providers() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    add(&house, "o", "openai", &upstream).await?;
    add(&house, "a", "anthropic", &upstream).await?;
    for model in ["o/m", "a/m"] {
        let push = || match model {
            "o/m" => upstream.push(Script::openai_stream(&["Ye", "s."])),
            _ => upstream.push(Script::anthropic_stream(&["Ye", "s."])),
        };
        let asked = with(question(model), "stream", json!(true));
        push();
        let reply = house.post(COMPLETIONS, asked.clone()).await?;
        ensure!(reply.status == 200, "{}", reply.text());
        for (name, value) in
            [("content-type", "text/event-stream"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
        {
            ensure!(reply.header(name) == Some(value), "{:?}", reply.headers);
        }
        let mut told = events(&reply);
        ensure!(told.pop().as_deref() == Some("[DONE]"), "{}", reply.text());
        let chunks: Vec<Value> = told.iter().map(|data| serde_json::from_str(data)).collect::<Result<_, _>>()?;
        let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        ensure!(said == "Yes." && chunks.iter().all(|chunk| !chunk["choices"][0].is_null()), "{}", reply.text());
        push();
        let told_usage = with(asked.clone(), "stream_options", json!({ "include_usage": true }));
        let reply = house.post(COMPLETIONS, told_usage).await?;
        ensure!(reply.text().contains("\"total_tokens\":18"), "{}", reply.text());
        push();
        let reply = house.post(MESSAGES, asked).await?;
        let told: Vec<Value> =
            events(&reply).iter().map(|data| serde_json::from_str(data)).collect::<Result<_, _>>()?;
        ensure!(told.first().context("nothing")?["type"] == "message_start", "{}", reply.text());
        ensure!(told.last().context("nothing")?["type"] == "message_stop", "{}", reply.text());
        let said: String = told.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
        ensure!(said == "Yes.", "{}", reply.text());
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_says_so() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    add(&house, "o", "openai", &upstream).await?;
    add(&house, "a", "anthropic", &upstream).await?;
    for (path, model) in [(COMPLETIONS, "o/m"), (COMPLETIONS, "a/m"), (MESSAGES, "o/m"), (MESSAGES, "a/m")] {
        // After the beginning and a first piece.
        let script = match model {
            "o/m" => Script::openai_stream(&["Ye", "s."]).then_after(2, [Step::Reset]),
            _ => Script::anthropic_stream(&["Ye", "s."]).then_after(4, [Step::Reset]),
        };
        upstream.push(script);
        let reply = house.post(path, with(question(model), "stream", json!(true))).await?;
        let told = events(&reply);
        let last: Value = serde_json::from_str(told.last().context("nothing came")?)?;
        ensure!(reply.status == 200 && reply.text().contains("Ye"), "{}", reply.text());
        ensure!(last["error"]["code"] == "provider_failed" && last["error"]["error_id"].is_string(), "{last}");
        if path == MESSAGES {
            ensure!(reply.text().contains("event: error\n") && last["type"] == "error", "{}", reply.text());
        }
    }
    house.close().await
}

/// Reads until something was said.
async fn until(stream: &mut TcpStream, said: &str) -> Result<String> {
    let mut told = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&told).into_owned();
        if text.contains(said) {
            return Ok(text);
        }
        ensure!(within(stream.read_buf(&mut told)).await?? > 0, "it ended: {text}");
    }
}

async fn begin(wire: &Wire, path: &str, body: &Value) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(wire.address).await?;
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        wire.house.key,
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_there_before_the_next_is_made() -> Result<()> {
    let (wire, upstream) = (Wire::open(Config::default()).await?, Upstream::start().await?);
    add(&wire.house, "o", "openai", &upstream).await?;
    for path in [COMPLETIONS, MESSAGES] {
        let asked = upstream.received().len();
        upstream.push(Script::openai_stream(&["one", "two"]).then_after(2, [Step::Hang]));
        let mut stream = begin(&wire, path, &with(question("o/m"), "stream", json!(true))).await?;
        let told = until(&mut stream, "one").await?;
        ensure!(told.starts_with("HTTP/1.1 200") && !told.contains("two"), "{told}");
        // Nobody listens any more, and the provider need not go on.
        drop(stream);
        within(upstream.left(asked)).await?;
    }
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_the_answer_ends_the_call() -> Result<()> {
    let (wire, upstream) = (Wire::open(Config::default()).await?, Upstream::start().await?);
    add(&wire.house, "o", "openai", &upstream).await?;
    upstream.always(Script::hang());
    for (number, streamed) in [false, true].into_iter().enumerate() {
        let stream = begin(&wire, COMPLETIONS, &with(question("o/m"), "stream", json!(streamed))).await?;
        within(upstream.wait_for(number, |_| true)).await?;
        drop(stream);
        within(upstream.left(number)).await?;
    }
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_for_requests_cuts_a_stream() -> Result<()> {
    let short = Duration::from_millis(200);
    let config = Config {
        request_timeout: short,
        long_request_timeout: Duration::from_secs(2),
        stall_timeout: short,
        ..Config::default()
    };
    let (wire, upstream) = (Wire::open(config).await?, Upstream::start().await?);
    add(&wire.house, "o", "openai", &upstream).await?;
    upstream.push(Script::openai_stream(&["a"; 6]).slowed(Duration::from_millis(400)));
    let mut stream = begin(&wire, COMPLETIONS, &with(question("o/m"), "stream", json!(true))).await?;
    until(&mut stream, "[DONE]").await?;
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_under_way_until_it_ends() -> Result<()> {
    let limits = LimitsConfig { key_concurrent_requests: 1, ..LimitsConfig::default() };
    let (wire, upstream) = (Wire::open(Config { limits, ..Config::default() }).await?, Upstream::start().await?);
    add(&wire.house, "o", "openai", &upstream).await?;
    upstream.push(Script::openai_stream(&["one"]).then_after(2, [Step::Hang]));
    let mut stream = begin(&wire, COMPLETIONS, &with(question("o/m"), "stream", json!(true))).await?;
    until(&mut stream, "one").await?;
    let told = wire.ask("POST", COMPLETIONS, "", &question("o/m").to_string()).await?;
    ensure!(told.expect(429, "rate_limited")?.0.contains("key_concurrency"), "{told:?}");
    wire.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_goes_to_the_model_and_is_told_to_the_client() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    house.furnish().await?;
    add(&house, "o", "openai", &upstream).await?;
    upstream.always(Script::openai("With a lock [1]."));
    let asked = with(question("o/m"), "holdfast", json!({ "augment": { "passages": 2 } }));
    for (path, body) in [(COMPLETIONS, asked.clone()), (MESSAGES, asked)] {
        let reply = house.post(path, body).await?;
        let told = reply.expect(200)?;
        let citations = told["holdfast"]["citations"].as_array().context("no citations")?;
        ensure!(!citations.is_empty() && citations[0]["number"] == 1, "{told}");
        ensure!(
            reply.header("x-holdfast-context") == Some(citations.len().to_string().as_str()),
            "{:?}",
            reply.headers
        );
        ensure!(
            Some(told["holdfast"]["interaction"].as_str().context("no id")?) == reply.header("x-holdfast-interaction")
        );
        let sent = upstream.received().pop().context("nobody asked")?;
        ensure!(sent.json()["holdfast"].is_null(), "{}", sent.json());
        ensure!(String::from_utf8_lossy(&sent.body).contains("A flake lock pins every package"), "{}", sent.json());
    }
    // A client whose bodies cannot be added to says so in a header.
    let request = house.request(Method::POST, COMPLETIONS).header("x-holdfast-augment", "default");
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let reply = house.send(request.body(Body::from(question("o/m").to_string()))?).await?;
    ensure!(reply.expect(200)?["holdfast"]["citations"].is_array(), "{}", reply.text());
    let unasked = house.post(COMPLETIONS, question("o/m")).await?.expect(200)?;
    ensure!(unasked["holdfast"].is_null(), "{unasked}");
    let nowhere = with(question("o/m"), "holdfast", json!({ "augment": { "collections": ["nowhere"] } }));
    house.post(MESSAGES, nowhere).await?.failure(MESSAGES, 404, "collection_not_found")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_remembered_whichever_door_it_comes_through() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    add(&house, "o", "openai", &upstream).await?;
    upstream.always(Script::openai("With a lock."));
    let key = house.key_with(KeyTerms::of("app", Role::Reader)).await?;
    let say = async |path: &str, text: &str| -> Result<Reply> {
        let body = with(question("o/m"), "messages", json!([{ "role": "user", "content": text }]));
        let request = Request::post(path).header("x-api-key", &key).header("x-holdfast-session", "trip");
        house.send(request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string()))?).await
    };
    let first = say(COMPLETIONS, "How?").await?;
    ensure!(first.header("x-holdfast-session") == Some("trip"), "{:?}: {}", first.headers, first.text());
    say(MESSAGES, "And then?").await?.expect(200)?;
    let sent = upstream.received().pop().context("nobody asked")?.json();
    let texts: Vec<&Value> = sent["messages"].as_array().context("none")?.iter().map(|it| &it["content"]).collect();
    ensure!(texts == [&json!("How?"), &json!("With a lock."), &json!("And then?")], "{sent}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_a_provider_are_in_the_log_and_nowhere_else() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    add(&house, "o", "openai", &upstream).await?;
    for (status, code, told) in [(400, 400, "provider_rejected"), (401, 502, "provider_failed")] {
        upstream.push(Script::failure(status, "some_type", "the odd words of that server"));
        let reply = house.post(COMPLETIONS, question("o/m")).await?;
        reply.failure(COMPLETIONS, code, told)?;
        ensure!(!reply.text().contains("odd words"), "{}", reply.text());
    }
    ensure!(!crate::house::logged("odd words").is_empty());
    upstream.always(Script::failure(429, "rate_limit", "slow down"));
    let reply = house.post(MESSAGES, question("o/m")).await?;
    reply.failure(MESSAGES, 429, "provider_rate_limited")?;
    ensure!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_that_can_be_asked_are_listed_and_tokens_counted() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    add(&house, "o", "openai", &upstream).await?;
    let list = house.get("/v1/models").await?.expect(200)?;
    let names: Vec<_> = list["data"].as_array().context("none")?.iter().map(|model| &model["id"]).collect();
    for name in ["auto", "o/m", "tiny"] {
        ensure!(names.contains(&&json!(name)), "{list}");
    }
    // Each is shown too, with its slash as it is or encoded.
    for path in ["auto", "o/m", "o%2Fm", "tiny"] {
        let shown = house.get(&format!("/v1/models/{path}")).await?.expect(200)?;
        ensure!(list["data"].as_array().is_some_and(|all| all.contains(&shown)), "{shown}");
    }
    for path in ["nobody", "o/nobody/", "o"] {
        house.get(&format!("/v1/models/{path}")).await?.failure("/v1/models", 404, "model_not_found")?;
    }
    let counted = house.post("/v1/messages/count_tokens", question("auto")).await?.expect(200)?;
    ensure!(counted["input_tokens"].as_u64().is_some_and(|tokens| (5..50).contains(&tokens)), "{counted}");
    house.post("/v1/messages/count_tokens", question("nobody")).await?.failure(MESSAGES, 404, "model_not_found")?;
    house.close().await
}
