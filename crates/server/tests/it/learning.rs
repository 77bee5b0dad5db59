//! Learning as its clients see it: a turn that a model answered is what the coordinator records and learning reads.

use anyhow::{Context, Result, ensure};
use axum::http::{Method, Request, header};
use holdfast_storage::{Role, keys::KeyTerms};
use holdfast_testkit::upstream::{Script, Upstream, words};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    house::{House, Reply},
    turns::{add, question},
};

const INTERACTIONS: &str = "/api/v1/interactions";

/// What a key is answered.
async fn by(house: &House, key: &str, method: Method, target: &str, body: Value) -> Result<Reply> {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "application/json");
    house.send(request.body(body.to_string().into())?).await
}

async fn known(house: &House, id: &str) -> Result<Value> {
    house.caught_up().await?;
    house.get(&format!("{INTERACTIONS}/{id}")).await?.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_known_with_what_was_said_of_it() -> Result<()> {
    let (house, upstream) = (House::new().await?, Upstream::start().await?);
    add(&house, "o", "openai", &upstream).await?;
    upstream.push(Script::json(200, words::openai_answer("In flake.nix.")));
    let reply = house.post("/v1/chat/completions", question("o/m")).await?;
    reply.expect(200)?;
    let id = reply.header("x-holdfast-interaction").context("no interaction")?.to_owned();
    let first = known(&house, &id).await?;
    ensure!(first["question"] == "How is a package pinned?" && first["answer"] == "In flake.nix.", "{first}");
    ensure!(first["origin"] == "turn" && first["model"] == "o/m" && first["outcome"].is_null(), "{first}");
    let outcome = format!("{INTERACTIONS}/{id}/outcome");
    house.post(&outcome, json!({ "outcome": "success", "feedback": 1, "source": "test" })).await?.expect(200)?;
    let then = known(&house, &id).await?;
    ensure!(then["outcome"] == "success" && then["feedback"] == 1.0, "{then}");
    ensure!(then["value"].as_f64() > first["value"].as_f64(), "{first} {then}");
    ensure!(then["evidence"][0]["word"] == "success" && then["evidence"][0]["source"] == "test", "{then}");
    let stats = house.get("/api/v1/learning/stats").await?.expect(200)?;
    ensure!(stats["stages"][0]["lag"] == 0 && stats["stages"][0]["unreadable"] == 0, "{stats}");
    ensure!(
        stats["kinds"].as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind["is_known"] == true)),
        "{stats}"
    );
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_refused_with_a_code() -> Result<()> {
    let house = House::new().await?;
    let told = house.post(INTERACTIONS, json!({ "question": "how?", "may_train": false })).await?.expect(201)?;
    let id = told["id"].as_str().context("no id")?.to_owned();
    let outcome = format!("{INTERACTIONS}/{id}/outcome");
    for (body, status, code) in [
        (json!({ "feedback": 7 }), 422, "invalid_field"),
        (json!({ "feedback": "good" }), 422, "invalid_field"),
        (json!({ "outcome": "splendid" }), 422, "invalid_field"),
        (json!({ "signal": "sighed" }), 422, "invalid_field"),
        (json!({}), 422, "invalid_field"),
        (json!({ "outcome": "success", "at_ms": 99_999_999_999_999_i64 }), 422, "invalid_field"),
        (json!({ "outcome": "success", "mood": 1 }), 422, "invalid_field"),
        (json!({ "useful": vec!["d"; 101] }), 422, "invalid_field"),
        (json!({ "note": "x".repeat(17 << 10) }), 422, "invalid_field"),
    ] {
        house.post(&outcome, body).await?.problem(status, code)?;
    }
    for unknown in [Uuid::from_u128(1).to_string(), "no-id".to_owned()] {
        let target = format!("{INTERACTIONS}/{unknown}");
        house.get(&target).await?.problem(404, "interaction_not_found")?;
        let body = json!({ "outcome": "success" });
        house.post(&format!("{target}/outcome"), body).await?.problem(404, "interaction_not_found")?;
    }
    let again = json!({ "id": id, "question": "how?", "may_train": false });
    house.post(INTERACTIONS, again).await?.expect(201)?;
    house.post(INTERACTIONS, json!({ "id": id, "question": "why?" })).await?.problem(409, "already_exists")?;
    house.post(INTERACTIONS, json!({ "question": " " })).await?.problem(422, "invalid_field")?;
    house.post(INTERACTIONS, json!({ "question": "x".repeat(600 << 10) })).await?.problem(422, "invalid_field")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_it_is_not_for_them_it_is_not_there() -> Result<()> {
    let house = House::new().await?;
    let [one, other] = ["one", "other"];
    let one = house.key_with(KeyTerms::of(one, Role::Agent)).await?;
    let other = house.key_with(KeyTerms::of(other, Role::Agent)).await?;
    let told = by(&house, &one, Method::POST, INTERACTIONS, json!({ "question": "a private question" })).await?;
    let id = told.expect(201)?["id"].as_str().context("no id")?.to_owned();
    house.caught_up().await?;
    let (shown, outcome) = (format!("{INTERACTIONS}/{id}"), format!("{INTERACTIONS}/{id}/outcome"));
    let body = json!({ "outcome": "failure" });
    by(&house, &other, Method::GET, &shown, Value::Null).await?.problem(404, "interaction_not_found")?;
    by(&house, &other, Method::POST, &outcome, body.clone()).await?.problem(404, "interaction_not_found")?;
    by(&house, &one, Method::GET, &shown, Value::Null).await?.expect(200)?;
    by(&house, &one, Method::POST, &outcome, body).await?.expect(200)?;
    by(&house, &one, Method::GET, "/api/v1/datasets", Value::Null).await?.problem(403, "forbidden")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_built_once_read_and_removed() -> Result<()> {
    let house = House::new().await?;
    let told = json!({
        "question": "How do I pin an input of a flake?", "outcome": "success", "feedback": 1,
        "answer": "Name a revision in the URL of the input, and mail anna.schmidt@firma.de if it fails.",
    });
    house.post(INTERACTIONS, told).await?.expect(201)?;
    house.caught_up().await?;
    let recipe = json!({ "name": "set", "shares": [1.0, 0.0, 0.0] });
    let built = house.post("/api/v1/datasets", recipe.clone()).await?.expect(201)?;
    ensure!(built["id"] == "set@1" && built["manifest"]["files"]["train.jsonl"]["rows"] == 1, "{built}");
    ensure!(house.post("/api/v1/datasets", recipe).await?.expect(200)?["id"] == "set@1");
    let reply = house.get("/api/v1/datasets/set@1/export").await?;
    let line: Value = serde_json::from_str(reply.text().trim())?;
    ensure!(line["messages"][0]["content"] == "How do I pin an input of a flake?", "{line}");
    ensure!(!reply.text().contains("schmidt"), "{line}");
    house.get("/api/v1/datasets/set@1/export?file=secret").await?.problem(422, "invalid_field")?;
    for missing in ["set@2", "set", "set@x", "..@1", "other@1"] {
        house.get(&format!("/api/v1/datasets/{missing}")).await?.problem(404, "dataset_not_found")?;
    }
    house.post("/api/v1/datasets", json!({ "name": "../x" })).await?.problem(422, "invalid_field")?;
    house.post("/api/v1/datasets", json!({ "name": "x", "shares": [0, 0, 0] })).await?.problem(422, "invalid_field")?;
    house.post("/api/v1/datasets", json!({ "name": "x", "value_min": 2 })).await?.problem(422, "invalid_field")?;
    ensure!(house.delete("/api/v1/datasets/set@1").await?.status == 204);
    house.delete("/api/v1/datasets/set@1").await?.problem(404, "dataset_not_found")?;
    house.close().await
}
