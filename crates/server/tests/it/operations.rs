//! Probes, status, metrics, request ids: what whoever runs it looks at.

use anyhow::{Context, Result, ensure};
use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::json;

use crate::house::{House, TINY, ask, logged};

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_status_tell_the_same() -> Result<()> {
    let house = House::new().await?;
    let ready = house.until_ready().await?;
    ensure!(ready["status"] == "ready" && ready["reason"].is_null() && ready["checked_at"].is_string(), "{ready}");
    let summary = house.get("/health").await?.expect(200)?;
    ensure!(summary["version"] == "1.2.3" && summary["status"] == "ready", "{summary}");
    let status = house.get("/api/v1/status").await?.expect(200)?;
    ensure!(status["status"] == "ready" && status["version"] == "1.2.3", "{status}");
    let components = status["components"].as_array().context("no components")?;
    ensure!(components.iter().any(|part| part["name"] == "embedding" && part["since"].is_string()), "{status}");
    for (at, priority) in ["interactive", "bulk"].into_iter().enumerate() {
        let queue = &status["embedding_queues"][at];
        ensure!(queue["model"] == TINY && queue["priority"] == priority && queue["limit"] == 4096, "{status}");
        ensure!(queue["length"].is_u64(), "{status}");
    }
    house.shutdown.cancel();
    let ready = house.get("/health/ready").await?;
    ensure!(ready.status == 503 && ready.json()?["reason"] == "shutting down");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_id_everywhere() -> Result<()> {
    let house = House::new().await?;
    let ask = async |id: Option<&str>| {
        let request = house.request(Method::GET, "/api/v1/jobs");
        let request = id.map_or(house.request(Method::GET, "/api/v1/jobs"), |id| request.header("x-request-id", id));
        let reply = house.send(request.body(Body::empty())?).await?;
        anyhow::Ok(reply.header("x-request-id").context("no id")?.to_owned())
    };
    ensure!(ask(Some("my-id_1")).await? == "my-id_1");
    let (one, two) = (ask(None).await?, ask(None).await?);
    ensure!(one != two && one.len() == 32);
    ensure!(ask(Some("bad id; \u{22}x\u{22}")).await?.len() == 32);
    // An answer that no handler made has one too.
    let refused = house.send(Request::builder().uri("/nowhere").body(Body::empty())?).await?;
    ensure!(refused.header("x-request-id").is_some());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_valid_and_bounded() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    for n in 0..20 {
        house.get(&format!("/api/v1/documents/unknown-{n}")).await?.problem(404, "document_not_found")?;
        house.get(&format!("/nowhere-{n}")).await?.problem(404, "route_not_found")?;
    }
    house.search(json!({ "query": "flake secret-word" })).await?;
    let reply = house.get("/metrics").await?;
    ensure!(reply.status == 200 && reply.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    let text = reply.text();
    for name in [
        "holdfast_http_requests_total{",
        "holdfast_http_request_duration_seconds_bucket{",
        "holdfast_errors_total{",
        "holdfast_http_requests_in_flight ",
        "holdfast_index_chunks{index=\"vectors\"}",
        "holdfast_index_backlog{",
        "holdfast_search_cache_total{",
        "holdfast_documents_written_total{",
        "holdfast_component_status{",
        "holdfast_uptime_seconds ",
        "process_resident_memory_bytes ",
        "process_start_time_seconds ",
    ] {
        ensure!(text.lines().any(|line| line.starts_with(name)), "no {name} in\n{text}");
    }
    ensure!(!text.contains("unknown-") && !text.contains("nowhere-") && !text.contains("secret-word"), "{text}");
    exposition(&text)?;
    house.close().await
}

/// Checks text against the rules of the format: one `HELP` and one `TYPE` a family, before its samples, and numbers.
fn exposition(text: &str) -> Result<()> {
    let mut families = std::collections::HashSet::new();
    let mut family = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            ensure!(rest.split_once(' ').is_some_and(|(_, help)| !help.is_empty()), "no help: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("no type")?;
            ensure!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            ensure!(families.insert(name.to_owned()), "{name} stands twice");
            name.clone_into(&mut family);
        } else {
            let (series, value) = line.rsplit_once(' ').context("no value")?;
            ensure!(value.parse::<f64>().is_ok(), "{line}");
            ensure!(series.starts_with(&family), "{line} is not of {family}");
        }
    }
    ensure!(families.len() > 10, "{families:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_verified_and_pulled_again() -> Result<()> {
    let house = House::new().await?;
    let list = house.get("/api/v1/models").await?.expect(200)?;
    let models = list["models"].as_array().context("no list")?;
    let tiny = models.iter().find(|model| model["name"] == TINY).context("no tiny")?;
    ensure!(tiny["installation"] == "complete" && tiny["state"] == "ready" && tiny["default"] == true, "{list}");
    ensure!(models.iter().any(|model| model["installation"] == "absent"), "{list}");
    house.post_text(&format!("/api/v1/models/{TINY}/verify"), "").await?.expect(200)?;

    let weights = house.path().join("models").join(TINY).join("model.safetensors");
    let mut bytes = std::fs::read(&weights)?;
    bytes[5_000] ^= 1;
    std::fs::write(&weights, bytes)?;
    let damaged = house.post_text(&format!("/api/v1/models/{TINY}/verify"), "").await?.problem(500, "model_damaged")?;
    ensure!(!damaged.to_string().contains("safetensors/"), "{damaged}");
    let from = house.path().join("source");
    let pull = Request::post(format!("/api/v1/models/{TINY}/pull")).header("content-type", "application/json");
    ask(house.server.owner(), pull.body(Body::from(json!({ "from": from }).to_string()))?).await?.expect(200)?;
    house.post_text(&format!("/api/v1/models/{TINY}/verify"), "").await?.expect(200)?;
    house.post("/api/v1/models/none/pull", json!({})).await?.problem(404, "model_not_found")?;
    house
        .post(&format!("/api/v1/models/{TINY}/pull"), json!({ "from": "moon" }))
        .await?
        .problem(422, "invalid_field")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_house_needs_no_doctor() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    let found = house.post("/api/v1/doctor", json!({ "fix": true })).await?.expect(200)?;
    ensure!(found["findings"] == json!([]), "{found}");
    let request =
        Request::builder().method(Method::POST).uri("/api/v1/doctor").header("content-type", "application/json");
    ask(house.server.owner(), request.body("{}".into())?).await?.expect(200)?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_requests_and_tells_no_secrets() -> Result<()> {
    let house = House::new().await?;
    let stored = json!({ "documents": [{ "id": "z", "content": "the word is xylophone-7", "title": "titled-9" }] });
    house.post("/api/v1/documents", stored).await?.expect(200)?;
    house.search(json!({ "query": "xylophone-7 query-8" })).await?;
    house
        .post("/api/v1/search", json!({ "query": "x", "collections": "query-8" }))
        .await?
        .problem(422, "invalid_field")?;
    house.get("/api/v1/documents/z?collection=xylophone-7").await?.problem(404, "collection_not_found")?;
    for secret in [house.key.as_str(), "xylophone-7 query", "the word is", "query-8", "titled-9"] {
        ensure!(logged(secret).is_empty(), "{:?}", logged(secret));
    }
    let request = house.request(Method::DELETE, "/api/v1/documents/none").header("x-request-id", "find-me-1");
    let refused = house.send(request.body(Body::empty())?).await?.problem(404, "document_not_found")?;
    let lines = logged("find-me-1");
    ensure!(
        lines.iter().any(|line| line.contains("answered 404") && line.contains("/api/v1/documents/{id}")),
        "{lines:?}"
    );
    let error_id = refused["error_id"].as_str().context("no error_id")?;
    ensure!(lines.iter().any(|line| line.contains(error_id) && line.contains("document_not_found")), "{lines:?}");
    house.close().await
}
