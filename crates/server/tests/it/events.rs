//! Events that other programs put on record: all of a batch or nothing, once, and nobody else's.

use anyhow::{Context, Result, ensure};
use axum::http::{Method, Request, header};
use holdfast_storage::{Role, keys::KeyTerms};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::house::{House, Reply};

const EVENTS: &str = "/api/v1/events";

/// What a batch with a key is answered.
async fn send(house: &House, secret: &str, once: Option<&str>, body: &Value) -> Result<Reply> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(EVENTS)
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {secret}"))
        .header(header::CONTENT_TYPE, "application/json");
    let request = once.into_iter().fold(request, |request, once| request.header("idempotency-key", once));
    house.send(request.body(body.to_string().into())?).await
}

fn batch(events: impl IntoIterator<Item = Value>) -> Value {
    json!({ "events": events.into_iter().collect::<Vec<_>>() })
}

async fn kinds(house: &House) -> Result<Value> {
    house.caught_up().await?;
    Ok(house.get("/api/v1/learning/stats").await?.expect(200)?["kinds"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_on_record_once() -> Result<()> {
    let house = House::new().await?;
    let id = Uuid::now_v7();
    let body = batch([
        json!({ "kind": "interaction_told", "interaction": id, "question": "how do I pin nixpkgs", "answer": "so" }),
        json!({ "kind": "outcome_told", "interaction": id, "outcome": "success", "source": "ci" }),
        json!({ "kind": "deployed", "at": "1971-01-31T23:59:59Z", "version": 7, "body": { "host": "amber" } }),
        json!({ "kind": "outcome_told", "version": 9, "interaction": id, "what": "is not known yet" }),
    ]);
    let first = send(&house, &house.key, Some("one"), &body).await?.expect(201)?;
    ensure!(first["events"] == 4 && first["is_repeat"] == false, "{first}");
    let again = send(&house, &house.key, Some("one"), &body).await?.expect(201)?;
    ensure!(again["first_position"] == first["first_position"] && again["is_repeat"] == true, "{again}");
    let other = batch([json!({ "kind": "deployed" })]);
    send(&house, &house.key, Some("one"), &other).await?.problem(422, "idempotency_key_reused")?;
    let kinds = kinds(&house).await?;
    let counts: Vec<(&str, bool, u64)> = kinds
        .as_array()
        .context("no kinds")?
        .iter()
        .filter_map(|kind| Some((kind["kind"].as_str()?, kind["is_known"].as_bool()?, kind["events"].as_u64()?)))
        .filter(|(kind, ..)| ["interaction_told", "outcome_told", "deployed"].contains(kind))
        .collect();
    ensure!(counts.contains(&("interaction_told", true, 1)), "{kinds}");
    ensure!(counts.contains(&("outcome_told", true, 1)) && counts.contains(&("outcome_told", false, 1)), "{kinds}");
    ensure!(counts.contains(&("deployed", false, 1)), "{kinds}");
    let known = house.get(&format!("/api/v1/interactions/{id}")).await?.expect(200)?;
    ensure!(known["outcome"] == "success" && known["evidence"][0]["source"] == "ci", "{known}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_with_a_mistake_nothing_is_there() -> Result<()> {
    let house = House::new().await?;
    let good = json!({ "kind": "deployed" });
    let id = Uuid::now_v7();
    for (bad, says) in [
        (json!({ "kind": "turn_started" }), "only this program"),
        (json!({ "kind": "gap_found" }), "only this program"),
        (json!({ "kind": "Upper" }), ""),
        (json!({}), "kind"),
        (json!(7), ""),
        (json!({ "kind": "x", "tenant": "other" }), "tenant"),
        (json!({ "kind": "x", "caller": "other" }), "caller"),
        (json!({ "kind": "x", "at": 99_999_999_999_999_i64 }), "future"),
        (json!({ "kind": "x", "at": "tomorrow" }), "at"),
        (json!({ "kind": "x", "interaction": "no" }), "interaction"),
        (json!({ "kind": "x", "a": 1, "body": { "a": 1 } }), "twice"),
        (json!({ "kind": "interaction_told", "question": "how?" }), "interaction"),
        (json!({ "kind": "interaction_told", "interaction": id, "question": " " }), "question"),
        (json!({ "kind": "outcome_told", "interaction": id, "outcome": "success" }), "not there"),
        (json!({ "kind": "outcome_told", "interaction": id, "feedback": 7 }), "feedback"),
        (json!({ "kind": "outcome_told", "interaction": id }), "nothing"),
    ] {
        let problem = house.post(EVENTS, batch([good.clone(), bad.clone()])).await?.problem(422, "invalid_field")?;
        ensure!(problem["field"] == "events.1", "{bad}: {problem}");
        ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{bad}: {problem}");
    }
    house.post(EVENTS, batch([])).await?.problem(422, "invalid_field")?;
    house.post(EVENTS, batch(vec![good.clone(); 1_001])).await?.problem(422, "invalid_field")?;
    house.post(EVENTS, json!({ "event": good })).await?.problem(422, "invalid_field")?;
    let large = batch([json!({ "kind": "x", "text": "x".repeat(1 << 20) })]);
    house.post(EVENTS, large).await?.problem(422, "invalid_field")?;
    let stats = kinds(&house).await?;
    ensure!(stats.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind["kind"] != "deployed")), "{stats}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_tells_of_what_is_somebody_elses() -> Result<()> {
    let house = House::new().await?;
    let one = house.key_with(KeyTerms::of("one", Role::Agent)).await?;
    let other = house.key_with(KeyTerms::of("other", Role::Agent)).await?;
    let id = Uuid::now_v7();
    let told = json!({ "kind": "interaction_told", "interaction": id, "question": "mine" });
    let outcome = json!({ "kind": "outcome_told", "interaction": id, "outcome": "failure" });
    send(&house, &one, None, &batch([told.clone()])).await?.expect(201)?;
    for theirs in [&told, &outcome] {
        send(&house, &other, None, &batch([theirs.clone()])).await?.problem(422, "invalid_field")?;
    }
    // Telling of it first does not make it one's own.
    send(&house, &other, None, &batch([told, outcome.clone()])).await?.problem(422, "invalid_field")?;
    send(&house, &one, None, &batch([outcome])).await?.expect(201)?;
    house.caught_up().await?;
    let known = house.get(&format!("/api/v1/interactions/{id}")).await?.expect(200)?;
    ensure!(known["evidence"].as_array().is_some_and(|evidence| evidence.len() == 1), "{known}");
    house.close().await
}
