//! What is refused, each with a code that says how.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::{
    body::Body,
    http::{Method, header},
};
use futures::stream;
use holdfast_server::{Config, Server};
use serde_json::json;

use crate::house::House;

async fn check(house: &House, target: &str, body: &str, status: u16, code: &str, told: &str) -> Result<()> {
    let problem = house.post_text(target, body.to_owned()).await?.problem(status, code)?;
    let shown = problem.to_string();
    ensure!(shown.contains(told), "{told:?} is not in {shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_that_make_no_sense() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    let long = json!({ "query": "x".repeat(11_000) }).to_string();
    let deep_filter = format!("{}{}{}", r#"{"not":"#.repeat(10_000), "{}", "}".repeat(10_000));
    let deep = format!(r#"{{"query":"x","filter":{deep_filter}}}"#);
    let nested = format!("{}{}{}", r#"{"not":"#.repeat(40), r#"{"field":"path","eq":"x"}"#, "}".repeat(40));
    let nested = format!(r#"{{"query":"x","filter":{nested}}}"#);
    let arrays = "[".repeat(1_000_000);
    for (body, status, code, told) in [
        ("", 400, "invalid_json", "line 1 column 0"),
        ("query=x", 400, "invalid_json", "line 1 column 1"),
        ("{\"query\":\"x\"", 400, "invalid_json", "column 12"),
        ("{\"query\":\"\\ud800\"}", 400, "invalid_json", ""),
        ("[]", 422, "invalid_field", ""),
        ("{}", 422, "invalid_field", "missing field `query`"),
        (r#"{"query":1}"#, 422, "invalid_field", r#""field":"query""#),
        (r#"{"query":"x","collections":"default"}"#, 422, "invalid_field", "collections"),
        (r#"{"query":"x","collections":["default",1]}"#, 422, "invalid_field", "collections[1]"),
        (r#"{"query":"x","colour":"red"}"#, 422, "invalid_field", "unknown field `colour`, expected one of `query`"),
        (r#"{"query":""}"#, 422, "invalid_field", "query must not be empty"),
        (r#"{"query":" \n "}"#, 422, "invalid_field", "query must not be empty"),
        (&long, 422, "invalid_field", "10000 characters"),
        (r#"{"query":"x","limit":0}"#, 422, "invalid_field", "limit must be 1 to 100"),
        (r#"{"query":"x","limit":-1}"#, 422, "invalid_field", "limit must be 1 to 100"),
        (r#"{"query":"x","limit":1000000000}"#, 422, "invalid_field", "limit must be 1 to 100"),
        (r#"{"query":"x","limit":1e9}"#, 422, "invalid_field", "limit"),
        (r#"{"query":"x","limit":99999999999999999999}"#, 422, "invalid_field", "limit"),
        (r#"{"query":"x","mode":"psychic"}"#, 422, "invalid_field", "hybrid, dense, lexical"),
        (r#"{"query":"x","group":"page"}"#, 422, "invalid_field", "chunk, document"),
        (r#"{"query":"x","cursor":"made up"}"#, 422, "invalid_field", "cursor"),
        (r#"{"query":"x","min_score":0.5}"#, 422, "invalid_field", "min_score"),
        (r#"{"query":"x","collections":["nowhere"]}"#, 404, "collection_not_found", "nowhere"),
        (r#"{"query":"x","filter":{"field":"colour","eq":1}}"#, 422, "invalid_filter", "metadata.NAME"),
        (r#"{"query":"x","filter":{"all":[{"field":"path","like":"x"}]}}"#, 422, "invalid_filter", "filter.all[0]"),
        (&nested, 422, "invalid_filter", "deeper than 16"),
        (&deep, 400, "json_too_deep", "64 levels"),
        (&arrays, 400, "json_too_deep", "64 levels"),
    ] {
        let shown: String = body.chars().take(60).collect();
        check(&house, "/api/v1/search", body, status, code, told).await.with_context(|| shown)?;
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_elsewhere() -> Result<()> {
    let house = House::new().await?;
    let long = "x".repeat(4_096);
    for name in ["..", "a/../b", "a\u{0}b", &long, "", ".hidden", "ä"] {
        let made = house.post("/api/v1/collections", json!({ "name": name })).await?;
        made.problem(422, "invalid_field").with_context(|| name.to_owned())?;
        let stored = json!({ "collection": name, "documents": [{ "content": "x" }] });
        let stored = house.post("/api/v1/documents", stored).await?;
        stored.problem(422, "invalid_field").with_context(|| name.to_owned())?;
    }
    for path in ["../x", "a/../../b", "a\u{0}b", &long] {
        let body = json!({ "documents": [{ "path": path, "content": "x" }] });
        house.post("/api/v1/documents", body).await?.problem(422, "invalid_field").with_context(|| path.to_owned())?;
    }
    for path in ["relative", "../x", "/tmp/a\0b", &format!("/{long}"), ""] {
        let added = house.post("/api/v1/sources", json!({ "path": path })).await?;
        added.problem(422, "invalid_field").with_context(|| path.to_owned())?;
    }
    let absent = house.post("/api/v1/sources", json!({ "path": "/no/such/folder" })).await?;
    absent.problem(422, "source_unreadable")?;
    let listed = house.get("/api/v1/collections").await?.expect(200)?;
    let names = listed["collections"].as_array().context("no list")?;
    ensure!(names.iter().all(|entry| entry["name"] == "default"), "a refused write left something: {listed}");
    for name in ["..%2F..%2Fetc", "a%00b"] {
        house.post(&format!("/api/v1/models/{name}/pull"), json!({})).await?.problem(422, "invalid_field")?;
        house.get(&format!("/api/v1/collections/{name}")).await?;
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_with_impossible_pages() -> Result<()> {
    let house = House::new().await?;
    for target in ["documents", "collections", "sources", "jobs"] {
        for limit in ["0", "-1", "1000000000", "ten"] {
            let reply = house.get(&format!("/api/v1/{target}?limit={limit}")).await?;
            reply.problem(422, "invalid_field").with_context(|| format!("{target} {limit}"))?;
        }
        house.get(&format!("/api/v1/{target}?offset=3")).await?.problem(422, "invalid_field")?;
    }
    for target in ["documents", "sources", "jobs"] {
        house
            .get(&format!("/api/v1/{target}?cursor=%00made-up"))
            .await?
            .problem(422, "invalid_field")
            .with_context(|| target.to_owned())?;
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_too_large_or_of_another_kind() -> Result<()> {
    let house = House::with(Config { max_body_bytes: 1_000, max_documents: 3, ..Config::default() }).await?;
    let body = json!({ "documents": [{ "content": "x".repeat(1_000) }] });
    house.post("/api/v1/documents", body).await?.problem(413, "body_too_large")?;
    // Without a length the body is counted as it comes.
    let pieces = stream::iter((0..200).map(|_| Ok::<_, std::io::Error>("          ")));
    house.post_text("/api/v1/documents", Body::from_stream(pieces)).await?.problem(413, "body_too_large")?;
    house.post_text("/mcp", "x".repeat(1_001)).await?.failure("/mcp", 413, "body_too_large")?;
    let four = json!({ "documents": vec![json!({ "content": "x" }); 4] });
    house.post("/api/v1/documents", four).await?.problem(422, "invalid_field")?;
    house.post("/api/v1/documents", json!({ "documents": [] })).await?.problem(422, "invalid_field")?;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"] {
        let request = house.request(Method::POST, "/api/v1/search").header(header::CONTENT_TYPE, kind);
        house.send(request.body(r#"{"query":"x"}"#.into())?).await?.problem(415, "unsupported_media_type")?;
    }
    let request = house.request(Method::POST, "/api/v1/search").body(r#"{"query":"x"}"#.into())?;
    house.send(request).await?.problem(415, "unsupported_media_type")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off() -> Result<()> {
    let house = House::new().await?;
    let pieces = stream::iter([Ok("{\"query\":"), Err(std::io::Error::other("gone"))]);
    let problem = house.post_text("/api/v1/search", Body::from_stream(pieces)).await?.problem(400, "invalid_body")?;
    ensure!(!problem.to_string().contains("gone"), "{problem}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods() -> Result<()> {
    let house = House::new().await?;
    house.get("/api/v1/nothing").await?.problem(404, "route_not_found")?;
    house.get("/").await?.problem(404, "route_not_found")?;
    for route in Server::routes().filter(|route| !route.owner_only) {
        let path = route.path.replace("{id}", "x").replace("{name}", "x").replace("{*name}", "x");
        let request = house.request(Method::PATCH, &path).body(Body::empty())?;
        let reply = house.send(request).await?;
        reply.failure(&path, 405, "method_not_allowed").with_context(|| path.clone())?;
        let allowed = reply.header("allow").with_context(|| format!("no Allow for {path}"))?;
        for (method, _) in &route.methods {
            ensure!(allowed.split(',').any(|word| word.trim() == method.as_str()), "{path}: {allowed}");
        }
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_at_once_than_may_be() -> Result<()> {
    let house = House::with(Config { max_concurrent_requests: 1, ..Config::default() }).await?;
    // A request whose body never ends takes the only place.
    let (hold, body) = tokio::sync::oneshot::channel::<()>();
    let pieces = stream::once(async move {
        let _ = body.await;
        Ok::<_, std::io::Error>("{}")
    });
    let request = house.request(Method::POST, "/api/v1/search").header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from_stream(pieces))?;
    let mut slow = Box::pin(house.send(request));
    ensure!(futures::poll!(&mut slow).is_pending());
    let refused = async {
        loop {
            // The first request has to get past the authentication before it holds the place.
            tokio::select! {
                biased;
                reply = &mut slow => return reply,
                reply = house.get("/api/v1/jobs") => {
                    let reply = reply?;
                    if reply.status != 200 {
                        return Ok(reply);
                    }
                }
            }
        }
    };
    let refused = tokio::time::timeout(crate::house::PATIENCE, refused).await??;
    refused.problem(503, "overloaded")?;
    ensure!(refused.header("retry-after") == Some("1"));
    // It is now that people look.
    house.get("/health/live").await?.expect(200)?;
    let metrics = house.get("/metrics").await?.text();
    ensure!(metrics.contains("holdfast_queue_length{queue=\"http_requests\"} 1"), "{metrics}");
    drop(hold);
    slow.await?.problem(422, "invalid_field")?;
    house.get("/api/v1/jobs").await?.expect(200)?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long() -> Result<()> {
    let house = House::with(Config { request_timeout: Duration::from_millis(50), ..Config::default() }).await?;
    let never = stream::pending::<Result<&'static str, std::io::Error>>();
    let reply = house.post_text("/api/v1/search", Body::from_stream(never)).await?;
    reply.problem(504, "deadline_exceeded")?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_words_still_find_and_the_rest_says_when() -> Result<()> {
    let house = House::new().await?;
    house.furnish().await?;
    let house = house.again_without_model().await?;
    let ready = house.get("/health/ready").await?;
    ensure!(ready.status == 503 && ready.header("retry-after").is_some(), "{ready:?}");
    let told = ready.json()?;
    ensure!(told["status"] == "down" && told["checked_at"].is_string(), "{told}");
    ensure!(told["reason"].as_str().is_some_and(|reason| reason.contains("embedding")), "{told}");
    house.get("/health/live").await?.expect(200)?;
    house.get("/health/startup").await?.expect(200)?;

    let dense = house.post("/api/v1/search", json!({ "query": "flake lock", "mode": "dense" })).await?;
    let problem = dense.problem(503, "model_not_ready")?;
    ensure!(dense.header("retry-after").is_some());
    let hybrid = house.search(json!({ "query": "flake lock" })).await?;
    ensure!(hybrid["degraded"].is_string() && hybrid["results"][0]["document_id"] == "flake", "{hybrid}");
    let lexical = house.search(json!({ "query": "flake lock", "mode": "lexical" })).await?;
    ensure!(lexical["degraded"].is_null() && lexical["results"][0]["document_id"] == "flake", "{lexical}");
    let status = house.get("/api/v1/status").await?.expect(200)?;
    let folder = house.path().to_str().context("path")?;
    for answer in [told, problem, hybrid, status] {
        ensure!(!answer.to_string().contains(folder), "an answer names a file: {answer}");
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_document_does_not_hold_up_the_others() -> Result<()> {
    let house = House::new().await?;
    let documents = json!({ "documents": [
        { "id": "good", "content": "the moon is far" },
        { "id": "bad", "path": "../up", "content": "x" },
        { "id": "late", "content": "the sun is further" },
    ] });
    let answer = house.post("/api/v1/documents", documents).await?.expect(200)?;
    let statuses: Vec<&str> =
        answer["documents"].as_array().context("no list")?.iter().filter_map(|one| one["status"].as_str()).collect();
    ensure!(statuses == ["indexed", "refused", "indexed"], "{answer}");
    ensure!(answer["documents"][1]["error"]["code"] == "invalid_field", "{answer}");
    house.get("/api/v1/documents/bad").await?.problem(404, "document_not_found")?;
    house.get("/api/v1/documents/late").await?.expect(200)?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_cannot_have_the_server_call_what_only_it_can_reach() -> Result<()> {
    let house = House::new().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "169.254.169.254"] {
        let body = json!({ "url": format!("http://{host}:{port}/v1") });
        let refused = house.post("/api/v1/models/far/connect", body).await?.problem(422, "invalid_field")?;
        ensure!(refused["detail"].as_str().is_some_and(|detail| detail.starts_with("url ")), "{refused}");
    }
    ensure!(futures::FutureExt::now_or_never(listener.accept()).is_none(), "it was called");
    // The owner of this machine may.
    let body = Body::from(json!({ "url": format!("http://127.0.0.1:{port}/v1") }).to_string());
    let request =
        axum::http::Request::post("/api/v1/models/far/connect").header(header::CONTENT_TYPE, "application/json");
    let asking = crate::house::ask(house.server.owner(), request.body(body)?);
    tokio::select! {
        reply = asking => anyhow::bail!("{:?}", reply?),
        called = tokio::time::timeout(crate::house::PATIENCE, listener.accept()) => drop(called??),
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_cannot_have_files_sent_elsewhere() -> Result<()> {
    let house = House::new().await?;
    let body = json!({ "url": "http://127.0.0.1:1", "key_file": "/etc/hostname" });
    let refused = house.post("/api/v1/models/far/connect", body).await?.problem(422, "invalid_field")?;
    ensure!(refused["detail"].as_str().is_some_and(|detail| detail.starts_with("key_file ")), "{refused}");
    let folder = json!({ "from": house.path() });
    let refused = house.post("/api/v1/models/tiny/pull", folder).await?.problem(422, "invalid_field")?;
    ensure!(refused["detail"].as_str().is_some_and(|detail| detail.starts_with("from ")), "{refused}");
    house.close().await
}
