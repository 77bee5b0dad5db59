//! The knowledge routes when all is well: shapes, pages, repetition.

use anyhow::{Context, Result, ensure};
use axum::http::Method;
use serde_json::{Value, json};

use crate::house::{House, PATIENCE, TINY};

fn ids(list: &Value, member: &str) -> Vec<String> {
    let entries = list[member].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| entry["id"].as_str().or(entry["document_id"].as_str()).map(str::to_owned))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_found() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    for mode in ["hybrid", "dense", "lexical"] {
        let found = house.search(json!({ "query": "flake lock", "mode": mode })).await?;
        let best = &found["results"][0];
        ensure!(best["document_id"] == "flake", "{mode}: {found}");
        ensure!(best["collection"] == "default" && best["path"] == "nix/flake.md", "{found}");
        ensure!(best["metadata"] == json!({ "lang": "nix" }), "{found}");
        ensure!(best["snippet"].as_str().is_some_and(|text| text.contains("flake lock")), "{found}");
        ensure!(best["score"].is_f64() && best["chunk_id"].is_string() && best["heading"].is_string(), "{found}");
        ensure!(best.get("explain").is_none(), "{found}");
        ensure!(found["degraded"].is_null() && found["took_ms"].is_f64(), "{found}");
    }
    let explained = house.search(json!({ "query": "flake lock", "explain": true })).await?;
    ensure!(explained["results"][0]["explain"]["lexical"]["rank"] == 1, "{explained}");
    let filter = json!({ "not": { "field": "metadata.lang", "eq": "nix" } });
    let filtered = house.search(json!({ "query": "flake garden", "filter": filter })).await?;
    ensure!(ids(&filtered, "results") == ["garden"], "{filtered}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn results_page_to_their_end_without_repetition() -> Result<()> {
    let house = House::new().await?;
    let documents: Vec<Value> = (0..30)
        .map(|n| json!({ "id": format!("d{n:02}"), "content": format!("the garden book number {n}") }))
        .collect();
    house.post("/api/v1/documents", json!({ "documents": documents })).await?.expect(200)?;
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let page = house.search(json!({ "query": "garden book", "limit": 7, "cursor": cursor })).await?;
        seen.extend(ids(&page, "results"));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
        ensure!(seen.len() <= 30, "{seen:?}");
    }
    seen.sort_unstable();
    let expected: Vec<String> = (0..30).map(|n| format!("d{n:02}")).collect();
    ensure!(seen == expected, "{seen:?}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_listed_shown_replaced_and_removed() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    let first = house.get("/api/v1/documents?limit=2").await?.expect(200)?;
    let cursor = first["next_cursor"].as_str().context("no cursor")?;
    let second = house.get(&format!("/api/v1/documents?limit=2&cursor={cursor}")).await?.expect(200)?;
    let mut all = [ids(&first, "documents"), ids(&second, "documents")].concat();
    all.sort_unstable();
    ensure!(all == ["flake", "garden", "rollback"] && second["next_cursor"].is_null(), "{first} {second}");

    let shown = house.get("/api/v1/documents/garden").await?.expect(200)?;
    ensure!(shown["content"] == "# Garden\n\nFlowers grow in the rain.", "{shown}");
    ensure!(shown["revision"] == 1 && shown["chunks"] == 1 && shown["title"] == "Garden", "{shown}");
    let created = shown["created_at"].as_str().context("no time")?;
    ensure!(created.len() == 24 && created.ends_with('Z') && created.starts_with("20"), "{created}");

    let again = json!({ "documents": [{ "id": "garden", "path": "garden.md", "content": "# Garden\n\nA road." }] });
    let stored = house.post("/api/v1/documents", again).await?.expect(200)?;
    ensure!(stored["documents"][0]["revision"] == 2, "{stored}");
    ensure!(stored["documents"][0]["id"] == "garden" && stored["documents"][0]["chunks"] == 1, "{stored}");

    ensure!(house.delete("/api/v1/documents/garden").await?.status == 204);
    house.get("/api/v1/documents/garden").await?.problem(404, "document_not_found")?;
    house.delete("/api/v1/documents/garden").await?.problem(404, "document_not_found")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_may_hold_anything_a_path_segment_can_say() -> Result<()> {
    let house = House::new().await?;
    let body = json!({ "documents": [{ "id": "a/b ?#%ä", "content": "moon" }] });
    house.post("/api/v1/documents", body).await?.expect(200)?;
    let shown = house.get("/api/v1/documents/a%2Fb%20%3F%23%25%C3%A4").await?.expect(200)?;
    ensure!(shown["id"] == "a/b ?#%ä", "{shown}");
    house.get("/api/v1/documents/%ff").await?.problem(400, "invalid_request")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotent_request_gets_the_same_answer() -> Result<()> {
    let house = House::new().await?;
    let send = async |key: &str, body: Value| {
        let request = house.request(Method::POST, "/api/v1/documents").header("content-type", "application/json");
        house.send(request.header("idempotency-key", key).body(body.to_string().into())?).await
    };
    let body = json!({ "documents": [{ "content": "moon and star" }] });
    let first = send("one", body.clone()).await?.expect(200)?;
    let again = send("one", body.clone()).await?.expect(200)?;
    ensure!(first == again, "{first} {again}");
    send("one", json!({ "documents": [{ "content": "sun" }] })).await?.problem(422, "idempotency_key_reused")?;
    let other = send("two", body).await?.expect(200)?;
    ensure!(other["job_id"] != first["job_id"], "{other}");
    send("", json!({ "documents": [] })).await?.problem(422, "invalid_field")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_the_answer_is_a_job() -> Result<()> {
    let house = House::new().await?;
    let body = json!({ "documents": [{ "id": "m", "content": "moon" }], "wait": false });
    let accepted = house.post("/api/v1/documents", body).await?;
    let accepted = if accepted.status == 200 { accepted.json()? } else { accepted.expect(202)? };
    let job = accepted["job_id"].as_str().context("no job")?;
    let done = finished(&house, job).await?;
    ensure!(done["state"] == "done" && done["kind"] == "documents", "{done}");
    ensure!(done["documents"][0]["status"] == "indexed" && done["progress"]["done"] == 1, "{done}");
    let jobs = house.get("/api/v1/jobs?limit=1").await?.expect(200)?;
    ensure!(ids(&jobs, "jobs") == [job], "{jobs}");
    house.get("/api/v1/jobs/none").await?.problem(404, "job_not_found")?;
    house.close().await
}

async fn finished(house: &House, job: &str) -> Result<Value> {
    let wait = async {
        loop {
            let report = house.get(&format!("/api/v1/jobs/{job}")).await?.expect(200)?;
            if report["state"] == "done" || report["state"] == "failed" {
                return Ok(report);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_becomes_documents_and_its_misfits_are_listed() -> Result<()> {
    let house = House::new().await?;
    let docs = house.path().join("docs");
    std::fs::create_dir(&docs)?;
    std::fs::write(docs.join("moon.md"), "# Moon\n\nThe moon is full tonight.")?;
    std::fs::write(docs.join("logo.bin"), [0_u8, 159, 146, 150, 0, 1, 2, 3])?;
    let added = house.post("/api/v1/sources", json!({ "path": docs })).await?.expect(202)?;
    let id = added["source"]["id"].as_str().context("no id")?;
    let report = finished(&house, added["job_id"].as_str().context("no job")?).await?;
    ensure!(report["state"] == "done" && report["progress"]["done"] == 1, "{report}");

    let found = house.search(json!({ "query": "moon" })).await?;
    ensure!(found["results"][0]["title"] == "Moon", "{found}");
    let skipped = house.get(&format!("/api/v1/sources/{id}/skipped")).await?.expect(200)?;
    ensure!(skipped["skipped"][0]["code"] == "binary", "{skipped}");
    let source = house.get(&format!("/api/v1/sources/{id}")).await?.expect(200)?;
    ensure!(source["files"] == 1 && source["skipped"] == 1 && source["scanned_at"].is_string(), "{source}");
    let listed = house.get("/api/v1/sources").await?.expect(200)?;
    ensure!(ids(&listed, "sources") == [id] && listed["next_cursor"].is_null(), "{listed}");

    std::fs::write(docs.join("star.md"), "# Star\n\nA star.")?;
    let synced = house.post_text(&format!("/api/v1/sources/{id}/sync"), "").await?.expect(202)?;
    finished(&house, synced["job_id"].as_str().context("no job")?).await?;
    let removed = house.delete(&format!("/api/v1/sources/{id}")).await?.expect(200)?;
    ensure!(removed["documents_removed"] == 2, "{removed}");
    house.get(&format!("/api/v1/sources/{id}")).await?.problem(404, "source_not_found")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_made_listed_and_removed() -> Result<()> {
    let house = House::new().await?;
    for name in ["b", "a", "c"] {
        let made = house.post("/api/v1/collections", json!({ "name": name })).await?.expect(201)?;
        ensure!(made["name"] == name && made["model"] == TINY && made["documents"] == 0, "{made}");
    }
    house.post("/api/v1/collections", json!({ "name": "a" })).await?.problem(409, "collection_exists")?;
    let mut names = Vec::new();
    let mut target = "/api/v1/collections?limit=2".to_owned();
    loop {
        let page = house.get(&target).await?.expect(200)?;
        let page_names = page["collections"].as_array().context("no list")?;
        names.extend(page_names.iter().filter_map(|entry| entry["name"].as_str().map(str::to_owned)));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        target = format!("/api/v1/collections?limit=2&cursor={cursor}");
    }
    ensure!(names == ["a", "b", "c", "default"], "{names:?}");
    ensure!(house.delete("/api/v1/collections/a").await?.status == 204);
    house.get("/api/v1/collections/a").await?.problem(404, "collection_not_found")?;
    let unknown = json!({ "model": "none" });
    house.post("/api/v1/collections/b/reembed", unknown).await?.problem(404, "model_not_found")?;
    house.close().await
}

/// A source used to be removed only once it had been read, which took for ever where its model never came.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_waits_for_its_model_is_removed_at_once() -> Result<()> {
    let house = House::new().await?;
    let made = house.post("/api/v1/collections", json!({ "name": "waiting", "model": "all-MiniLM-L6-v2" })).await?;
    made.expect(201)?;
    let folder = house.path().join("folder");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("a.md"), "moon")?;
    let body = json!({ "collection": "waiting", "path": folder });
    let added = house.post("/api/v1/sources", body).await?.expect(202)?;
    let target = format!("/api/v1/sources/{}", added["source"]["id"].as_str().context("no id")?);
    let removed = tokio::time::timeout(std::time::Duration::from_secs(10), house.delete(&target)).await;
    removed.context("it waited for the model")??.expect(200)?;
    house.get(&target).await?.problem(404, "source_not_found")?;
    ensure!(house.get("/api/v1/jobs").await?.expect(200)?["jobs"].as_array().is_some_and(Vec::is_empty));
    house.close().await
}
